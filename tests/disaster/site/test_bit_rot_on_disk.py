"""The data disk returns something else than was written: the site says so, and a restore takes nothing from that disk."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

import pytest

from tests.support.deployed_site import Ssh, ops, parent_of

pytestmark = pytest.mark.usefixtures("by_hand")
_DISK = "/srv/gitea"
_FILE = f"{_DISK}/gitea/precious"
_MAKE = f"head -c 1048576 /dev/urandom > {_FILE} && sync --file-system {_FILE} && sha256sum {_FILE}"
# Where in btrfs's own address space the file's first extent is (ioctl_fs fiemap), and where on the disk that is (btrfs-map-logical).
_ROT = f"""import fcntl, os, re, struct, subprocess
disk = subprocess.check_output(["findmnt", "--noheadings", "--output", "SOURCE", "{_DISK}"], text=True).strip()
extent = bytearray(struct.pack("=QQIIII", 0, 2**64 - 1, 0, 0, 1, 0) + bytes(56))
with open("{_FILE}", "rb") as file:
    fcntl.ioctl(file, 0xC020660B, extent)
(address,) = struct.unpack_from("=Q", extent, 40)
told = subprocess.check_output(["btrfs-map-logical", "-l", str(address), disk], text=True)
with open(disk, "r+b", buffering=0) as raw:
    raw.seek(int(re.search(r"mirror 1 logical \\d+ physical (\\d+)", told)[1]))
    raw.write(os.urandom(16))
    os.fsync(raw)"""
# What is in memory still is forgotten first.
_READ = f"dd if={_FILE} iflag=nocache count=0 status=none && cat {_FILE}"


@pytest.fixture
def forgotten(ssh: Ssh) -> Iterator[None]:
    """At the end nothing of the disk's fault is left: the picture that has it makes way for another, and btrfs forgets it."""
    yield
    assert ssh(f"sudo rm --force {_FILE} && sudo btrfs device stats --reset {_DISK}").returncode == 0
    ops(ssh, "backup", "take")


@pytest.mark.usefixtures("forgotten")
def test_a_restore_takes_no_picture_from_a_disk_that_does_not_return_what_was_written(ssh: Ssh) -> None:
    made = ssh(f"sudo sh -c {shlex.quote(_MAKE)}")
    assert made.returncode == 0, made.stderr
    ops(ssh, "backup", "take")
    rotten = ssh(f"sudo python3 -c {shlex.quote(_ROT)}")
    assert rotten.returncode == 0, rotten.stderr
    assert "Input/output error" in ssh(f"sudo sh -c '{_READ} >/dev/null'").stderr
    red = [each for each in ops(ssh, "health", code=3)["probes"] if not each["healthy"]]
    assert [(each["name"], each["seen"].split()[0]) for each in red] == [("data disk", "corruption_errs")]
    assert ops(ssh, "restore", "--yes")["picture"] is False
    assert parent_of(ssh, f"{_DISK}/gitea") == "-"
    assert ssh(f"sudo sh -c '{_READ} | sha256sum'").stdout.split()[0] == made.stdout.split()[0]
