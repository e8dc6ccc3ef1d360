"""A site on moto's AWS with a mail server and a host, on which a run can be cut off at any call."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import botocore.client
import pytest
from botocore.exceptions import EndpointConnectionError
from moto import mock_aws
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.iam.models import iam_backends
from moto.secretsmanager.models import secretsmanager_backends

from ops.errors import OpsError, Unavailable
from ops.model import Report, Secret, SmtpCredentials
from ops.secrets import rotate, store
from ops.stack import apply_secrets
from ops.world.aws import CURRENT, PENDING, Aws
from ops.world.containers import Ran, Service
from tests.support import fakes
from tests.support.fake_proxy import FakeProxy

SITE = fakes.site()
REGION = "eu-central-1"
USER = "test-mail"
VALUES = {name: f"first-value-of-{name}" for name in store.PERMISSIONS if not name.startswith("smtp-")}
CALL = botocore.client.BaseClient._make_api_call


class Cut:
    """Counts every external call and fails one of them: before it, after it, or it and all later ones.

    Calls of the host within a call do not count; tests/unit/stack/test_apply_secrets.py cuts those off.
    """

    def __init__(self, number: int = -1, kind: str = "") -> None:
        self.number, self.kind = number, kind
        self.calls: list[str] = []
        self.within = False

    def through(self, name: str, step: Callable[[], Any]) -> Any:
        if self.within:
            return step()
        number = len(self.calls)
        self.calls.append(name)
        if (number == self.number and self.kind == "before") or (self.kind == "from" and number >= self.number):
            raise EndpointConnectionError(endpoint_url="cut")
        self.within = True
        try:
            result = step()
        finally:
            self.within = False
        if number == self.number and self.kind == "after":
            raise EndpointConnectionError(endpoint_url="cut")
        return result


@dataclass
class Cloud:
    """moto's AWS, and a mail server and a host that use its keys and secrets."""

    directory: Path
    aws: Aws
    cut: Cut = field(default_factory=Cut)
    letters: list[fakes.Letter] = field(default_factory=list)
    verifier: str = ""
    broken: str = ""
    # The services that run on the host, and the progress lines of both machines.
    services: tuple[Service, ...] = tuple(
        Service(name, "image", "running", "healthy", 0) for name in ("postgres", "nginx")
    )
    progress: list[str] = field(default_factory=list)

    def call(self, client: Any, operation: str, parameters: Any) -> Any:
        return self.cut.through(operation, lambda: CALL(client, operation, parameters))

    def accepts(self, given: SmtpCredentials) -> bool:
        """Whether the mail server accepts the credentials: the key is active, and the password is derived from it."""
        keys = {key.access_key_id: Secret(key.secret_access_key) for key in _keys() if key.status == "Active"}
        key = keys.get(given.username)
        return key is not None and given.password == rotate.smtp_password(key, REGION)

    def send(self, given: SmtpCredentials, **letter: str) -> None:
        def step() -> None:
            server = fakes.FakeMail(self.accepts, self.letters)
            server.send(given, **letter)

        self._call("send mail", step)

    def ops(self, *arguments: str) -> Mapping[str, Any]:
        """Run the host's own ops, as over ssh."""
        report: list[Report] = []
        self._call(f"host: {' '.join(arguments)}", lambda: report.append(self._apply(*arguments)))
        return report[0].facts

    def _call(self, name: str, step: Callable[[], None]) -> None:
        try:
            self.cut.through(name, step)
        except EndpointConnectionError as error:
            raise Unavailable("cut") from error

    def _apply(self, *arguments: str) -> Report:
        assert arguments[:2] == ("secrets", "apply")
        pending = arguments[3] if len(arguments) > 2 else ""
        if pending and pending == self.broken:
            raise OpsError("ops secrets apply on the host: gitea: not healthy 180 s after the restart")
        answers = {"postgres": self._postgres, "nginx": lambda _: Ran(0, ""), "haproxy": FakeProxy().execute}
        containers = fakes.FakeContainers(self.services, answers)
        world: Any = fakes.FakeWorld(containers=containers, progress=self.progress)
        world.aws = fakes.FakeAws(_values(CURRENT), pending=_values(PENDING))
        return apply_secrets.apply(SITE, world, pending=pending, directory=self.directory)

    def _postgres(self, argv: Any) -> Ran:
        if "monitoring" in argv[-1]:
            return Ran(0, "")
        if argv[-1].startswith("ALTER ROLE"):
            self.verifier = argv[-1].split("'")[1]
        return Ran(0, self.verifier)

    @property
    def world(self) -> Any:
        made: Any = fakes.FakeWorld(progress=self.progress)
        made.aws, made.mail = self.aws, self
        return made

    @property
    def host(self) -> Any:
        """The host; this object answers for it, too."""
        return self

    def rotate(self, name: str) -> Report:
        return rotate.rotate(SITE, self.world, self.host, name=name, lock=self.directory.parent / "lock")

    def adopt(self, name: str, value: str) -> Report:
        lock = self.directory.parent / "lock"
        return rotate.adopt(SITE, self.world, self.host, name=name, value=Secret(value), lock=lock)

    def value(self, name: str, stage: str = CURRENT) -> str:
        return _values(stage)[f"test/{name}"]

    def in_use(self, file: str) -> str:
        return (self.directory / file).read_text()

    def is_consistent(self) -> bool:
        """Whether the host can send mail and reach its database with its files, and with the current secrets after a restart."""
        applied = SmtpCredentials(self.in_use("smtp-username"), Secret(self.in_use("smtp-password")))
        current = store.credentials_from(Secret(self.value("smtp-credentials")))
        database = apply_secrets.verifier_accepts(self.verifier, self.in_use("database-password"))
        return self.accepts(applied) and self.accepts(current) and database

    def key_names(self) -> set[str]:
        return {key.access_key_id for key in _keys() if key.status == "Active"}


