"""Another major version of PostgreSQL runs on a compared copy of the database, or the old one stays."""

from __future__ import annotations

import pytest

from ops.errors import Refused, RolledBack
from tests.support.fake_host import PINS, FakeHost


def test_another_major_version_of_postgresql_runs_on_a_copy_of_the_database(host: FakeHost) -> None:
    host.write("before")
    report = host.update("postgres", "19.0")
    live = host.paths.data / "postgresql"
    assert (report.facts["outcome"], (live / "PG_VERSION").read_text()) == ("updated", "19")
    assert host.serves()
    assert host.write("after")
    assert host.content() == ["before", "after"]
    actions = host.actions
    course = [
        "snapshot postgresql",
        "copy the database",
        "stop postgres",
        "exchange postgresql",
        "write .env",
        "compose create postgres",
    ]
    assert [each for each in actions if each in course] == course
    assert not (host.paths.data / ".update/anew").exists()
    # The rollback puts the old files back.
    host.rollback()
    assert (host.pinned_in_environment("postgres"), (live / "PG_VERSION").read_text()) == (PINS["postgres"], "18")
    assert host.content() == ["before"]


def test_a_copy_that_lacks_a_row_does_not_replace_the_database(host: FakeHost) -> None:
    host.write("one")
    host.write("two")
    host.loses_rows = True
    with pytest.raises(RolledBack, match=r"table public.issue: 2 rows \(one two\) became 1 rows \(one\)"):
        host.update("postgres", "19.0")
    assert (host.content(), host.serves()) == (["one", "two"], True)
    assert "stop postgres" not in host.actions
    (entry,) = host.history()
    assert (entry["outcome"], entry["with_data"]) == ("rolled back", False)
    host.loses_rows = False
    assert host.update("postgres", "19.0").changed


def test_a_new_server_that_exits_at_once_is_not_waited_for_and_its_output_is_shown(host: FakeHost) -> None:
    host.initdb_fails = True
    with pytest.raises(RolledBack, match=r"19\.0 creates no database: initdb: invalid locale name"):
        host.update("postgres", "19.0")
    (entry,) = host.history()
    assert entry["away"] < 10


def test_a_database_from_before_a_rotation_gets_the_current_password(host: FakeHost) -> None:
    host.update(to="28.1.0")
    host.actions.clear()
    host.rollback()
    actions = host.actions
    assert actions.index("start postgres") < actions.index("alter the role") < actions.index("start gitea")


def test_a_server_with_foreign_objects_is_not_upgraded_to_another_major_version(host: FakeHost) -> None:
    # A database that a restore keeps aside is not a foreign object.
    (host.paths.data / "postgresql/gitea_before").write_text("{}")
    (host.paths.data / "postgresql/wiki").write_text("{}")
    with pytest.raises(Refused, match="would not get: database wiki: move"):
        host.update("postgres", "19.0")
    (host.paths.data / "postgresql/wiki").unlink()
    assert host.update("postgres", "19.0").changed
