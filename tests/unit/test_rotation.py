"""A secret gets a new value, and wherever the run is cut off nothing is lost and no one is locked out."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Iterator, Mapping
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

from ops import credentials, rotation, secrets
from ops.errors import ConfigError, Degraded, Locked, OpsError, Refused, RolledBack, Stranded, Unavailable
from ops.model import AccessKey, Report, Secret, SmtpCredentials
from ops.world.aws import CURRENT, PENDING, Aws
from ops.world.clock import Clock
from ops.world.containers import Ran, Service
from ops.world.lock import exclusive
from tests import fakes

SITE = fakes.site()
REGION = "eu-central-1"
USER = "test-mail"
VALUES = {name: f"first-value-of-{name}" for name in secrets.PLACES if not name.startswith("smtp-")}
CALL = botocore.client.BaseClient._make_api_call


class Cut:
    """Counts every call to the outside and fails at one of them: before it is made, after it, or from it on for good.

    What the host does within a call is the host's; test_credentials.py cuts that off.
    """

    def __init__(self, number: int = -1, kind: str = "") -> None:
        self.number, self.kind = number, kind
        self.calls: list[str] = []
        self.within = False

    def through(self, name: str, deed: Callable[[], Any]) -> Any:
        if self.within:
            return deed()
        number = len(self.calls)
        self.calls.append(name)
        if (number == self.number and self.kind == "before") or (self.kind == "from" and number >= self.number):
            raise EndpointConnectionError(endpoint_url="cut")
        self.within = True
        try:
            result = deed()
        finally:
            self.within = False
        if number == self.number and self.kind == "after":
            raise EndpointConnectionError(endpoint_url="cut")
        return result


@dataclass
class Cloud:
    """AWS as moto plays it, and the mail server and the host that believe it."""

    directory: Path
    aws: Aws
    cut: Cut = field(default_factory=Cut)
    letters: list[fakes.Letter] = field(default_factory=list)
    verifier: str = ""
    broken: str = ""

    def call(self, client: Any, operation: str, parameters: Any) -> Any:
        return self.cut.through(operation, lambda: CALL(client, operation, parameters))

    def knows(self, given: SmtpCredentials) -> bool:
        """Whether the mail server would let someone in: the key is active, the password follows from it."""
        keys = {key.access_key_id: Secret(key.secret_access_key) for key in _keys() if key.status == "Active"}
        key = keys.get(given.username)
        return key is not None and given.password == rotation.smtp_password(key, REGION)

    def send(self, given: SmtpCredentials, **letter: str) -> None:
        def deed() -> None:
            server = fakes.FakeMail(self.knows, self.letters)
            server.send(given, **letter)

        self._explained("send mail", deed)

    def ops(self, *arguments: str) -> Mapping[str, Any]:
        """The host's own ops, as ssh would run it."""
        report: list[Report] = []
        self._explained(f"host: {' '.join(arguments)}", lambda: report.append(self._apply(*arguments)))
        return report[0].facts

    def _explained(self, name: str, deed: Callable[[], None]) -> None:
        try:
            self.cut.through(name, deed)
        except EndpointConnectionError as error:
            raise Unavailable("cut") from error

    def _apply(self, *arguments: str) -> Report:
        assert arguments[:2] == ("secrets", "apply")
        pending = arguments[3] if len(arguments) > 2 else ""
        if pending and pending == self.broken:
            raise OpsError("ops secrets apply on the host: gitea: not healthy 180 s after the restart")
        services = (
            Service("postgres", "image", "running", "healthy", 0),
            Service("nginx", "image", "running", "healthy", 0),
        )
        world = fakes.FakeWorld(containers=fakes.FakeContainers(services, {"postgres": self._postgres}))
        world.aws = fakes.FakeAws(_values(CURRENT), pending=_values(PENDING))
        return credentials.apply(SITE, world, pending=pending, directory=self.directory)  # type: ignore[arg-type]

    def _postgres(self, argv: Any) -> Ran:
        if argv[-1].startswith("ALTER ROLE"):
            self.verifier = argv[-1].split("'")[1]
        return Ran(0, self.verifier)

    @property
    def world(self) -> Any:
        made = fakes.FakeWorld()
        made.aws, made.mail = self.aws, self  # type: ignore[assignment]
        return made

    def rotate(self, name: str) -> Report:
        return rotation.rotate(SITE, self.world, self, name=name, lock=self.directory.parent / "lock")  # type: ignore[arg-type]

    def adopt(self, name: str, value: str) -> Report:
        lock = self.directory.parent / "lock"
        return rotation.adopt(SITE, self.world, self, name=name, value=Secret(value), lock=lock)  # type: ignore[arg-type]

    def value(self, name: str, stage: str = CURRENT) -> str:
        return _values(stage)[f"test/{name}"]

    def in_use(self, file: str) -> str:
        return (self.directory / file).read_text()

    def well(self) -> bool:
        """Whether the host can send mail and reach its database with what it has now, and again after a new start."""
        now = SmtpCredentials(self.in_use("smtp-username"), Secret(self.in_use("smtp-password")))
        current = secrets.credentials_from(Secret(self.value("smtp-credentials")))
        database = credentials.verifier_takes(self.verifier, self.in_use("database-password"))
        return self.knows(now) and self.knows(current) and database

    def key_names(self) -> set[str]:
        return {key.access_key_id for key in _keys() if key.status == "Active"}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    mine = {name: secrets.Place(os.getuid(), os.getgid(), place.mode) for name, place in secrets.PLACES.items()}
    monkeypatch.setattr(secrets, "PLACES", mine)
    # Thousands of rounds of a hash each, and hosts and tests ask of the same few passwords over and over.
    monkeypatch.setattr(credentials, "verifier_takes", functools.cache(credentials.verifier_takes))
    with mock_aws():
        yield


