"""The data disk returns something else than was written: the site says so, and a restore takes nothing from that disk."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

import pytest

from tests.e2e.conftest import Ssh, ops
from tests.e2e.test_backup import parent_of

pytestmark = pytest.mark.usefixtures("by_hand")
_DISK = "/srv/gitea"
_FILE = f"{_DISK}/gitea/gitea/attachments/precious"
_MAKE = f"mkdir -p $(dirname {_FILE}) && head -c 1048576 /dev/urandom > {_FILE} && sync --file-system {_FILE} && sha256sum {_FILE}"
# btrfs tells where in its own address space a file lies, and where on the disk that is (btrfs-map-logical(8)).
_ROT = f"""set -e
disk=$(findmnt --noheadings --output SOURCE {_DISK})
block=$(filefrag -v -b4096 {_FILE} | sed -n 's/^ *0: *[0-9]*\\.\\. *[0-9]*: *\\([0-9]*\\)\\.\\..*/\\1/p')
place=$(btrfs-map-logical --logical $((block * 4096)) $disk | sed -n 's/^mirror 1 .* physical \\([0-9]*\\) .*/\\1/p')
dd if=/dev/urandom of=$disk bs=16 count=1 seek=$((place / 16)) conv=notrunc,fsync status=none"""
_READ = f"dd if={_FILE} of=/dev/null bs=4096 iflag=direct status=none"


@pytest.fixture
def forgotten(ssh: Ssh) -> Iterator[None]:
    """At the end nothing of the disk's fault is left: the picture that has it makes way for another, and btrfs forgets it."""
    yield
    assert ssh(f"sudo rm {_FILE} && sudo btrfs device stats --reset {_DISK}").returncode == 0
    ops(ssh, "backup", "take")


@pytest.mark.usefixtures("forgotten")
def test_a_restore_takes_no_picture_from_a_disk_that_does_not_return_what_was_written(ssh: Ssh) -> None:
    made = ssh(f"sudo sh -c {shlex.quote(_MAKE)}")
    assert made.returncode == 0, made.stderr
    ops(ssh, "backup", "take")
    rotten = ssh(f"sudo sh -c {shlex.quote(_ROT)}")
    assert rotten.returncode == 0, rotten.stderr
    assert "Input/output error" in ssh(f"sudo {_READ}").stderr
    red = [each for each in ops(ssh, "health", code=3)["probes"] if not each["healthy"]]
    assert [(each["name"], each["seen"].split()[0]) for each in red] == [("data disk", "corruption_errs")]
    ops(ssh, "restore", "--yes")
    assert parent_of(ssh, f"{_DISK}/gitea") == "-"
    assert ssh(f"sudo {_READ}").returncode == 0
    assert ssh(f"sudo sha256sum {_FILE}").stdout == made.stdout
