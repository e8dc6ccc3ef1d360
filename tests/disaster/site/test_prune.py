"""The operator prunes the bucket of a running site by a policy, and undoes the prune."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from tests.support.deployed_site import DeployedSite, Ssh, objects_of, ops, until

pytestmark = pytest.mark.usefixtures("by_hand")


@pytest.fixture
def strict(site: DeployedSite, tmp_path: Path) -> Path:
    """The site file with a policy that keeps only the newest backup."""
    document = copy.deepcopy(site.document)
    document["backup"] |= {"keep_last": 1, "keep_daily": 0, "keep_weekly": 0, "keep_monthly": 0}
    path = tmp_path / "strict.toml"
    path.write_text(tomli_w.dumps(document), encoding="utf-8")
    return path


def test_a_prune_removes_old_backups_and_a_rewind_brings_them_back_complete(
    site: DeployedSite, ssh: Ssh, repository: str, strict: Path
) -> None:
    assert repository
    for _ in range(3):
        taken = ops(ssh, "backup", "take")
    before = objects_of(site, "manifests/")
    moment = _moment()
    dry_run = _run_locally(strict, "prune", "--dry-run")
    assert objects_of(site, "manifests/") == before
    pruned = _run_locally(strict, "prune", "--yes")
    after = objects_of(site, "manifests/")
    assert set(pruned["removed"]) == set(dry_run["removed"]) == {Path(key).stem for key in before - after}
    assert f"manifests/{taken['identity']}.json" in after
    assert len(before - after) >= 2
    # The host lists the remaining backups as complete.
    assert {each["identity"] for each in ops(ssh, "backup", "list")["backups"] if each["whole"]} == {
        Path(key).stem for key in after
    }
    _run_locally(strict, "rewind", "--at", moment, "--yes")
    assert objects_of(site, "manifests/") == before
    assert {each["identity"] for each in ops(ssh, "backup", "list")["backups"] if each["whole"]} == {
        Path(key).stem for key in before
    }
    ops(ssh, "backup", "take")
    until(lambda: ssh("sudo ops health --json").returncode == 0, "the site is healthy")


def _moment() -> str:
    # S3 reports whole seconds.
    time.sleep(1.1)
    moment = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    time.sleep(1.1)
    return moment


def _run_locally(site_file: Path, *arguments: str) -> dict[str, Any]:
    """Run a backup verb on this machine, as the operator does, and return its report."""
    argv = [sys.executable, "-m", "ops", "backup", *arguments, "--site", str(site_file), "--json"]
    done = subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 0, done.stdout
    document: dict[str, Any] = json.loads(done.stdout)
    return document
