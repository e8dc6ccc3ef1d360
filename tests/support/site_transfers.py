"""Clones and pushes that run in a loop against a deployed site, each for many seconds."""

from __future__ import annotations

import secrets
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.deployed_site import Account, DeployedSite, Git, new_repository
from tests.support.load_clients import Transfers, throttled_port

MIB = 1024 * 1024
# A clone of so many bytes at such a rate takes 20 s.
_CLONED, _RATE, _PUSHED = 40 * MIB, 2 * MIB, 50 * MIB
_CLONERS = 2


@contextmanager
def slow_clone(site: DeployedSite, account: Account, git: Git, folder: Path) -> Iterator[threading.Thread]:
    """Run one clone that takes 20 s, and yield its thread; at the end it has to have succeeded."""
    remote, done = _large_repository(site, account, git, folder), Transfers()
    with throttled_port(site.address, 443, 0, _RATE) as port:
        thread = threading.Thread(target=_clone, args=(site, git, remote, port, folder / "cloned", done))
        thread.start()
        yield thread
        thread.join()
    assert (done.ended, done.errors) == ({"clone": 1}, [])


@contextmanager
def transfers(site: DeployedSite, account: Account, git: Git, folder: Path) -> Iterator[Transfers]:
    """Run two loops of clones of 20 s, ten seconds apart, and one of pushes of 50 MB during the block."""
    remote, done, over = _large_repository(site, account, git, folder), Transfers(), threading.Event()

    def clone(number: int) -> None:
        over.wait(number * 10)
        with throttled_port(site.address, 443, 0, _RATE) as port:
            while not over.is_set():
                _clone(site, git, remote, port, folder / f"cloned-{number}", done)

    def push() -> None:
        work = folder / "large"
        while not over.is_set():
            _commit(git, work, _PUSHED, "--amend")
            branch = f"HEAD:refs/heads/pushed-{time.monotonic():.0f}"
            done.count("push", git("push", "--quiet", remote, branch, directory=work, check=False))

    loops = [
        *(threading.Thread(target=clone, args=[number]) for number in range(_CLONERS)),
        threading.Thread(target=push),
    ]
    for each in loops:
        each.start()
    try:
        yield done
    finally:
        over.set()
        for each in loops:
            each.join()


def _large_repository(site: DeployedSite, account: Account, git: Git, folder: Path) -> str:
    remote = new_repository(site, account, git, folder / "large")
    _commit(git, folder / "large", _CLONED)
    git("push", "--quiet", remote, "HEAD:refs/heads/main", directory=folder / "large")
    return remote


def _commit(git: Git, work: Path, size: int, *options: str) -> None:
    (work / "large.bin").write_bytes(secrets.token_bytes(size))
    git("add", ".", directory=work)
    git("commit", "--quiet", "--message", "large", *options, directory=work)


def _clone(site: DeployedSite, git: Git, remote: str, port: int, into: Path, done: Transfers) -> None:
    there = remote.replace(site.domain, f"{site.domain}:{port}")
    find = f"http.curloptResolve={site.domain}:{port}:127.0.0.1"
    options = ("--quiet", "--single-branch", "--branch", "main")
    cloned = git("-c", find, "clone", *options, there, str(into), check=False)
    done.count("clone", cloned)
    shutil.rmtree(into, ignore_errors=True)