@functools.cache
def _aws() -> Aws:
    return Aws(REGION)


# What the tests themselves, and the host at each of its hundreds of starts, want to know of AWS is asked of moto itself:
# the way through botocore and back takes a hundred times as long, and is shown by what the rotation does.
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


@pytest.fixture
def cloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cloud:
    """A site as Terraform and the first deployment leave it: every secret has a value, the host uses it."""
    made = Cloud(tmp_path / "secrets", _aws())

    def call(client: Any, operation: str, parameters: Any) -> Any:
        return made.call(client, operation, parameters)

    monkeypatch.setattr(botocore.client.BaseClient, "_make_api_call", call)
    made.directory.mkdir()
    for name, value in {**VALUES, "admin-password": "first-value-of-admin-password"}.items():
        _create(f"test/{name}", value)
    _create("test/smtp-credentials", None)
    iam_backends[DEFAULT_ACCOUNT_ID]["global"].create_user(REGION, USER)
    rotation.ensure_smtp(SITE, made.world)
    made.ops("secrets", "apply")
    made.letters.clear()
    made.cut.calls.clear()
    return made


@pytest.mark.parametrize("name", ["smtp-credentials", "database-password"])
@pytest.mark.parametrize("kind", ["before", "after", "from"])
def test_a_rotation_that_is_cut_off_at_any_call_locks_no_one_out_and_the_next_run_heals(
    name: str, kind: str, cloud: Cloud
) -> None:
    cloud.rotate(name)
    cloud.cut = Cut()
    cloud.rotate(name)
    calls = tuple(cloud.cut.calls)
    assert len(calls) >= 6
    for number, call in enumerate(calls):
        before = cloud.value(name)
        cloud.cut = Cut(number, kind)
        with pytest.raises(OpsError):
            cloud.rotate(name)
        cloud.cut = Cut()
        assert cloud.well(), f"locked out when cut off {kind} call {number}, {call}"
        cloud.rotate(name)
        assert cloud.well()
        assert cloud.value(name) != before
        if name == "smtp-credentials":
            assert cloud.key_names() == {json.loads(cloud.value(name))["username"]} == {cloud.in_use("smtp-username")}
        else:
            assert cloud.in_use(name) == cloud.value(name)


def test_mail_is_sent_with_a_new_key_and_the_old_one_is_gone(cloud: Cloud) -> None:
    (old,) = cloud.key_names()
    report = cloud.rotate("smtp-credentials")
    (new,) = cloud.key_names()
    assert (report.changed, report.facts["key"]) == (True, new)
    assert new != old
    (letter,) = cloud.letters
    assert (letter.username, letter.sender, letter.recipient) == (new, "gitea@example.org", "keeper@example.org")
    assert cloud.in_use("smtp-username") == new


def test_the_old_key_is_deleted_only_after_the_host_uses_the_new_one(cloud: Cloud) -> None:
    cloud.rotate("smtp-credentials")
    calls = tuple(cloud.cut.calls)
    order = ["CreateAccessKey", "send mail", "PutSecretValue", "host: secrets apply --pending smtp-credentials"]
    places = [calls.index(call) for call in [*order, "UpdateSecretVersionStage", "UpdateAccessKey", "DeleteAccessKey"]]
    assert places == sorted(places)


def test_a_key_that_a_broken_off_run_left_makes_room(cloud: Cloud) -> None:
    (current,) = cloud.key_names()
    left, _ = cloud.aws.make_access_key(USER)
    cloud.rotate("smtp-credentials")
    assert cloud.key_names().isdisjoint({current, left})


