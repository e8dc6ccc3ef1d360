"""A rollback by the operator, and the snapshots that it uses."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest

from ops.errors import OpsError, Refused, RolledBack, Stranded, Unavailable
from ops.images import pins
from ops.stack.health import EXPECTED_SERVICES
from tests.support.fake_host import FakeHost, Killed


def test_a_rollback_restores_the_old_data_and_keeps_the_newer_data_aside(host: FakeHost) -> None:
    with pytest.raises(Refused, match="no snapshot to roll back to"):
        host.rollback()
    host.write("before")
    host.update(to="28.1.0")
    host.write("after")
    report = host.rollback()
    assert (host.version(), host.content()) == ("28.0.1", ["before"])
    assert (host.paths.data / ".update/undone/gitea/writes").read_text().split() == ["before", "after"]
    assert pins.from_json(host.bucket[pins.KEY])["gitea"].tag == "28.0.1"
    assert report.changed
    with pytest.raises(Refused, match="no snapshot to roll back to"):
        host.rollback()


def test_snapshots_for_a_rollback_are_removed_when_they_are_old(host: FakeHost) -> None:
    host.update(to="28.1.0")
    host.clock.sleep(timedelta(days=6).total_seconds())
    host.resume()
    assert (host.paths.data / ".update/before/gitea").is_dir()
    host.clock.sleep(timedelta(days=2).total_seconds())
    host.resume()
    assert not (host.paths.data / ".update/before/gitea").exists()
    with pytest.raises(Refused, match="no snapshot to roll back to"):
        host.rollback()


def test_an_update_that_an_earlier_release_began_is_finished_on_its_stack(host: FakeHost, tmp_path: Path) -> None:
    whole = FakeHost(directory=tmp_path / "whole")
    whole.update(to="28.1.0")
    host.dies_before = whole.actions.index("record judge") + 1
    with pytest.raises(Killed):
        host.update(to="28.1.0")
    host.dies_before = -1
    # That release had no HAProxy.
    earlier = "".join(f"  {each}:\n" for each in EXPECTED_SERVICES - {"haproxy"})
    (host.compose / "compose.yaml").write_text(f"services:\n{earlier}")
    del host.stack["haproxy"]
    host.proxy.members = ()
    assert host.resume().facts["outcome"] == "updated"
    assert host.version() == "28.1.0"


def test_the_timer_removes_old_snapshots_on_a_host_that_never_boots(host: FakeHost) -> None:
    host.update(to="28.1.0")
    host.clock.sleep(timedelta(days=2).total_seconds())
    assert host.update("", automatic=True).summary == "no update is due"
    assert (host.paths.data / ".update/before/gitea").is_dir()
    host.clock.sleep(timedelta(days=5, hours=20).total_seconds())
    assert host.update("", automatic=True).summary == "no update is due"
    assert not (host.paths.data / ".update/before/gitea").exists()


def test_a_snapshot_that_cannot_be_cloned_leaves_the_live_data_in_place(
    host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.write("before")
    host.update(to="28.1.0")
    host.write("after")

    def no_room(snapshot: Path, folder: Path) -> None:
        raise OpsError("btrfs subvolume snapshot failed: No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(host, "clone", no_room)
        with pytest.raises(Stranded):
            host.rollback()
    assert (host.paths.live / "writes").read_text().split() == ["before", "after"]
    with suppress(RolledBack):
        host.resume()
    assert (host.version(), host.content()) == ("28.0.1", ["before"])


def test_a_rollback_to_an_image_that_cannot_be_pulled_changes_nothing(host: FakeHost) -> None:
    host.update(to="28.1.0")
    host.write("after")
    host.missing_digests = frozenset({"sha256:28.0.1"})
    with pytest.raises(Unavailable, match="cannot be pulled"):
        host.rollback()
    assert host.serves()
    assert (host.version(), host.content()) == ("28.1.0", ["after"])
    host.missing_digests = frozenset()
    host.rollback()
    assert host.version() == "28.0.1"
