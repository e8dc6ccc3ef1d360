"""The door to restic: repositories of snapshots, encrypted and each byte kept once."""

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
from ops.world.process import Finished, Processes

# What restic's exit codes mean (restic manual, "Scripting").
_PARTIAL, _NO_REPOSITORY, _LOCKED, _WRONG_PASSWORD = 3, 10, 11, 12
# The numbers are HTTP's, and not part of a pack's name.
_UNAVAILABLE = re.compile(
    r"connection refused|no such host|timeout|timed out|\b50[03]\b|Access Denied|ExpiredToken", re.IGNORECASE
)
# A lock is refreshed every five minutes, and stale after thirty without (restic 0.18, internal/restic/lock.go).
LOCK_PATIENCE = "5m"
# So long a repository may do nothing but fail. restic itself would go on for a quarter of an hour, at every one of its
# commands (restic 0.18, internal/backend/retry), and the site's lock would be held for as long.
PATIENCE_SECONDS = 120.0
_FAILING, _RECOVERED = re.compile(r" returned error, retrying after "), re.compile(r" operation successful after ")
# What restic adds to when it stores; a lock it removes itself.
_ADDED = ("data", "index", "snapshots")
_FULL = re.compile(r"no space left on device|disk quota exceeded", re.IGNORECASE)
# A picture of btrfs has a device number of its own. Without this every folder is stored anew for it (restic #3041).
_FEATURES = "device-id-for-hardlinks=true"


class WrongPassword(Refused):
    """The repository was made with another password."""


class Full(OpsError):
    """The disk that a repository is on, or that it is to be restored to, has no room left."""


class Damaged(OpsError):
    """A check found that something in the repository is not what was once stored."""

    exit_code = 3


# These say nothing of what is in a repository: no one could look.
INACCESSIBLE = (Unavailable, Locked, WrongPassword)


@dataclass(frozen=True)
class Stored:
    """What a backup came to: the snapshot's id, the bytes it shows, and those it added to the repository."""

    snapshot: str
    size: int
    added: int


@dataclass(frozen=True)
class Snapshot:
    """One snapshot of a repository. ``original`` is the id it had where it was copied from, or its own."""

    identity: str
    original: str
    tags: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()


