"""What `ops update --check` says of each service."""

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
    made = {tag.replace("_", "."): when for tag, when in times.items()}
    known = digests | (changes or {})
    dated = {image: made[image.rpartition(":")[2]] for image in known if image.rpartition(":")[2] in made}
    return fakes.FakeWorld(registry=fakes.FakeRegistry(known, dated))


def check(tmp_path: Path, fake: fakes.FakeWorld, **update: Any) -> dict[str, dict[str, Any]]:
    (tmp_path / ".env").write_text(ENVIRONMENT)
    report = available.check(fakes.site(update=update), fake, compose=tmp_path)  # type: ignore[arg-type]
    assert (report.exit_code, report.changed) == (0, False)
    assert len(report.lines) == 4
    return {each["service"]: each for each in report.facts["services"]}


def test_where_nothing_is_newer_nothing_is_said_to_be_in_the_way(tmp_path: Path) -> None:
    found = check(tmp_path, world())
    assert list(found) == ["diun", "nginx", "postgres", "gitea"]
    assert {(each["step"], each["automatic"]) for each in found.values()} == {("none", "")}
    assert not any(each["in_the_way"] for each in found.values())


def test_each_service_has_its_newest_its_step_and_who_may_take_it(tmp_path: Path) -> None:
    there = {
        "gitea/gitea:28.1.0": "sha256:g1",
        "nginx:1.31.0": "sha256:odd",
        "nginx:1.32.0": "sha256:n1",
        "postgres:19.0": "sha256:p1",
        "crazymax/diun:5.0.0": "sha256:d5",
        "crazymax/diun:4.33.2": "sha256:d2",
    }
    fake = world(there, **{"1_32_0": NOW - timedelta(hours=5), "4_33_2": OLD, "5_0_0": OLD})
    found = check(tmp_path, fake, nginx="minor", others="minor")
    seen = {name: (each["to"], each["step"], each["taken_by"], each["automatic"]) for name, each in found.items()}
    assert seen == {
        "gitea": ("28.1.0", "minor", "operator", ""),
        "nginx": ("1.32.0", "minor", "automatic", ""),
        "postgres": ("19.0", "major", "guided", ""),
        "diun": ("5.0.0", "major", "operator", "4.33.2"),
    }
    assert found["nginx"]["in_the_way"] == ["it is 5 h old and taken from 2026-11-26 07:00 UTC on"]
    assert found["gitea"]["in_the_way"] == ["an operator takes it: ops update gitea --to 28.1.0"]
    assert "ops update postgres --to 19.0" in found["postgres"]["in_the_way"][0]


def test_a_release_of_the_major_version_in_use_is_told_though_another_is_out(tmp_path: Path) -> None:
    there = {
        "gitea/gitea:29.0.0": "sha256:g29",
        "gitea/gitea:28.0.2": "sha256:g2",
        "postgres:19.0": "sha256:p19",
        "postgres:18.7": "sha256:p7",
        "crazymax/diun:5.0.0": "sha256:d5",
    }
    found = check(tmp_path, world(there))
    told = {name: (each["to"], each["within_major"]) for name, each in found.items()}
    assert told == {
        "gitea": ("29.0.0", "28.0.2"),
        "postgres": ("19.0", "18.7"),
        "diun": ("5.0.0", ""),
        "nginx": ("1.30.4", ""),
    }
    assert found["gitea"]["in_the_way"][-1] == "28.0.2 is out as well: ops update gitea --to 28.0.2"


def test_the_policy_of_the_site_file_counts_and_a_hold_is_above_it(tmp_path: Path) -> None:
    fake = world({"gitea/gitea:28.0.2": "sha256:g2", "nginx:1.30.5": "sha256:n5"}, **{"28_0_2": OLD, "1_30_5": OLD})
    found = check(tmp_path, fake, gitea="patch", hold=["nginx"])
    assert found["gitea"]["automatic"] == "28.0.2"
    assert (found["nginx"]["automatic"], found["nginx"]["taken_by"]) == ("", "held")
    assert found["nginx"]["in_the_way"] == ["update.hold has nginx: take it out of there"]


def test_other_bytes_under_the_same_tag_are_a_step_too(tmp_path: Path) -> None:
    mended = {"nginx:1.30.4": "sha256:mended", "gitea/gitea:28.0.1": "sha256:mended"}
    found = check(tmp_path, world(mended), nginx="minor")
    assert (found["nginx"]["step"], found["nginx"]["automatic"]) == ("digest", "1.30.4")
    assert (found["gitea"]["step"], found["gitea"]["automatic"]) == ("digest", "")


def test_a_registry_that_does_not_know_is_said_where_its_service_stands(tmp_path: Path) -> None:
    fake = world()
    del fake.registry.digests["nginx:1.30.4"]
    found = check(tmp_path, fake)
    assert found["nginx"]["in_the_way"] == ["image nginx is not in the registry"]
    assert found["nginx"]["step"] == "none"


def test_the_next_window_is_told_in_utc(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(ENVIRONMENT)
    site = fakes.site(timezone="Europe/Berlin")
    report = available.check(site, world(), compose=tmp_path)  # type: ignore[arg-type]
    assert datetime.fromisoformat(report.facts["window"]) == datetime(2026, 11, 29, 2, 15, tzinfo=UTC)


def test_elsewhere_than_on_the_host_it_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="no site runs here"):
        available.check(fakes.site(), world(), compose=tmp_path)  # type: ignore[arg-type]


def test_a_service_that_no_one_thought_of_comes_first() -> None:
    given = [available.Offer(name, Pin("a/b", "1.0")) for name in ("gitea", "exporter", "nginx")]
    assert [each.service for each in available.in_order(given)] == ["exporter", "nginx", "gitea"]
