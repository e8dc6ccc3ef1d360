"""Wherever a restore, a rotation or a prune is interrupted, the next run completes it: every action and every call, in memory."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ops.errors import OpsError
from ops.model import Secret
from ops.restore import restore
from ops.stack import accounts
from tests.support import fake_bucket
from tests.support.fake_bucket import WHOLE, Bucket
from tests.support.fake_restore_host import SITE, FakeRestoreHost, Killed
from tests.support.moto_site import Cloud, Cut, site_on_moto


@pytest.fixture
def cloud(in_memory: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    with site_on_moto(in_memory, monkeypatch) as made:
        yield made


@pytest.fixture(autouse=True)
def no_administrator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounts, "ensure_admin", lambda site, world: None)
    monkeypatch.setattr(accounts, "token", lambda site, world: nullcontext(Secret("t")))


@pytest.mark.parametrize("name", ["smtp-credentials", "database-password"])
@pytest.mark.parametrize("kind", ["before", "after", "from"])
def test_a_rotation_interrupted_at_any_call_leaves_working_credentials_and_the_next_run_completes_it(
    name: str, kind: str, cloud: Cloud
) -> None:
    cloud.rotate(name)
    cloud.cut = Cut()
    cloud.rotate(name)
    calls = tuple(cloud.cut.calls)
    assert len(calls) >= 6
    for number, call in enumerate(calls):
        before = cloud.value(name)
        cloud.cut = Cut(number, kind)
        with pytest.raises(OpsError):
            cloud.rotate(name)
        cloud.cut = Cut()
        assert cloud.is_consistent(), f"inconsistent when interrupted {kind} call {number}, {call}"
        cloud.rotate(name)
        assert cloud.is_consistent()
        assert cloud.value(name) != before
        if name == "smtp-credentials":
            assert cloud.key_names() == {json.loads(cloud.value(name))["username"]} == {cloud.in_use("smtp-username")}
        else:
            assert cloud.in_use(name) == cloud.value(name)


def test_adopting_a_secret_interrupted_at_any_call_is_completed_by_the_next_run(cloud: Cloud) -> None:
    name = "gitea-secret-key"
    cloud.adopt(name, "first")
    cloud.cut = Cut()
    cloud.adopt(name, "second")
    for number, _ in enumerate(tuple(cloud.cut.calls)):
        for kind in ("before", "after"):
            cloud.cut = Cut(number, kind)
            with pytest.raises(OpsError):
                cloud.adopt(name, f"value-{number}-{kind}")
            cloud.cut = Cut()
            cloud.adopt(name, f"value-{number}-{kind}")
            assert cloud.value(name) == cloud.in_use(name) == f"value-{number}-{kind}"


def _has_snapshot(machine: FakeRestoreHost) -> None:
    machine.keep_snapshot()


@pytest.mark.parametrize(
    ("requested", "prepare"),
    [({}, lambda machine: None), ({}, _has_snapshot), ({"repository": "A/B"}, lambda machine: None)],
    ids=["site", "site, from a snapshot", "repository"],
)
def test_wherever_a_restore_is_killed_the_next_run_leaves_either_site_complete(
    in_memory: Path, requested: Mapping[str, str], prepare: Callable[[FakeRestoreHost], None]
) -> None:
    database = {"now": "now", "then": "now"} if requested else {"now": "now", "then": "then"}
    whole = FakeRestoreHost(directory=in_memory / "whole")
    prepare(whole)
    whole.ops(**requested)
    assert ("clone" in whole.actions) is (prepare is _has_snapshot)
    for number in range(len(whole.actions)):
        machine = FakeRestoreHost(directory=in_memory / str(number), dies_before=number)
        prepare(machine)
        with pytest.raises(Killed):
            machine.ops(**requested)
        machine.resume()
        assert machine.maintenance_calls[-1] == "none"
        content = (machine.paths.live / "git/repositories/a/b.git/content").read_text()
        assert machine.databases["gitea"] == database[content], whole.actions[number]
        assert machine.running
        assert not machine.resume().changed
        machine.ops(**requested)
        restored = (machine.paths.live / "git/repositories/a/b.git/content").read_text()
        assert (restored, machine.databases["gitea"]) == ("then", database["then"])


@pytest.mark.parametrize("requested", [{}, {"repository": "A/B"}], ids=["site", "repository"])
def test_undoing_a_restore_may_be_killed_anywhere(in_memory: Path, requested: Mapping[str, str]) -> None:
    database = {"now": "now", "then": "now"} if requested else {"now": "now", "then": "then"}
    whole = FakeRestoreHost(directory=in_memory / "whole")
    whole.ops(**requested)
    for first in range(len(whole.actions)):
        for second in itertools.count():
            machine = FakeRestoreHost(directory=in_memory / f"{first}-{second}", dies_before=first)
            with pytest.raises(Killed):
                machine.ops(**requested)
            machine.dies_before = len(machine.actions) + second
            try:
                restore.resume(SITE, machine.world, paths=machine.paths)
            except Killed:
                machine.resume()
            else:
                break
            content = (machine.paths.live / "git/repositories/a/b.git/content").read_text()
            assert machine.databases["gitea"] == database[content]
            assert machine.running


@pytest.mark.parametrize("first", range(WHOLE.changes))
def test_wherever_a_prune_is_killed_every_manifest_stays_valid_and_the_next_run_completes_it(first: int) -> None:
    bucket = Bucket(dies_before=first)
    with pytest.raises(fake_bucket.Killed):
        bucket.run()
    for made in bucket.manifests.values():
        parts = {part.remote for part in made.parts.values()}
        assert parts <= {each.identity for each in bucket.snapshots}
        assert parts <= bucket.packs
    bucket.dies_before = -1
    bucket.run()
    assert bucket.state() == WHOLE.state()


@settings(deadline=None)  # a busy machine must not fail the test
@given(st.lists(st.integers(0, WHOLE.changes - 1), max_size=4))
def test_a_prune_may_be_killed_repeatedly(deaths: list[int]) -> None:
    bucket = Bucket()
    for death in deaths:
        bucket.dies_before, bucket.changes = death, 0
        try:
            bucket.run()
        except fake_bucket.Killed:
            continue
        break
    bucket.dies_before = -1
    bucket.run()
    assert bucket.state() == WHOLE.state()
