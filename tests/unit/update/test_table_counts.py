"""Tables and columns that have less than before: what is shown, and what is lost."""

from __future__ import annotations

import pytest

from ops.update.table_counts import Counts, lines_of, losses

BEFORE = {
    "public.issue": 100,
    "public.comment": 4000,
    "public.comment.content": 3000,
    "public.session": 500,
    "public.tiny.note": 3,
}


@pytest.mark.parametrize(
    ("after", "shrunk", "lost"),
    [
        ({}, set(), set()),
        ({"public.comment.content": 0}, {"public.comment.content"}, {"public.comment.content: 3000 became 0"}),
        ({"public.comment": 3980}, {"public.comment"}, set()),
        ({"public.comment": 3960}, {"public.comment"}, set()),
        ({"public.comment": 3959}, {"public.comment"}, {"public.comment: 4000 became 3959"}),
        ({"public.issue": 90}, {"public.issue"}, set()),
        ({"public.issue": 89}, {"public.issue"}, {"public.issue: 100 became 89"}),
        ({"public.tiny.note": 0}, {"public.tiny.note"}, set()),
        ({"public.session": 0}, {"public.session"}, set()),
        ({"public.comment": 5000}, set(), set()),
    ],
)
def test_more_than_ten_and_more_than_a_hundredth_is_a_loss(
    after: dict[str, int], shrunk: set[str], lost: set[str]
) -> None:
    found = losses(Counts(BEFORE, migration=336), Counts(BEFORE | after, migration=338))
    assert (set(found.shrunk), set(found.lost), found.removed) == (shrunk, lost, ())


@pytest.mark.parametrize(
    "table",
    [
        "access_token", "auth_token", "branch", "dbfs_data", "dbfs_meta", "hook_task", "notice", "oauth2_authorization_code",
        "package_blob", "package_blob_upload", "repo_archiver", "session", "upload",
    ],
)  # fmt: skip
def test_a_table_of_short_lived_rows_loses_nothing(table: str) -> None:
    before, after = ({f"public.{table}": rows, f"public.{table}.content": rows} for rows in (1000, 0))
    found = losses(Counts(before, migration=336), Counts(after, migration=338))
    assert (set(found.shrunk), found.lost) == (set(before), ())


def test_what_a_migration_removes_is_shown_and_what_goes_without_one_is_lost() -> None:
    after = {name: number for name, number in BEFORE.items() if name != "public.comment.content"}
    migrated = losses(Counts(BEFORE, migration=336), Counts(after, migration=338))
    assert (migrated.removed, migrated.lost) == (("public.comment.content",), ())
    assert lines_of(migrated) == ("public.comment.content is gone: the new version removed, renamed or narrowed it",)
    same = losses(Counts(BEFORE, migration=336), Counts(after, migration=336))
    assert same.lost == ("public.comment.content: 3000 became none, it was removed without a migration",)


def test_what_was_not_counted_is_neither_removed_nor_lost() -> None:
    after = Counts({"public.issue": 100}, tuple(name for name in BEFORE if name != "public.issue"), 336)
    found = losses(Counts(BEFORE, migration=336), after)
    assert (found.removed, found.shrunk, found.lost) == ((), {}, ())


@pytest.mark.parametrize("name", ["comment", "comment.content", "public.comment.content"])
def test_a_loss_that_the_operator_accepts_is_shown_alone(name: str) -> None:
    after = Counts(BEFORE | {"public.comment.content": 0}, migration=336)
    found = losses(Counts(BEFORE, migration=336), after, [name])
    assert (found.lost, lines_of(found)) == ((), ("public.comment.content: 3000 became 0",))
    assert losses(Counts(BEFORE, migration=336), after, ["issue"]).lost
