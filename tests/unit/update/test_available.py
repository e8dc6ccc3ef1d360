"""The report of `ops update --check` on each service."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ops.errors import Refused
from ops.images.pins import Pin
from ops.update import available
from tests.support import fakes

NOW = fakes.FakeClock().now()
OLD = NOW - timedelta(days=9)
ENVIRONMENT = """GITEA_IMAGE='gitea/gitea:28.0.1@sha256:g'
NGINX_IMAGE='nginx:1.30.4@sha256:n'
POSTGRES_IMAGE='postgres:18.6@sha256:p'
DIUN_IMAGE='crazymax/diun:4.33.0@sha256:d'
"""


def world(changes: dict[str, str] | None = None, **times: datetime) -> fakes.FakeWorld:
    digests = {
        "gitea/gitea:28.0.1": "sha256:g",
        "nginx:1.30.4": "sha256:n",
        "postgres:18.6": "sha256:p",
        "crazymax/diun:4.33.0": "sha256:d",
    }
    times_by_tag = {tag.replace("_", "."): when for tag, when in times.items()}
    all_digests = digests | (changes or {})
    dated = {
        image: times_by_tag[image.rpartition(":")[2]]
        for image in all_digests
        if image.rpartition(":")[2] in times_by_tag
    }
    return fakes.FakeWorld(registry=fakes.FakeRegistry(all_digests, dated))


def check(tmp_path: Path, fake: fakes.FakeWorld, **update: Any) -> dict[str, dict[str, Any]]:
    (tmp_path / ".env").write_text(ENVIRONMENT)
    report = available.check(fakes.site(update=update), fake, compose=tmp_path)  # type: ignore[arg-type]
    assert (report.exit_code, report.changed) == (0, False)
    assert len(report.lines) == 4
    return {each["service"]: each for each in report.facts["services"]}


def test_a_service_at_its_newest_version_has_no_blockers(tmp_path: Path) -> None:
    found = check(tmp_path, world())
    assert list(found) == ["diun", "nginx", "postgres", "gitea"]
    assert {(each["step"], each["automatic"]) for each in found.values()} == {("none", "")}
    assert not any(each["in_the_way"] for each in found.values())


def test_each_service_has_its_newest_version_the_step_and_the_approval(tmp_path: Path) -> None:
    newer = {
        "gitea/gitea:28.1.0": "sha256:g1",
        "nginx:1.31.0": "sha256:odd",
        "nginx:1.32.0": "sha256:n1",
        "postgres:19.0": "sha256:p1",
        "crazymax/diun:5.0.0": "sha256:d5",
        "crazymax/diun:4.33.2": "sha256:d2",
    }
    fake = world(newer, **{"1_32_0": NOW - timedelta(hours=5), "4_33_2": OLD, "5_0_0": OLD})
    found = check(tmp_path, fake, nginx="minor", others="minor")
    seen = {name: (each["to"], each["step"], each["taken_by"], each["automatic"]) for name, each in found.items()}
    assert seen == {
        "gitea": ("28.1.0", "minor", "operator", ""),
        "nginx": ("1.32.0", "minor", "automatic", ""),
        "postgres": ("19.0", "major", "guided", ""),
        "diun": ("5.0.0", "major", "operator", "4.33.2"),
    }
    assert found["nginx"]["in_the_way"] == ["it is 5 h old and is applied from 2026-11-26 07:00 UTC on"]
    assert found["gitea"]["in_the_way"] == ["an operator applies it: ops update gitea --to 28.1.0"]
    assert "ops update postgres --to 19.0" in found["postgres"]["in_the_way"][0]


def test_a_release_of_the_current_major_version_is_listed_though_another_major_is_out(tmp_path: Path) -> None:
    newer = {
        "gitea/gitea:29.0.0": "sha256:g29",
        "gitea/gitea:28.0.2": "sha256:g2",
        "postgres:19.0": "sha256:p19",
        "postgres:18.7": "sha256:p7",
        "crazymax/diun:5.0.0": "sha256:d5",
    }
    found = check(tmp_path, world(newer))
    listed = {name: (each["to"], each["within_major"]) for name, each in found.items()}
    assert listed == {
        "gitea": ("29.0.0", "28.0.2"),
        "postgres": ("19.0", "18.7"),
        "diun": ("5.0.0", ""),
        "nginx": ("1.30.4", ""),
    }
    assert found["gitea"]["in_the_way"][-1] == "28.0.2 is available as well: ops update gitea --to 28.0.2"


def test_a_hold_overrides_the_policy_of_the_site_file(tmp_path: Path) -> None:
    fake = world({"gitea/gitea:28.0.2": "sha256:g2", "nginx:1.30.5": "sha256:n5"}, **{"28_0_2": OLD, "1_30_5": OLD})
    found = check(tmp_path, fake, gitea="patch", hold=["nginx"])
    assert found["gitea"]["automatic"] == "28.0.2"
    assert (found["nginx"]["automatic"], found["nginx"]["taken_by"]) == ("", "held")
    assert found["nginx"]["in_the_way"] == ["update.hold has nginx: remove it from there"]


def test_a_rebuilt_image_under_the_same_tag_is_a_step(tmp_path: Path) -> None:
    rebuilt = {"nginx:1.30.4": "sha256:rebuilt", "gitea/gitea:28.0.1": "sha256:rebuilt"}
    found = check(tmp_path, world(rebuilt), nginx="minor")
    assert (found["nginx"]["step"], found["nginx"]["automatic"]) == ("digest", "1.30.4")
    assert (found["gitea"]["step"], found["gitea"]["automatic"]) == ("digest", "")


def test_a_registry_s_error_is_listed_as_the_service_s_blocker(tmp_path: Path) -> None:
    fake = world()
    del fake.registry.digests["nginx:1.30.4"]
    found = check(tmp_path, fake)
    assert found["nginx"]["in_the_way"] == ["image nginx is not in the registry"]
    assert found["nginx"]["step"] == "none"


def test_the_next_window_is_reported_in_utc(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(ENVIRONMENT)
    site = fakes.site(timezone="Europe/Berlin")
    report = available.check(site, world(), compose=tmp_path)  # type: ignore[arg-type]
    assert datetime.fromisoformat(report.facts["window"]) == datetime(2026, 11, 29, 2, 15, tzinfo=UTC)


def test_without_a_site_on_this_machine_it_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="no site runs here"):
        available.check(fakes.site(), world(), compose=tmp_path)  # type: ignore[arg-type]


def test_an_unlisted_service_comes_first() -> None:
    given = [available.AvailableUpdate(name, Pin("a/b", "1.0")) for name in ("gitea", "exporter", "nginx")]
    assert [each.service for each in available.in_order(given)] == ["exporter", "nginx", "gitea"]
