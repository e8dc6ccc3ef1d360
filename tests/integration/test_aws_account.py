"""The AWS account adapter on moto: all services that a site uses."""

from __future__ import annotations

import functools
import json
import platform
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from moto import mock_aws
from moto.sesv2.responses import SESV2Response

from ops.world.aws_account import AwsAccount
from tests.support.moto_site import use_moto_credentials

REGION = "eu-central-1"


@pytest.fixture(scope="module")
def account() -> Iterator[AwsAccount]:
    """One account for all tests; each test uses names of its own."""
    # Moto lacks this call. The answer follows SES's API reference.
    answer = json.dumps({"ProductionAccessEnabled": True})
    with pytest.MonkeyPatch.context() as patch:
        use_moto_credentials(patch)
        patch.setenv("MOTO_EC2_LOAD_DEFAULT_AMIS", "false")  # there are thousands, and no test needs one
        patch.setattr(SESV2Response, "get_account", lambda _: answer, raising=False)
        with mock_aws():
            yield AwsAccount(REGION)


@functools.cache
def _client(service: str) -> Any:
    return boto3.client(service, region_name=REGION)


def test_facts_that_aws_does_not_answer_are_listed_as_unknown(account: AwsAccount) -> None:
    facts = account.facts(
        name="nothing", domain="git.nowhere.org", zone="nowhere.org", instance_type="t3.medium", buckets=("unused",)
    )
    assert facts.identity.startswith("arn:aws:")
    assert (facts.region_open, facts.zone_found, facts.vcpus_wanted, facts.mail_to_anyone) == (True, False, 2, True)
    assert (facts.buckets, facts.namesakes, facts.records, facts.machine) == ({"unused": "free"}, (), (), "")
    assert (facts.vcpus_free, facts.addresses_free) == (None, None)
    assert [each.split(":")[0] for each in facts.unknown] == ["the quota of vCPUs", "the quota of addresses"]


def test_existing_resources_of_the_site_are_found(account: AwsAccount) -> None:
    zone = _client("route53").create_hosted_zone(Name="example.org", CallerReference="1")["HostedZone"]["Id"]
    changes = [
        {
            "Action": "CREATE",
            "ResourceRecordSet": {"Name": name, "Type": kind, "TTL": 60, "ResourceRecords": [{"Value": value}]},
        }
        for name, kind, value in (
            ("git.example.org", "A", "192.0.2.1"),
            ("git.example.org", "TXT", '"anything"'),
            ("www.example.org", "CNAME", "elsewhere.org"),
        )
    ]
    _client("route53").change_resource_record_sets(HostedZoneId=zone, ChangeBatch={"Changes": changes})
    _client("s3").create_bucket(Bucket="mine", CreateBucketConfiguration={"LocationConstraint": REGION})
    _client("iam").create_role(RoleName="test-host", AssumeRolePolicyDocument="{}")
    _client("secretsmanager").create_secret(Name="test/admin-password", SecretString="a")
    _client("secretsmanager").create_secret(Name="testimony/unrelated", SecretString="a")
    # Stored by the operator before the first deployment.
    _client("secretsmanager").create_secret(Name="test/setting-imap", SecretString="a")
    _client("secretsmanager").create_secret(Name="test/old", SecretString="a")
    _client("secretsmanager").delete_secret(SecretId="test/old")
    tags = [{"ResourceType": "instance", "Tags": [{"Key": "Site", "Value": "test"}]}]
    started = _client("ec2").run_instances(ImageId="ami-12345678", MinCount=1, MaxCount=1, TagSpecifications=tags)
    facts = account.facts(
        name="test", domain="git.example.org", zone="example.org", instance_type="t3.medium", buckets=("mine",)
    )
    assert facts.zone_found is True
    assert facts.buckets == {"mine": "ours"}
    assert facts.records == ("A git.example.org",)
    assert set(facts.namesakes) == {
        f"instance {started['Instances'][0]['InstanceId']}",
        "role test-host",
        "secret test/admin-password",
        "secret test/old (being deleted)",
    }


def test_the_instance_of_a_network_interface_is_found(account: AwsAccount) -> None:
    network = _client("ec2").create_vpc(CidrBlock="10.1.0.0/16")["Vpc"]["VpcId"]
    subnet = _client("ec2").create_subnet(VpcId=network, CidrBlock="10.1.0.0/24")["Subnet"]["SubnetId"]
    card = _client("ec2").create_network_interface(SubnetId=subnet)["NetworkInterface"]["NetworkInterfaceId"]
    assert account.attached_instance(card) == ""
    assert account.attached_instance("eni-12345678901234567") == ""
    machine = _client("ec2").run_instances(ImageId="ami-12345678", MinCount=1, MaxCount=1)["Instances"][0]["InstanceId"]
    _client("ec2").attach_network_interface(NetworkInterfaceId=card, InstanceId=machine, DeviceIndex=1)
    assert account.attached_instance(card) == machine


def test_security_group_rules_are_described_and_revoked_one_by_one(account: AwsAccount) -> None:
    network = _client("ec2").create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    group = _client("ec2").create_security_group(GroupName="g", Description="d", VpcId=network)["GroupId"]
    requested = {"FromPort": 8080, "ToPort": 8080, "IpProtocol": "tcp", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
    _client("ec2").authorize_security_group_ingress(GroupId=group, IpPermissions=[requested])
    rules = account.rules(group)
    assert set(rules.values()) == {"ingress tcp 8080 from 0.0.0.0/0", "egress all protocols to 0.0.0.0/0"}
    for rule, words in rules.items():
        account.revoke(group, rule, egress=words.startswith("egress"))
    assert account.rules(group) == {}


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("t3.meduim", "is not an instance type of eu-central-1"),
        ("t2.medium", "is not a Nitro instance"),
        ("t4g.medium", "is arm64, but the ops image is built on this machine"),
    ],
)
def test_an_unusable_instance_type_is_reported(
    account: AwsAccount, kind: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    facts = account.facts(name="test", domain="a.example.org", zone="example.org", instance_type=kind, buckets=())
    assert facts.machine is not None
    assert words in facts.machine
