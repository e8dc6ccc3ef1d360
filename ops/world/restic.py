"""The adapter for restic: encrypted, deduplicated repositories of snapshots."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ops.errors import Locked, OpsError, Refused, Unavailable
from ops.world.clock import Clock
from ops.world.process import Finished, Processes
from ops.world.restic_locks import LockHolder, LockWait, locked

# restic's exit codes (restic manual, "Scripting").
_PARTIAL, _NO_REPOSITORY, _LOCKED, _WRONG_PASSWORD = 3, 10, 11, 12
_OPEN = ("restic", "--option", "s3.bucket-lookup=path")
# restic's words for exit code 11, where the exit code is another program's.
_IS_LOCKED = re.compile(r"repository is already locked")
# 500 and 503 are HTTP status codes; \b keeps them from matching inside a pack's name.
_UNAVAILABLE = re.compile(
    r"connection refused|no such host|timeout|timed out|\b50[03]\b|Access Denied|ExpiredToken", re.IGNORECASE
)
# How long a repository may fail without a success. restic itself would retry for 15 minutes, in each of its
# commands (restic 0.18, internal/backend/retry), and would hold the site's lock for as long.
PATIENCE_SECONDS = 120.0
_FAILING, _RECOVERED = re.compile(r" returned error, retrying after "), re.compile(r" operation successful after ")
# The folders that restic adds files to when it stores; it removes its locks itself.
_ADDED = ("data", "index", "snapshots")
_FULL = re.compile(r"no space left on device|disk quota exceeded", re.IGNORECASE)
# Each btrfs snapshot has its own device number. Without this feature restic stores every folder again (restic #3041).
_FEATURES = "device-id-for-hardlinks=true"


# Ids of snapshots in one command. Linux takes 2 MiB of arguments and environment (execve(2), ARG_MAX): some 28,000 ids.
_BATCH = 1000


class WrongPassword(Refused):
    """The repository was made with another password."""


class Full(OpsError):
    """The disk of a repository, or of a restore's target, is full."""


class Damaged(OpsError):
    """A check found damaged data in the repository."""

    exit_code = 3


# The repository could not be read, so these errors say nothing about its content.
INACCESSIBLE = (Unavailable, Locked, WrongPassword)


@dataclass(frozen=True)
class Stored:
    """The result of a backup: the snapshot's id, its size in bytes, and the bytes that it added to the repository."""

    snapshot: str
    size: int
    added: int


@dataclass(frozen=True)
class Snapshot:
    """One restic snapshot. ``original`` is its id in the repository that it was copied from, or its own id."""

    identity: str
    original: str
    tags: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()


