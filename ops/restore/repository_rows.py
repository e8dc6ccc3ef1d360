"""Bring Gitea's rows of branches, tags and releases in line with a repository that was restored without its database.

Gitea answers 404 for a branch without a row and 500 for a row without its branch. Its own synchronisation of all repositories
has no place in the API (GET /admin/cron of 1.22 to 1.27 does not list it), and does not report its end. So the rows of branches
are removed: Gitea reads git again when it counts none (1.21 and later). Nothing makes it read tags again, so their rows are
corrected as Gitea's synchronisation does: a tag without git's is deleted, a release without its tag becomes a draft.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ops.backup.repositories import REPOSITORIES
from ops.config.paths import LOCALHOST, HostPaths
from ops.config.schema import Site
from ops.errors import Degraded, OpsError
from ops.model import Secret
from ops.stack import accounts
from ops.world import World
from ops.world.postgres import Session

_HEADS, _TAGS = "refs/heads/", "refs/tags/"
_AGREES_SECONDS, _PACE_SECONDS, _PAGE = 60.0, 1.0, 50
# Commits in one command: its text may have 128 KiB (execve(2), MAX_ARG_STRLEN).
_BATCH = 1000
_REFS = """git -c safe.directory='*' -C "/data/$repository" symbolic-ref --quiet HEAD || echo
git -c safe.directory='*' -C "/data/$repository" for-each-ref \
    --format='%(refname) %(objectname) %(*objectname) %(creatordate:unix)' refs/heads refs/tags"""
_COUNT = """for each in $commits; do
    echo "$each $(git -c safe.directory='*' -C "/data/$repository" rev-list --count "$each" 2>/dev/null || echo 0)"
done"""


@dataclass(frozen=True)
class Tag:
    """A tag of git: its commit, and its time in seconds since 1970."""

    commit: str
    created: int


@dataclass(frozen=True)
class GitRefs:
    """A repository's branches with their commits, its tags, and the branch of its HEAD, which may not exist."""

    branches: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, Tag] = field(default_factory=dict)
    head: str = ""


@dataclass(frozen=True)
class ReleaseRow:
    """A row of the table ``release``: a plain tag, or a release of a tag."""

    identity: int
    tag: str
    commit: str
    is_tag: bool
    is_draft: bool


@dataclass(frozen=True)
class RowPlan:
    """The changes of rows: deleted tags, releases that become drafts, moved tags, new tags (both with git's commit)."""

    deleted: tuple[ReleaseRow, ...]
    drafts: tuple[ReleaseRow, ...]
    moved: tuple[tuple[ReleaseRow, Tag], ...]
    added: tuple[tuple[str, Tag], ...]


def align(site: Site, world: World, paths: HostPaths, repository: str) -> tuple[str, ...]:
    """Bring the rows of a repository (owner/name) in line with git, wait until Gitea shows the branches; return the changes.

    Raises Degraded if the rows cannot be changed or Gitea does not show git's branches within a minute.
    """
    try:
        refs = _git_refs(world, paths, repository)
        with world.postgres.session(world.containers.name(paths.project, "postgres")) as session:
            changes = _change_rows(session, world, paths, repository, refs)
        _await_branches(site, world, repository, refs)
    except OpsError as failed:
        raise Degraded(
            f"Gitea may not show the branches and tags of {repository}: {failed.message}",
            f"run ops restore --repository {repository} again, or start Gitea's own synchronisation: Site Administration, "
            "Dashboard, Sync missed branches and tags from git data",
            left_as="the repository is restored",
        ) from failed
    return changes


def refs_from(output: str) -> GitRefs:
    """Return the refs from the output of ``_REFS``; leaves out names that are not UTF-8, which PostgreSQL cannot store."""
    head, *lines = output.splitlines() or [""]
    branches, tags = {}, {}
    for line in lines:
        name, *words = line.split(" ")
        if "\ufffd" in name:
            continue
        if name.startswith(_HEADS):
            branches[name.removeprefix(_HEADS)] = words[0]
        else:
            # An annotated tag is an object of its own, which points to the commit.
            tags[name.removeprefix(_TAGS)] = Tag(words[1] or words[0], int(words[2] or 0))
    return GitRefs(branches, tags, head.removeprefix(_HEADS))


