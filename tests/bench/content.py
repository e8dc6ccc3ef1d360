"""A site's data as Gitea stores it: bare repositories with packs and loose objects, LFS files and attachments.

The content depends only on the repository's number. A repository has about 500 files and 10 MB, so that 200 of them are 100,000
files and 2 GB. About a fifth of the data is compressible, as on a real site: git's own objects are compressed already.
"""

from __future__ import annotations

import random
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

REPOSITORY_BYTES, REPOSITORY_FILES = 10_200_000, 500
_PROSE = " ".join(random.Random(0).choices([f"word{number}" for number in range(400)], k=20_000)).encode()
_ATTACHMENTS, _COMMITS = 190, 10


def make(folder: Path, numbers: range) -> None:
    """Write the repositories of these numbers and their files below a folder like Gitea's /data."""
    empty = folder.with_name("empty.git")
    if not empty.exists():
        subprocess.run(["git", "init", "--bare", "--quiet", "--template=", "--initial-branch=main", empty], check=True)
    for number in numbers:
        # Not for secrets: each run gets the same content.
        chance = random.Random(number)
        repository = folder / f"git/repositories/bench/r{number:04}.git"
        shutil.copytree(empty, repository)
        _import(repository, _history(chance, _packed(chance)), loose=False)
        _import(repository, _history(chance, _loose(chance), first=False), loose=True)
        _files(folder, chance, number)


def _packed(chance: random.Random) -> Iterator[list[tuple[str, bytes]]]:
    for commit in range(3):
        yield [(f"assets/{commit}-{each}.bin", chance.randbytes(100_000)) for each in range(20)]


def _loose(chance: random.Random) -> Iterator[list[tuple[str, bytes]]]:
    for commit in range(_COMMITS):
        yield [(f"src/{commit}/{each}.txt", _text(chance, chance.randint(300, 3000))) for each in range(27)]


def _history(
    chance: random.Random, commits: Iterator[list[tuple[str, bytes]]], *, first: bool = True
) -> Iterator[bytes]:
    """Yield commits in the format of git fast-import."""
    for number, files in enumerate(commits):
        message = _text(chance, 60)
        parent = b"from refs/heads/main^0\n" if number == 0 and not first else b""
        yield b"commit refs/heads/main\ncommitter B <b@example.org> %d +0000\n" % (1_700_000_000 + 100 * number)
        yield b"data %d\n%s\n%s" % (len(message), message, parent)
        for name, content in files:
            yield b"M 100644 inline %s\ndata %d\n%s\n" % (name.encode(), len(content), content)


def _import(repository: Path, stream: Iterator[bytes], *, loose: bool) -> None:
    # The packed content is random: deflating it is useless and would take half of the time.
    settings = {
        "fastimport.unpackLimit": 10**6 if loose else 1,
        "core.compression": 1 if loose else 0,
        "core.fsync": "none",
    }
    chosen = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    argv = ["git", "-C", str(repository), *chosen, "fast-import", "--quiet", "--depth=0"]
    subprocess.run(argv, input=b"".join(stream), check=True)


def _files(folder: Path, chance: random.Random, number: int) -> None:
    kept = folder / f"git/lfs/{number % 100:02}/{number:04}"
    kept.mkdir(parents=True)
    (kept / "object").write_bytes(chance.randbytes(1_500_000) + _text(chance, 1_000_000))
    attachments = folder / f"gitea/attachments/{number % 100:02}/{number:04}"
    attachments.mkdir(parents=True)
    for each in range(_ATTACHMENTS):
        (attachments / f"{each}").write_bytes(chance.randbytes(3000) + _text(chance, chance.randint(500, 6000)))


def _text(chance: random.Random, size: int) -> bytes:
    """Return words from a random place of one long text."""
    begin = chance.randrange(len(_PROSE))
    return (_PROSE[begin:] + _PROSE * (size // len(_PROSE) + 1))[:size]
