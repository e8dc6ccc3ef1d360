"""A fake host in a temporary folder for restores, on which the process may be killed anywhere."""

from __future__ import annotations

import json
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
from ops.world.containers import Member, Ran, Service
from ops.world.https import Answer
from ops.world.restic import Snapshot
from tests.support import fakes
from tests.support.fake_proxy import FakeProxy

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
    """The process was killed: it performs no further action."""


@dataclass
class FakeRestoreHost(fakes.FakeWorld):
    """A host with a data disk, a database server and a bucket. The process dies before action number ``dies_before``."""

    directory: Path = field(kw_only=True)
    databases: dict[str, str] = field(default_factory=lambda: {"gitea": "now"})
    running: bool = True
    comes_up: Callable[[str], bool] = lambda content: True
    stored: str = "then"
    ini: str = "APP_NAME = Gitea\n[security]\nINSTALL_LOCK = true\nSECRET_KEY = k\n[server]\nDOMAIN = d\n"
    refs: Mapping[str, str] = field(default_factory=lambda: {"then": REFS})
    actions: list[str] = field(default_factory=list)
    maintenance_calls: list[str] = field(default_factory=list)
    proxy: FakeProxy = field(default_factory=FakeProxy)
    dies_before: int = -1
    executed: list[list[str]] = field(default_factory=list)
    # The exit codes of gitea admin regenerate, by what is regenerated.
    regenerate_codes: dict[str, int] = field(default_factory=dict)
    # The restic repositories with damaged packs.
    damaged: set[str] = field(default_factory=set)
    dump_unreadable: bool = False
    btrfs_errors: tuple[str, ...] = ()
    free_bytes: int = 10**9
    rows: int = 3
    clone_fails: bool = False
    # What git lists of the repository, as repository_rows asks, and the rows of Gitea's database about it.
    git_refs: str = "refs/heads/main\nrefs/heads/main 0001  1700000000\n"
    repository_row: tuple[str, ...] = ("7", "3", "main", "f")
    release_rows: tuple[tuple[str, ...], ...] = ()
    tables: tuple[str, ...] = ("branch", "release")
    # The branches that Gitea lists, one answer after the other; the last one stays.
    listed: list[dict[str, str] | None] = field(default_factory=lambda: [{"main": "0001"}])
    changed_rows: list[str] = field(default_factory=list)
    # nginx's answers for Gitea's health, one after the other; the last one stays.
    served: list[int] = field(default_factory=lambda: [200])
    # git cannot read a repository with this content.
    unreadable_content: str = ""

    def __post_init__(self) -> None:
        self.paths = HostPaths(
            self.directory / "data", self.directory / "secrets", self.directory / "backup", lock=self.directory / "lock"
        )
        (self.paths.live / "git/repositories/a/b.git").mkdir(parents=True)
        (self.paths.live / "git/repositories/a/b.git/content").write_text("now")
        self.paths.secrets.mkdir()
        (self.paths.secrets / "gitea-secret-key").write_text("k")
        self.https: Any = self
        self.containers: Any = self
        self.btrfs: Any = self
        self.postgres: Any = self
        made = replace(MADE, secret_key=contents.secret_key(self.paths))
        self.aws: Any = Bucket({manifest.key_of(made.identity): manifest.to_json(made)})

    def action(self, what: str) -> None:
        if self.dies_before == len(self.actions):
            raise Killed
        self.actions.append(what)

    # Docker.
    def services(self, project: str) -> tuple[Service, ...]:
        health = "healthy" if self.running and self.comes_up(self.content()) else "starting"
        return (Service("gitea", "gitea/gitea:28.1.0@sha256:0", "running" if self.running else "exited", health, 0),)

    def name(self, project: str, service: str) -> str:
        return f"{project}-{service}-1"

    def stop(self, project: str, service: str, **_: object) -> None:
        self.action("stop")
        self.running = False

    def start(self, project: str, service: str) -> None:
        self.action("start")
        self.running = True

    def discard(self, container: str) -> None:
        assert container == "gitea-suite-replay"

    def command_lines(self, project: str, service: str) -> tuple[str, ...]:
        return ()

    def members(self, project: str, service: str) -> tuple[Member, ...]:
        assert service == "haproxy"
        return self.proxy.members

    def execute(self, project: str, service: str, argv: Sequence[str], user: str = "", identity: str = "") -> Ran:
        if service == "haproxy":
            return self.proxy.execute(argv)
        if service == "gitea":
            assert (user, self.running) == ("git", True)
            self.executed.append(list(argv))
            return Ran(self.regenerate_codes.get(argv[-1], 0), "permission denied")
        assert (service, argv[0]) == ("nginx", "nginx-away")
        self.maintenance_calls.append(argv[1])
        return Ran(0, "")

    def run_script(self, image: str, script: str, *, folder: Path, target: str, user: str) -> Ran:
        if "symbolic-ref --quiet" in script:
            return Ran(0, self.git_refs)
        if "rev-list --count" in script:
            (commits,) = [line for line in script.splitlines() if line.startswith("commits=")]
            return Ran(0, "".join(f"{each} 5\n" for each in commits.partition("=")[2].strip("'").split()))
        found = sorted((folder / "git/repositories").glob("*/*.git/content"))
        if self.unreadable_content in [each.read_text() for each in found]:
            return Ran(1, "error: unable to read packed-refs: Input/output error")
        return Ran(0, "".join(self.refs.get(each.read_text(), "") for each in found))

    # The disk.
    def can_snapshot(self, folder: Path) -> bool:
        return folder.is_dir() and folder.parent == self.paths.snapshot.parent

    def remove(self, folder: Path) -> None:
        if folder.is_dir():
            self.action(f"remove {folder.name}")
            for each in sorted(folder.rglob("*"), reverse=True):
                each.rmdir() if each.is_dir() else each.unlink()
            folder.rmdir()

    def rename(self, folder: Path, name: Path) -> None:
        self.action(f"rename {folder.name}")
        assert not name.exists()
        folder.rename(name)

    def move(self, folder: Path, name: Path) -> None:
        self.action(f"move {folder.name}")
        assert not name.exists()
        folder.rename(name)

    def errors(self, folder: Path) -> tuple[str, ...]:
        assert folder.is_dir()
        return self.btrfs_errors

    def clone(self, snapshot: Path, folder: Path) -> None:
        self.action("clone")
        if self.clone_fails:
            raise OpsError("btrfs subvolume snapshot failed: No space left on device")
        shutil.copytree(snapshot, folder)

    def own_like(self, model: Path, folder: Path) -> None:
        assert model.is_dir()
        assert folder.is_dir()

    def free(self, folder: Path) -> int:
        return self.free_bytes

    # The database.
    @contextmanager
    def session(self, container: str, name: str = "gitea") -> Iterator[FakeRestoreHost]:
        assert name == "postgres" or name in self.databases
        yield self

    def ask(self, statement: str) -> list[list[str]]:
        words = statement.split()
        match words:
            case ["DROP", "DATABASE", "IF", "EXISTS", name, "WITH", "(FORCE)"]:
                self.action(statement)
                self.databases.pop(name, None)
            case ["CREATE", "DATABASE", name, *_]:
                self.action(statement)
                assert name not in self.databases
                self.databases[name] = ""
            case ["ALTER", "DATABASE", name, "RENAME", "TO", new]:
                self.action(statement)
                assert new not in self.databases
                self.databases[new] = self.databases.pop(name)
            case ["SELECT", "datname", *_]:
                return [[name] for name in ("postgres", *self.databases)]
            case ["SELECT", "version", *_]:
                return [["300"]]
            case ["SELECT", "tablename", *_]:
                return [[name] for name in self.tables] if "'branch'" in statement else [["user"]]
            case ["SELECT", "count(*)", *_]:
                return [[str(self.rows)]]
        return self._rows_of_one_repository(statement)

    def _rows_of_one_repository(self, statement: str) -> list[list[str]]:
        match statement.split():
            case ["SELECT", "r.id,", *_]:
                return [list(self.repository_row)] if "'b'" in statement else []
            case ["SELECT", "id,", "tag_name,", *_]:
                return [list(row) for row in self.release_rows]
            case ["BEGIN" | "COMMIT"] | ["DELETE" | "UPDATE" | "INSERT", *_]:
                self.changed_rows.append(statement)
        return []

    # Gitea's API.
    def request(
        self, domain: str, address: str, method: str, path: str, headers: Mapping[str, str] | None = None
    ) -> Answer:
        if path == "/api/healthz":
            return Answer(self.served.pop(0) if len(self.served) > 1 else self.served[0])
        assert (method, path.lower()) == ("GET", "/api/v1/repos/a/b/branches?page=1&limit=50")
        now = self.listed.pop(0) if len(self.listed) > 1 else self.listed[0]
        document = None if now is None else [{"name": each, "commit": {"id": now[each]}} for each in now]
        return Answer(200, body=json.dumps(document).encode())

    # The repositories.
    def restic(self, repository: str, **_: Any) -> Repository:
        return Repository(self, "remote" if repository.startswith("s3:") else "local")

    # What a test does and checks.
    def keep_snapshot(self, content: str = "then", **newest: Any) -> Path:
        """Put the backup's snapshot on the data disk, with a repository of this content in it."""
        made = replace(MADE, **newest)
        self.paths.newest.parent.mkdir(exist_ok=True)
        self.paths.newest.write_bytes(manifest.to_json(made))
        snapshot = self.paths.snapshot_of(made.identity)
        (snapshot / "git/repositories/a/b.git").mkdir(parents=True)
        (snapshot / "git/repositories/a/b.git/content").write_text(content)
        (snapshot / "gitea/indexers/issues.bleve").mkdir(parents=True)
        (snapshot / "gitea/avatars").mkdir()
        return snapshot

    def content(self) -> str:
        """Return what Gitea shows: the content of its folder and its database if they agree."""
        found = (self.paths.live / "git/repositories/a/b.git/content").read_text()
        return found if found == self.databases["gitea"] else f"{found} with the database of {self.databases['gitea']}"

    @property
    def world(self) -> Any:
        """This host, as the world that `ops` works on."""
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
    """One of the host's two restic repositories."""

    host: FakeRestoreHost
    name: str

    def snapshots_or_none(self) -> tuple[Snapshot, ...]:
        return self.snapshots()

    def snapshots(self) -> tuple[Snapshot, ...]:
        ids = [getattr(part, self.name) for part in MADE.parts.values()]
        return tuple(Snapshot(each, each, paths=("/data/.moment/gitea",)) for each in ids)

    def restore(self, snapshot: str, target: Path, *, include: str) -> None:
        self.host.action("restore data")
        inner = "" if include.endswith(".git") else "git/repositories/a/b.git"
        (target / inner).mkdir(parents=True)
        if self.name in self.host.damaged:
            raise OpsError(f"{self.name}: ciphertext verification failed")
        (target / inner / "content").write_text(self.host.stored)
        if inner:
            (target / "gitea/indexers/issues.bleve").mkdir(parents=True)
            (target / "gitea/avatars").mkdir()

    def read(self, snapshot: str, filename: str) -> str:
        assert (snapshot, filename) == ("local-data", "/data/.moment/gitea/gitea/conf/app.ini")
        return self.host.ini

    def dump_into(self, snapshot: str, filename: str, argv: Sequence[str], hear: Callable[[str], None]) -> None:
        self.host.action("restore database")
        if self.host.dump_unreadable:
            raise OpsError(f"the pack of {filename} is damaged")
        if self.name in self.host.damaged:
            raise OpsError(f"{self.name}: ciphertext verification failed")
        self.host.databases[STAGED] = self.host.stored


@dataclass
class Bucket:
    """The bucket's objects."""

    content: dict[str, bytes]

    def objects(self, bucket: str, prefix: str) -> list[str]:
        return [key for key in self.content if key.startswith(prefix)]

    def read_objects(self, bucket: str, keys: Sequence[str]) -> list[bytes]:
        return [self.read_object(bucket, key) for key in keys]

    def read_object(self, bucket: str, key: str) -> bytes:
        return self.content[key]
