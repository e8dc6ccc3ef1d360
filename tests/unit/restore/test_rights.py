"""Roles, grants and owners that a restore leaves out are reported."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from ops.restore import rights
from ops.stack import accounts
from tests.support import fake_restore_host
from tests.support.fake_restore_host import FakeRestoreHost

GRANT = "GRANT SELECT ON TABLE public.issue TO metrics_ro;"
OWNER = "ALTER TABLE public.report OWNER TO analyst;"


def test_statements_that_were_left_out_are_reported_once() -> None:
    assert rights.lines_of([GRANT, OWNER, GRANT, 'GRANT ALL ON SCHEMA x TO "odd name";']) == (
        'not restored: roles "odd name", analyst, metrics_ro and their rights; give them again where they are needed',
        f"not restored: {GRANT}",
        'not restored: GRANT ALL ON SCHEMA x TO "odd name";',
        "not restored: the owners of 1 objects, which gitea owns now",
    )
    assert rights.lines_of([]) == ()


def test_rights_of_everyone_are_reported_without_a_role() -> None:
    lines = rights.lines_of(["REVOKE USAGE ON SCHEMA public FROM PUBLIC;"])
    assert lines[0] == "not restored: these rights; give them again where they are needed"


def test_a_long_list_of_grants_is_cut_and_counted() -> None:
    lines = rights.lines_of(GRANT.replace("issue", f"t{number}") for number in range(25))
    assert len(lines) == 22
    assert lines[-1] == "not restored: 5 more grants"


def test_a_restore_loads_without_rights_and_reports_what_it_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accounts, "ensure_admin", lambda site, world: None)
    host, loads = FakeRestoreHost(directory=tmp_path), list[Sequence[str]]()
    load = fake_restore_host.Repository.dump_into

    def dump_into(one: Any, snapshot: str, filename: str, argv: Sequence[str], on_line: Callable[[str], None]) -> None:
        loads.append(argv)
        on_line("pg_restore: a warning")
        on_line(f"left out: {GRANT}")
        load(one, snapshot, filename, argv, on_line)

    monkeypatch.setattr(fake_restore_host.Repository, "dump_into", dump_into)
    report = host.ops()
    assert {"--no-owner", "--no-acl"} <= set(loads[0])
    assert f"not restored: {GRANT}" in report.lines
    assert report.facts["not_restored"] == [GRANT]
    assert "pg_restore: a warning" in host.progress
    assert not [line for line in host.progress if GRANT in line]
