"""The JSON documents of the API: Gitea's fields of each release (documents.json), with the values that the stand-in has."""

from __future__ import annotations

import hashlib
import json
import re
from base64 import b64encode
from collections.abc import Mapping
from copy import deepcopy
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from . import repositories
from .accounts import Token, User, user_of_id
from .branches import Branch
from .context import Context
from .database import Row
from .git import Commit, Person
from .issues import Issue
from .keys import PublicKey
from .release import Release
from .repositories import Repository

Document = dict[str, Any]
# By the number that the database has.
VISIBILITY = ("public", "limited", "private")


def user(context: Context, account: User) -> Document:
    """An account. Administrators and the account itself see the private part."""
    private = context.user is not None and (context.user.is_admin or context.user.id == account.id)
    return _filled(
        context,
        "user",
        id=account.id,
        login=account.name,
        username=account.name,
        login_name=account.login_name if private else "",
        full_name=account.full_name,
        email=account.email,
        is_admin=account.is_admin and private,
        active=account.is_active,
        created=when(account.created_unix),
        html_url=_url(context, account.name),
        avatar_url=_url(context, "avatars", hashlib.md5(account.email.encode()).hexdigest()),  # noqa: S324 - an avatar's name
    )


def organization(context: Context, row: Row) -> Document:
    """An organization, a row among the users."""
    return _filled(
        context,
        "organization",
        id=row["id"],
        name=row["name"],
        username=row["name"],
        description=row["description"],
        visibility=VISIBILITY[row["visibility"]],
        avatar_url=_url(context, "avatars", hashlib.md5(row["name"].encode()).hexdigest()),  # noqa: S324 - an avatar's name
    )


def repository(context: Context, found: Repository) -> Document:
    """A repository."""
    settings, name = context.settings, found.full_name
    port = "" if settings.ssh_port == 22 else f":{settings.ssh_port}"
    short = f"git@{settings.ssh_domain}:{name}.git"
    owner, write = user_of_id(context.database, found.owner_id), repositories.may_write(found, context.user)
    return _filled(
        context,
        "repository",
        id=found.id,
        name=found.name,
        full_name=name,
        description=found.description,
        owner=user(context, owner) if owner else {},
        empty=found.is_empty,
        private=found.is_private,
        default_branch=found.default_branch,
        created_at=when(found.created_unix),
        updated_at=when(found.updated_unix),
        url=_at(context, found),
        languages_url=_at(context, found, "languages"),
        html_url=_url(context, name),
        clone_url=_url(context, f"{name}.git"),
        ssh_url=f"ssh://git@{settings.ssh_domain}{port}/{name}.git" if port else short,
        permissions={"admin": write, "push": write, "pull": True},
    )


def branch(context: Context, found: Repository, each: Branch) -> Document:
    """A branch with its newest commit."""
    write, newest = repositories.may_write(found, context.user), each.commit
    return _filled(
        context,
        "branch",
        name=each.name,
        user_can_push=write,
        user_can_merge=write,
        commit=_filled(
            context,
            "branch_commit",
            id=newest.id,
            message=newest.message,
            url=_url(context, found.full_name, "commit", newest.id),
            author=_person(newest.author, username=""),
            committer=_person(newest.committer, username=""),
            timestamp=newest.committed,
        ),
    )


def issue(context: Context, found: Repository, each: Issue) -> Document:
    """An issue with its labels."""
    query = "SELECT label.* FROM label JOIN issue_label ON label.id = label_id WHERE issue_id = %s ORDER BY label.id"
    labels = [label(context, found, row) for row in context.database.rows(query, each.id)]
    named = {"id": found.id, "name": found.name, "owner": found.owner_name, "full_name": found.full_name}
    return _filled(context, "issue", **_of_issue(context, found, each), labels=labels, repository=named)


def pull_request(context: Context, found: Repository, each: Issue, row: Row, commits: Mapping[str, str]) -> Document:
    """A pull request; `commits` are those of its head and its base, and their common one (`merge_base`)."""
    ends = {
        end: {
            "label": row[f"{end}_branch"],
            "ref": row[f"{end}_branch"],
            "sha": commits[end],
            "repo_id": found.id,
            "repo": repository(context, found),
        }
        for end in ("head", "base")
    }
    address = _url(context, found.full_name, "pulls", each.index)
    return _filled(
        context,
        "pull",
        **_of_issue(context, found, each, "pulls"),
        **ends,
        merge_base=commits["merge_base"],
        diff_url=f"{address}.diff",
        patch_url=f"{address}.patch",
    )


def comment(context: Context, found: Repository, row: Row, index: int) -> Document:
    """A comment on the issue with that number."""
    return _filled(
        context,
        "comment",
        id=row["id"],
        body=row["content"] or "",
        user=_account(context, row["poster_id"]),
        issue_url=_url(context, found.full_name, "issues", index),
        html_url=_url(context, found.full_name, "issues", f"{index}#issuecomment-{row['id']}"),
        created_at=when(row["created_unix"]),
        updated_at=when(row["updated_unix"]),
    )


def label(context: Context, found: Repository, row: Row) -> Document:
    """A label."""
    values = {name: row[name] for name in ("id", "name", "color", "description")}
    return _filled(context, "label", **values, url=_at(context, found, "labels", row["id"]))


def release(context: Context, found: Repository, row: Row) -> Document:
    """A release."""
    name, tag, made = found.full_name, row["tag_name"], when(row["created_unix"])
    address = _at(context, found, "releases", row["id"])
    return _filled(
        context,
        "release",
        id=row["id"],
        tag_name=tag,
        target_commitish=row["target"] or "",
        name=row["title"] or "",
        body=row["note"] or "",
        author=_account(context, row["publisher_id"]),
        url=address,
        upload_url=f"{address}/assets",
        html_url=_url(context, name, "releases/tag", tag),
        tarball_url=_url(context, name, "archive", f"{tag}.tar.gz"),
        zipball_url=_url(context, name, "archive", f"{tag}.zip"),
        created_at=made,
        published_at=made,
    )


