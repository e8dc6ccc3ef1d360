"""Buckets of an account, on moto, and the preflight check (the rest: tests/integration/test_aws_account.py)."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from botocore.exceptions import EndpointConnectionError
from moto import mock_aws

from ops.deploy import preflight
from ops.errors import OpsError, Refused, Unavailable
from ops.model import AccountFacts, BucketContents
from ops.world.aws_account import AwsAccount
from tests.support import fakes
from tests.support.moto_site import use_moto_credentials

REGION = "eu-central-1"
WELL = AccountFacts(
    identity="arn:aws:iam::123456789012:user/operator",
    region_open=True,
    zone_found=True,
    vcpus_wanted=2,
    vcpus_free=2,
    addresses_free=1,
    mail_to_anyone=True,
    buckets={"a": "free"},
    namesakes=(),
)


def test_an_account_that_has_everything_takes_the_site() -> None:
    assert preflight.blockers(fakes.site(), WELL) == ()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"region_open": False}, "aws.region = eu-central-1 is not open"),
        ({"zone_found": False}, "zone = example.org is not a public hosted zone"),
        ({"vcpus_free": 1}, "needs 2 vCPUs and the quota leaves 1"),
        ({"addresses_free": 0}, "quota of Elastic IPs is used up"),
        ({"mail_to_anyone": False}, "SES is in its sandbox"),
        (
            {"machine": "is not an instance type of eu-central-1"},
            "host.instance_type = t3.medium is not an instance type",
        ),
        ({"records": ("A git.example.org",)}, "A git.example.org exists already"),
        ({"mail_identities": ("example.org",)}, "SES has an identity for example.org that this site did not create"),
        ({"buckets": {"a": "foreign"}}, "bucket a belongs to another account"),
        ({"buckets": {"a": "ours"}}, "bucket a exists already"),
        ({"namesakes": ("role test-host",)}, "name = test is in use in this account by role test-host"),
    ],
)
def test_each_blocker_is_named_with_its_remedy(change: dict[str, Any], words: str) -> None:
    (problem,) = preflight.blockers(fakes.site(), dataclasses.replace(WELL, **change))
    assert words in problem
    assert ": " in problem


def test_an_unknown_fact_is_not_a_blocker() -> None:
    unknown: dict[str, Any] = dict.fromkeys(
        ("region_open", "zone_found", "vcpus_wanted", "vcpus_free", "addresses_free", "mail_to_anyone")
    )
    assert preflight.blockers(fakes.site(), dataclasses.replace(WELL, **unknown)) == ()


def test_all_blockers_are_reported_in_one_refusal() -> None:
    world = fakes.FakeWorld(
        aws_account=fakes.FakeAwsAccount(dataclasses.replace(WELL, zone_found=False, addresses_free=0))
    )
    with pytest.raises(Refused) as caught:
        preflight.require(fakes.site(), world, buckets=("a",))  # type: ignore[arg-type]
    assert "2 problem(s)" in caught.value.message
    assert "zone = example.org" in caught.value.message
    assert "Elastic IPs" in caught.value.message


@pytest.fixture(scope="module")
def account() -> Iterator[AwsAccount]:
    """One account for all tests; each test uses its own bucket names."""
    with pytest.MonkeyPatch.context() as patch:
        use_moto_credentials(patch)
        with mock_aws():
            yield AwsAccount(REGION)


@functools.cache
def _client(service: str) -> Any:
    return boto3.client(service, region_name=REGION)


def _bucket(name: str, lock_days: int = 0) -> str:
    """A bucket with two versions of each of three objects, under a delete marker."""
    storage = _client("s3")
    place = {"LocationConstraint": REGION}
    storage.create_bucket(Bucket=name, CreateBucketConfiguration=place, ObjectLockEnabledForBucket=True)
    if lock_days:
        rule = {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": lock_days}}
        requested = {"ObjectLockEnabled": "Enabled", "Rule": rule}
        storage.put_object_lock_configuration(Bucket=name, ObjectLockConfiguration=requested)
    for number in range(3):
        storage.put_object(Bucket=name, Key=f"{number}", Body=b"12345")
        storage.put_object(Bucket=name, Key=f"{number}", Body=b"12345")
        storage.delete_object(Bucket=name, Key=f"{number}")
    return name


def test_the_secrets_of_settings_are_deleted_at_once_and_no_others(account: AwsAccount) -> None:
    vault = _client("secretsmanager")
    for name in ("lost/setting-imap", "lost/setting-ldap", "lost/metrics-token", "other/setting-imap"):
        vault.create_secret(Name=name, SecretString="a")
    assert set(account.delete_secrets("lost/setting-")) == {"lost/setting-imap", "lost/setting-ldap"}
    left = {each["Name"] for each in vault.list_secrets(IncludePlannedDeletion=True)["SecretList"]}
    assert left >= {"lost/metrics-token", "other/setting-imap"}
    assert not left & {"lost/setting-imap", "lost/setting-ldap"}
    assert account.delete_secrets("lost/setting-") == ()


def test_a_lock_holds_from_the_newest_version_on(account: AwsAccount) -> None:
    ends = account.contents(_bucket("locked", lock_days=7)).locked_until
    assert ends
    assert timedelta(days=6, hours=23) < ends - datetime.now(UTC) <= timedelta(days=7)


def test_emptying_reports_a_locked_version(account: AwsAccount) -> None:
    with pytest.raises(OpsError, match="of still-locked: AccessDenied"):
        account.empty(_bucket("still-locked", lock_days=7), lambda _: None)


def test_emptying_leaves_no_version_and_no_marker_and_the_bucket_can_be_deleted(account: AwsAccount) -> None:
    bucket, progress = _bucket("kept"), list[str]()
    assert account.contents(bucket) == BucketContents(versions=6, markers=3, size=30)
    assert account.empty(bucket, progress.append) == 9
    assert account.contents(bucket) == BucketContents(0, 0, 0)
    assert progress == ["kept: 9 versions deleted"]
    account.delete_bucket(bucket)
    account.delete_bucket(bucket)
    assert account.contents(bucket) == BucketContents(0, 0, 0)


def test_each_setting_that_a_state_bucket_lacks_is_named(account: AwsAccount) -> None:
    storage = _client("s3")
    storage.create_bucket(Bucket="plain", CreateBucketConfiguration={"LocationConstraint": REGION})
    assert account.missing_settings("plain") == (
        "versioning",
        "encryption",
        "public access block",
        "TLS-only policy",
    )
    storage.put_bucket_versioning(Bucket="plain", VersioningConfiguration={"Status": "Enabled"})
    rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}
    storage.put_bucket_encryption(Bucket="plain", ServerSideEncryptionConfiguration={"Rules": [rule]})
    closed = dict.fromkeys(("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"), True)
    storage.put_public_access_block(Bucket="plain", PublicAccessBlockConfiguration=closed)
    storage.put_bucket_policy(Bucket="plain", Policy=json.dumps({"Statement": [TLS_ONLY]}))
    assert account.missing_settings("plain") == ()


TLS_ONLY = {
    "Effect": "Deny",
    "Principal": "*",
    "Action": "s3:*",
    "Resource": ["arn:aws:s3:::plain", "arn:aws:s3:::plain/*"],
    "Condition": {"Bool": {"aws:SecureTransport": "false"}},
}


@pytest.mark.parametrize(
    "change",
    [{"Effect": "Allow"}, {"Action": "s3:GetObject"}, {"Condition": {"Bool": {"aws:SecureTransport": "true"}}}],
)
def test_another_policy_does_not_count_as_tls_only(account: AwsAccount, change: dict[str, Any]) -> None:
    storage, name = _client("s3"), f"other-{'-'.join(change).lower()}"
    storage.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
    storage.put_bucket_policy(Bucket=name, Policy=json.dumps({"Statement": [TLS_ONLY | change]}))
    assert "TLS-only policy" in account.missing_settings(name)


def test_only_identities_that_ses_has_are_found(account: AwsAccount) -> None:
    _client("ses").verify_domain_identity(Domain="shared.example.org")
    domains = ("git.shared.example.org", "shared.example.org")
    assert account.mail_identities(domains) == ("shared.example.org",)


def test_a_bucket_whose_versions_cannot_be_listed_is_out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_way(*_: object, **__: object) -> None:
        raise EndpointConnectionError(endpoint_url="https://s3")

    account = AwsAccount(REGION)
    monkeypatch.setattr(account._client("s3"), "_make_api_call", no_way)
    with pytest.raises(Unavailable, match="bucket some is out of reach"):
        tuple(account.history("some"))
