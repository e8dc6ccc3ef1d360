"""The rows in a stored dump: what they say about the repositories, and how they are compared with the manifest."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from ops.backup import dump_rows
from ops.backup.dump_rows import DumpRows
from tests.support import fakes

MADE = fakes.made(datetime(2026, 11, 23, 6, 20, tzinfo=UTC), rows={"user": 3, "repository": 2})
USERS = ["+ user\t1\tkeeper\tt\t0", "+ user\t2\tleft\tf\t0", "+ user\t3\torg\tf\t1", "= user 3"]


def rows(*lines: str) -> DumpRows:
    found = DumpRows()
    for each in lines:
        found.add(each)
    return found


@pytest.mark.parametrize(
    ("repository", "units", "served"),
    [
        ("1\t7\twhole\tf\t0", ["7\t2", "7\t1"], {"keeper/whole.git"}),
        ("1\t7\twhole\t\\N\t0", ["7\t1"], {"keeper/whole.git"}),
        ("1\t7\tempty\tt\t0", ["7\t1"], set()),
        ("1\t7\tin-the-making\tf\t1", ["7\t1"], set()),
        ("1\t7\tof-no-state\tf\t\\N", ["7\t1"], set()),
        ("1\t7\tno-code\tf\t0", ["7\t2", "8\t1"], set()),
        ("2\t7\tof-an-inactive-owner\tf\t0", ["7\t1"], set()),
        ("3\t7\tof-an-organization\tf\t0", ["7\t1"], {"org/of-an-organization.git"}),
        ("9\t7\tof-no-owner\tf\t0", ["7\t1"], set()),
    ],
)
def test_gitea_serves_a_repository_of_an_active_owner_with_a_code_unit_and_content(
    repository: str, units: list[str], served: set[str]
) -> None:
    found = rows(*USERS, f"+ repository\t{repository}", *(f"+ repo_unit\t{unit}" for unit in units), "= repo_unit 2")
    assert found.served() == served


def test_a_condition_on_a_column_or_table_that_this_version_lacks_is_left_out() -> None:
    found = rows("+ user\t1\tkeeper\t-\t-", "= user 1", "+ repository\t1\t7\twhole\t-\t-", "= repository 1")
    assert found.served() == {"keeper/whole.git"}


def test_messages_of_other_programs_are_not_rows() -> None:
    found = rows("pg_restore: warning: user 7", "= user 3", "", "rows")
    assert found.counts == {"user": 3}


def test_the_tables_of_an_older_suite_s_manifest_are_read_too() -> None:
    read = dump_rows.tables_of(replace(MADE, rows={"user": 3, "of_an_older_suite": 1}))
    assert read == ("user", "of_an_older_suite", "repository", "repo_unit")


def test_a_table_with_another_number_of_rows_than_in_the_manifest_is_a_finding() -> None:
    assert dump_rows.missing_tables(MADE, {"user": 3, "repository": 2, "issue": 5}) == []
    assert dump_rows.missing_tables(MADE, {"repository": 1}) == [
        f"table user is not in the dump of {MADE.identity}",
        f"table repository has 1 rows in the dump of {MADE.identity} and 2 in its manifest",
    ]


def test_a_served_repository_without_data_is_a_finding_unless_the_manifest_names_it() -> None:
    words = f"repository a/lost.git is in the dump of {MADE.identity} and not in its data"
    served = {"a/b.git", "a/lost.git"}
    assert dump_rows.missing_repositories(MADE, served, ["a/b.git", "a/unadopted.git"]) == [words]
    # Its manifest has it: a difference that is reported as such.
    assert dump_rows.missing_repositories(MADE, {"a/b.git"}, []) == []
    assert dump_rows.missing_repositories(replace(MADE, missing=["a/lost.git"]), served, ["a/b.git"]) == []


def test_the_first_twenty_of_many_missing_repositories_are_named() -> None:
    def found(count: int) -> list[str]:
        return dump_rows.missing_repositories(MADE, {f"a/{number:02}.git" for number in range(count)}, [])

    assert len(found(20)) == 20
    assert found(22)[20:] == [f"2 more repositories are in the dump of {MADE.identity} and not in its data"]
