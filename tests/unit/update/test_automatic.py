"""Automatic updates: once in their window, and without a release that failed before."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from ops.errors import RolledBack, Unavailable
from ops.images.pins import Pin
from ops.images.versions import VersionStep
from ops.model import Report
from ops.update import update
from ops.update.plan import PlannedUpdate, UpdateRequest
from tests.support.fake_host import FakeHost


def test_an_unreachable_registry_changes_nothing_and_is_asked_again_in_the_same_window(
    host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(name: str) -> tuple[str, ...]:
        raise Unavailable("registry is out of reach")

    host.clock.sleep(timedelta(days=5, hours=15, minutes=20).total_seconds())
    with monkeypatch.context() as patched:
        patched.setattr(host.registry, "tags", unreachable)
        with pytest.raises(Unavailable, match="out of reach"):
            host.update("nginx")
        assert host.update("", automatic=True).summary == "there is nothing to update"
    assert host.actions == []
    host.clock.sleep(900)
    assert host.update("", automatic=True).facts["to"] == "nginx:1.30.5@sha256:1.30.5"


def test_automatic_updates_run_once_in_a_window(host: FakeHost) -> None:
    assert host.update("", automatic=True).summary == "no update is due"
    host.clock.sleep(timedelta(days=5, hours=15, minutes=20).total_seconds())
    host.bucket["drills/1.json"] = host.bucket["drills/1.json"].replace(b"2026-11-22", b"2026-11-28")
    report = host.update("", automatic=True)
    assert (report.facts["service"], report.facts["to"]) == ("nginx", "nginx:1.30.5@sha256:1.30.5")
    assert host.version() == "28.0.1"
    assert host.update("", automatic=True).summary == "no update is due"


def test_a_release_that_was_rolled_back_is_not_tried_again_automatically(host: FakeHost) -> None:
    host.failing_nginx_images = frozenset({"nginx:1.30.5@sha256:1.30.5"})
    host.clock.sleep(timedelta(days=5, hours=15, minutes=20).total_seconds())
    host.bucket["drills/1.json"] = host.bucket["drills/1.json"].replace(b"2026-11-22", b"2026-11-28")
    with pytest.raises(RolledBack):
        host.update("", automatic=True)
    host.failing_nginx_images = frozenset()
    host.clock.sleep(timedelta(days=7).total_seconds())
    host.bucket["drills/1.json"] = host.bucket["drills/1.json"].replace(b"2026-11-28", b"2026-12-05")
    assert host.update("", automatic=True).summary == "there is nothing to update"
    assert "the last attempt was rolled back; ops update nginx tries it again" in host.progress[-1]
    assert host.update("nginx").facts["to"] == "nginx:1.30.5@sha256:1.30.5"


def test_a_failed_automatic_update_does_not_stop_the_others(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    def moved(at: object, planned: PlannedUpdate, request: UpdateRequest) -> Report:
        if planned.service in ("diun", "certbot"):
            raise RolledBack(f"{planned.service} was not healthy")
        return Report("update", True, f"{planned.service} is done")

    steps: list[PlannedUpdate] = [
        PlannedUpdate(each, Pin(each, "1"), Pin(each, "2"), VersionStep.PATCH) for each in ("diun", "certbot", "nginx")
    ]
    monkeypatch.setattr(update, "_apply", moved)
    at: Any = SimpleNamespace(world=host)
    with pytest.raises(RolledBack) as failed:
        update._apply_each(at, steps, UpdateRequest(automatic=True))
    assert failed.value.message == "diun was not healthy; certbot was not healthy; nginx is done"
    with pytest.raises(RolledBack) as failed:
        update._apply_each(at, steps, UpdateRequest())
    assert failed.value.message == "diun was not healthy"


def test_an_unreachable_registry_does_not_count_as_one_without_updates(
    host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(name: str) -> tuple[str, ...]:
        raise Unavailable("registry is out of reach")

    monkeypatch.setattr(host.registry, "tags", unreachable)
    with pytest.raises(Unavailable, match=r"nginx: .*out of reach"):
        host.update("")