def plan_rows(rows: Iterable[ReleaseRow], tags: Mapping[str, Tag]) -> RowPlan:
    """Return how to bring the rows of tags and releases in line with git. A draft stays as it is: its tag need not exist."""
    rows = tuple(rows)
    published = [each for each in rows if not each.is_draft]
    deleted, drafts = _without_tag(published, tags)
    present = [(each, tags[each.tag]) for each in published if each.tag in tags]
    moved = tuple((each, tag) for each, tag in present if tag.commit != each.commit)
    return RowPlan(deleted, drafts, moved, _new_tags(rows, tags))


def _without_tag(
    published: Iterable[ReleaseRow], tags: Mapping[str, Tag]
) -> tuple[tuple[ReleaseRow, ...], tuple[ReleaseRow, ...]]:
    """Return the plain tags and the releases whose tag git does not have."""
    missing = [each for each in published if each.tag not in tags]
    return tuple(each for each in missing if each.is_tag), tuple(each for each in missing if not each.is_tag)


def _new_tags(rows: Iterable[ReleaseRow], tags: Mapping[str, Tag]) -> tuple[tuple[str, Tag], ...]:
    # Gitea looks for a tag by its name in lower case.
    known = {each.tag.lower() for each in rows}
    return tuple((name, tag) for name, tag in sorted(tags.items()) if name.lower() not in known)


def _git_refs(world: World, paths: HostPaths, repository: str) -> GitRefs:
    return refs_from(_in_repository(world, paths, repository, _REFS))


def _in_repository(world: World, paths: HostPaths, repository: str, script: str, setting: str = "") -> str:
    (image,) = [each.image for each in world.containers.services(paths.project) if each.name == "gitea"]
    # Names of repositories have no quotes (one_repository).
    words = f"repository='{REPOSITORIES}/{repository.lower()}.git'\n{setting}\n{script}"
    done = world.containers.run_script(image, words, folder=paths.live, target="/data", user="1000:1000")
    if done.code:
        raise OpsError(
            f"git cannot read {repository}: {done.output.strip()[-400:]}", "look at the repository with git fsck"
        )
    return done.output


def _change_rows(session: Session, world: World, paths: HostPaths, repository: str, refs: GitRefs) -> tuple[str, ...]:
    owner, _, name = repository.lower().partition("/")
    found = session.ask(
        "SELECT r.id, r.owner_id, coalesce(r.default_branch, ''), coalesce(r.is_empty, false) FROM repository r "  # noqa: S608 - quoted
        f'JOIN "user" u ON u.id = r.owner_id WHERE u.lower_name = {_quoted(owner)} AND r.lower_name = {_quoted(name)}'
    )
    # A wiki has no row of its own.
    if not found:
        return ()
    ((identity, owner_id, default, is_empty),) = found
    tables = {table for (table,) in session.ask(_TABLES)}
    planned = RowPlan((), (), (), ())
    if "release" in tables:
        planned = plan_rows(_release_rows(session, identity), refs.tags)
    counts = _commit_counts(world, paths, repository, planned)
    statements = _release_statements(planned, identity, owner_id, counts)
    if "branch" in tables:
        statements.append(f"DELETE FROM branch WHERE repo_id = {identity}")  # noqa: S608 - a number
    changed, lines = _repository_changes(refs, default, is_empty == "t")
    if changed:
        statements.append(f"UPDATE repository SET {', '.join(changed)} WHERE id = {identity}")  # noqa: S608 - quoted
    session.ask("BEGIN")
    for statement in statements:
        session.ask(statement)
    session.ask("COMMIT")
    return (*_summary(planned), *lines)


_TABLES = "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename IN ('branch', 'release')"


def _release_rows(session: Session, identity: str) -> list[ReleaseRow]:
    rows = session.ask(
        f"SELECT id, tag_name, coalesce(sha1, ''), is_tag, is_draft FROM release WHERE repo_id = {identity}"  # noqa: S608 - a number
    )
    return [ReleaseRow(int(each[0]), each[1], each[2], each[3] == "t", each[4] == "t") for each in rows]


