"""Fakes of the adapters. tests/integration/test_adapters.py runs one contract against the fakes and the real adapters."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ops.backup import manifest
from ops.backup.manifest import Manifest, Part
from ops.config.load import site_from
from ops.config.schema import Site
from ops.errors import OpsError, Unavailable
from ops.model import AccountFacts, Secret, SmtpCredentials, UnitRun
from ops.secrets import store
from ops.world.aws import CURRENT
from ops.world.containers import Member, Ran, Service
from ops.world.files import Files
from ops.world.https import Answer
from ops.world.journal import Journal
from ops.world.mail import CredentialsRefused, MailRefused
from ops.world.process import Finished


def own_secrets(patch: pytest.MonkeyPatch) -> None:
    """Give the secrets' files to the user of the tests. Root can write them; another user needs the owner's write bit."""
    writable = 0 if os.geteuid() == 0 else 0o200
    owned = {
        name: store.FilePermissions(os.getuid(), os.getgid(), permissions.mode | writable)
        for name, permissions in store.PERMISSIONS.items()
    }
    patch.setattr(store, "PERMISSIONS", owned)


class FakeClock:
    """A clock whose time passes only in ``sleep``."""

    def __init__(self, now: datetime = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)) -> None:
        self._now, self._passed = now, 0.0

    def now(self) -> datetime:
        return self._now + timedelta(seconds=self._passed)

    def monotonic(self) -> float:
        return self._passed

    def sleep(self, seconds: float) -> None:
        self._passed += seconds


@dataclass
class FakeAws:
    """Secrets by name (current and pending values), and the objects of buckets by key."""

    secrets: dict[str, str] = field(default_factory=dict)
    buckets: set[str] = field(default_factory=set)
    pending: dict[str, str] = field(default_factory=dict)
    stored: dict[str, bytes] = field(default_factory=dict)

    def objects(self, bucket: str, prefix: str) -> tuple[str, ...]:
        return tuple(sorted(key for key in self.stored if key.startswith(prefix)))

    def replication(self, bucket: str, key: str) -> str:
        return "COMPLETED"

    def replications(self, bucket: str, keys: Sequence[str]) -> tuple[str, ...]:
        return tuple(self.replication(bucket, key) for key in keys)

    def read_objects(self, bucket: str, keys: Sequence[str]) -> list[bytes]:
        return [self.read_object(bucket, key) for key in keys]

    def read_object(self, bucket: str, key: str) -> bytes:
        if key not in self.stored:
            raise OpsError(f"{key} in bucket {bucket}: AWS says NoSuchKey")
        return self.stored[key]

    def write_object(self, bucket: str, key: str, content: bytes) -> None:
        self.stored[key] = content

    def hide_object(self, bucket: str, key: str) -> None:
        self.stored.pop(key, None)

    def hide_objects(self, bucket: str, keys: Sequence[str]) -> None:
        for key in keys:
            self.hide_object(bucket, key)

    def secret(self, name: str, stage: str = CURRENT) -> Secret:
        found = self.secrets if stage == CURRENT else self.pending
        if name not in found:
            raise OpsError(f"secret {name}: AWS says ResourceNotFoundException")
        return Secret(found[name])

    def bucket_exists(self, bucket: str) -> bool:
        return bucket in self.buckets


Command = Callable[[Sequence[str]], Ran]


@dataclass
class FakeContainers:
    """Services and their answers. Commands are recorded as (service, argv, user), restarts by service.

    A service is healthy as soon as it is restarted, unless it is in ``never_healthy``.
    """

    found: tuple[Service, ...] = ()
    answers: dict[str, Command] = field(default_factory=dict)
    executed: list[tuple[str, list[str], str]] = field(default_factory=list)
    restarted: list[str] = field(default_factory=list)
    never_healthy: frozenset[str] = frozenset()
    from_units: tuple[UnitRun, ...] = ()

    def unit_runs(self) -> tuple[UnitRun, ...]:
        return self.from_units

    def services(self, project: str) -> tuple[Service, ...]:
        assert project
        return self.found

    def execute(
        self,
        project: str,
        service: str,
        argv: Sequence[str],
        user: str = "",
        environment: Mapping[str, str] | None = None,
        identity: str = "",
    ) -> Ran:
        assert project
        if service not in self.answers:
            raise OpsError(f"{service} is not running")
        self.executed.append((service, list(argv), user))
        return self.answers[service](argv)

    def image_id(self, reference: str) -> str:
        return f"sha256:{reference.rpartition(':')[2]}"

    def save(self, reference: str, archive: Path) -> None:
        archive.write_text(reference)

    def members(self, project: str, service: str) -> tuple[Member, ...]:
        assert project
        return (Member(service, f"{service}:1", "sha256:1", "running", "healthy"),) if service in self.answers else ()

    def command_lines(self, project: str, service: str) -> tuple[str, ...]:
        raise OpsError(f"{service} is not running")

    def stop(self, project: str, service: str, *, at_most: int | None = None) -> None:
        assert project
        if service in {each.name for each in self.found}:
            self._change(service, state="exited", health="")

    def start(self, project: str, service: str) -> None:
        assert project
        self.restarted.append(service)
        health = "starting" if service in self.never_healthy else "healthy"
        self._change(service, state="running", health=health, started=datetime.now(UTC))

    def _change(self, service: str, **changes: Any) -> None:
        if service not in {each.name for each in self.found}:
            raise OpsError(f"{service} has no container")
        self.found = tuple(replace(each, **changes) if each.name == service else each for each in self.found)


Handler = Callable[[str, str, Mapping[str, str], Any], Answer]


@dataclass
class FakeHttps:
    """A web server as a function. With None the server does not answer."""

    handler: Handler | None = None
    ssh_banner: str = "SSH-2.0-OpenSSH"

    def request(
        self,
        domain: str,
        address: str,
        method: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        document: Any = None,
    ) -> Answer:
        if self.handler is None:
            raise Unavailable(f"https://{domain}{path} at {address}: refused")
        return self.handler(method, path, headers or {}, document)

    def banner(self, address: str, port: int) -> str:
        if not self.ssh_banner:
            raise Unavailable(f"{address}:{port}: refused")
        return self.ssh_banner


@dataclass(frozen=True)
class Letter:
    """An accepted mail."""

    username: str
    sender: str
    recipient: str
    subject: str
    text: str


@dataclass
class FakeMail:
    """A mail server that accepts credentials for which ``accepts`` returns True. With None it does not answer."""

    accepts: Callable[[SmtpCredentials], bool] | None = lambda _: True
    taken: list[Letter] = field(default_factory=list)

    def send(self, credentials: SmtpCredentials, *, sender: str, recipient: str, subject: str, text: str) -> None:
        if self.accepts is None:
            raise Unavailable("mail server is out of reach")
        if not self.accepts(credentials):
            raise CredentialsRefused("mail server refuses the credentials: 535")
        if recipient.endswith("@unverified.test"):
            raise MailRefused("mail server refuses the mail: Email address is not verified.")
        self.taken.append(Letter(credentials.username, sender, recipient, subject, text))


@dataclass
class FakeProcesses:
    """Programs as one function from argv to the result. ``ran`` records the commands, ``given`` their environments."""

    program: Callable[[Sequence[str]], Finished] = lambda argv: Finished(0, "")
    ran: list[list[str]] = field(default_factory=list)
    given: list[dict[str, str]] = field(default_factory=list)
    programs: set[str] = field(default_factory=set)

    def installed(self, program: str) -> bool:
        return program in self.programs

    def run(
        self,
        argv: Sequence[str],
        *,
        directory: Path | None = None,
        environment: Mapping[str, str] | None = None,
        tell: Callable[[str], None] | None = None,
    ) -> Finished:
        self.ran.append(list(argv))
        self.given.append(dict(environment or {}))
        return self.program(argv)

    def output(self, argv: Sequence[str], *, directory: Path, environment: Mapping[str, str]) -> Finished:
        return self.run(argv, directory=directory, environment=environment)


@dataclass
class FakeBtrfs:
    """A disk with the errors that btrfs ``counted``, None without btrfs. ``room`` is the free space in bytes."""

    counted: tuple[str, ...] | None = ()
    room: int = 10**9

    def free(self, folder: Path) -> int:
        return self.room

    def share_free(self, folder: Path) -> float:
        return 1.0

    def remove(self, folder: Path) -> None:
        assert not folder.exists()

    def on_btrfs(self, folder: Path) -> bool:
        return self.counted is not None

    def errors(self, folder: Path) -> tuple[str, ...]:
        assert self.counted is not None
        return self.counted


@dataclass
class FakeRegistry:
    """Digests by image, and the creation times of those images that have one."""

    digests: dict[str, str] = field(default_factory=dict)
    times: dict[str, datetime] = field(default_factory=dict)

    def digest(self, image: str) -> str:
        if image not in self.digests:
            raise OpsError(f"image {image} is not in the registry")
        return self.digests[image]

    def tags(self, name: str) -> tuple[str, ...]:
        found = tuple(image.rpartition(":")[2] for image in self.digests if image.rpartition(":")[0] == name)
        if not found:
            raise OpsError(f"image {name} is not in the registry")
        return found

    def made(self, image: str) -> datetime | None:
        self.digest(image)
        return self.times.get(image)


@dataclass
class FakeAwsAccount:
    """An account with these facts and security group rules (group id to rule id to description).

    ``holders`` maps a network interface to its instance; ``identities`` are the domains that SES has an identity for.
    """

    known: AccountFacts | None = None
    found: dict[str, dict[str, str]] = field(default_factory=dict)
    holders: dict[str, str] = field(default_factory=dict)
    identities: frozenset[str] = frozenset()

    def mail_identities(self, domains: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(each for each in domains if each in self.identities)

    def attached_instance(self, card: str) -> str:
        return self.holders.get(card, "")

    def facts(self, **_: Any) -> AccountFacts:
        assert self.known
        return self.known

    def missing_settings(self, bucket: str) -> tuple[str, ...]:
        return ()

    def rules(self, group: str) -> dict[str, str]:
        return dict(self.found.get(group, {}))

    def revoke(self, group: str, rule: str, *, egress: bool) -> None:
        assert self.found[group].pop(rule).startswith("egress") == egress


@dataclass
class FakeWorld:
    """A World of fakes; ``progress`` records the progress lines."""

    aws_account: FakeAwsAccount = field(default_factory=FakeAwsAccount)
    aws: FakeAws = field(default_factory=FakeAws)
    clock: FakeClock = field(default_factory=FakeClock)
    containers: FakeContainers = field(default_factory=FakeContainers)
    files: Files = field(default_factory=Files)
    mail: FakeMail = field(default_factory=FakeMail)
    processes: FakeProcesses = field(default_factory=FakeProcesses)
    registry: FakeRegistry = field(default_factory=FakeRegistry)
    btrfs: FakeBtrfs = field(default_factory=FakeBtrfs)
    https: FakeHttps = field(default_factory=FakeHttps)
    progress: list[str] = field(default_factory=list)

    def tell(self, line: str) -> None:
        self.progress.append(line)

    def journal(self, path: Path) -> Any:
        return Journal(path)


def site_document(**changes: Any) -> dict[str, Any]:
    """Return the document of a small valid site; ``changes`` replace top-level keys. SES is that of the site's region."""
    place = changes.get("aws")
    region = place["region"] if isinstance(place, dict) else "eu-central-1"
    document: dict[str, Any] = {
        "schema": 1,
        "name": "test",
        "domain": "git.example.org",
        "zone": "example.org",
        "contact": "keeper@example.org",
        "aws": {"region": "eu-central-1"},
        "network": {"admin_cidrs": ["203.0.113.7/32"]},
        "host": {"ssh_key": "keys/test"},
        "gitea": {"admin_username": "keeper", "admin_email": "keeper@example.org"},
        "mail": {"sender": "gitea@example.org", "smtp_host": f"email-smtp.{region}.amazonaws.com"},
        "backup": {"bucket": "example-org-gitea-backup"},
    }
    return document | changes


def site_with_settings(settings: Mapping[str, Any], **gitea: Any) -> Site:
    """Return the small valid site with these settings of app.ini; ``gitea`` are further keys of [gitea]."""
    document = site_document()
    return site_from(document | {"gitea": {**document["gitea"], **gitea, "settings": settings}})


def site(**changes: Any) -> Site:
    """Return the small valid site."""
    return site_from(site_document(**changes)) if changes else _site()


@functools.cache  # immutable, and hundreds of tests use it
def _site() -> Site:
    return site_from(site_document())


def made(moment: datetime, **changes: Any) -> Manifest:
    """Return the manifest of a small backup of that moment; ``changes`` replace its fields."""
    identity = manifest.identity_of(moment)
    small = Manifest(
        identity=identity,
        site="test",
        domain="git.example.org",
        moment=moment,
        finished=moment,
        parts={name: Part(f"remote-{name}-{identity}", f"local-{name}-{identity}", 1000) for name in manifest.PARTS},
        stored=2**20,
        versions={"gitea": "28.1.0"},
        migration=300,
        images={},
        rows={"user": 3},
        repositories={"a/b.git": "0" * 64},
        paused=0.1,
        photographed=True,
        secret_key="",
    )
    return replace(small, **changes)