@dataclass(frozen=True)
class Restic:
    """One repository: a folder, or s3:URL/bucket/path. ``environment`` is added to this process's own."""

    processes: Processes
    repository: str
    password_file: Path
    cache: Path
    environment: Mapping[str, str] = field(default_factory=dict)

    def exists(self) -> bool:
        """Tell whether the repository is there; raises WrongPassword, or Unavailable when no one can tell."""
        # Without a lock: one that a run left which is gone would have to be removed first, and that needs a repository.
        done = self._run(["cat", "config", "--no-lock"], accept={0, _NO_REPOSITORY})
        return done == 0

    def make(self, like: Restic | None = None) -> None:
        """Make the repository. One that is made ``like`` another cuts files at the same places, so that copies share."""
        origin = ["--copy-chunker-params", *_origin(like)] if like else []
        self._run(["init", "--repository-version", "2", *origin])

    def store(self, folders: Sequence[Path], *, host: str, tags: Sequence[str]) -> Stored:
        """Back up folders. Only what differs from the last snapshot of the same host and folders is read."""
        # Without a count of all files beforehand: no one looks at a percentage.
        return self._stored(["backup", "--no-scan", *_named(host, tags), *map(str, folders)])

    def store_output(self, argv: Sequence[str], *, filename: str, host: str, tags: Sequence[str]) -> Stored:
        """Back up what a program writes, as a file of that name; when the program fails, nothing is kept of it."""
        named = _named(host, tags)
        return self._stored(["backup", *named, "--stdin-filename", filename, "--stdin-from-command", "--", *argv])

    def copy(self, snapshots: Sequence[str], origin: Restic) -> None:
        """Bring snapshots of another repository here. What is here already is not brought again."""
        self._run(["copy", *_origin(origin), *snapshots])

    def snapshots(self, tag: str = "") -> tuple[Snapshot, ...]:
        """Return the repository's snapshots, or those with a tag."""
        (found,) = self._documents(["snapshots", *(["--tag", tag] if tag else [])])
        return _snapshots_from(found)

    def snapshots_or_none(self) -> tuple[Snapshot, ...] | None:
        """Return the repository's snapshots, None where it is not there: at half the price of asking ``exists`` first."""
        done, _ = self._ended([*self._argv("snapshots"), "--json"], {0, _NO_REPOSITORY})
        return None if done.code else _snapshots_from(json.loads(done.output))

    def holds(self, snapshot: str) -> bool:
        """Tell, without opening it, whether a repository in a folder has a snapshot of that id (restic's design, "Repository Layout")."""
        return Path(self.repository, "snapshots", snapshot).is_file()

    def forget(self, snapshots: Sequence[str]) -> None:
        """Take snapshots out of the repository; their bytes stay until ``prune``."""
        self._run(["forget", *snapshots])

    def prune(self) -> None:
        """Remove what no snapshot needs any more."""
        self._run(["prune"])

    def check(self, share: str = "", *, alone: bool = True) -> None:
        """Check the repository's structure, and read a share of its packs ("3/7", "2.5%"); raises Damaged.

        Unless it is to be ``alone`` there, others may store meanwhile; what one of them removes then looks like damage.
        """
        locking = [] if alone else ["--no-lock"]
        try:
            self._run(["check", *locking, *([f"--read-data-subset={share}"] if share else [])])
        except _Failed as error:
            raise Damaged(
                f"{self.repository} is damaged: {error.said}",
                "copy the snapshots from the other repository; restic's manual, Troubleshooting",
            ) from error

    def size(self, snapshot: str) -> int:
        """Return how many bytes the files of a snapshot have, hard links once; raises OpsError when its folders cannot be read."""
        (found,) = self._documents(["stats", "--mode", "restore-size", snapshot])
        return int(found["total_size"])

    def restore(self, snapshot: str, target: Path, *, include: str = "", only: Sequence[str] = ()) -> None:
        """Write a snapshot, or what lies below one path of it, under ``target``; of that, what matches one of ``only``."""
        chosen = f"{snapshot}:{include}" if include else snapshot
        patterns = [f"--include={each}" for each in only]
        self._run(["restore", chosen, "--target", str(target), "--sparse", *patterns])

    def dump_into(self, snapshot: str, filename: str, argv: Sequence[str], hear: Callable[[str], None]) -> None:
        """Give a file of a snapshot to a program's standard input; raises OpsError when either of the two fails."""
        source = [*self._argv("dump"), snapshot, filename]
        done = self.processes.pipe(source, argv, environment=self._environment(), tell=hear)
        if done.code:
            words = " ".join(done.output.split())[-600:]
            if _FULL.search(words):
                raise _full(words)
            kind = Unavailable if _is_unavailable(words) else OpsError
            raise kind(f"{argv[0]} with {filename} of {snapshot[:8]} failed: {words}")

    def read(self, snapshot: str, filename: str) -> str:
        """Return the text of a small file in a snapshot."""
        done, _ = self._ended([*self._argv("dump"), snapshot, filename], {0})
        return done.output

    def locks(self) -> dict[str, str]:
        """Return the repository's locks, each with the name of the host that holds it; one that ends meanwhile is left out."""
        listed, _ = self._ended(self._argv("list", "--no-lock", "locks"), {0, _NO_REPOSITORY})
        found = {}
        for identity in listed.output.split() if not listed.code else ():
            shown = self.processes.output(
                self._argv("cat", "--no-lock", "lock", identity), directory=Path("/"), environment=self._environment()
            )
            if not shown.code:
                found[identity] = str(json.loads(shown.output)["hostname"])
        return found

    @contextmanager
    def remove_additions_on_failure(self) -> Iterator[None]:
        """Take out of a repository in a folder all that came into it, when the block does not end well: the disk's room, too.

        restic only adds files when it stores. No one else may work in the repository meanwhile.
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

    def unlock(self, *, every: bool = False) -> bool:
        """Remove locks of runs that are gone: those not refreshed for half an hour, or ``every`` one where no one else can be.

        Returns whether the repository is there, as ``exists`` does: each of the two takes half a second for the key alone. One in a
        folder is not opened where it has no lock (restic's design, "Repository Layout").
        """
        if Path(self.repository, "config").is_file() and not any(Path(self.repository).glob("locks/*")):
            return True
        done = self._run(["unlock", *(["--remove-all"] if every else [])], accept={0, _NO_REPOSITORY})
        return done == 0

    def _stored(self, arguments: Sequence[str]) -> Stored:
        summaries = [each for each in self._documents(arguments) if each.get("message_type") == "summary"]
        if not summaries or not summaries[-1].get("snapshot_id"):
            raise OpsError(f"restic made no snapshot in {self.repository}", "run the backup again")
        (last,) = summaries[-1:]
        return Stored(last["snapshot_id"], last["total_bytes_processed"], last["data_added_packed"])

    def _documents(self, arguments: Sequence[str]) -> list[Any]:
        done, _ = self._ended([*self._argv(arguments[0]), "--json", *arguments[1:]], {0})
        return [json.loads(line) for line in done.output.splitlines() if line.strip()]

    def _run(self, arguments: Sequence[str], accept: frozenset[int] | set[int] = frozenset({0})) -> int:
        done, _ = self._ended([*self._argv(arguments[0]), *arguments[1:]], accept)
        return done.code

    def _ended(self, argv: Sequence[str], accept: frozenset[int] | set[int]) -> tuple[Finished, str]:
        patience = _RetryWatch(PATIENCE_SECONDS)
        done, errors = self.processes.run_watched(argv, environment=self._environment(), hear=patience.hear)
        if patience.lost:
            raise Unavailable(
                f"{self.repository} did nothing but fail for {PATIENCE_SECONDS:.0f} s: {patience.last}",
                "check bucket, network and credentials",
            )
        self._raise_for(done.code, errors or done.output, accept)
        return done, errors

    def _argv(self, *command: str) -> list[str]:
        return ["restic", "--retry-lock", LOCK_PATIENCE, "--option", "s3.bucket-lookup=path", *command]

    def _environment(self) -> dict[str, str]:
        return {
            "RESTIC_REPOSITORY": self.repository,
            "RESTIC_PASSWORD_FILE": str(self.password_file),
            "RESTIC_CACHE_DIR": str(self.cache),
            "RESTIC_PROGRESS_FPS": "0.016",
            "RESTIC_FEATURES": _FEATURES,
            **self.environment,
        }

    def _raise_for(self, code: int, said: str, accept: frozenset[int] | set[int]) -> None:
        if code in accept:
            return
        said = " ".join(said.split())
        words = said[-600:]
        if code == _WRONG_PASSWORD:
            raise WrongPassword(
                f"{self.repository} was made with another password",
                "put the password it was made with into the secret restic-password",
            )
        if code == _LOCKED:
            raise Locked(f"{self.repository} is in use: {words}", "wait until the other run has ended")
        if code == _NO_REPOSITORY:
            raise OpsError(f"{self.repository} does not exist", "ops backup take makes it")
        if code == _PARTIAL:
            raise OpsError(f"some files could not be read, so this is no backup: {words}", "look at the files named")
        if _FULL.search(said):
            raise _full(words)
        kind = Unavailable if _is_unavailable(said) else _Failed
        raise kind(f"restic fails on {self.repository}: {words}", "check disk, bucket, network and credentials")


def folder_of(repository: Restic, snapshot: str) -> str:
    """Return the folder that a snapshot was made of, as the repository knows it; raises OpsError when it has no such snapshot."""
    for each in repository.snapshots():
        if each.identity == snapshot:
            return each.paths[0]
    raise OpsError(f"{repository.repository} has no snapshot {snapshot[:8]}", "choose another backup: ops backup list")


class _RetryWatch:
    """Hears a restic that fails and tries again, and has enough of it after so many seconds without a success."""

    def __init__(self, seconds: float) -> None:
        self._seconds, self._since = seconds, 0.0
        self.lost, self.last = False, ""

    def hear(self, line: str) -> bool:
        """Take note of a line, and tell whether to go on."""
        if _RECOVERED.search(line):
            self._since = 0.0
        if _FAILING.search(line):
            self.last = line
            self._since = self._since or time.monotonic()
            self.lost = time.monotonic() - self._since > self._seconds
        return not self.lost


class _Failed(OpsError):
    """Restic ended with a code that says no more than that."""

    @property
    def said(self) -> str:
        return self.message


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


def _named(host: str, tags: Sequence[str]) -> list[str]:
    return ["--host", host, *(word for tag in tags for word in ("--tag", tag))]


def _full(words: str) -> Full:
    return Full(f"the disk is full: {words}", "make room (df --human-readable), then run it again")


def _origin(other: Restic) -> list[str]:
    return ["--from-repo", other.repository, "--from-password-file", str(other.password_file)]


def _is_unavailable(words: str) -> bool:
    return _UNAVAILABLE.search(words) is not None