@functools.cache
def _aws() -> Aws:
    return Aws(REGION)


# The tests, and the host at each of its hundreds of starts, read moto's own objects: a call through botocore takes a hundred
# times as long, and the rotation covers that path.
def _vault() -> Any:
    return secretsmanager_backends[DEFAULT_ACCOUNT_ID][REGION]


def _create(name: str, value: str | None) -> None:
    nothing = dict.fromkeys(("secret_binary", "description", "tags", "kms_key_id", "client_request_token"))
    _vault().create_secret(name, value, replica_regions=[], force_overwrite=False, **nothing)


def _values(stage: str) -> dict[str, str]:
    return {
        secret.name: version["secret_string"]
        for secret in _vault().secrets.values()
        for version in secret.versions.values()
        if stage in version["version_stages"]
    }


def _keys() -> Any:
    return iam_backends[DEFAULT_ACCOUNT_ID]["global"].list_access_keys(USER)


def use_moto_credentials(patch: pytest.MonkeyPatch) -> None:
    """Replace the operator's AWS variables by credentials of no account, so that no call can reach a real one."""
    for name in [each for each in os.environ if each.startswith("AWS_")]:
        patch.delenv(name)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        patch.setenv(name, "test")


@contextmanager
def site_on_moto(directory: Path, patch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    """Yield a site after Terraform and the first deployment: every secret has a value, and the host uses it."""
    use_moto_credentials(patch)
    fakes.own_secrets(patch)
    # Each check takes thousands of rounds of a hash, and hosts and tests check the same few passwords.
    patch.setattr(apply_secrets, "verifier_accepts", functools.cache(apply_secrets.verifier_accepts))
    with mock_aws():
        made = Cloud(directory / "secrets", _aws())

        def call(client: Any, operation: str, parameters: Any) -> Any:
            return made.call(client, operation, parameters)

        patch.setattr(botocore.client.BaseClient, "_make_api_call", call)
        made.directory.mkdir()
        for name, value in {**VALUES, "admin-password": "first-value-of-admin-password"}.items():
            _create(f"test/{name}", value)
        _create("test/smtp-credentials", None)
        iam_backends[DEFAULT_ACCOUNT_ID]["global"].create_user(REGION, USER)
        rotate.ensure_smtp(SITE, made.world)
        made.ops("secrets", "apply")
        made.letters.clear()
        made.cut.calls.clear()
        yield made
