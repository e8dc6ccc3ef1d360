"""Which SES identities a site creates, leaves alone and deletes."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import pytest

from ops.deploy import mail_identity
from ops.errors import Refused
from ops.model import Change
from ops.world.process import Finished
from ops.world.terraform import Terraform
from tests.support import fakes

BUCKET = "example-org-gitea-backup-terraform"
ZONE_S = "test/mail-identities/example.org"
HOST = {"mode": "managed", "type": "aws_instance", "name": "host", "instances": [{"attributes": {"id": "i-1"}}]}


def _state(domain: str = "example.org") -> dict[str, Any]:
    def resource(kind: str, name: str, *keys: Any) -> dict[str, Any]:
        instances = [{"index_key": key, "attributes": {"id": domain}} for key in keys]
        return {"mode": "managed", "type": kind, "name": name, "instances": instances}

    return {
        "resources": [
            HOST,
            resource("aws_ses_domain_identity", "site", 0),
            resource("aws_ses_domain_dkim", "site", 0),
            resource("aws_ses_domain_mail_from", "site", 0),
            resource("aws_route53_record", "dkim", 0, 1, 2),
            resource("aws_route53_record", "bounces", "MX", "TXT"),
            {
                "mode": "managed",
                "type": "aws_route53_record",
                "name": "site",
                "instances": [{"attributes": {"id": "a"}}],
            },
        ]
    }


OF_THE_IDENTITY = (
    "aws_ses_domain_identity.site[0]",
    "aws_ses_domain_dkim.site[0]",
    "aws_ses_domain_mail_from.site[0]",
    *(f"aws_route53_record.dkim[{number}]" for number in range(3)),
    'aws_route53_record.bounces["MX"]',
    'aws_route53_record.bounces["TXT"]',
)


# Only a stand-in of AWS has another mail server than SES.
STAND_IN = {"region": "eu-central-1", "endpoint_url": "http://192.0.2.5:4566"}


def _site(**mail: Any) -> Any:
    return fakes.site(aws=STAND_IN, mail={"sender": "gitea@example.org", "smtp_host": "mail.example.org"} | mail)


def _world(*, existing: Sequence[str] = (), stored: Sequence[str] = ()) -> Any:
    account = fakes.FakeAwsAccount(identities=frozenset(existing))
    return fakes.FakeWorld(aws_account=account, aws=fakes.FakeAws(stored=dict.fromkeys(stored, b"")))


def test_an_identity_of_others_is_not_taken_over() -> None:
    with pytest.raises(Refused, match="that this site did not create") as caught:
        mail_identity.to_forget(_site(), _world(existing=["example.org"]), BUCKET, {"resources": [HOST]})
    assert caught.value.left_as == "nothing was changed"
    assert "mail.manage_identity = false" in caught.value.message


@pytest.mark.parametrize(
    ("existing", "stored", "state"),
    [
        ([], [], {}),
        (["example.org"], [ZONE_S], {}),
        (["example.org"], [], _state()),
    ],
    ids=["none exists", "a deployment that was cut off created it", "it is in the state"],
)
def test_a_new_identity_and_the_site_s_own_are_managed(existing: list[str], stored: list[str], state: Any) -> None:
    assert mail_identity.to_forget(_site(), _world(existing=existing, stored=stored), BUCKET, state) == ()


def test_an_identity_of_the_zone_is_no_obstacle_to_one_of_the_site_s_own_domain() -> None:
    site = fakes.site(aws=STAND_IN, mail={"smtp_host": "mail.example.org"})
    assert site.mail.sender == "gitea@git.example.org"
    assert mail_identity.to_forget(site, _world(existing=["example.org"]), BUCKET, {}) == ()


def test_an_identity_that_is_managed_elsewhere_leaves_the_state_with_its_records() -> None:
    site = _site(manage_identity=False)
    assert mail_identity.to_forget(site, _world(stored=[ZONE_S]), BUCKET, _state()) == OF_THE_IDENTITY


@pytest.mark.parametrize(("stored", "kept"), [([ZONE_S], ()), ([], OF_THE_IDENTITY)])
def test_another_sender_s_domain_deletes_the_identity_before_only_if_the_site_created_it(
    stored: list[str], kept: tuple[str, ...]
) -> None:
    site = _site(sender="gitea@git.example.org")
    assert mail_identity.to_forget(site, _world(stored=stored), BUCKET, _state()) == kept


@pytest.mark.parametrize(("stored", "kept"), [([ZONE_S], ()), ([], OF_THE_IDENTITY)])
def test_a_destruction_deletes_the_identity_only_if_the_site_created_it(
    stored: list[str], kept: tuple[str, ...]
) -> None:
    assert mail_identity.not_ours(_site(), _world(stored=stored), BUCKET, _state()) == kept
    assert mail_identity.not_ours(_site(manage_identity=False), _world(stored=stored), BUCKET, _state()) != ()
    (line,) = mail_identity.in_words(_state(), kept)
    assert line.startswith("kept" if kept else "lost")
    assert "example.org" in line


def test_a_deployment_records_a_new_identity_before_it_exists_and_forgets_one_that_it_leaves(tmp_path: Any) -> None:
    world = _world()
    empty = fakes.FakeProcesses(lambda argv: Finished(0, "{}" if argv[1:3] == ["state", "pull"] else ""))
    terraform: Any = Terraform(empty, tmp_path, tmp_path, {}, world.tell)  # type: ignore[arg-type]
    mail_identity.prepare(_site(), world, BUCKET, terraform)
    assert list(world.aws.stored) == [ZONE_S]
    mail_identity.forget(_site(), world, BUCKET, terraform, OF_THE_IDENTITY)
    assert world.aws.stored == {}
    assert empty.ran[-1] == [sys.executable, "state", "rm", "-lock-timeout=20s", *OF_THE_IDENTITY]


def test_a_dry_run_shows_no_deletion_of_what_leaves_the_state() -> None:
    changes = [Change(OF_THE_IDENTITY[0], "a", "destroy"), Change("aws_a.b", "aws_a", "destroy")]
    changes.append(Change(OF_THE_IDENTITY[1], "a", "replace", ("x: 1 -> 2",)))
    shown = mail_identity.as_planned(changes, OF_THE_IDENTITY)
    assert [each.action for each in shown] == ["forget", "destroy", "create"]


@pytest.mark.parametrize(
    ("mail", "existing", "words"),
    [
        ({}, ["example.org"], "that this site did not create"),
        ({"sender": "gitea@git.example.org"}, ["example.org"], ""),
        ({"manage_identity": False, "smtp_host": "email-smtp.eu-central-1.amazonaws.com"}, [], "has no identity for"),
        ({"manage_identity": False, "smtp_host": "email-smtp.eu-central-1.amazonaws.com"}, ["example.org"], ""),
        ({"manage_identity": False}, [], ""),
    ],
)
def test_the_identity_is_part_of_the_pre_flight(mail: Any, existing: list[str], words: str) -> None:
    found = mail_identity.problem(_site(**mail), existing)
    assert words in found
    assert bool(words) == bool(found)
