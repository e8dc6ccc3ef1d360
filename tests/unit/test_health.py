"""What is well, and what is not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops import health, wal
from ops.model import Probe
from ops.wal import Streamed
from ops.world.containers import Service
from ops.world.web import Answer
from tests import fakes

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
ALL_WELL = tuple(Service(name, f"{name}:1", "running", "healthy", 0) for name in sorted(health.EXPECTED_SERVICES))


def _world(
    status: int = 200, ends: datetime = NOW + timedelta(days=60), services: tuple[Service, ...] = ALL_WELL
) -> fakes.FakeWorld:
    web = fakes.FakeWeb(lambda *_: Answer(status, {}, b"", ends))
    return fakes.FakeWorld(web=web, containers=fakes.FakeContainers(found=services))


@pytest.fixture(autouse=True)
def stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the stream of a site that is well says of itself."""
    said = tmp_path / "state.json"
    said.write_text(wal.written_state(Streamed("7345", NOW, "000000010000000000000003")))
    monkeypatch.setattr(health, "STREAM", said)
    return said


def _red(world: fakes.FakeWorld) -> list[str]:
    report = health.health(fakes.site(), world)  # type: ignore[arg-type]
    assert report.exit_code == (3 if not report.facts["healthy"] else 0)
    return [probe["name"] for probe in report.facts["probes"] if not probe["healthy"]]


def test_a_site_where_everything_answers_is_healthy() -> None:
    assert _red(_world()) == []


def test_no_probe_at_all_is_not_health() -> None:
    assert health.judge([]).exit_code == 3


@pytest.mark.parametrize("name", sorted(health.EXPECTED_SERVICES))
def test_each_service_that_is_missing_is_red(name: str) -> None:
    assert _red(_world(services=tuple(each for each in ALL_WELL if each.name != name))) == [f"container {name}"]


@pytest.mark.parametrize(
    ("state", "verdict"), [("running", "unhealthy"), ("running", ""), ("exited", ""), ("restarting", "healthy")]
)
def test_a_service_is_well_only_running_and_healthy_by_its_own_check(state: str, verdict: str) -> None:
    sick = (*ALL_WELL[1:], Service(ALL_WELL[0].name, "image", state, verdict, 0))
    assert _red(_world(services=sick)) == [f"container {ALL_WELL[0].name}"]


def test_gitea_answering_that_its_database_is_away_is_red() -> None:
    assert _red(_world(status=424)) == ["https"]


def test_a_site_that_does_not_answer_is_red_on_everything_a_user_sees() -> None:
    world = _world()
    world.web = fakes.FakeWeb(None, ssh_banner="")
    assert _red(world) == ["https", "certificate", "git over ssh"]


def test_another_server_on_git_s_ssh_port_is_red() -> None:
    world = _world()
    world.web.ssh_banner = "220 mail"
    assert _red(world) == ["git over ssh"]


@given(st.integers(min_value=-400, max_value=400))
def test_a_certificate_turns_red_exactly_when_too_little_of_it_is_left(days: int) -> None:
    probe = health.judge_certificate(NOW + timedelta(days=days), NOW)
    assert probe.healthy == (timedelta(days=days) > health.CERTIFICATE_LEFT)


def test_a_log_that_does_not_arrive_in_the_bucket_any_more_is_red(stream: Path) -> None:
    stream.write_text(wal.written_state(Streamed("7345", NOW - timedelta(minutes=4), "000000010000000000000003")))
    assert _red(_world()) == ["database log"]
    stream.unlink()
    assert _red(_world()) == ["database log"]


def test_a_red_probe_tells_its_remedy() -> None:
    report = health.judge([Probe("disk", False, "full", "make room")])
    assert report.lines == ("RED disk: full -> make room",)
