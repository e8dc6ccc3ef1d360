"""The settings of boto3's clients."""

from __future__ import annotations

from typing import Any

import boto3
import pytest
from moto import mock_aws

from ops.world.aws import Aws
from ops.world.aws_account import AwsAccount
from ops.world.aws_clients import AwsClients
from tests.support.moto_site import use_moto_credentials

REGION = "eu-central-1"


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    use_moto_credentials(monkeypatch)


@pytest.mark.parametrize("service", ["s3", "ec2", "secretsmanager"])
def test_boto_s_retries_are_cut_only_for_an_endpoint_of_its_own(service: str) -> None:
    local = AwsClients(REGION, "http://127.0.0.1:4566").client(service)
    assert local.meta.config.retries["total_max_attempts"] == 4
    default = AwsClients(REGION)
    without_settings = default.session.client(service)
    assert default.client(service).meta.config.retries == without_settings.meta.config.retries


def test_every_request_to_s3_names_this_account_as_the_bucket_s_owner() -> None:
    with mock_aws():
        storage, place = boto3.client("s3", region_name=REGION), {"LocationConstraint": REGION}
        storage.create_bucket(Bucket="ours", CreateBucketConfiguration=place)
        storage.put_bucket_versioning(Bucket="ours", VersioningConfiguration={"Status": "Enabled"})
        aws, account, sent = Aws(REGION), AwsAccount(REGION), dict[str, Any]()
        for each in (aws, account):
            each._client("s3").meta.events.register(
                "before-call.s3", lambda model, params, **_: sent.update({model.name: params["headers"]})
            )
        aws.write_object("ours", "a", b"1")
        aws.read_object("ours", "a")
        aws.replication("ours", "a")
        aws.objects("ours", "")
        version = next(iter(account.history("ours"))).version
        aws.hide_object("ours", "a")
        account.restore_version("ours", "a", version)
        assert aws.bucket_exists("ours")
        account.missing_settings("ours")
        account.contents("ours")
        account.empty("ours", lambda _: None)
        account.delete_bucket("ours")
    assert len(sent) >= 10
    owners = {name: headers.get("x-amz-expected-bucket-owner") for name, headers in sent.items()}
    assert owners == dict.fromkeys(sent, "123456789012")
    assert sent["CopyObject"]["x-amz-source-expected-bucket-owner"] == "123456789012"


def test_a_request_that_takes_no_owner_is_sent_without_one() -> None:
    with mock_aws():
        client = AwsClients(REGION).client("s3")
        client.create_bucket(Bucket="new", CreateBucketConfiguration={"LocationConstraint": REGION})
        assert [each["Name"] for each in client.list_buckets()["Buckets"]] == ["new"]