def _commit_counts(world: World, paths: HostPaths, repository: str, planned: RowPlan) -> dict[str, int]:
    commits = sorted({tag.commit for _, tag in (*planned.added, *planned.moved)})
    counts: dict[str, int] = {}
    for start in range(0, len(commits), _BATCH):
        setting = f"commits='{' '.join(commits[start : start + _BATCH])}'"
        for line in _in_repository(world, paths, repository, _COUNT, setting).splitlines():
            commit, _, count = line.partition(" ")
            counts[commit] = int(count)
    return counts


def _release_statements(planned: RowPlan, identity: str, owner: str, counts: Mapping[str, int]) -> list[str]:
    statements = [f"DELETE FROM release WHERE id = {row.identity}" for row in planned.deleted]  # noqa: S608 - a number
    statements += [
        f"UPDATE release SET is_draft = true, num_commits = 0, sha1 = '' WHERE id = {row.identity}"  # noqa: S608 - a number
        for row in planned.drafts
    ]
    statements += [
        f"UPDATE release SET sha1 = {_quoted(tag.commit)}, num_commits = {counts.get(tag.commit, 0)} "  # noqa: S608 - quoted
        f"WHERE id = {row.identity}"
        for row, tag in planned.moved
    ]
    statements += [
        "INSERT INTO release (repo_id, publisher_id, tag_name, lower_tag_name, target, title, sha1, num_commits, note, "  # noqa: S608 - quoted
        "is_draft, is_prerelease, is_tag, created_unix) VALUES "
        f"({identity}, {owner}, {_quoted(name)}, {_quoted(name.lower())}, '', '', {_quoted(tag.commit)}, "
        f"{counts.get(tag.commit, 0)}, '', false, false, true, {tag.created})"
        for name, tag in planned.added
    ]
    return statements


def _repository_changes(refs: GitRefs, default: str, is_empty: bool) -> tuple[list[str], list[str]]:
    """Return the assignments of the repository's own row, and the report's lines about them."""
    changed, lines = [], []
    if refs.branches and default not in refs.branches:
        branch = refs.head if refs.head in refs.branches else min(refs.branches)
        changed.append(f"default_branch = {_quoted(branch)}")
        lines.append(f"the default branch is {branch}: {default or 'the former one'} is not in the backup")
    if is_empty == bool(refs.branches):
        changed.append(f"is_empty = {'false' if refs.branches else 'true'}")
    return changed, lines


def _summary(planned: RowPlan) -> list[str]:
    lines = []
    if planned.deleted or planned.moved or planned.added:
        lines.append(
            f"tags in the database: {len(planned.added)} added, {len(planned.moved)} moved, {len(planned.deleted)} deleted"
        )
    drafts = ", ".join(row.tag for row in planned.drafts)
    if drafts:
        lines.append(f"releases that are drafts now, because their tags are not in the backup: {drafts}")
    return lines


def _await_branches(site: Site, world: World, repository: str, refs: GitRefs) -> None:
    """Ask Gitea for the branches until it lists those of git: the question makes it read git again."""
    if not refs.branches:
        return
    began = world.clock.monotonic()
    with accounts.token(site, world) as token:
        while True:
            listed = _listed_branches(site, world, repository, token)
            if listed == refs.branches:
                return
            if world.clock.monotonic() - began > _AGREES_SECONDS:
                differing = sorted(set(listed.items()) ^ set(refs.branches.items()))
                raise OpsError(
                    f"after {_AGREES_SECONDS:.0f} s Gitea lists other branches than git: {differing[0][0]}",
                    "look at the logs of gitea",
                )
            world.clock.sleep(_PACE_SECONDS)


def _listed_branches(site: Site, world: World, repository: str, token: Secret) -> dict[str, str]:
    """Return the branches that Gitea's API lists, with their commits; {} while it gives no list."""
    found: dict[str, str] = {}
    headers = {"Authorization": f"token {token.reveal()}"}
    page: Sequence[Any] = [None] * _PAGE
    number = 1
    while len(page) == _PAGE:
        path = f"/api/v1/repos/{repository}/branches?page={number}&limit={_PAGE}"
        answer = world.https.request(site.domain, LOCALHOST, "GET", path, headers)
        # Directly after a change the list is null.
        page = (json.loads(answer.body) or []) if answer.status == 200 else []
        found |= {each["name"]: each["commit"]["id"] for each in page}
        number += 1
    return found


def _quoted(text: str) -> str:
    """Return a text as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"
