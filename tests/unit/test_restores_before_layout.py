"""Restores of a site that the code of before the new layout made, and those that it left half-way."""

from __future__ import annotations

import re
import shutil
from datetime import UTC, timedelta
from pathlib import Path
from typing import Any

import pytest

from ops.restore.plan import RestoreRequest
from ops.stack import accounts
from ops.world.journal import Journal
from ops.world.restic import Snapshot
from tests.support import fake_restore_host, fakes
from tests.support.kept_states import (
    KEPT,
    NOW,
    document,
    kept_backups,
    kept_bucket,
    newest,
    snapshots,
    text,
)


class KeptHost(fake_restore_host.FakeRestoreHost):
    """A host with the kept bucket; its restic repositories list the kept snapshots."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.aws.content = kept_bucket()
        self.refs = {"then": text("host/refs.txt")}
        self.clock = fakes.FakeClock(NOW)

    def restic(self, repository: str, **_: Any) -> Any:
        return KeptRepository(self, "remote" if repository.startswith("s3:") else "local")

    def ask(self, statement: str) -> list[list[str]]:
        rows = newest().rows
        if statement.startswith("SELECT tablename"):
            return [[name] for name in rows]
        if found := re.match(r'SELECT count\(\*\) FROM "(\w+)"', statement):
            return [[str(rows[found[1]])]]
        return super().ask(statement)


class KeptRepository(fake_restore_host.Repository):
    """One of the two."""

    def snapshots(self) -> tuple[Snapshot, ...]:
        return snapshots({"remote": "bucket", "local": "host"}[self.name])


@pytest.mark.parametrize("here", [True, False], ids=["from the host", "from the bucket"])
def test_a_site_is_restored_from_a_kept_backup(here: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounts, "ensure_admin", lambda site, world: None)
    machine = KeptHost(directory=tmp_path)
    machine.damaged = set() if here else {"local"}
    done = machine.ops()
    assert (done.facts["identity"], machine.content()) == (newest().identity, "then")
    assert machine.maintenance_calls[-1] == "none"


def test_a_kept_backup_is_chosen_by_its_moment_and_its_name(tmp_path: Path) -> None:
    machine, first = KeptHost(directory=tmp_path), kept_backups()[0]
    assert first.manifest
    at = first.manifest.moment.astimezone(UTC) + timedelta(seconds=1)
    assert machine.ops(at=at, dry_run=True).facts["identity"] == first.identity
    assert machine.ops(identity=first.identity, dry_run=True).facts["identity"] == first.identity
    assert RestoreRequest(identity=first.identity).needed == ("database", "data", "configuration")


@pytest.mark.parametrize("name", ["switch", "start"])
def test_a_restore_killed_in_its_switch_is_undone(name: str, tmp_path: Path) -> None:
    machine = KeptHost(directory=tmp_path)
    folder = machine.paths.data / ".restore"
    folder.mkdir()
    there = text(f"restore/{name}/files.txt").split()
    databases = text(f"restore/{name}/databases.txt").split()
    # The live data and database are set aside, and the fetched ones are live, as far as the switch came.
    machine.databases = {each: "now" for each in databases if each in {"gitea", "gitea_before", "gitea_restored"}}
    for each in {"gitea", "gitea_restored"} & set(databases):
        machine.databases[each] = "then" if each == "gitea_restored" or "gitea_before" in databases else "now"
    live = machine.paths.live
    if "before" in there:
        live.rename(folder / "before")
        (live / "git/repositories/a/b.git").mkdir(parents=True)
        (live / "git/repositories/a/b.git/content").write_text("then")
    if "gitea" in there:
        (folder / "gitea/git/repositories/a/b.git").mkdir(parents=True)
    machine.running = False
    shutil.copy(KEPT / f"restore/{name}/journal", folder / "journal")
    done = machine.resume()
    assert done.changed is document(f"restore/{name}/resumed.json")["changed"] is True
    assert (machine.content(), machine.running) == ("now", True)
    assert not (folder / "journal").exists()
    assert machine.resume().changed is False


def test_a_restore_of_one_repository_killed_in_its_switch_is_undone(tmp_path: Path) -> None:
    machine = KeptHost(directory=tmp_path)
    (record,) = Journal(KEPT / "restore/one-repository/journal").records()
    assert (record["step"], record["repository"]) == ("switch", "keeper/kept.git")
    folder, live = machine.paths.data / ".restore", machine.paths.live / "git/repositories/keeper/kept.git"
    aside = machine.paths.live / ".restored/before"
    for each, content in ((live, "then"), (aside, "now")):
        each.mkdir(parents=True)
        (each / "content").write_text(content)
    # The fetched repository was here until the switch moved it.
    (machine.paths.live / ".restored/git/repositories/keeper").mkdir(parents=True)
    folder.mkdir()
    shutil.copy(KEPT / "restore/one-repository/journal", folder / "journal")
    assert machine.resume().changed is True
    assert (live / "content").read_text() == "now"
    assert not (folder / "journal").exists()
