"""When a drill is due, its record, and the exit code of its report."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.backup import records
from ops.backup.records import Drill
from ops.config.paths import HostPaths
from ops.errors import Locked, OpsError, Unavailable
from ops.restore import drill
from ops.timeline_chart import Mark, chart_from_json
from ops.world.containers import Ran
from ops.world.restic import WrongPassword
from tests.support import fakes

SITE = fakes.site()
NOW = datetime(2026, 11, 23, 5, 30, tzinfo=UTC)


def drill_record(days: float, *findings: str) -> Drill:
    return Drill(NOW - timedelta(days=days), "20261123T110000Z", 41.2, 540.0, findings, {"fetch": 1.5})


@pytest.mark.parametrize(
    ("drills", "due"),
    [
        ([], True),
        ([drill_record(1)], False),
        ([drill_record(6.4)], False),
        ([drill_record(6.6)], True),
        ([drill_record(1, "row counts differ")], True),
        ([drill_record(9), drill_record(3), drill_record(1, "row counts differ")], True),
        ([drill_record(3, "row counts differ"), drill_record(1)], False),
    ],
)
def test_a_drill_is_due_when_the_last_one_failed_or_is_a_week_old(drills: list[Drill], due: bool) -> None:
    assert records.due(drills, 7, NOW) is due


def test_a_drill_s_record_is_read_back_and_a_truncated_one_is_an_error() -> None:
    for each in (drill_record(0), drill_record(0, "one", "two")):
        assert records.drill_from_json(records.to_json(each)) == each
    whole = records.to_json(drill_record(0))
    for length in range(len(whole) - 1):
        with pytest.raises(OpsError, match="truncated"):
            records.drill_from_json(whole[:length])


@pytest.fixture
def run_drill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Drill]:
    """Runs a drill on a data disk with this many free bytes and with this function as its fetch."""

    def run(free: int, fetch: Callable[..., None]) -> Drill:
        world: Any = fakes.FakeWorld(btrfs=fakes.FakeBtrfs(room=free))
        monkeypatch.setattr(drill, "_compose", lambda folder: ["docker", "compose"])
        monkeypatch.setattr(drill, "_fetch", fetch)
        both: Any = None
        return drill._run_drill(SITE, world, HostPaths(data=tmp_path), both, fakes.made(NOW), NOW, tmp_path)

    return run


def test_a_drill_that_would_fill_the_data_disk_does_not_start(run_drill: Callable[..., Drill]) -> None:
    def fetch(*_: object) -> None:
        raise AssertionError("it started")

    (finding,) = run_drill(2000, fetch).findings
    assert "2.0 KiB are free on the data disk, the backup needs 2.1 KiB beside the site" in finding


@pytest.mark.parametrize("kind", [Unavailable, Locked, WrongPassword])
def test_a_drill_that_cannot_run_is_not_a_finding_about_the_backup(
    run_drill: Callable[..., Drill], kind: type[OpsError]
) -> None:
    def fetch(*_: object) -> None:
        raise kind("not now")

    with pytest.raises(kind, match="not now"):
        run_drill(10**6, fetch)


def test_an_error_while_restoring_the_backup_is_a_finding(run_drill: Callable[..., Drill]) -> None:
    def fetch(*_: object) -> None:
        raise OpsError("ciphertext verification failed")

    assert run_drill(10**6, fetch).findings == ("fetch: ciphertext verification failed",)


@pytest.mark.parametrize("database", [True, False])
def test_a_token_that_is_refused_while_the_database_is_away_is_a_finding_about_the_database(database: bool) -> None:
    def command(argv: Sequence[str]) -> Ran:
        if "generate-access-token" in argv:
            return Ran(0, f"Access token was successfully created: {'a' * 40}")
        if argv[0] == "curl":
            return Ran(0 if database else 22, "")
        return Ran(22, "The requested URL returned error: 401")

    world: Any = fakes.FakeWorld(containers=fakes.FakeContainers(answers={"gitea": command}))
    findings = drill._usage_findings(world, fakes.made(NOW, repositories={}), "keeper")
    begins = "keeper cannot sign in" if database else "Gitea or its database does not answer on the scratch site"
    assert [each.partition(":")[0] for each in findings] == [begins]


def test_a_drill_with_findings_or_over_its_time_limit_has_exit_code_3() -> None:
    assert drill.report_of(drill_record(0), SITE).exit_code == 0
    found = drill.report_of(drill_record(0, "git fsck of a/b.git: broken link"), SITE)
    assert (found.exit_code, found.lines) == (3, ("git fsck of a/b.git: broken link",))
    late = drill.report_of(Drill(NOW, "20261123T110000Z", 3601.0, 1.0), SITE)
    assert late.exit_code == 3
    assert "3601 s, more than backup.rto_minutes = 60" in late.lines[0]


def test_a_drill_s_chart_has_both_measures_and_their_limits() -> None:
    facts = drill.report_of(drill_record(0), SITE).facts
    drawn = chart_from_json(json.dumps(facts["course"]))
    assert drawn.title.endswith("20261123T110000Z")
    assert (drawn.steps, drawn.marks) == ({"fetch": 1.5}, (Mark("the site is up", 41.2),))
    assert [(each.seconds, each.allowed) for each in drawn.limits] == [(41.2, 3600.0), (540.0, 1800.0)]


def test_a_site_that_never_started_has_no_mark_in_the_chart() -> None:
    assert drill.course_of(Drill(NOW, "20261123T110000Z", 0.0, 1.0, ("no database",)), SITE).marks == ()


@given(st.sets(st.integers(0, 999)))
def test_a_few_repositories_spread_over_all_are_cloned(numbers: set[int]) -> None:
    names = [f"a/{number}.git" for number in numbers]
    chosen = drill.sample([*names, *(f"a/{number}.wiki.git" for number in numbers)])
    assert set(chosen) <= set(names)
    assert len(chosen) == min(len(names), 3) or (len(names) == 4 and len(chosen) == 2)
