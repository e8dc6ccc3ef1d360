"""What is well, and what is not."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.backup import manifest, records
from ops.backup.records import Drill, Verification
from ops.model import Probe
from ops.stack import health
from ops.stack.health import Records
from ops.wal import segments
from ops.wal.segments import Streamed
from ops.world.btrfs import Btrfs
from ops.world.containers import Service, health_from
from ops.world.https import Answer
from ops.world.process import Finished
from tests.support import fakes

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
FRESH = fakes.made(NOW - timedelta(minutes=10))
ALL_WELL = tuple(Service(name, f"{name}:1", "running", "healthy", 0) for name in sorted(health.EXPECTED_SERVICES))


def _world(
    status: int = 200, ends: datetime = NOW + timedelta(days=60), services: tuple[Service, ...] = ALL_WELL
) -> fakes.FakeWorld:
    https = fakes.FakeWeb(lambda *_: Answer(status, {}, b"", ends))
    aws = fakes.FakeAws(stored={manifest.key_of(FRESH.identity): manifest.to_json(FRESH)})
    return fakes.FakeWorld(https=https, containers=fakes.FakeContainers(found=services), aws=aws)


@pytest.fixture(autouse=True)
def stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the stream of a site that is well says of itself."""
    said = tmp_path / "state.json"
    said.write_text(segments.state_to_json(Streamed("7345", NOW, "000000010000000000000003")))
    monkeypatch.setattr(health, "STREAM", said)
    return said


def _red(world: fakes.FakeWorld) -> list[str]:
    report = health.health(fakes.site(), world)  # type: ignore[arg-type]
    assert report.exit_code == (3 if not report.facts["healthy"] else 0)
    return [probe["name"] for probe in report.facts["probes"] if not probe["healthy"]]


def test_a_site_where_everything_answers_is_healthy() -> None:
    assert _red(_world()) == []


@pytest.mark.parametrize(("counted", "red"), [(None, []), ((), []), (("corruption_errs 2",), ["data disk"])])
def test_a_disk_that_returned_something_else_than_was_written_is_red(
    counted: tuple[str, ...] | None, red: list[str]
) -> None:
    world = _world()
    world.btrfs = fakes.FakeSubvolumes(counted)
    assert _red(world) == red


@pytest.mark.parametrize(
    ("free", "total", "healthy"),
    [(1, 20, False), (2, 20, True), (4, 100, False), (5, 100, True), (4, 1000, False), (6, 1000, True)],
)
def test_a_disk_is_red_before_it_is_full(free: int, total: int, healthy: bool) -> None:
    assert health.check_room("room", free * 2**30, free / total).healthy is healthy


def test_what_btrfs_counts_against_a_disk_is_read() -> None:
    zeros = "[/dev/nvme1n1].write_io_errs    0\n[/dev/nvme1n1].corruption_errs  0\n"
    said = {"sound": Finished(0, zeros), "rotten": Finished(0, zeros.replace("errs  0", "errs  12"))}
    said["silent"] = Finished(0, "")
    counting: Any = fakes.FakeProcesses(lambda argv: said.get(argv[-1], Finished(1, "ERROR: not a btrfs filesystem\n")))
    found = {each: Btrfs(counting).errors(Path(each)) for each in ("sound", "rotten", "elsewhere", "silent")}
    assert found == {
        "sound": (),
        "rotten": ("corruption_errs 12",),
        "elsewhere": ("cannot be told: ERROR: not a btrfs filesystem",),
        "silent": ("cannot be told: ",),
    }


def test_no_probe_at_all_is_not_health() -> None:
    assert health.check_site([]).exit_code == 3


@pytest.mark.parametrize("name", sorted(health.EXPECTED_SERVICES))
def test_each_service_that_is_missing_is_red(name: str) -> None:
    assert _red(_world(services=tuple(each for each in ALL_WELL if each.name != name))) == [f"container {name}"]


@pytest.mark.parametrize(
    ("state", "verdict"), [("running", "unhealthy"), ("running", ""), ("exited", ""), ("restarting", "healthy")]
)
def test_a_service_is_well_only_running_and_healthy_by_its_own_check(state: str, verdict: str) -> None:
    sick = (*ALL_WELL[1:], Service(ALL_WELL[0].name, "image", state, verdict, 0))
    assert _red(_world(services=sick)) == [f"container {ALL_WELL[0].name}"]


def test_while_one_nginx_takes_another_s_place_one_that_is_well_is_enough() -> None:
    leaving = Service("nginx", "nginx:1", "running", "unhealthy", 0)
    assert _red(_world(services=(leaving, *ALL_WELL))) == []
    assert _red(_world(services=(*ALL_WELL, leaving))) == []


def test_a_site_that_stands_still_for_a_backup_is_judged_when_it_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    world = _world(services=_with_gitea("paused"))
    monkeypatch.setattr(world.clock, "sleep", lambda _: setattr(world.containers, "found", ALL_WELL))
    assert _red(world) == []


def test_a_gitea_that_stands_still_for_longer_than_any_backup_is_red() -> None:
    world = _world(services=_with_gitea("paused"))
    began = world.clock.monotonic()
    assert _red(world) == ["container gitea"]
    assert 5 < world.clock.monotonic() - began < 10


def _with_gitea(state: str) -> tuple[Service, ...]:
    return tuple(replace(each, state=state) if each.name == "gitea" else each for each in ALL_WELL)