@dataclass(frozen=True)
class Restic:
    """One repository: a folder, or s3:URL/bucket/path. ``environment`` is added to this process's own.

    Commands that only read take no lock. With ``locks_reads`` they do: no prune may remove data while they run. A command
    that waits for a lock tells ``tell`` who holds it.
    """

    processes: Processes
    repository: str
    password_file: Path
    cache: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    locks_reads: bool = False
    clock: Clock = field(default_factory=Clock)
    tell: Callable[[str], None] = lambda _: None

    def exists(self) -> bool:
        """Return whether the repository exists; raises WrongPassword, or Unavailable when it cannot be reached."""
        # Without a lock: a stale lock would have to be removed first, and that needs an existing repository.
        done = self._run(["cat", "--no-lock", "config"], accept={0, _NO_REPOSITORY})
        return done == 0

    def make(self, like: Restic | None = None) -> None:
        """Make the repository. With ``like``, it splits files like the other repository, so that copies deduplicate."""
        origin = ["--copy-chunker-params", *_origin(like)] if like else []
        self._run(["init", "--repository-version", "2", *origin])

    def store(self, folders: Sequence[Path], *, host: str, tags: Sequence[str], exclude: Sequence[str] = ()) -> Stored:
        """Back up folders, without the files that match a pattern of ``exclude`` (restic's manual, "Excluding Files").

        restic reads only files that changed since the last snapshot of the same host and folders.
        """
        # No count of all files beforehand: no output shows a percentage.
        patterns = [f"--exclude={each}" for each in exclude]
        return self._stored(["backup", "--no-scan", *patterns, *_named(host, tags), *map(str, folders)])

    def store_output(self, argv: Sequence[str], *, filename: str, host: str, tags: Sequence[str]) -> Stored:
        """Back up a program's output as a file of that name; when the program fails, restic makes no snapshot."""
        named = _named(host, tags)
        return self._stored(["backup", *named, "--stdin-filename", filename, "--stdin-from-command", "--", *argv])

    def copy(self, snapshots: Sequence[str], origin: Restic) -> None:
        """Copy snapshots from another repository into this one. Snapshots and data that are already present are not copied again."""
        for batch in _batches(snapshots):
            self._run(["copy", *_origin(origin), *batch])

    def snapshots(self, tag: str = "") -> tuple[Snapshot, ...]:
        """Return the repository's snapshots, or only those with a tag."""
        (found,) = self._documents(["snapshots", *self._reading(), *(["--tag", tag] if tag else [])])
        return _snapshots_from(found)

    def snapshots_or_none(self) -> tuple[Snapshot, ...] | None:
        """Return the repository's snapshots, or None where it does not exist; takes half the time of calling ``exists`` first."""
        done, _ = self._ended([*_OPEN, "snapshots", *self._reading(), "--json"], {0, _NO_REPOSITORY})
        return None if done.code else _snapshots_from(json.loads(done.output))

    def holds(self, snapshot: str) -> bool:
        """Return whether a repository in a folder has a snapshot of that id, without opening it (restic's design, "Repository Layout")."""
        return Path(self.repository, "snapshots", snapshot).is_file()

    def forget(self, snapshots: Sequence[str]) -> None:
        """Remove snapshots from the repository; their data stays until ``prune``."""
        for batch in _batches(snapshots):
            self._run(["forget", *batch])

    def prune(self) -> None:
        """Remove data that no snapshot needs."""
        self._run(["prune"])

    def check(self, share: str = "", *, alone: bool = True) -> None:
        """Check the repository's structure, and read a share of its packs ("3/7", "2.5%"); raises Damaged.

        Without ``alone`` other runs may store during the check; data that one of them removes then looks like damage.
        """
        locking = [] if alone else ["--no-lock"]
        try:
            self._run(["check", *locking, *([f"--read-data-subset={share}"] if share else [])])
        except _Failed as error:
            raise Damaged(
                f"{self.repository} is damaged: {error.message}",
                "copy the snapshots from the other repository (restic's manual, Troubleshooting)",
            ) from error

    def size(self, snapshot: str) -> int:
        """Return the size of a snapshot's files in bytes, hard links counted once; raises OpsError when its folders are unreadable."""
        (found,) = self._documents(["stats", *self._reading(), "--mode", "restore-size", snapshot])
        return int(found["total_size"])

    def restore(self, snapshot: str, target: Path, *, include: str = "", only: Sequence[str] = ()) -> None:
        """Restore a snapshot, or the part below one path, into ``target``; with ``only``, just the files that match a pattern."""
        chosen = f"{snapshot}:{include}" if include else snapshot
        patterns = [f"--include={each}" for each in only]
        self._run(["restore", *self._reading(), chosen, "--target", str(target), "--sparse", *patterns])

    def dump_into(self, snapshot: str, filename: str, argv: Sequence[str], on_line: Callable[[str], None]) -> None:
        """Pipe a file of a snapshot into a program; raises OpsError when restic or the program fails."""
        source = [*_OPEN, "dump", *self._reading(), snapshot, filename]
        wait = LockWait(self.repository, self.clock, self.tell)
        while True:
            done = self.processes.pipe(source, argv, environment=self._environment(), tell=on_line)
            # restic takes its lock first, so the program has got nothing yet.
            if not (done.code and _IS_LOCKED.search(done.output) and wait.goes_on(done.output)):
                break
        if done.code:
            words = " ".join(done.output.split())[-600:]
            if _IS_LOCKED.search(done.output):
                raise locked(self.repository, done.output)
            if _FULL.search(words):
                raise _full(words)
            kind = Unavailable if _is_unavailable(words) else OpsError
            raise kind(f"{argv[0]} with {filename} of {snapshot[:8]} failed: {words}")

    def read(self, snapshot: str, filename: str) -> str:
        """Return the text of a small file in a snapshot."""
        done, _ = self._ended([*_OPEN, "dump", *self._reading(), snapshot, filename], {0})
        return done.output

    def locks(self) -> dict[str, LockHolder]:
        """Return the repository's locks by id, each with its holder; leaves out a lock that is released meanwhile."""
        listed, _ = self._ended([*_OPEN, "list", "--no-lock", "locks"], {0, _NO_REPOSITORY})
        found = {}
        for identity in listed.output.split() if not listed.code else ():
            shown = self.processes.output(
                [*_OPEN, "cat", "--no-lock", "lock", identity], directory=Path("/"), environment=self._environment()
            )
            if not shown.code:
                found[identity] = LockHolder.from_json(shown.output)
        return found

    @contextmanager
    def remove_additions_on_failure(self) -> Iterator[None]:
        """When the block fails, remove the files that were added to a repository in a folder; this also frees the disk space.

        restic only adds files when it stores. No other run may use the repository during the block.
        """
        before = self._files()
        try:
            yield
        except BaseException:
            for each in self._files() - before:
                each.unlink(missing_ok=True)
            raise

    def _files(self) -> frozenset[Path]:
        return frozenset(each for kind in _ADDED for each in Path(self.repository, kind).rglob("*") if each.is_file())

    def remove_all_locks(self) -> bool:
        """Remove every lock. Only for a repository that no other run can use at this time.

        Returns whether the repository exists, which saves a call of ``exists``: each takes half a second for the key alone.
        A repository in a folder is not opened when it has no lock (restic's design, "Repository Layout").
        """
        if Path(self.repository, "config").is_file() and not any(Path(self.repository).glob("locks/*")):
            return True
        done = self._run(["unlock", "--remove-all"], accept={0, _NO_REPOSITORY})
        return done == 0

    def _stored(self, arguments: Sequence[str]) -> Stored:
        summaries = [each for each in self._documents(arguments) if each.get("message_type") == "summary"]
        if not summaries or not summaries[-1].get("snapshot_id"):
            raise OpsError(f"restic made no snapshot in {self.repository}", "run ops backup take again")
        (last,) = summaries[-1:]
        return Stored(last["snapshot_id"], last["total_bytes_processed"], last["data_added_packed"])

    def _documents(self, arguments: Sequence[str]) -> list[Any]:
        done, _ = self._ended([*_OPEN, arguments[0], "--json", *arguments[1:]], {0})
        return [json.loads(line) for line in done.output.splitlines() if line.strip()]

    def _run(self, arguments: Sequence[str], accept: frozenset[int] | set[int] = frozenset({0})) -> int:
        done, _ = self._ended([*_OPEN, *arguments], accept)
        return done.code

    def _ended(self, argv: Sequence[str], accept: frozenset[int] | set[int]) -> tuple[Finished, str]:
        wait = LockWait(self.repository, self.clock, self.tell)
        while True:
            done, errors = self._attempt(argv)
            if done.code != _LOCKED or not wait.goes_on(errors or done.output):
                break
        self._raise_for(done.code, errors or done.output, accept)
        return done, errors

    def _attempt(self, argv: Sequence[str]) -> tuple[Finished, str]:
        retries = _RetryWatch(PATIENCE_SECONDS)
        done, errors = self.processes.run_watched(argv, environment=self._environment(), on_line=retries.on_line)
        if retries.exceeded:
            raise Unavailable(
                f"{self.repository} failed for {PATIENCE_SECONDS:.0f} s without a success: {retries.last}",
                "check bucket, network and credentials",
            )
        return done, errors

    def _reading(self) -> list[str]:
        return [] if self.locks_reads else ["--no-lock"]

    def _environment(self) -> dict[str, str]:
        return {
            "RESTIC_REPOSITORY": self.repository,
            "RESTIC_PASSWORD_FILE": str(self.password_file),
            "RESTIC_CACHE_DIR": str(self.cache),
            "RESTIC_PROGRESS_FPS": "0.016",
            "RESTIC_FEATURES": _FEATURES,
            **self.environment,
        }

    def _raise_for(self, code: int, output: str, accept: frozenset[int] | set[int]) -> None:
        if code in accept:
            return
        output = " ".join(output.split())
        words = output[-600:]
        if code == _WRONG_PASSWORD:
            raise WrongPassword(
                f"{self.repository} was made with another password",
                "run ops secrets set restic-password with the repository's password",
            )
        if code == _LOCKED:
            raise locked(self.repository, output)
        if code == _NO_REPOSITORY:
            raise OpsError(f"{self.repository} does not exist", "run ops backup take, which makes it")
        if code == _PARTIAL:
            raise OpsError(
                f"some files are unreadable, so this does not count as a backup: {words}", "check the files named above"
            )
        if _FULL.search(output):
            raise _full(words)
        kind = Unavailable if _is_unavailable(output) else _Failed
        raise kind(f"restic fails on {self.repository}: {words}", "check disk, bucket, network and credentials")


