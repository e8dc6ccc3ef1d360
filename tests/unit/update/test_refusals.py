"""An update that may not begin, or that another operation excludes, changes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from ops.errors import Locked, Refused, Unavailable
from ops.update import update
from ops.update.plan import UpdateRequest
from ops.world.lock import exclusive
from tests.support.fake_host import FakeHost, assert_one_version


def test_an_image_that_cannot_be_pulled_changes_nothing(host: FakeHost) -> None:
    host.missing_digests = frozenset({"sha256:28.1.0"})
    with pytest.raises(Unavailable, match="cannot be pulled"):
        host.update(to="28.1.0")
    host.missing_digests, host.full = frozenset(), True
    with pytest.raises(Refused, match="no space left"):
        host.update(to="28.1.0")
    with pytest.raises(Refused, match="is not in the registry"):
        host.update(to="28.1.9")
    assert "stop gitea" not in host.actions
    assert_one_version(host, "gitea", "28.1.0")


def test_a_registry_that_fails_after_the_plan_changes_nothing(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = host.registry.digest

    def refuses(image: str) -> str:
        if image == "gitea/gitea:28.1.0":
            raise Unavailable("registry answers 429")
        return digest(image)

    monkeypatch.setattr(host.registry, "digest", refuses)
    with pytest.raises(Unavailable, match="429"):
        host.update(to="28.1.0")
    assert host.actions == []


def test_a_second_operator_learns_which_operation_is_running(host: FakeHost) -> None:
    def meanwhile(name: str, lines: Sequence[str]) -> None:
        with pytest.raises(Locked, match="ops update, process"):
            host.rollback()

    requested = UpdateRequest("gitea", "28.1.0")
    world: Any = host
    update.update(host.site(), world, request=requested, confirm=meanwhile, paths=host.paths, compose=host.compose)
    assert host.version() == "28.1.0"


def test_only_one_update_runs_at_a_time(host: FakeHost) -> None:
    with exclusive(host.paths.lock, host.clock.now()), pytest.raises(Locked):
        host.update(to="28.1.0")
    assert host.actions == []


def test_a_dry_run_and_an_unconfirmed_update_change_nothing(host: FakeHost) -> None:
    report = host.update(to="28.1.0", dry_run=True)
    assert report.lines[0] == "gitea 28.0.1 -> 28.1.0 (minor)"

    def never(name: str, lines: Sequence[str]) -> None:
        raise Refused("not confirmed")

    with pytest.raises(Refused):
        update.update(
            host.site(),
            host,  # type: ignore[arg-type]
            request=UpdateRequest("gitea"),
            confirm=never,
            paths=host.paths,
            compose=host.compose,
        )
    assert host.actions == []


def test_an_unhealthy_site_is_not_updated(host: FakeHost) -> None:
    host.stack["diun"].state = "exited"
    with pytest.raises(Refused, match="the site is not healthy: container diun"):
        host.update(to="28.1.0")
    assert host.actions == []