def attachment(context: Context, row: Row) -> Document:
    """An attachment of an issue or a file of a release."""
    values = {name: row[name] for name in ("id", "name", "size")}
    identity, made = str(row["uuid"]), when(row["created_unix"])
    address = _url(context, "attachments", identity)
    return _filled(context, "attachment", **values, uuid=identity, created_at=made, browser_download_url=address)


def file(context: Context, found: Repository, name: str, ref: str, blob: tuple[str, bytes], newest: Commit) -> Document:
    """A file of a branch, with its blob (number and content) and the branch's newest commit."""
    identity, content = blob
    address = f"{_at(context, found, 'contents', name)}?ref={ref}"
    html, git = _url(context, found.full_name, "src/branch", ref, name), _at(context, found, "git/blobs", identity)
    return _filled(
        context,
        "file",
        name=name,
        path=name,
        sha=identity,
        size=len(content),
        content=b64encode(content).decode(),
        last_commit_sha=newest.id,
        **_known(context, "file", last_author_date=newest.authored, last_committer_date=newest.committed),
        url=address,
        html_url=html,
        git_url=git,
        download_url=_url(context, found.full_name, "raw/branch", ref, name),
        _links={"self": address, "git": git, "html": html},
    )


def file_commit(context: Context, found: Repository, made: Commit) -> Document:
    """The commit that a request made."""

    def reference(kind: str, number: str) -> Document:
        return {"sha": number, "url": _at(context, found, kind, number), "created": made.committed}

    return _filled(
        context,
        "file_commit",
        **reference("git/commits", made.id),
        html_url=_url(context, found.full_name, "commit", made.id),
        message=made.message,
        author=_person(made.author, date=made.authored),
        committer=_person(made.committer, date=made.committed),
        parents=[reference("git/commits", each) for each in made.parents],
        tree=reference("git/trees", made.tree),
    )


def verification() -> Document:
    """That a commit has no signature."""
    return dict(_templates()["branch_commit"]["fields"]["verification"])


def wiki_page(context: Context, found: Repository, name: str, content: bytes, newest: Commit) -> Document:
    """A page of a wiki."""
    author, committer = _person(newest.author, date=newest.authored), _person(newest.committer, date=newest.committed)
    return _filled(
        context,
        "wiki_page",
        title=name,
        sub_url=name,
        html_url=_url(context, found.full_name, "wiki", name),
        content_base64=b64encode(content).decode(),
        # The spelling is Gitea's.
        last_commit={"sha": newest.id, "author": author, "commiter": committer, "message": newest.message},
    )


def token(context: Context, made: Token, name: str, scopes: list[str]) -> Document:
    """A new access token."""
    last, now = made.secret[-8:], when(int(datetime.now(UTC).timestamp()))
    values = {"id": made.id, "name": name, "sha1": made.secret, "token_last_eight": last, "scopes": scopes}
    return _filled(context, "token", **values, **_known(context, "token", created_at=now))


def key(context: Context, found: PublicKey) -> Document:
    """An ssh key."""
    return _filled(
        context,
        "key",
        id=found.id,
        title=found.title,
        key=found.content,
        fingerprint=found.fingerprint,
        user=_account(context, found.owner_id),
        url=_url(context, "api/v1/user/keys", found.id),
        created_at=when(found.created_unix),
    )


def when(unix: int | None) -> str:
    """A time as the API writes it."""
    return datetime.fromtimestamp(unix or 0, UTC).isoformat().replace("+00:00", "Z")


def _of_issue(context: Context, found: Repository, each: Issue, kind: str = "issues") -> Document:
    return {
        "id": each.id,
        "number": each.index,
        "title": each.title,
        "body": each.body,
        "user": _account(context, each.poster_id),
        "url": _at(context, found, kind, each.index),
        "html_url": _url(context, found.full_name, kind, each.index),
        "created_at": when(each.created_unix),
        "updated_at": when(each.created_unix),
    }


def _account(context: Context, number: int | None) -> Document:
    found = user_of_id(context.database, number or 0)
    return user(context, found) if found else {}


def _person(person: Person, **more: str) -> Document:
    return {"name": person[0], "email": person[1], **more}


def _url(context: Context, *parts: object) -> str:
    return context.settings.root_url + "/".join(map(str, parts))


def _at(context: Context, found: Repository, *parts: object) -> str:
    return _url(context, "api/v1/repos", found.full_name, *parts)


def _filled(context: Context, kind: str, **values: object) -> Document:
    fields = deepcopy(_fields(kind, context.instance.release))
    unknown = set(values) - set(fields)
    assert not unknown, f"{kind} has no {unknown}"
    return fields | values


def _known(context: Context, kind: str, **values: object) -> Document:
    """The values whose fields the release has."""
    fields = _fields(kind, context.instance.release)
    return {name: value for name, value in values.items() if name in fields}


@cache
def _fields(kind: str, installed: Release) -> Document:
    fields: Document = {}
    for condition, part in _templates()[kind].items():
        numbers = tuple(map(int, re.findall(r"\d+", condition)))
        if installed.since(*numbers) != condition.startswith("before"):
            fields |= part
    return fields


@cache
def _templates() -> dict[str, dict[str, Document]]:
    content: dict[str, dict[str, Document]] = json.loads(Path(__file__).with_suffix(".json").read_text())
    return content
