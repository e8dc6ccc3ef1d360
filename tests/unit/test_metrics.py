"""The metrics of `ops` are in Prometheus' text format, and complete after each run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ops import metrics
from ops.backup import manifest, records
from ops.cli import metrics_reference
from ops.metrics import Sample
from ops.model import Report
from ops.stack import health
from ops.status import site_metrics
from tests.support import fakes

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that the node exporter reads."""
    monkeypatch.setattr(metrics, "FOLDER", tmp_path)
    monkeypatch.setattr(health, "STREAM", tmp_path / "no-stream")
    return tmp_path


def _samples(file: Path) -> dict[str, float]:
    lines = [line for line in file.read_text().splitlines() if not line.startswith("#")]
    return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in lines}


def test_samples_are_described_once_and_labels_are_escaped() -> None:
    text = metrics.text(
        [Sample("health_check", 1.0, {"check": 'a "b"\n\\'}), Sample("health_check", 0.0, {"check": "z"})]
    )
    assert text == (
        "# HELP gitea_suite_health_check 1 when a check of `ops health` passes, else 0\n"
        "# TYPE gitea_suite_health_check gauge\n"
        'gitea_suite_health_check{check="a \\"b\\"\\n\\\\"} 1.0\n'
        'gitea_suite_health_check{check="z"} 0.0\n'
    )


def test_the_records_of_backups_and_drills_become_metrics(folder: Path) -> None:
    world: Any = fakes.FakeWorld()
    now = world.clock.now()
    backup, drill = fakes.made(now), records.Drill(now, "x", 120.0, 600.0, ("a fault",))
    world.aws.stored[manifest.key_of(backup.identity)] = manifest.to_json(backup)
    world.aws.stored[records.key_of(records.DRILLS, now)] = records.to_json(drill)
    site_metrics.refresh(fakes.site(), world)
    found = _samples(folder / "records.prom")
    assert found["gitea_suite_backup_last_success_timestamp_seconds"] == backup.moment.timestamp()
    assert found["gitea_suite_backup_rpo_seconds"] == fakes.site().backup.rpo_minutes * 60
    assert (found["gitea_suite_drill_passed"], found["gitea_suite_drill_recovery_time_seconds"]) == (0.0, 120.0)
    assert "gitea_suite_drill_last_success_timestamp_seconds" not in found
    assert "gitea_suite_verification_passed" not in found
    assert (folder / "records.prom").stat().st_mode & 0o777 == 0o644


def test_a_source_that_cannot_be_read_leaves_its_metrics_out_and_is_reported(folder: Path) -> None:
    world: Any = fakes.FakeWorld()
    world.aws.stored["manifests/20261101T000000Z.json"] = b"{"
    site_metrics.refresh(fakes.site(), world)
    found = _samples(folder / "records.prom")
    assert "gitea_suite_backup_last_success_timestamp_seconds" not in found
    assert "gitea_suite_drill_interval_seconds" in found
    assert any(line.startswith("no metrics from backups: ") for line in world.progress)


def test_health_is_written_check_by_check(folder: Path) -> None:
    world: Any = fakes.FakeWorld()
    report = Report("health", False, "", {"probes": [{"name": "https", "healthy": False}]})
    site_metrics.write_health(fakes.site(), world, report)
    found = _samples(folder / "health.prom")
    assert found['gitea_suite_health_check{check="https"}'] == 0.0
    assert found["gitea_suite_health_last_run_timestamp_seconds"] == world.clock.now().timestamp()


def test_a_site_without_monitoring_writes_nothing(folder: Path) -> None:
    world: Any = fakes.FakeWorld()
    site_metrics.refresh(fakes.site(monitoring={"enabled": False}), world)
    assert list(folder.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_reported(folder: Path) -> None:
    world: Any = fakes.FakeWorld()
    (folder / "health.prom").mkdir()
    metrics.write(fakes.site(), world, "health", [])
    assert world.progress[0].startswith("the metrics of health were not written: ")


def test_the_reference_lists_every_metric() -> None:
    text = (ROOT / "docs/reference/metrics.md").read_text()
    assert text == metrics_reference.markdown(), "run python -m ops.cli.metrics_reference >docs/reference/metrics.md"