def test_a_key_takes_its_time_to_be_known_everywhere(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([False, False, True])
    monkeypatch.setattr(cloud, "knows", lambda _: next(answers))
    cloud.rotate("smtp-credentials")
    assert len(cloud.letters) == 1


def test_a_key_that_never_becomes_known_is_deleted_and_the_old_one_stays_in_use(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = cloud.value("smtp-credentials")
    with monkeypatch.context() as patched:
        patched.setattr(cloud, "knows", lambda _: False)
        with pytest.raises(RolledBack, match="the old one stays in use"):
            cloud.rotate("smtp-credentials")
    assert cloud.value("smtp-credentials") == before
    assert cloud.well()
    assert len(cloud.key_names()) == 1


def test_an_old_key_that_cannot_be_deleted_is_said_when_all_else_is_done(cloud: Cloud) -> None:
    cloud.rotate("smtp-credentials")
    cloud.cut = Cut(cloud.cut.calls.index("UpdateAccessKey"), "before")
    with pytest.raises(Degraded, match=r"the old key .* is still there") as failed:
        cloud.rotate("smtp-credentials")
    assert failed.value.hint == "ops secrets rotate-smtp deletes it"


def test_a_first_deployment_makes_the_credentials_and_a_second_leaves_them(cloud: Cloud) -> None:
    before = cloud.value("smtp-credentials")
    assert rotation.ensure_smtp(SITE, cloud.world).changed is False
    assert cloud.value("smtp-credentials") == before


def test_credentials_whose_key_aws_no_longer_knows_are_made_anew(cloud: Cloud) -> None:
    (key,) = cloud.key_names()
    cloud.aws.delete_access_key(USER, key)
    assert rotation.ensure_smtp(SITE, cloud.world).changed is True
    assert cloud.key_names() == {json.loads(cloud.value("smtp-credentials"))["username"]}


def test_a_domain_that_ses_has_not_verified_yet_does_not_stop_a_deployment(cloud: Cloud) -> None:
    (key,) = cloud.key_names()
    cloud.aws.delete_access_key(USER, key)
    world = cloud.world
    world.mail = fakes.FakeMail()
    site = fakes.site(contact="keeper@unverified.test")
    assert rotation.ensure_smtp(site, world).changed is True
    assert "no mail can be sent yet: mail server refuses the mail" in world.told[-1]


@pytest.mark.parametrize("name", ["database-password", "gitea-internal-token", "gitea-jwt-secret", "metrics-token"])
def test_a_rotated_secret_has_a_new_value_of_the_same_form_and_the_old_one_is_kept(name: str, cloud: Cloud) -> None:
    old = cloud.value(name)
    cloud.rotate(name)
    new = cloud.value(name)
    assert new != old
    assert (len(new), new.isalnum()) == (len(old), True)
    assert cloud.in_use(name) == new
    assert cloud.value(name, "AWSPREVIOUS") == old


def test_the_version_that_terraform_wrote_stays_however_often_a_secret_is_rotated(cloud: Cloud) -> None:
    (first,) = cloud.aws.secret_stages("test/metrics-token").values()
    for _ in range(3):
        cloud.rotate("metrics-token")
    assert first in cloud.aws.secret_stages("test/metrics-token").values()


def test_a_host_that_is_not_well_with_the_new_value_goes_back_to_the_old_one(cloud: Cloud) -> None:
    old = cloud.value("database-password")
    cloud.broken = "database-password"
    with pytest.raises(RolledBack, match="the host is back on the current value"):
        cloud.rotate("database-password")
    assert (cloud.value("database-password"), cloud.in_use("database-password")) == (old, old)
    assert cloud.well()


def test_a_host_that_cannot_go_back_is_stranded_and_says_what_to_do(cloud: Cloud) -> None:
    cloud.rotate("metrics-token")
    cloud.cut = Cut(cloud.cut.calls.index("host: secrets apply --pending metrics-token"), "from")
    with pytest.raises(Stranded, match="No value is lost") as failed:
        cloud.rotate("metrics-token")
    assert "ops secrets apply" in failed.value.hint


def test_a_host_that_is_away_is_noticed_before_anything_is_begun(cloud: Cloud) -> None:
    cloud.cut = Cut(0, "before")
    with pytest.raises(Unavailable):
        cloud.rotate("metrics-token")
    assert cloud.cut.calls == ["host: secrets apply"]


def test_a_rotation_beside_a_deployment_waits_for_no_one_and_says_who_is_there(cloud: Cloud) -> None:
    with exclusive(cloud.directory.parent / "lock", Clock().now()), pytest.raises(Locked, match="is already running"):
        cloud.rotate("metrics-token")


def test_gitea_s_secret_key_is_refused_with_what_would_be_lost(cloud: Cloud) -> None:
    with pytest.raises(Refused, match=r"two-factor secrets.*would be lost"):
        cloud.rotate("gitea-secret-key")
    with pytest.raises(Refused, match="every backup in both repositories is encrypted with it"):
        cloud.rotate("restic-password")
    assert cloud.cut.calls == []


@pytest.mark.parametrize("name", ["gitea-secret-key", "restic-password"])
def test_a_value_of_a_lost_site_is_put_into_use(name: str, cloud: Cloud) -> None:
    assert cloud.adopt(name, "value-of-the-lost-site").changed is True
    assert cloud.value(name) == cloud.in_use(name) == "value-of-the-lost-site"
    assert cloud.adopt(name, "value-of-the-lost-site").changed is False


def test_wherever_the_value_of_a_lost_site_is_cut_off_on_its_way_the_next_run_ends_it(cloud: Cloud) -> None:
    name = "gitea-secret-key"
    cloud.adopt(name, "first")
    cloud.cut = Cut()
    cloud.adopt(name, "second")
    for number, _ in enumerate(tuple(cloud.cut.calls)):
        for kind in ("before", "after"):
            cloud.cut = Cut(number, kind)
            with pytest.raises(OpsError):
                cloud.adopt(name, f"value-{number}-{kind}")
            cloud.cut = Cut()
            cloud.adopt(name, f"value-{number}-{kind}")
            assert cloud.value(name) == cloud.in_use(name) == f"value-{number}-{kind}"


def test_only_what_backups_were_made_with_is_taken_from_elsewhere(cloud: Cloud) -> None:
    with pytest.raises(Refused, match="metrics-token is of this site alone") as refused:
        cloud.adopt("metrics-token", "value")
    assert "ops secrets rotate metrics-token" in refused.value.hint
    with pytest.raises(ConfigError, match="is no secret of the site"):
        cloud.adopt("secret-key", "value")
    assert cloud.cut.calls == []


@pytest.mark.parametrize("value", ["", "two words", "one\ntwo"])
def test_a_value_that_no_site_can_have_had_is_refused_and_not_said(value: str, cloud: Cloud) -> None:
    with pytest.raises(ConfigError, match="not a secret of one word") as refused:
        cloud.adopt("restic-password", value)
    assert not value or value not in refused.value.message + refused.value.hint
    assert cloud.cut.calls == []


def test_an_unknown_secret_is_answered_with_the_known_ones(cloud: Cloud) -> None:
    with pytest.raises(ConfigError, match="metrics-tokne is no secret of the site") as failed:
        cloud.rotate("metrics-tokne")
    assert all(name in failed.value.hint for name in rotation.CONSEQUENCES)


def test_every_secret_of_the_site_can_be_rotated_or_is_refused_with_a_reason() -> None:
    files = {name for name in secrets.PLACES if not name.startswith("smtp-")}
    assert {*rotation.CONSEQUENCES, "gitea-secret-key", "restic-password"} == files | {
        "admin-password",
        "smtp-credentials",
    }


# Computed with OpenSSL from the key and the algorithm that AWS's documentation prints.
@pytest.mark.parametrize(
    ("region", "password"),
    [
        ("us-west-2", "BF2PynzbSCAjX08zhZZnP/kW+T9P5zs/1Er0pi5vTEmd"),
        ("eu-central-1", "BF0/eIJm0ruTHsSjOkRuOGzGF+zeSyE3aiRzrzUQ8LwG"),
    ],
)
def test_a_password_follows_from_a_key_and_a_region_as_aws_prescribes(region: str, password: str) -> None:
    key = Secret("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
    assert rotation.smtp_password(key, region).reveal() == password


def test_all_keys_but_the_current_one_are_left_over() -> None:
    keys = [AccessKey("A", active=True), AccessKey("B", active=False)]
    assert rotation.plan_leftovers(keys, "A") == ("B",)
    assert rotation.plan_leftovers(keys, "B") == ("A",)
    assert rotation.plan_leftovers(keys, "") == ("A", "B")


def test_a_pending_value_is_read_by_its_stage_and_promoting_twice_is_no_error(cloud: Cloud) -> None:
    version = cloud.aws.put_pending_secret("test/metrics-token", Secret("next"))
    assert (cloud.value("metrics-token"), cloud.value("metrics-token", PENDING)) == (VALUES["metrics-token"], "next")
    cloud.aws.promote_secret("test/metrics-token", version)
    cloud.aws.promote_secret("test/metrics-token", version)
    assert cloud.value("metrics-token") == "next"