@pytest.mark.parametrize(
    ("status", "code", "asked", "health"),
    [
        pytest.param("healthy", 0, "10:00:05", "healthy", id="well"),
        pytest.param("unhealthy", 1, "10:00:05", "unhealthy", id="ill"),
        pytest.param("unhealthy", 0, "10:00:05", "healthy", id="paused since it was well"),
        pytest.param("unhealthy", 0, "09:59:55", "starting", id="paused before this run was asked"),
        pytest.param("starting", 0, "09:59:55", "starting", id="restarted"),
    ],
)
def test_a_container_is_as_well_as_its_own_last_check_says(status: str, code: int, asked: str, health: str) -> None:
    told = [
        {"ExitCode": 1 - code, "Start": "2026-11-26T09:59:50.1Z"},
        {"ExitCode": code, "Start": f"2026-11-26T{asked}.123456789Z"},
    ]
    state = {"StartedAt": "2026-11-26T10:00:00.987654321Z", "Health": {"Status": status, "Log": told}}
    assert health_from(state) == health


def test_a_container_that_was_never_asked_is_what_the_engine_says() -> None:
    assert health_from({}) == ""
    assert health_from({"Health": {"Status": "unhealthy", "Log": []}}) == "unhealthy"


def test_gitea_answering_that_its_database_is_away_is_red() -> None:
    assert _red(_world(status=424)) == ["https"]


def test_a_site_that_does_not_answer_is_red_on_everything_a_user_sees() -> None:
    world = _world()
    world.https = fakes.FakeWeb(None, ssh_banner="")
    assert _red(world) == ["https", "certificate", "git over ssh"]


def test_another_server_on_git_s_ssh_port_is_red() -> None:
    world = _world()
    world.https.ssh_banner = "220 mail"
    assert _red(world) == ["git over ssh"]


@given(st.integers(min_value=-400, max_value=400))
def test_a_certificate_turns_red_exactly_when_too_little_of_it_is_left(days: int) -> None:
    probe = health.check_certificate(NOW + timedelta(days=days), NOW)
    assert probe.healthy == (timedelta(days=days) > health.CERTIFICATE_LEFT)


def test_a_log_that_does_not_arrive_in_the_bucket_any_more_is_red(stream: Path) -> None:
    stream.write_text(segments.state_to_json(Streamed("7345", NOW - timedelta(minutes=4), "000000010000000000000003")))
    assert _red(_world()) == ["WAL stream"]
    stream.unlink()
    assert _red(_world()) == ["WAL stream"]


def test_a_red_probe_tells_its_remedy() -> None:
    report = health.check_site([Probe("disk", False, "full", "make room")])
    assert report.lines == ("RED disk: full -> make room",)


LONG_AGO = NOW - timedelta(days=400)
PASSED = Records((Verification(NOW, "one", 1),), (Drill(NOW, "one", 60.0, 60.0),))


@pytest.mark.parametrize(
    ("newest", "started", "healthy"),
    [
        (NOW - timedelta(minutes=30), LONG_AGO, True),
        (NOW - timedelta(minutes=31), LONG_AGO, False),
        # Taken by a clock that was wrong.
        (NOW + timedelta(minutes=6), LONG_AGO, False),
        # A host that was off owes no backup of that time, yet one soon after.
        (NOW - timedelta(days=3), NOW - timedelta(minutes=29), True),
        (None, NOW - timedelta(minutes=29), True),
        (None, NOW - timedelta(minutes=31), False),
    ],
)
def test_a_backup_older_than_may_be_lost_is_red(newest: datetime | None, started: datetime, healthy: bool) -> None:
    probes = health.check_backups(newest, started, newest, PASSED, fakes.site(), NOW)
    assert {probe.name: probe.healthy for probe in probes} == {
        "backup": healthy,
        "verification of backups": True,
        "drill": True,
    }


@pytest.mark.parametrize(
    ("records", "red"),
    [
        (PASSED, []),
        (Records(PASSED.verifications, (Drill(NOW, "one", 1.0, 1.0, ("row counts differ",)),)), ["drill"]),
        (Records((Verification(NOW, "one", 1, ("a bit",)),), PASSED.drills), ["verification of backups"]),
        (Records(PASSED.verifications), ["drill"]),
        (Records(), ["verification of backups", "drill"]),
    ],
)
def test_a_failed_or_overdue_drill_or_verification_is_red(records: Records, red: list[str]) -> None:
    since = NOW - timedelta(days=8, seconds=1)
    probes = health.check_backups(NOW, LONG_AGO, since, records, fakes.site(), NOW)
    assert [probe.name for probe in probes if not probe.healthy] == red


def test_the_host_s_health_reads_what_the_bucket_says_of_backups() -> None:
    world = _world()
    failed = Drill(NOW - timedelta(days=1), FRESH.identity, 1.0, 1.0, ("row counts differ",))
    world.aws.stored[records.key_of(records.DRILLS, failed.began)] = records.to_json(failed)
    assert _red(world) == ["drill"]
    passed = Drill(NOW, FRESH.identity, 1.0, 1.0)
    world.aws.stored[records.key_of(records.DRILLS, passed.began)] = records.to_json(passed)
    assert _red(world) == []
    world.aws.stored["verifications/20261123T120000Z.json"] = b"{}"
    assert _red(world) == ["verification of backups"]
    world.aws.stored = {"manifests/20261123T115000Z.json": b"{}"}
    assert _red(world) == ["backup"]