def folder_of(repository: Restic, snapshot: str) -> str:
    """Return the folder that a snapshot was made of; raises OpsError when the repository does not have the snapshot."""
    for each in repository.snapshots():
        if each.identity == snapshot:
            return each.paths[0]
    raise OpsError(f"{repository.repository} has no snapshot {snapshot[:8]}", "choose another backup: ops backup list")


class _RetryWatch:
    """Reads restic's retry messages, and stops restic after so many seconds without a success."""

    def __init__(self, seconds: float) -> None:
        self._seconds, self._since = seconds, 0.0
        self.exceeded, self.last = False, ""

    def on_line(self, line: str) -> bool:
        """Take a line of restic's output; returns False to stop restic."""
        if _RECOVERED.search(line):
            self._since = 0.0
        if _FAILING.search(line):
            self.last = line
            self._since = self._since or time.monotonic()
            self.exceeded = time.monotonic() - self._since > self._seconds
        return not self.exceeded


class _Failed(OpsError):
    """restic ended with a code that only means failure."""


def _snapshots_from(document: Sequence[Mapping[str, Any]]) -> tuple[Snapshot, ...]:
    return tuple(
        Snapshot(
            each["id"],
            each.get("original", each["id"]),
            tuple(each.get("tags") or ()),
            tuple(each.get("paths") or ()),
        )
        for each in document
    )


def _batches(snapshots: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(snapshots), _BATCH):
        yield snapshots[start : start + _BATCH]


def _named(host: str, tags: Sequence[str]) -> list[str]:
    return ["--host", host, *(word for tag in tags for word in ("--tag", tag))]


def _full(words: str) -> Full:
    return Full(f"the disk is full: {words}", "free disk space (df --human-readable), then run the command again")


def _origin(other: Restic) -> list[str]:
    return ["--from-repo", other.repository, "--from-password-file", str(other.password_file)]


def _is_unavailable(words: str) -> bool:
    return _UNAVAILABLE.search(words) is not None
