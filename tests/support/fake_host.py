"""A fake host in a temporary folder: its stack, its data disk, its bucket, and users who write.

Each change is an action. The process is killed before action number ``dies_before``.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from ops.backup import records, take
from ops.backup.records import Drill
from ops.config.paths import HostPaths
from ops.errors import OpsError, RolledBack, Unavailable
from ops.model import Report, Secret
from ops.stack.health import EXPECTED_SERVICES
from ops.update import history, pg_upgrade, plan, rollback, update
from ops.world.containers import Member, Ran, Service
from ops.world.https import Answer
from ops.world.process import Finished
from ops.world.restic import Snapshot, Stored
from ops.world.restic_locks import LockHolder
from tests.support import fakes
from tests.support.fake_gitea import FakeGitea
from tests.support.fake_proxy import FakeProxy

CANARY = "c" * 40
FOREVER = datetime(2030, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Behaviour:
    """The behaviour of a release of Gitea: the migration that it goes to, and its fault."""

    migration: int
    fault: str = ""


RELEASES = {
    "28.0.1": Behaviour(336),
    "28.0.2": Behaviour(336),
    "28.1.0": Behaviour(338),
    "28.1.1-crash": Behaviour(336, "crash"),
    "28.1.1-hang": Behaviour(336, "hang"),
    "28.1.1-sour": Behaviour(336, "sour"),
    "28.1.1-sourmigration": Behaviour(340, "sour"),
    "28.1.1-midmigration": Behaviour(340, "midmigration"),
    "28.1.1-broken": Behaviour(340, "broken"),
    "28.1.1-forgets": Behaviour(336, "forgets"),
    "28.1.1-forgetsmigration": Behaviour(340, "forgets"),
    "28.1.1-forgetsandsour": Behaviour(336, "forgets and fails"),
    "28.1.1-drops": Behaviour(336, "drops"),
    "28.1.1-dropsmigration": Behaviour(340, "drops"),
}
PINS = {
    "postgres": "postgres:18.6@sha256:18.6",
    "gitea": "gitea/gitea:28.0.1@sha256:28.0.1",
    "nginx": "nginx:1.30.4@sha256:1.30.4",
}
_REPOSITORIES = "/api/v1/repos/keeper"
_VARIABLES = {"postgres": "POSTGRES_IMAGE", "gitea": "GITEA_IMAGE", "nginx": "NGINX_IMAGE"}


class Killed(BaseException):
    """The process was killed: it performs no further action."""


@dataclass
class Running:
    """One container."""

    image: str
    state: str = "running"
    restarts: int = 0
    since: float = -60.0


@dataclass
class Journal:
    """The records of one journal; they survive the process."""

    host: FakeHost
    kept: list[dict[str, Any]]

    def records(self) -> tuple[dict[str, Any], ...]:
        return tuple(self.kept)

    def append(self, record: Mapping[str, Any]) -> None:
        self.host.action(f"record {record['step']}")
        self.kept.append(json.loads(json.dumps(dict(record))))

    def close(self) -> None:
        self.host.action("close the journal")
        self.kept.clear()


@dataclass
class FakeHost(fakes.FakeWorld):
    """A host on which a site runs."""

    directory: Path = field(kw_only=True)
    actions: list[str] = field(default_factory=list)
    dies_before: int = -1
    acknowledged: list[str] = field(default_factory=list)
    journals: dict[Path, list[dict[str, Any]]] = field(default_factory=dict)
    snapshots: dict[str, str] = field(default_factory=dict)
    bucket: dict[str, bytes] = field(default_factory=dict)
    stack: dict[str, Running] = field(default_factory=dict)
    # The second nginx during a handover.
    second_nginx: Running | None = None
    failing_nginx_images: frozenset[str] = frozenset()
    bucket_unreachable: bool = False
    missing_digests: frozenset[str] = frozenset()
    full: bool = False
    # The holders of the locks of the bucket's repository, by the lock's name.
    lock_holders: dict[str, LockHolder] = field(default_factory=dict)
    # The folder of the second database server while it runs, and whether a copy of the database loses rows.
    scratch: Path | None = None
    loses_rows: bool = False
    initdb_fails: bool = False
    # The subvolumes and the mounts in Gitea's data, and the repositories of Gitea's table; None before the table has any.
    nested_subvolumes: tuple[Path, ...] = ()
    mounted: tuple[Path, ...] = ()
    table: tuple[str, ...] | None = None
    # For how many more checks a push runs.
    checks_with_a_push: int = 0
    proxy: FakeProxy = field(init=False)
    # Patterns of paths that this Gitea does not serve, because a feature is switched off, and how long a count takes.
    not_served: list[str] = field(default_factory=list)
    count_seconds: float = 0.0
    files: Any = None
    subvolumes: Any = None
    database: Any = None

    def __post_init__(self) -> None:
        self.paths = HostPaths(
            self.directory / "data",
            self.directory / "secrets",
            self.directory / "backup",
            lock=self.directory / "lock",
            watchdog_image="ops",
        )
        self.compose = self.directory / "compose"
        for folder in (self.paths.live, self.paths.data / "postgresql", self.paths.secrets, self.compose):
            folder.mkdir(parents=True)
        for name in ("gitea-secret-key", "database-password", "smtp-username", "smtp-password"):
            (self.paths.secrets / name).write_text("k")
        (self.paths.live / "writes").write_text("")
        self._write_database({"migration": 336, "writes": []})
        (self.paths.data / "postgresql/PG_VERSION").write_text("18")
        lines = [f"{_VARIABLES[service]}='{pin}'\n" for service, pin in PINS.items()]
        (self.compose / ".env").write_text("".join(lines))
        self.proxy = FakeProxy(self._transfers, self.action)
        self.btrfs: Any = self
        self.postgres: Any = self
        self.files = FileAdapter(self)
        self.containers: Any = self
        self.processes: Any = self
        self.aws: Any = Bucket(self)
        self.https: Any = self
        digests = {f"gitea/gitea:{tag}": f"sha256:{tag}" for tag in RELEASES}
        digests |= {f"postgres:{tag}": f"sha256:{tag}" for tag in ("18.6", "18.7", "19.0")}
        digests |= {f"nginx:{tag}": f"sha256:{tag}" for tag in ("1.30.4", "1.30.5")}
        long_ago = {image: self.clock.now() - timedelta(days=30) for image in digests}
        self.registry = fakes.FakeRegistry(digests, long_ago)
        passed = Drill(self.clock.now() - timedelta(days=1), "20261122T110000Z", 1.0, 1.0)
        self.bucket["drills/1.json"] = records.to_json(passed)
        for service in EXPECTED_SERVICES:
            self.stack[service] = Running(PINS.get(service, "a/b:1@sha256:0"))

    def action(self, what: str) -> None:
        """Record an action, or die instead."""
        if self.dies_before == len(self.actions):
            raise Killed(what)
        self.actions.append(what)

    # Users.
    def write(self, text: str) -> bool:
        """Push and open an issue; return whether Gitea accepted it."""
        if not self.serves():
            return False
        with (self.paths.live / "writes").open("a") as file:
            file.write(f"{text}\n")
        database = self._database()
        database["writes"].append(text)
        database["comments"] = [*database.get("comments", []), f"comment of {text}"]
        self._write_database(database)
        self.acknowledged.append(text)
        return True

    def content(self) -> list[str]:
        """Return what Gitea shows; raises AssertionError if its folder and its database disagree."""
        written = (self.paths.live / "writes").read_text().split()
        assert written == self._database()["writes"]
        return written

    def comments(self) -> list[str]:
        """Return the texts of the users' comments."""
        return list(self._database().get("comments", []))

    def contents(self) -> FakeGitea:
        """Return what is stored through the API."""
        return FakeGitea(**self._database().get("contents", {}))

    def serves(self) -> bool:
        """Whether Gitea works and nginx lets users in."""
        healthy = self._nginx_runs() and self._status("/user/login") == 200
        return healthy and self.proxy.held == "none"

    def version(self) -> str:
        """Return the tag of the running Gitea."""
        return self.stack["gitea"].image.partition("@")[0].rpartition(":")[2]

    def pinned_in_environment(self, service: str = "gitea") -> str:
        """Return the pin of a service in .env."""
        lines = (self.compose / ".env").read_text().splitlines()
        (line,) = [each for each in lines if each.startswith(_VARIABLES[service])]
        return line.partition("'")[2].rstrip("'")

    # What a test does.
    def site(self, **changes: Any) -> Any:
        policy = {"nginx": "minor", "others": "minor"}
        return fakes.site(update={"watch_seconds": 30, "healthy_minutes": 1} | policy | changes)

    def update(self, service: str = "gitea", to: str = "", **more: Any) -> Report:
        requested, world = plan.UpdateRequest(service, to, **more), self._world()
        return update.update(
            self.site(), world, request=requested, confirm=lambda *_: None, paths=self.paths, compose=self.compose
        )

    def back_up(self) -> Report:
        """Take a backup one minute later."""
        self.clock.sleep(60)
        return take.take(self.site(), self._world(), paths=self.paths)

    def _world(self) -> Any:
        return self

    def resume(self) -> Report:
        return rollback.resume(self.site(), self._world(), paths=self.paths, compose=self.compose)

    def rollback(self) -> Report:
        confirm, world = lambda *_: None, self._world()
        return rollback.rollback(self.site(), world, confirm=confirm, paths=self.paths, compose=self.compose)

    def history(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = history.history(self.site(), self._world(), paths=self.paths).facts["updates"]
        return found

    def reboot(self) -> None:
        """Cut the power and boot: start what Docker and the systemd unit start."""
        for service, one in self.stack.items():
            by_itself = service == "gitea" and one.state == "running"
            one.state = "running" if by_itself else "exited"
        if self.stack["gitea"].state == "running":
            self._begin_gitea()
        # The stack does not start while its data folder is missing.
        if (self.paths.data / "postgresql").is_dir():
            self._begin_postgres()
        # Maintenance mode is lost with the memory, and Compose keeps one nginx.
        self.proxy.held, self.second_nginx, self.scratch = "none", None, None

    def compose_create(self, service: str) -> None:
        """Do as `compose create` does for one service: recreate it if its image changed."""
        image = self.pinned_in_environment(service) if service in _VARIABLES else self.stack[service].image
        if self.stack[service].image != image:
            self.stack[service] = Running(image, "created")

    def compose_up(self, service: str) -> None:
        """Do as `compose up` does for one service."""
        image = self.pinned_in_environment(service) if service in _VARIABLES else self.stack[service].image
        one = self.stack[service]
        if one.image == image and one.state == "running":
            return
        self.stack[service] = Running(image, since=self.clock.monotonic())
        self._begin(service)

    def _begin(self, service: str) -> None:
        """Do what a container does when it starts."""
        if service == "haproxy":
            self.proxy.held = "none"
        if service == "postgres":
            self._begin_postgres()
        if service == "gitea":
            self._begin_gitea()

    # PostgreSQL.
    def _begin_postgres(self) -> None:
        """Start PostgreSQL, which reads only the files of its own major version."""
        one = self.stack["postgres"]
        major = one.image.partition("@")[0].rpartition(":")[2].partition(".")[0]
        written = (self.paths.data / "postgresql/PG_VERSION").read_text()
        one.state = "running" if major == written else "exited"

    def _run_beside(self, argv: Sequence[str], environment: Mapping[str, str]) -> Finished:
        folder = Path(environment["DATA_DIRECTORY"], "postgresql")
        if "up" in argv:
            self.action("compose up a second database")
            # The image's entry point creates a database only in an empty folder.
            assert not any(folder.iterdir()), "the folder has a database already"
            if self.initdb_fails:
                return Finished(0, "")
            (folder / "PG_VERSION").write_text(environment["POSTGRES_IMAGE"].partition(":")[2].partition(".")[0])
            (folder / "gitea").write_text("{}")
            self.scratch = folder
        elif self.scratch:
            self.action("compose stop the second database")
            self.scratch = None
        return Finished(0, "")

    def pipe(self, source: Sequence[str], sink: Sequence[str], **_: Any) -> Finished:
        """Copy the database from one server to the other."""
        self.action("copy the database")
        assert self.scratch
        assert self.stack["postgres"].state == "running"
        database = self._database()
        copied = database | ({"writes": database["writes"][:-1]} if self.loses_rows else {})
        (self.scratch / "gitea").write_text(json.dumps(copied))
        return Finished(0, "")

    # Gitea.
    def _behaviour(self) -> Behaviour:
        return RELEASES[self.version()]

    def _begin_gitea(self) -> None:
        one, gitea = self.stack["gitea"], self._behaviour()
        one.state, one.since = "running", self.clock.monotonic()
        if gitea.fault == "hang":
            return
        database = self._database()
        if (
            gitea.fault == "crash"
            or self.stack["postgres"].state != "running"
            or database["migration"] > gitea.migration
        ):
            one.state = "exited"
            return
        if gitea.fault == "midmigration":
            self._write_database(database | {"migration": gitea.migration - 1, "half": True})
            one.state = "exited"
            return
        assert not database.get("half"), "an older Gitea reads half of a migration"
        self._write_database(_damaged(database, gitea.fault) | {"migration": gitea.migration})

    def _status(self, path: str) -> int:
        one = self.stack["gitea"]
        fault = self._behaviour().fault
        if one.state != "running" or fault == "hang" or self.stack["postgres"].state != "running":
            return 503
        soured = fault == "sour" and self.clock.monotonic() - one.since > 20
        return 500 if soured or (fault in {"broken", "forgets and fails"} and path != "/api/healthz") else 200

    # The web.
    def request(
        self, domain: str, address: str, method: str, path: str, headers: Any = None, document: Any = None
    ) -> Answer:
        def answer(status: int, document: Any = None) -> Answer:
            return Answer(status, body=json.dumps(document).encode(), certificate_ends=FOREVER)

        if not self._nginx_runs():
            raise Unavailable("nginx does not answer")
        status = 503 if self.proxy.held == "all" else self._status(path)
        if status != 200:
            return answer(status)
        if path == "/api/v1/version":
            return answer(200, {"version": self.version().partition("-")[0]})
        if path.endswith("/branches/main"):
            return answer(200 if (self.paths.live / "canary").exists() else 404, {"commit": {"id": CANARY}})
        code, body = self._contents_answer(method, path, document)
        return Answer(code, body=body, certificate_ends=FOREVER)

    def _contents_answer(self, method: str, path: str, document: Any) -> tuple[int, bytes]:
        canary = self.paths.live / "canary"
        if method == "GET" and not any(each in path for each in ("ops-canary", "/user/keys", "/attachments/")):
            return 200, b"{}"
        if path == f"{_REPOSITORIES}/ops-canary" and method == "DELETE":
            canary.unlink(missing_ok=True)
        if path == "/api/v1/user/repos":
            canary.write_text("")
        contents = self.contents()
        contents.not_served = self.not_served
        code, body = contents.answer(method, path, document)
        if method != "GET":
            self._write_database(self._database() | {"contents": contents.to_json() | {"not_served": []}})
        return code, body

    def banner(self, address: str, port: int) -> str:
        return "SSH-2.0-OpenSSH"

    # Both instances of nginx.
    def _nginx_runs(self) -> bool:
        return "running" in {one.state for _, one in self._nginxes()}

    def _nginxes(self) -> list[tuple[str, Running]]:
        return [("old", self.stack["nginx"]), *([("new", self.second_nginx)] if self.second_nginx else [])]

    def members(self, project: str, service: str) -> tuple[Member, ...]:
        if service == "haproxy":
            one = self.stack.get("haproxy")
            return self.proxy.members if one and one.state == "running" else ()
        assert service == "nginx"
        return tuple(
            Member(name, one.image, self.image_id(one.image), one.state, "healthy" if one.state == "running" else "")
            for name, one in self._nginxes()
        )

    def image_id(self, image: str) -> str:
        return image.partition("@")[2]

    def address(self, project: str, service: str, network: str) -> str:
        return "127.0.0.1"

    def signal(self, identity: str, name: str) -> None:
        self.action(f"{name} to the {identity} nginx")
        dict(self._nginxes())[identity].state = "exited"

    def _remove_nginx(self, identity: str) -> None:
        self.action(f"remove the {identity} nginx")
        if identity == "old":
            assert self.second_nginx, "the only nginx is removed"
            self.stack["nginx"] = self.second_nginx
        self.second_nginx = None

    # Docker.
    def services(self, project: str) -> tuple[Service, ...]:
        if project == pg_upgrade.PROJECT:
            return (Service("postgres", "", "running", "healthy", 0),) if self.scratch else ()
        found = []
        for name, one in sorted(self.stack.items()):
            health = "healthy" if one.state == "running" else ""
            if name == "gitea" and one.state == "running":
                health = "healthy" if self._status("/api/healthz") == 200 else "unhealthy"
                # Its health check runs every five seconds.
                health = health if self.clock.monotonic() - one.since >= 5 else "starting"
            found.append(Service(name, one.image, one.state, health, one.restarts))
        return tuple(found)

    def name(self, project: str, service: str) -> str:
        if self.stack[service].state != "running":
            raise OpsError(f"{service} is not running")
        return service

    def stop(self, project: str, service: str, *, at_most: int | None = None) -> None:
        self.action(f"stop {service}")
        if self.stack[service].state == "running" and service == "gitea" and self._behaviour().fault == "hang":
            # It ignores SIGTERM.
            self.clock.sleep(60 if at_most is None else at_most)
        self.stack[service].state = "exited"

    def start(self, project: str, service: str) -> None:
        self.action(f"start {service}")
        if self.stack[service].state != "running":
            self.stack[service].state = "running"
            self._begin(service)

    def pull(self, name: str, digest: str) -> None:
        self.action(f"pull {name}")
        if digest in self.missing_digests:
            raise Unavailable(f"{name}@{digest} cannot be pulled")
        if self.full:
            raise OpsError("no space left on device")

    def execute(self, project: str, service: str, argv: Sequence[str], **_: Any) -> Ran:
        self.name(project, service)
        if service == "nginx":
            self.action(" ".join(argv[:2]))
            return Ran(0, "")
        return self.proxy.execute(argv) if service == "haproxy" else self._execute(argv)

    def _execute(self, argv: Sequence[str]) -> Ran:
        words = " ".join(argv)
        if argv[0] == "psql":
            if "ALTER ROLE" in words:
                self.action("alter the role")
            return Ran(0, "SCRAM-SHA-256$4096:c2FsdA==$a:b")
        if argv[0] == "curl":
            return Ran(0 if self._status("/api/healthz") == 200 else 22, "")
        if argv[0] == "sh":
            return Ran(0, f"{CANARY}\n") if self.serves() else Ran(128, "500")
        if "list" in argv:
            return Ran(0, "ID Username Email\n1 keeper keeper@example.org true\n")
        if "generate-access-token" in argv:
            return Ran(0, f"Access token was successfully created: {'a' * 40}\n")
        return Ran(0, f"gitea version {self.version()}" if words.startswith("gitea") else "postgres 18.6")

    def run_script(self, image: str, script: str, *, folder: Path, **_: Any) -> Ran:
        return Ran(0, f"= a/b.git\n{(folder / 'writes').read_text()}")

    def pinned(self, project: str) -> dict[str, str]:
        return {name: one.image for name, one in self.stack.items()}

    def start_watchdog(self, container: str, **_: Any) -> str:
        return "watch"

    def freeze(self, container: str) -> None:
        self.action("freeze")

    def thaw(self, container: str, watchdog: str) -> bool:
        return True

    def command_lines(self, project: str, service: str) -> tuple[str, ...]:
        self.name(project, service)
        return ()

    def _transfers(self) -> tuple[int, ...]:
        self.checks_with_a_push -= 1
        return (9,) if self.checks_with_a_push >= 0 else ()

    def exit_log(self, container: str) -> str:
        return "initdb: invalid locale name" if self.initdb_fails else ""

    def discard(self, container: str) -> None:
        assert container not in self.stack

    def stop_watchdog(self, watch: str) -> None:
        assert watch == "watch"

    def run(self, argv: Sequence[str], environment: Mapping[str, str] | None = None, **_: Any) -> Finished:
        if any(each.endswith("conversion.yaml") for each in argv):
            assert environment
            return self._run_beside(argv, environment)
        if "create" in argv:
            for service in argv[argv.index("never") + 1 :]:
                self.action(f"compose create {service}")
                self.compose_create(service)
        if any(each.endswith("trial.yaml") for each in argv):
            # The trial serves no visitor and is not an action.
            assert environment
            return Finished(
                1 if "up" in argv and environment["NGINX_IMAGE"] in self.failing_nginx_images else 0, "unhealthy"
            )
        if "--scale" in argv:
            assert environment
            self.action("compose up another nginx")
            self.second_nginx = Running(environment["NGINX_IMAGE"], since=self.clock.monotonic())
            return Finished(0, "")
        if "up" in argv:
            services = [argv[-1]] if argv[-1] in self.stack else sorted(self.stack, key=lambda each: each == "gitea")
            for service in services:
                self.action(f"compose up {service}")
                self.compose_up(service)
        return Finished(0, "restic 0.18.0")

    # The disk.
    def make(self, folder: Path) -> None:
        self.action(f"make {folder.name}")
        folder.mkdir(parents=True)

    def own_like(self, model: Path, folder: Path) -> None:
        assert model.is_dir()
        assert folder.is_dir()

    def can_snapshot(self, folder: Path) -> bool:
        return folder.is_dir()

    def sync(self, folder: Path) -> None:
        assert folder.is_dir()

    def free(self, folder: Path) -> int:
        return 1 << 40

    def snapshot(self, folder: Path, snapshot: Path) -> None:
        self.action(f"snapshot {folder.name}")
        shutil.copytree(folder, snapshot, symlinks=True)

    def nested(self, folder: Path) -> tuple[Path, ...]:
        return self.nested_subvolumes

    def mounts(self, folder: Path) -> tuple[Path, ...]:
        return self.mounted

    def differs(self, snapshot: Path, earlier: Path, ignored: Sequence[str] = ()) -> bool:
        return (snapshot / "writes").read_text() != (earlier / "writes").read_text()

    def errors(self, folder: Path) -> tuple[str, ...]:
        assert folder.is_dir()
        return ()

    def clone(self, snapshot: Path, folder: Path) -> None:
        self.action(f"clone {folder.name}")
        shutil.copytree(snapshot, folder, symlinks=True)

    def exchange(self, one: Path, other: Path) -> None:
        self.action(f"exchange {one.name}")
        aside = one.with_name("aside")
        one.rename(aside)
        other.rename(one)
        aside.rename(other)

    def rename(self, folder: Path, name: Path) -> None:
        self.action(f"rename {folder.name}")
        assert not name.exists()
        folder.rename(name)

    def remove(self, folder: Path | str) -> None:
        if isinstance(folder, str):
            self._remove_nginx(folder)
        elif folder.is_dir():
            self.action(f"remove {folder.name}")
            shutil.rmtree(folder)

    def journal(self, path: Path) -> Journal:
        return Journal(self, self.journals.setdefault(path, []))

    # The database.
    def _database(self) -> dict[str, Any]:
        return dict(json.loads((self.paths.data / "postgresql/gitea").read_text()))

    def _write_database(self, content: Mapping[str, Any]) -> None:
        (self.paths.data / "postgresql/gitea").write_text(json.dumps(content))

    @contextmanager
    def session(self, container: str, name: str = "gitea") -> Iterator[Session]:
        second_nginx = container.startswith(pg_upgrade.PROJECT)
        folder = self.scratch if second_nginx else self.paths.data / "postgresql"
        if not folder or not (second_nginx or self.stack["postgres"].state == "running"):
            raise OpsError("the database ended the session")
        yield Session(folder, name, self)

    # The repositories.
    def restic(self, repository: str, **_: Any) -> Restic:
        return Restic(self)


@dataclass
class FileAdapter:
    """The adapter for small files."""

    host: FakeHost

    def write(self, path: Path, content: bytes) -> None:
        self.host.action(f"write {path.name}")
        path.write_bytes(content)

    def append(self, path: Path, line: str) -> None:
        self.host.action(f"add to {path.name}")
        with path.open("a") as file:
            file.write(f"{line}\n")

    def remove(self, path: Path) -> None:
        if path.exists():
            self.host.action(f"remove {path.name}")
            path.unlink()


@dataclass
class Session:
    """A session with one database of the server; each database is a file in its folder."""

    folder: Path
    name: str
    host: FakeHost

    def ask(self, statement: str) -> list[list[str]]:
        folder = self.folder
        words = statement.split()
        match words:
            case ["DROP", "DATABASE", "IF", "EXISTS", name]:
                (folder / name).unlink(missing_ok=True)
            case ["CREATE", "DATABASE", name, *_]:
                (folder / name).write_text("{}")
            case ["ALTER", "DATABASE", name, "RENAME", "TO", new]:
                (folder / name).rename(folder / new)
            case ["SELECT", "datname", *_]:
                return [[each.name] for each in folder.iterdir() if each.name != "PG_VERSION"]
            case ["SELECT", "version", *_]:
                return [[str(self._content()["migration"])]]
            case ["SELECT", "tablename", *_]:
                return [["user"], ["issue"]]
            case ["SELECT", "count(*)", "FROM", table]:
                return [[str(len(self._content()["writes"]) if "issue" in table else 1)]]
        return self._upgrade_answers(statement)

    def _catalog(self) -> list[list[str]]:
        """Return the tables and large columns; a release that drops the comments has none."""
        comments = "comments" in self._content()
        return [
            ["public.issue", "content"],
            ["public.session", ""],
            *([["public.comment", "content"]] if comments else []),
        ]

    def _counts(self, table: str) -> list[list[str]]:
        content = self._content()
        self.host.clock.sleep(self.host.count_seconds)
        if table == "public.session":
            return [["500" if content["migration"] == 336 else "0"]]
        kept = content["writes"] if table == "public.issue" else content["comments"]
        return [[str(len(kept)), str(sum(bool(each) for each in kept))]]

    def _repository_table(self, asked: str) -> list[list[str]]:
        """Return the columns of Gitea's repository table, or its rows; nothing before a test fills the table."""
        if self.host.table is None:
            return []
        return [["owner_name"], ["lower_name"]] if asked == "column_name" else [[each] for each in self.host.table]

    def _upgrade_answers(self, statement: str) -> list[list[str]]:
        """Answer the counts and the queries of a PostgreSQL upgrade, and any other SELECT with some row."""
        match statement.split():
            case ["SELECT", "column_name" | "lower(owner_name)" as asked, *_]:
                return self._repository_table(asked)
            case ["SELECT", "format('%I.%I',", "nspname,", *_]:
                return self._catalog()
            case ["SELECT", "count(*)", "AS", *_, table]:
                return self._counts(table)
            case ["SELECT", "rolname", *_]:
                return [["gitea"]]
            case ["SELECT", "format('%I.%I',", "schemaname,", "tablename)", *_]:
                return [["public.issue"]]
            case ["SELECT", "format('%I.%I',", *_] | ["SELECT", "format('%s", *_]:
                return []
            case ["SELECT", "count(*),", *_]:
                writes = self._content()["writes"]
                return [[str(len(writes)), " ".join(writes)]]
        columns = 2 if "pg_export_snapshot" in statement or "system_identifier" in statement else 1
        return [["1"] * columns] if statement.startswith("SELECT") else []

    def _content(self) -> dict[str, Any]:
        return dict(json.loads((self.folder / self.name).read_text()))


@dataclass
class Restic:
    """Both restic repositories: each snapshot has the same identity in them."""

    host: FakeHost

    def exists(self) -> bool:
        return True

    def remove_all_locks(self) -> bool:
        return True

    def make(self, _: Restic | None) -> None:
        self.host.bucket["restic/config"] = b""

    def locks(self) -> dict[str, LockHolder]:
        return {
            name: each for name, each in self.host.lock_holders.items() if f"restic/locks/{name}" in self.host.bucket
        }

    @contextmanager
    def remove_additions_on_failure(self) -> Iterator[None]:
        yield

    def store(self, folders: Sequence[Path], *, tags: Sequence[str], **_: Any) -> Stored:
        found = [each / "writes" for each in folders if (each / "writes").exists()]
        return self._stored(tags, found[0].read_text() if found else "")

    def store_output(self, argv: Sequence[str], *, tags: Sequence[str], **_: Any) -> Stored:
        return self._stored(tags, (self.host.paths.data / "postgresql/gitea").read_text())

    def copy(self, snapshots: Sequence[str], origin: Restic) -> None:
        self.host.action("copy to the bucket")

    def snapshots(self) -> tuple[Snapshot, ...]:
        return tuple(Snapshot(each, each, paths=("/data",)) for each in self.host.snapshots)

    def snapshots_or_none(self) -> tuple[Snapshot, ...]:
        return self.snapshots()

    def holds(self, snapshot: str) -> bool:
        return snapshot in self.host.snapshots

    def forget(self, snapshots: Sequence[str]) -> None:
        self.host.action("forget snapshots")
        for each in snapshots:
            del self.host.snapshots[each]

    def prune(self) -> None:
        self.host.action("prune")

    def restore(self, snapshot: str, target: Path, **_: Any) -> None:
        self.host.action("restore data")
        (target / "writes").write_text(self.host.snapshots[snapshot])

    def dump_into(self, snapshot: str, filename: str, argv: Sequence[str], hear: Any) -> None:
        self.host.action("restore database")
        (self.host.paths.data / "postgresql/gitea_restored").write_text(self.host.snapshots[snapshot])

    def _stored(self, tags: Sequence[str], content: str) -> Stored:
        self.host.action(f"store {tags[-1]}")
        identity = f"{tags[0]}-{tags[-1]}"
        self.host.snapshots[identity] = content
        return Stored(identity, 1000, 10)


@dataclass
class Bucket:
    """The bucket, which may be unreachable."""

    host: FakeHost

    def objects(self, bucket: str, prefix: str) -> list[str]:
        return [key for key in self.host.bucket if key.startswith(prefix)]

    def read_objects(self, bucket: str, keys: Sequence[str]) -> list[bytes]:
        return [self.read_object(bucket, key) for key in keys]

    def read_object(self, bucket: str, key: str) -> bytes:
        return self.host.bucket[key]

    def write_object(self, bucket: str, key: str, content: bytes) -> None:
        self.host.action(f"put {key.partition('/')[0]}")
        if self.host.bucket_unreachable:
            raise Unavailable("AWS is out of reach")
        self.host.bucket[key] = content

    def hide_object(self, bucket: str, key: str) -> None:
        del self.host.bucket[key]

    def secret(self, name: str, stage: str = "") -> Any:
        return Secret("p")


def _damaged(database: dict[str, Any], fault: str) -> dict[str, Any]:
    """Return the database as a release with this fault leaves it at its start."""
    if fault == "drops":
        return {name: each for name, each in database.items() if name != "comments"}
    if not fault.startswith("forgets"):
        return database
    contents = database.get("contents", {"documents": {}})
    documents = {
        path: each | {"body": ""} if "/comments/" in path else each for path, each in contents["documents"].items()
    }
    comments = ["" for _ in database.get("comments", [])]
    return database | {"contents": contents | {"documents": documents}, "comments": comments}


class Busy:
    """Users who write at each action, and while the new version is watched."""

    @staticmethod
    def on(host: FakeHost) -> FakeHost:
        action, sleep = host.action, host.clock.sleep

        def busy_action(what: str) -> None:
            action(what)
            host.write(f"w{len(host.acknowledged)}")

        def busy_sleep(seconds: float) -> None:
            sleep(seconds)
            host.write(f"w{len(host.acknowledged)}")

        host.action = busy_action  # type: ignore[method-assign]
        host.clock.sleep = busy_sleep  # type: ignore[method-assign]
        return host


def assert_one_version(host: FakeHost, service: str, to: str) -> None:
    """Assert that either the old version or the new one runs, healthy and with all acknowledged writes."""
    assert host.serves()
    assert host.content() == host.acknowledged
    image = host.stack[service].image
    assert image == host.pinned_in_environment(service)
    tag = image.partition("@")[0].rpartition(":")[2]
    assert tag in {"28.0.1", "18.6", "1.30.4"} | ({to} if "-" not in to else set())
    assert not any(host.journals.values())
    assert not host.resume().changed


def run_to_end(verb: Any) -> None:
    """Run an operation that succeeds or is rolled back."""
    with suppress(RolledBack):
        verb()
