"""Rotation of secrets: whatever fails, no value is lost and the site works with the old value or the new one.

tests/integration/test_interruptions.py cuts a rotation off at every call.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from ops.errors import ConfigError, Degraded, Locked, Refused, RolledBack, Stranded, Unavailable
from ops.model import AccessKey, Secret
from ops.secrets import rotate, store
from ops.world.aws import PENDING
from ops.world.clock import Clock
from ops.world.lock import exclusive
from tests.support import fakes
from tests.support.moto_site import SITE, USER, VALUES, Cloud, Cut, site_on_moto


@pytest.fixture
def cloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    with site_on_moto(tmp_path, monkeypatch) as made:
        yield made


def test_mail_is_sent_with_a_new_key_and_the_old_one_is_deleted(cloud: Cloud) -> None:
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
    paths = [calls.index(call) for call in [*order, "UpdateSecretVersionStage", "UpdateAccessKey", "DeleteAccessKey"]]
    assert paths == sorted(paths)


def test_a_key_left_by_a_run_that_was_cut_off_is_deleted(cloud: Cloud) -> None:
    (current,) = cloud.key_names()
    left, _ = cloud.aws.make_access_key(USER)
    cloud.rotate("smtp-credentials")
    assert cloud.key_names().isdisjoint({current, left})


def test_a_new_key_is_tried_until_the_mail_server_accepts_it(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([False, False, True])
    monkeypatch.setattr(cloud, "accepts", lambda _: next(answers))
    cloud.rotate("smtp-credentials")
    assert len(cloud.letters) == 1


def test_a_key_that_is_never_accepted_is_deleted_and_the_old_one_stays_in_use(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = cloud.value("smtp-credentials")
    with monkeypatch.context() as patched:
        patched.setattr(cloud, "accepts", lambda _: False)
        with pytest.raises(RolledBack, match="no mail can be sent with the new key") as failed:
            cloud.rotate("smtp-credentials")
    assert failed.value.left_as == "the old key is in use"
    assert cloud.value("smtp-credentials") == before
    assert cloud.is_consistent()
    assert len(cloud.key_names()) == 1


def test_an_old_key_that_cannot_be_deleted_is_reported_when_the_new_one_is_in_use(cloud: Cloud) -> None:
    cloud.rotate("smtp-credentials")
    cloud.cut = Cut(cloud.cut.calls.index("UpdateAccessKey"), "before")
    with pytest.raises(Degraded, match=r"the old key .* could not be deleted") as failed:
        cloud.rotate("smtp-credentials")
    assert failed.value.hint == "run ops secrets rotate-smtp again, which deletes it"
    assert failed.value.left_as == "the new key is in use"


def test_a_first_deployment_makes_the_credentials_and_a_second_leaves_them(cloud: Cloud) -> None:
    before = cloud.value("smtp-credentials")
    assert rotate.ensure_smtp(SITE, cloud.world).changed is False
    assert cloud.value("smtp-credentials") == before


def test_credentials_whose_key_was_deleted_in_aws_are_replaced(cloud: Cloud) -> None:
    (key,) = cloud.key_names()
    cloud.aws.delete_access_key(USER, key)
    assert rotate.ensure_smtp(SITE, cloud.world).changed is True
    assert cloud.key_names() == {json.loads(cloud.value("smtp-credentials"))["username"]}


def test_a_domain_that_ses_has_not_verified_yet_does_not_stop_a_deployment(cloud: Cloud) -> None:
    (key,) = cloud.key_names()
    cloud.aws.delete_access_key(USER, key)
    world = cloud.world
    world.mail = fakes.FakeMail()
    site = fakes.site(contact="keeper@unverified.test")
    assert rotate.ensure_smtp(site, world).changed is True
    assert "no mail can be sent yet: mail server refuses the mail" in world.progress[-1]


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


def test_a_host_that_is_unhealthy_with_the_new_value_goes_back_to_the_old_one(cloud: Cloud) -> None:
    old = cloud.value("database-password")
    cloud.broken = "database-password"
    with pytest.raises(RolledBack, match=r"database-password: .* not healthy") as failed:
        cloud.rotate("database-password")
    assert failed.value.left_as == "the host is back on the current value"
    assert (cloud.value("database-password"), cloud.in_use("database-password")) == (old, old)
    assert cloud.is_consistent()


def test_a_host_that_cannot_go_back_is_stranded_with_the_next_command(cloud: Cloud) -> None:
    cloud.rotate("metrics-token")
    cloud.cut = Cut(cloud.cut.calls.index("host: secrets apply --pending metrics-token"), "from")
    with pytest.raises(Stranded, match="the host did not go back") as failed:
        cloud.rotate("metrics-token")
    assert "run ops secrets apply" in failed.value.hint
    assert failed.value.left_as.startswith("no value is lost")


def test_a_host_out_of_reach_is_noticed_before_the_first_change(cloud: Cloud) -> None:
    cloud.cut = Cut(0, "before")
    with pytest.raises(Unavailable):
        cloud.rotate("metrics-token")
    assert cloud.cut.calls == ["host: secrets apply"]


def test_a_rotation_during_a_deployment_is_refused_at_once_and_names_it(cloud: Cloud) -> None:
    with exclusive(cloud.directory.parent / "lock", Clock().now()), pytest.raises(Locked, match="is already running"):
        cloud.rotate("metrics-token")


def test_rotating_the_secret_key_or_the_restic_password_is_refused_with_the_loss(cloud: Cloud) -> None:
    with pytest.raises(Refused, match=r"two-factor secrets.*would be lost"):
        cloud.rotate("gitea-secret-key")
    with pytest.raises(Refused, match="every backup in both repositories is encrypted with it"):
        cloud.rotate("restic-password")
    assert cloud.cut.calls == []


@pytest.mark.parametrize("name", ["gitea-secret-key", "restic-password"])
def test_a_secret_of_a_lost_site_is_applied(name: str, cloud: Cloud) -> None:
    assert cloud.adopt(name, "value-of-the-lost-site").changed is True
    assert cloud.value(name) == cloud.in_use(name) == "value-of-the-lost-site"
    assert cloud.adopt(name, "value-of-the-lost-site").changed is False


def test_only_secrets_that_backups_depend_on_are_adopted(cloud: Cloud) -> None:
    with pytest.raises(Refused, match="no backup depends on metrics-token") as refused:
        cloud.adopt("metrics-token", "value")
    assert "ops secrets rotate metrics-token" in refused.value.hint
    with pytest.raises(ConfigError, match="is not a secret of the site"):
        cloud.adopt("secret-key", "value")
    assert cloud.cut.calls == []


@pytest.mark.parametrize("value", ["", "two words", "one\ntwo"])
def test_an_invalid_value_is_refused_and_not_shown(value: str, cloud: Cloud) -> None:
    with pytest.raises(ConfigError, match="not a secret of one word") as refused:
        cloud.adopt("restic-password", value)
    assert not value or value not in refused.value.message + refused.value.hint
    assert cloud.cut.calls == []


def test_an_unknown_secret_is_refused_with_a_list_of_the_known_ones(cloud: Cloud) -> None:
    with pytest.raises(ConfigError, match="metrics-tokne is not a secret of the site") as failed:
        cloud.rotate("metrics-tokne")
    assert all(name in failed.value.hint for name in rotate.CONSEQUENCES)


def test_every_secret_of_the_site_can_be_rotated_or_is_refused_with_a_reason() -> None:
    files = {name for name in store.PERMISSIONS if not name.startswith("smtp-")}
    assert {*rotate.CONSEQUENCES, "gitea-secret-key", "restic-password"} == files | {
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
def test_the_smtp_password_is_derived_from_key_and_region_by_aws_s_algorithm(region: str, password: str) -> None:
    key = Secret("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
    assert rotate.smtp_password(key, region).reveal() == password


def test_all_keys_but_the_current_one_are_leftovers() -> None:
    keys = [AccessKey("A", active=True), AccessKey("B", active=False)]
    assert rotate.plan_leftovers(keys, "A") == ("B",)
    assert rotate.plan_leftovers(keys, "B") == ("A",)
    assert rotate.plan_leftovers(keys, "") == ("A", "B")


def test_a_pending_value_is_read_by_its_stage_and_can_be_promoted_twice(cloud: Cloud) -> None:
    version = cloud.aws.put_pending_secret("test/metrics-token", Secret("next"))
    assert (cloud.value("metrics-token"), cloud.value("metrics-token", PENDING)) == (VALUES["metrics-token"], "next")
    cloud.aws.promote_secret("test/metrics-token", version)
    cloud.aws.promote_secret("test/metrics-token", version)
    assert cloud.value("metrics-token") == "next"
