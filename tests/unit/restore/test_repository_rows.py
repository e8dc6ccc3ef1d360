"""The rows of branches, tags and releases after the restore of one repository. On a real server: tests/integration/test_repository_rows.py."""

from __future__ import annotations

from typing import Any

import pytest

from ops.errors import Degraded, OpsError
from ops.restore import repository_rows
from ops.restore.repository_rows import GitRefs, ReleaseRow, Tag
from tests.support.fake_restore_host import SITE, FakeRestoreHost

OUTPUT = """refs/heads/main
refs/heads/feature/it's 0002  1700000002
refs/heads/main 0001  1700000001
refs/heads/\ufffd 0003  1700000003
refs/tags/light 0004  1700000004
refs/tags/annotated 0005 0001 1700000005
"""


def test_branches_and_tags_are_read_from_git() -> None:
    assert repository_rows.refs_from(OUTPUT) == GitRefs(
        {"main": "0001", "feature/it's": "0002"},
        {"light": Tag("0004", 1700000004), "annotated": Tag("0001", 1700000005)},
        "main",
    )
    assert repository_rows.refs_from("") == GitRefs()
    assert repository_rows.refs_from("\nrefs/heads/a 1  2\n") == GitRefs({"a": "1"}, {}, "")


def row(identity: int, tag: str, commit: str = "0001", *, is_tag: bool = True, is_draft: bool = False) -> ReleaseRow:
    return ReleaseRow(identity, tag, commit, is_tag, is_draft)


def test_rows_of_tags_and_releases_follow_git() -> None:
    same, gone, moved = row(1, "same"), row(2, "gone"), row(3, "moved", "0009")
    release_gone, release = row(4, "v2", is_tag=False), row(5, "V1", is_tag=False)
    draft, other_case = row(6, "next", is_tag=False, is_draft=True), row(7, "Case")
    tags = {name: Tag("0001", 1) for name in ("same", "moved", "V1", "new", "next", "Case", "v3")}
    planned = repository_rows.plan_rows([same, gone, moved, release_gone, release, draft, other_case], tags)
    assert planned.deleted == (gone,)
    assert planned.drafts == (release_gone,)
    assert planned.moved == ((moved, Tag("0001", 1)),)
    assert [name for name, _ in planned.added] == ["new", "v3"]


def test_the_rows_change_in_one_transaction_and_gitea_reads_the_branches_again(host: FakeRestoreHost) -> None:
    host.git_refs = "refs/heads/main\nrefs/heads/main 0001  1\nrefs/tags/it's 0002  1700000004\n"
    host.release_rows = (("11", "gone", "0003", "t", "f"), ("12", "v2", "0004", "f", "f"))
    # Directly after the change, Gitea lists nothing.
    host.listed = [None, {}, {"main": "0009"}, {"main": "0001"}]
    report = host.ops(repository="a/b")
    assert [host.changed_rows[0], host.changed_rows[-1]] == ["BEGIN", "COMMIT"]
    assert host.changed_rows[1:-1] == [
        "DELETE FROM release WHERE id = 11",
        "UPDATE release SET is_draft = true, num_commits = 0, sha1 = '' WHERE id = 12",
        "INSERT INTO release (repo_id, publisher_id, tag_name, lower_tag_name, target, title, sha1, num_commits, note, "
        "is_draft, is_prerelease, is_tag, created_unix) VALUES "
        "(7, 3, 'it''s', 'it''s', '', '', '0002', 5, '', false, false, true, 1700000004)",
        "DELETE FROM branch WHERE repo_id = 7",
    ]
    assert len(host.listed) == 1
    assert report.lines[:2] == (
        "tags in the database: 1 added, 0 moved, 1 deleted",
        "releases that are drafts now, because their tags are not in the backup: v2",
    )


@pytest.mark.parametrize(
    ("stored", "changed"),
    [
        (("7", "3", "main", "f"), None),
        (("7", "3", "gone", "f"), "UPDATE repository SET default_branch = 'main' WHERE id = 7"),
        (("7", "3", "main", "t"), "UPDATE repository SET is_empty = false WHERE id = 7"),
    ],
)
def test_the_repository_s_own_row_fits_its_branches(
    host: FakeRestoreHost, stored: tuple[str, ...], changed: str | None
) -> None:
    host.repository_row = stored
    host.ops(repository="a/b")
    assert [each for each in host.changed_rows if "UPDATE repository" in each] == ([changed] if changed else [])


def test_tables_that_a_version_of_gitea_lacks_are_left_out(host: FakeRestoreHost) -> None:
    host.tables = ()
    host.ops(repository="a/b")
    assert host.changed_rows == ["BEGIN", "COMMIT"]


def test_a_wiki_has_no_rows(host: FakeRestoreHost) -> None:
    world: Any = host
    host.git_refs = ""
    assert repository_rows.align(SITE, world, host.paths, "a/b.wiki") == ()
    assert host.changed_rows == []


def test_gitea_that_never_lists_git_s_branches_is_reported_with_the_way_to_fix_it(host: FakeRestoreHost) -> None:
    host.listed = [{"main": "0001", "gone": "0002"}]
    with pytest.raises(Degraded, match="after 60 s Gitea lists other branches than git: gone") as degraded:
        host.ops(repository="a/b")
    assert degraded.value.left_as == "the repository is restored"
    assert "ops restore --repository a/b" in degraded.value.hint
    assert 60 < host.clock.monotonic() < 63


def test_rows_that_cannot_be_changed_are_reported(host: FakeRestoreHost, monkeypatch: pytest.MonkeyPatch) -> None:
    ask = host.ask

    def fails(statement: str) -> list[list[str]]:
        if statement.startswith("DELETE FROM branch"):
            raise OpsError("the database ended the session: ERROR: permission denied")
        return ask(statement)

    monkeypatch.setattr(host, "ask", fails)
    with pytest.raises(Degraded, match="permission denied"):
        host.ops(repository="a/b")
    # The session ends, and the server rolls back.
    assert host.changed_rows == ["BEGIN"]
    assert (host.paths.live / "git/repositories/a/b.git/content").read_text() == "then"
