"""The verdicts of the health probes."""

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
from ops.config import monitoring_files
from ops.model import Probe, UnitRun
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
# nginx's exporter has no check of its own.
ALL_HEALTHY = tuple(
    Service(name, f"{name}:1", "running", "" if name == "nginx-exporter" else "healthy", 0)
    for name in sorted({*health.EXPECTED_SERVICES, *monitoring_files.SERVICES})
)


def _world(
    status: int = 200, ends: datetime = NOW + timedelta(days=60), services: tuple[Service, ...] = ALL_HEALTHY
) -> fakes.FakeWorld:
    https = fakes.FakeHttps(lambda *_: Answer(status, {}, b"", ends))
    aws = fakes.FakeAws(stored={manifest.key_of(FRESH.identity): manifest.to_json(FRESH)})
    return fakes.FakeWorld(https=https, containers=fakes.FakeContainers(found=services), aws=aws)


@pytest.fixture(autouse=True)
def stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The progress file of a WAL stream that is up to date."""
    file = tmp_path / "state.json"
    file.write_text(segments.state_to_json(Streamed("7345", NOW, "000000010000000000000003")))
    monkeypatch.setattr(health, "STREAM", file)
    return file


def _failing(world: fakes.FakeWorld) -> list[str]:
    report = health.health(fakes.site(), world)  # type: ignore[arg-type]
    assert report.exit_code == (3 if not report.facts["healthy"] else 0)
    return [probe["name"] for probe in report.facts["probes"] if not probe["healthy"]]


def test_a_site_where_everything_answers_is_healthy() -> None:
    assert _failing(_world()) == []


@pytest.mark.parametrize(("counted", "failing"), [(None, []), ((), []), (("corruption_errs 2",), ["data disk"])])
def test_a_data_disk_with_errors_counted_by_btrfs_fails(counted: tuple[str, ...] | None, failing: list[str]) -> None:
    world = _world()
    world.btrfs = fakes.FakeBtrfs(counted)
    assert _failing(world) == failing


@pytest.mark.parametrize(
    ("free", "total", "healthy"),
    [(1, 20, False), (2, 20, True), (4, 100, False), (5, 100, True), (4, 1000, False), (6, 1000, True)],
)
def test_a_disk_with_too_little_free_space_fails(free: int, total: int, healthy: bool) -> None:
    assert health.check_free_space("room", free * 2**30, free / total).healthy is healthy


def test_the_error_counters_of_btrfs_are_read() -> None:
    zeros = "[/dev/nvme1n1].write_io_errs    0\n[/dev/nvme1n1].corruption_errs  0\n"
    output = {"sound": Finished(0, zeros), "rotten": Finished(0, zeros.replace("errs  0", "errs  12"))}
    output["silent"] = Finished(0, "")
    counting: Any = fakes.FakeProcesses(
        lambda argv: output.get(argv[-1], Finished(1, "ERROR: not a btrfs filesystem\n"))
    )
    found = {each: Btrfs(counting).errors(Path(each)) for each in ("sound", "rotten", "elsewhere", "silent")}
    assert found == {
        "sound": (),
        "rotten": ("corruption_errs 12",),
        "elsewhere": ("unknown: ERROR: not a btrfs filesystem",),
        "silent": ("unknown: ",),
    }


def test_no_probes_do_not_count_as_healthy() -> None:
    assert health.check_site([]).exit_code == 3


@pytest.mark.parametrize("name", sorted(each.name for each in ALL_HEALTHY))
def test_a_missing_service_fails(name: str) -> None:
    assert _failing(_world(services=tuple(each for each in ALL_HEALTHY if each.name != name))) == [f"container {name}"]


@pytest.mark.parametrize(
    ("state", "verdict"), [("running", "unhealthy"), ("running", ""), ("exited", ""), ("restarting", "healthy")]
)
def test_a_service_that_is_not_both_running_and_healthy_fails(state: str, verdict: str) -> None:
    services = (*ALL_HEALTHY[1:], Service(ALL_HEALTHY[0].name, "image", state, verdict, 0))
    assert _failing(_world(services=services)) == [f"container {ALL_HEALTHY[0].name}"]


def test_during_an_nginx_handover_one_healthy_container_is_enough() -> None:
    leaving = Service("nginx", "nginx:1", "running", "unhealthy", 0)
    assert _failing(_world(services=(leaving, *ALL_HEALTHY))) == []
    assert _failing(_world(services=(*ALL_HEALTHY, leaving))) == []


def test_a_site_frozen_for_a_backup_is_probed_when_it_runs_again(monkeypatch: pytest.MonkeyPatch) -> None:
    world = _world(services=_with_gitea("paused"))
    monkeypatch.setattr(world.clock, "sleep", lambda _: setattr(world.containers, "found", ALL_HEALTHY))
    assert _failing(world) == []


def test_a_gitea_frozen_for_longer_than_any_backup_fails() -> None:
    world = _world(services=_with_gitea("paused"))
    began = world.clock.monotonic()
    assert _failing(world) == ["container gitea"]
    assert 5 < world.clock.monotonic() - began < 10


def _with_gitea(state: str) -> tuple[Service, ...]:
    return tuple(replace(each, state=state) if each.name == "gitea" else each for each in ALL_HEALTHY)


@pytest.mark.parametrize(
    ("status", "code", "asked", "health"),
    [
        pytest.param("healthy", 0, "10:00:05", "healthy", id="healthy"),
        pytest.param("unhealthy", 1, "10:00:05", "unhealthy", id="unhealthy"),
        pytest.param("unhealthy", 0, "10:00:05", "healthy", id="paused since its last check passed"),
        pytest.param("unhealthy", 0, "09:59:55", "starting", id="paused before the first check of this run"),
        pytest.param("starting", 0, "09:59:55", "starting", id="restarted"),
    ],
)
def test_the_health_of_a_container_is_the_result_of_its_last_check(
    status: str, code: int, asked: str, health: str
) -> None:
    checks = [
        {"ExitCode": 1 - code, "Start": "2026-11-26T09:59:50.1Z"},
        {"ExitCode": code, "Start": f"2026-11-26T{asked}.123456789Z"},
    ]
    state = {"StartedAt": "2026-11-26T10:00:00.987654321Z", "Health": {"Status": status, "Log": checks}}
    assert health_from(state) == health


def test_the_health_of_a_container_without_checks_is_the_engine_s_status() -> None:
    assert health_from({}) == ""
    assert health_from({"Health": {"Status": "unhealthy", "Log": []}}) == "unhealthy"


def test_a_gitea_that_cannot_reach_its_database_fails() -> None:
    assert _failing(_world(status=424)) == ["https"]


def test_a_site_that_does_not_answer_fails_https_certificate_and_ssh() -> None:
    world = _world()
    world.https = fakes.FakeHttps(None, ssh_banner="")
    assert _failing(world) == ["https", "certificate", "git over ssh"]


def test_another_server_on_git_s_ssh_port_fails() -> None:
    world = _world()
    world.https.ssh_banner = "220 mail"
    assert _failing(world) == ["git over ssh"]


@given(st.integers(min_value=-400, max_value=400))
def test_a_certificate_fails_when_too_little_of_its_life_is_left(days: int) -> None:
    probe = health.check_certificate(NOW + timedelta(days=days), NOW)
    assert probe.healthy == (timedelta(days=days) > health.CERTIFICATE_LEFT)


def test_wal_that_no_longer_arrives_in_the_bucket_fails(stream: Path) -> None:
    stream.write_text(segments.state_to_json(Streamed("7345", NOW - timedelta(minutes=4), "000000010000000000000003")))
    assert _failing(_world()) == ["WAL stream"]
    stream.unlink()
    assert _failing(_world()) == ["WAL stream"]


def test_a_failing_probe_is_reported_with_its_remedy() -> None:
    report = health.check_site([Probe("disk", False, "full", "free space")])
    assert report.lines == ("RED disk: full -> free space",)


def test_the_text_says_free_space_where_the_document_keeps_its_name_for_it() -> None:
    probes = [Probe(f"room on the {disk} disk", True, "5.0 GiB free, 10%") for disk in ("data", "root")]
    report = health.check_site([*probes, Probe("git over ssh", True, "a room")])
    assert report.lines == (
        "ok  free space on the data disk: 5.0 GiB free, 10%",
        "ok  free space on the root disk: 5.0 GiB free, 10%",
        "ok  git over ssh: a room",
    )
    assert [each["name"] for each in report.facts["probes"]] == [
        "room on the data disk",
        "room on the root disk",
        "git over ssh",
    ]


LONG_AGO = NOW - timedelta(days=400)
PASSED = Records((Verification(NOW, "one", 1),), (Drill(NOW, "one", 60.0, 60.0),))


@pytest.mark.parametrize(
    ("newest", "started", "healthy"),
    [
        (NOW - timedelta(minutes=30), LONG_AGO, True),
        (NOW - timedelta(minutes=31), LONG_AGO, False),
        # Made while the clock was wrong.
        (NOW + timedelta(minutes=6), LONG_AGO, False),
        # After a host was off, the next backup is due soon after its start.
        (NOW - timedelta(days=3), NOW - timedelta(minutes=29), True),
        (None, NOW - timedelta(minutes=29), True),
        (None, NOW - timedelta(minutes=31), False),
    ],
)
def test_a_backup_older_than_the_rpo_fails(newest: datetime | None, started: datetime, healthy: bool) -> None:
    probes = health.check_backups(newest, started, newest, PASSED, fakes.site(), NOW)
    assert {probe.name: probe.healthy for probe in probes} == {
        "backup": healthy,
        "verification of backups": True,
        "drill": True,
    }


@pytest.mark.parametrize(
    ("records", "failing"),
    [
        (PASSED, []),
        (Records(PASSED.verifications, (Drill(NOW, "one", 1.0, 1.0, ("row counts differ",)),)), ["drill"]),
        (Records((Verification(NOW, "one", 1, ("a bit",)),), PASSED.drills), ["verification of backups"]),
        (Records(PASSED.verifications), ["drill"]),
        (Records(), ["verification of backups", "drill"]),
    ],
)
def test_a_failed_or_overdue_drill_or_verification_fails(records: Records, failing: list[str]) -> None:
    since = NOW - timedelta(days=8, seconds=1)
    probes = health.check_backups(NOW, LONG_AGO, since, records, fakes.site(), NOW)
    assert [probe.name for probe in probes if not probe.healthy] == failing


def test_the_health_of_the_host_reads_the_records_of_backups_in_the_bucket() -> None:
    world = _world()
    failed = Drill(NOW - timedelta(days=1), FRESH.identity, 1.0, 1.0, ("row counts differ",))
    world.aws.stored[records.key_of(records.DRILLS, failed.began)] = records.to_json(failed)
    assert _failing(world) == ["drill"]
    passed = Drill(NOW, FRESH.identity, 1.0, 1.0)
    world.aws.stored[records.key_of(records.DRILLS, passed.began)] = records.to_json(passed)
    assert _failing(world) == []
    world.aws.stored["verifications/20261123T120000Z.json"] = b"{}"
    assert _failing(world) == ["verification of backups"]
    world.aws.stored = {"manifests/20261123T115000Z.json": b"{}"}
    assert _failing(world) == ["backup"]


def test_a_run_that_outlived_its_unit_s_invocation_fails_until_it_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "UNITS", tmp_path)
    (tmp_path / "invocation:gitea-suite-wal.service").symlink_to("b2")
    world = _world()
    for invocation, failing in (("b2", []), ("a1", ["units"])):
        world.containers.from_units = (UnitRun("ops-gitea-suite-wal-backup", "gitea-suite-wal", invocation),)
        assert _failing(world) == failing
    (probe,) = [each for each in health.health(fakes.site(), world).facts["probes"] if each["name"] == "units"]  # type: ignore[arg-type]
    assert probe["seen"] == "ops-gitea-suite-wal-backup outlived its client"
    assert probe["remedy"] == "run systemctl restart gitea-suite-wal"
    # The unit has ended: systemd has no invocation of it.
    world.containers.from_units = (UnitRun("ops-gitea-suite-backup-backup", "gitea-suite-backup", "a1"),)
    assert _failing(world) == ["units"]


STREAM = health.STREAM  # as it is before a test replaces it


def test_the_stack_has_these_services() -> None:
    assert {"diun", "docker-socket-proxy", "door", "gitea", "haproxy", "nginx", "postgres"} == health.EXPECTED_SERVICES


def test_the_probes_read_the_data_disk_and_the_state_file_of_the_stream() -> None:
    assert Path("/srv/gitea/gitea") == health.DATA
    assert Path("/var/backups/gitea-suite/wal/state.json") == STREAM


@pytest.mark.parametrize(
    ("left", "healthy", "seen"),
    [
        (timedelta(days=10, seconds=1), True, "ends 2026-12-03 12:00 UTC, in 10 days"),
        (timedelta(days=10), False, "ends 2026-12-03 12:00 UTC, in 10 days"),
        (timedelta(days=9, hours=23), False, "ends 2026-12-03 11:00 UTC, in 9 days"),
        (timedelta(days=60), True, "ends 2027-01-22 12:00 UTC, in 60 days"),
    ],
)
def test_a_certificate_is_healthy_while_more_than_ten_days_are_left(left: timedelta, healthy: bool, seen: str) -> None:
    assert health.check_certificate(NOW + left, NOW) == Probe("certificate", healthy, seen, "run ops certs renew")


@pytest.mark.parametrize(
    ("free", "share", "healthy", "seen"),
    [
        (5 * 2**30, 0.01, True, "5.0 GiB free, 1%"),
        (5 * 2**30 - 1, 0.01, False, "5.0 GiB free, 1%"),
        (2**30, 0.1, True, "1.0 GiB free, 10%"),
        (2**30, 0.099, False, "1.0 GiB free, 10%"),
        (3 * 2**29, 0.5, True, "1.5 GiB free, 50%"),
    ],
)
def test_a_tenth_of_a_disk_or_five_gib_are_enough_and_a_byte_less_is_not(
    free: int, share: float, healthy: bool, seen: str
) -> None:
    probe = health.check_free_space("room on the data disk", free, share)
    assert (probe.name, probe.healthy, probe.seen) == ("room on the data disk", healthy, seen)


def test_a_health_report_has_every_probe_and_counts_the_failing_ones() -> None:
    passed, failed = Probe("disk", True, "empty", "nothing"), Probe("mail", False, "silent")
    report = health.check_site([passed, failed])
    assert (report.verb, report.changed, report.exit_code) == ("health", False, 3)
    assert report.summary == "1 of 2 probes are failing"
    assert report.lines == ("ok  disk: empty", "RED mail: silent")
    assert report.facts == {
        "healthy": False,
        "probes": [
            {"name": "disk", "healthy": True, "seen": "empty", "remedy": "nothing"},
            {"name": "mail", "healthy": False, "seen": "silent", "remedy": ""},
        ],
    }
    healthy = health.check_site([passed])
    assert (healthy.summary, healthy.facts["healthy"], healthy.exit_code) == ("healthy: 1 probes", True, 0)
    assert health.check_site([]).facts["healthy"] is False


def test_a_service_probe_shows_state_and_health_check() -> None:
    found = {
        probe.name: (probe.healthy, probe.seen, probe.remedy)
        for probe in health.check_services(
            [
                Service("gitea", "gitea:1", "running", "healthy", 0),
                Service("nginx", "nginx:1", "exited", "", 0),
                Service("postgres", "postgres:1", "running", "unhealthy", 0),
            ]
        )
    }
    assert list(found) == [f"container {name}" for name in sorted(health.EXPECTED_SERVICES)]
    logs = "docker compose --project-name gitea-suite logs"
    assert found["container gitea"] == (True, "running, healthy", f"look at {logs} gitea")
    assert found["container nginx"] == (False, "exited, no health check", f"look at {logs} nginx")
    assert found["container postgres"] == (False, "running, unhealthy", f"look at {logs} postgres")
    assert found["container diun"] == (False, "missing", "run systemctl restart gitea-suite")


@pytest.mark.parametrize(
    ("age", "healthy"),
    [
        (timedelta(minutes=30), True),
        (timedelta(minutes=30, seconds=1), False),
        # Clock drift of up to five minutes is accepted.
        (timedelta(minutes=-5), True),
        (timedelta(minutes=-5, seconds=-1), False),
    ],
)
def test_a_backup_is_recent_up_to_the_rpo_to_the_second(age: timedelta, healthy: bool) -> None:
    newest = NOW - age
    backup, verified, drilled = health.check_backups(newest, LONG_AGO, newest, PASSED, fakes.site(), NOW)
    seen = f"the newest is from {newest:%Y-%m-%d %H:%M} UTC; 30 min may be lost"
    assert backup == Probe("backup", healthy, seen, "run ops backup take")
    assert (verified.seen, drilled.seen) == ("passed, or not due yet",) * 2


def test_without_a_backup_the_start_of_gitea_counts() -> None:
    probes = health.check_backups(None, NOW, None, Records(), fakes.site(), NOW)
    assert [probe.healthy for probe in probes] == [True, True, True]
    assert probes[0].seen == "no backup yet; 30 min may be lost"
    without_drill = health.check_backups(NOW, LONG_AGO, NOW, Records(PASSED.verifications), fakes.site(), NOW)
    assert [probe.healthy for probe in without_drill] == [True, True, True]


def test_the_remedy_of_a_failed_drill_names_the_option_that_accepts_its_finding() -> None:
    failed = Drill(NOW, "one", 1.0, 1.0, ("git fsck of a/b.git: missing blob",))
    records = Records(PASSED.verifications, (failed,))
    *_, drill = health.check_backups(NOW, LONG_AGO, NOW, records, fakes.site(), NOW)
    assert (drill.healthy, "--accept" in drill.remedy) == (False, True)


def test_an_overdue_verification_and_drill_are_named() -> None:
    since = NOW - timedelta(days=20)
    probes = health.check_backups(NOW, LONG_AGO, since, Records(), fakes.site(), NOW)
    assert [probe.seen for probe in probes[1:]] == [
        "no backup was verified yet",
        "no drill has restored a backup yet",
    ]
