"""The data disk returns wrong bytes: the health check reports it, and a restore does not use the disk's snapshot."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

import pytest

from tests.support.deployed_site import Ssh, ops, parent_of

pytestmark = pytest.mark.usefixtures("by_hand")
_DISK = "/srv/gitea"
_FILE = f"{_DISK}/gitea/precious"
_MAKE = f"head -c 1048576 /dev/urandom > {_FILE} && sync --file-system {_FILE} && sha256sum {_FILE}"
# Finds the address of the file's first extent in btrfs's address space (ioctl_fs fiemap) and on the disk (btrfs-map-logical).
_ROT = f"""import fcntl, os, re, struct, subprocess
disk = subprocess.check_output(["findmnt", "--noheadings", "--output", "SOURCE", "{_DISK}"], text=True).strip()
extent = bytearray(struct.pack("=QQIIII", 0, 2**64 - 1, 0, 0, 1, 0) + bytes(56))
with open("{_FILE}", "rb") as file:
    fcntl.ioctl(file, 0xC020660B, extent)
(address,) = struct.unpack_from("=Q", extent, 40)
mapped = subprocess.check_output(["btrfs-map-logical", "-l", str(address), disk], text=True)
with open(disk, "r+b", buffering=0) as raw:
    raw.seek(int(re.search(r"mirror 1 logical \\d+ physical (\\d+)", mapped)[1]))
    raw.write(os.urandom(16))
    os.fsync(raw)"""
# Drops the file from the page cache before reading it.
_READ = f"dd if={_FILE} iflag=nocache count=0 status=none && cat {_FILE}"


@pytest.fixture
def without_disk_errors(ssh: Ssh) -> Iterator[None]:
    """Remove the disk error after the test: replace the snapshot that contains it, and reset btrfs's error counters."""
    yield
    assert ssh(f"sudo rm --force {_FILE} && sudo btrfs device stats --reset {_DISK}").returncode == 0
    ops(ssh, "backup", "take")


@pytest.mark.usefixtures("without_disk_errors")
def test_a_restore_does_not_use_the_snapshot_of_a_disk_that_returns_wrong_bytes(ssh: Ssh) -> None:
    made = ssh(f"sudo sh -c {shlex.quote(_MAKE)}")
    assert made.returncode == 0, made.stderr
    ops(ssh, "backup", "take")
    damaged = ssh(f"sudo python3 -c {shlex.quote(_ROT)}")
    assert damaged.returncode == 0, damaged.stderr
    assert "Input/output error" in ssh(f"sudo sh -c '{_READ} >/dev/null'").stderr
    failing = [each for each in ops(ssh, "health", code=3)["probes"] if not each["healthy"]]
    assert [(each["name"], each["seen"].split()[0]) for each in failing] == [("data disk", "corruption_errs")]
    assert ops(ssh, "restore", "--yes")["picture"] is False
    assert parent_of(ssh, f"{_DISK}/gitea") == "-"
    assert ssh(f"sudo sh -c '{_READ} | sha256sum'").stdout.split()[0] == made.stdout.split()[0]
