"""A host in a temporary folder whose site is replaced by one of its backups; and a process that may die anywhere."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ops.backup import contents, manifest
from ops.backup.manifest import Manifest, Part
from ops.config.paths import HostPaths
from ops.errors import OpsError
from ops.restore import restore
from ops.restore.plan import RestoreRequest
from ops.restore.staging import STAGED
from ops.world.containers import Ran, Service
from ops.world.restic import Snapshot
from tests.support import fakes

NOON = datetime(2026, 11, 23, 11, 0, tzinfo=UTC)
REFS = "= a/b.git\nref: refs/heads/main\n0001 refs/heads/main\n"
MADE = Manifest(
    identity="20261123T110000Z",
    site="test",
    domain="git.example.org",
    moment=NOON,
    finished=NOON,
    parts={name: Part(f"remote-{name}", f"local-{name}", 1000) for name in manifest.PARTS},
    stored=1,
    versions={"gitea": "28.1.0"},
    migration=300,
    images={},
    rows={"user": 3},
    repositories=contents.refs_from(REFS),
    paused=0.1,
    photographed=True,
    secret_key="",
)
SITE = fakes.site()


class Killed(BaseException):
    """The process is gone: nothing that it would still have done happens."""


@dataclass
class Machine(fakes.FakeWorld):
    """A host with a data disk, a database server and a bucket. The process dies before its ``dies_before``th deed."""

    directory: Path = field(kw_only=True)
    databases: dict[str, str] = field(default_factory=lambda: {"gitea": "now"})
    running: bool = True
    comes_up: Callable[[str], bool] = lambda content: True
    stored: str = "then"
    ini: str = "APP_NAME = Gitea\n[security]\nINSTALL_LOCK = true\nSECRET_KEY = k\n[server]\nDOMAIN = d\n"
    refs: Mapping[str, str] = field(default_factory=lambda: {"then": REFS})
    deeds: list[str] = field(default_factory=list)
    turned_away: list[str] = field(default_factory=list)
    dies_before: int = -1
    executed: list[list[str]] = field(default_factory=list)
    hooks: int = 0
    # The repositories whose packs are damaged.
    damaged: set[str] = field(default_factory=set)
    unreadable: bool = False
    counted: tuple[str, ...] = ()
    room: int = 10**9
    rows: int = 3
    revives_nothing: bool = False
    # A repository of this content is one that git cannot read.
    unreadable_content: str = ""

    def __post_init__(self) -> None:
        self.paths = HostPaths(
            self.directory / "data", self.directory / "secrets", self.directory / "backup", lock=self.directory / "lock"
        )
        (self.paths.live / "git/repositories/a/b.git").mkdir(parents=True)
        (self.paths.live / "git/repositories/a/b.git/content").write_text("now")
        self.paths.secrets.mkdir()
        (self.paths.secrets / "gitea-secret-key").write_text("k")
        self.containers: Any = self
        self.btrfs: Any = self
        self.postgres: Any = self
        made = replace(MADE, secret_key=contents.secret_key(self.paths))
        self.aws: Any = Bucket({manifest.key_of(made.identity): manifest.to_json(made)})

    def deed(self, what: str) -> None:
        if self.dies_before == len(self.deeds):
            raise Killed
        self.deeds.append(what)

    # The engine.
    def services(self, project: str) -> tuple[Service, ...]:
        health = "healthy" if self.running and self.comes_up(self.content()) else "starting"
        return (Service("gitea", "gitea/gitea:28.1.0@sha256:0", "running" if self.running else "exited", health, 0),)

    def name(self, project: str, service: str) -> str:
        return f"{project}-{service}-1"

    def stop(self, project: str, service: str, **_: object) -> None:
        self.deed("stop")
        self.running = False

    def start(self, project: str, service: str) -> None:
        self.deed("start")
        self.running = True

    def discard(self, container: str) -> None:
        assert container == "gitea-suite-replay"

    def command_lines(self, project: str, service: str) -> tuple[str, ...]:
        return ()

    def execute(self, project: str, service: str, argv: Sequence[str], user: str = "") -> Ran:
        if service == "gitea":
            assert (user, self.running) == ("git", True)
            self.executed.append(list(argv))
            return Ran(self.hooks, "permission denied")
        assert (service, argv[0]) == ("nginx", "nginx-away")
        self.turned_away.append(argv[1])
        return Ran(0, "")

    def run_script(self, image: str, script: str, *, folder: Path, target: str, user: str) -> Ran:
        found = sorted((folder / "git/repositories").glob("*/*.git/content"))
        if self.unreadable_content in [each.read_text() for each in found]:
            return Ran(1, "error: unable to read packed-refs: Input/output error")
        return Ran(0, "".join(self.refs.get(each.read_text(), "") for each in found))

    # The disk.
    def can_snapshot(self, folder: Path) -> bool:
        return folder.is_dir() and folder.parent == self.paths.snapshot.parent

    def remove(self, folder: Path) -> None:
        if folder.is_dir():
            self.deed(f"remove {folder.name}")
            for each in sorted(folder.rglob("*"), reverse=True):
                each.rmdir() if each.is_dir() else each.unlink()
            folder.rmdir()

    def rename(self, folder: Path, name: Path) -> None:
        self.deed(f"rename {folder.name}")
        assert not name.exists()
        folder.rename(name)

    def errors(self, folder: Path) -> tuple[str, ...]:
        assert folder.is_dir()
        return self.counted

    def clone(self, picture: Path, folder: Path) -> None:
        self.deed("revive")
        if self.revives_nothing:
            raise OpsError("btrfs subvolume snapshot failed: No space left on device")
        shutil.copytree(picture, folder)

    def own_like(self, model: Path, folder: Path) -> None:
        assert model.is_dir()
        assert folder.is_dir()

    def free(self, folder: Path) -> int:
        return self.room

    # The database.
    @contextmanager
    def session(self, container: str, name: str = "gitea") -> Iterator[Machine]:
        assert name == "postgres" or name in self.databases
        yield self

    def ask(self, statement: str) -> list[list[str]]:
        words = statement.split()
        match words:
            case ["DROP", "DATABASE", "IF", "EXISTS", name, "WITH", "(FORCE)"]:
                self.deed(statement)
                self.databases.pop(name, None)
            case ["CREATE", "DATABASE", name, *_]:
                self.deed(statement)
                assert name not in self.databases
                self.databases[name] = ""
            case ["ALTER", "DATABASE", name, "RENAME", "TO", new]:
                self.deed(statement)
                assert new not in self.databases
                self.databases[new] = self.databases.pop(name)
            case ["SELECT", "datname", *_]:
                return [[name] for name in ("postgres", *self.databases)]
            case ["SELECT", "version", *_]:
                return [["300"]]
            case ["SELECT", "tablename", *_]:
                return [["user"]]
            case ["SELECT", "count(*)", *_]:
                return [[str(self.rows)]]
        return []

    # The repositories.
    def restic(self, repository: str, **_: Any) -> Repository:
        return Repository(self, "remote" if repository.startswith("s3:") else "local")

    # What the test does and sees.
    def keep_picture(self, content: str = "then", **newest: Any) -> Path:
        """Have the picture on the data disk that the backup was made of, with a repository of this content in it."""
        made = replace(MADE, **newest)
        self.paths.newest.parent.mkdir(exist_ok=True)
        self.paths.newest.write_bytes(manifest.to_json(made))
        picture = self.paths.snapshot_of(made.identity)
        (picture / "git/repositories/a/b.git").mkdir(parents=True)
        (picture / "git/repositories/a/b.git/content").write_text(content)
        return picture

    def content(self) -> str:
        """What Gitea shows: what its folder and its database agree on."""
        found = (self.paths.live / "git/repositories/a/b.git/content").read_text()
        return found if found == self.databases["gitea"] else f"{found} with the database of {self.databases['gitea']}"

    @property
    def world(self) -> Any:
        """What `ops` asks of the world is answered here."""
        return self

    def ops(self, **requested: Any) -> Any:
        return restore.restore(
            SITE, self.world, request=RestoreRequest(**requested), confirm=lambda *_: None, paths=self.paths
        )

    def resume(self) -> Any:
        self.dies_before = -1
        return restore.resume(SITE, self.world, paths=self.paths)


@dataclass
class Repository:
    """One of the machine's two."""

    machine: Machine
    name: str

    def snapshots_or_none(self) -> tuple[Snapshot, ...]:
        return self.snapshots()

    def snapshots(self) -> tuple[Snapshot, ...]:
        ids = [getattr(part, self.name) for part in MADE.parts.values()]
        return tuple(Snapshot(each, each, paths=("/data/.moment/gitea",)) for each in ids)

    def restore(self, snapshot: str, target: Path, *, include: str) -> None:
        self.machine.deed("restore data")
        inner = "" if include.endswith(".git") else "git/repositories/a/b.git"
        (target / inner).mkdir(parents=True)
        if self.name in self.machine.damaged:
            raise OpsError(f"{self.name}: ciphertext verification failed")
        (target / inner / "content").write_text(self.machine.stored)

    def read(self, snapshot: str, filename: str) -> str:
        assert (snapshot, filename) == ("local-data", "/data/.moment/gitea/gitea/conf/app.ini")
        return self.machine.ini

    def dump_into(self, snapshot: str, filename: str, argv: Sequence[str], hear: Callable[[str], None]) -> None:
        self.machine.deed("restore database")
        if self.machine.unreadable:
            raise OpsError(f"the pack of {filename} is damaged")
        if self.name in self.machine.damaged:
            raise OpsError(f"{self.name}: ciphertext verification failed")
        self.machine.databases[STAGED] = self.machine.stored


@dataclass
class Bucket:
    """The bucket's objects."""

    content: dict[str, bytes]

    def objects(self, bucket: str, prefix: str) -> list[str]:
        return [key for key in self.content if key.startswith(prefix)]

    def read_object(self, bucket: str, key: str) -> bytes:
        return self.content[key]
