"""Terraform's root on LocalStack: it applies from nothing, converges, repairs drift, and keeps no secret."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import time
from dataclasses import replace
from datetime import timedelta
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from ground import run_registry
from ops.config import tool_variables
from ops.config.workspace import Workspace
from ops.deploy import infrastructure, mail_identity
from ops.errors import Locked, OpsError, Refused
from ops.model import AccessKey, Outputs, Secret
from ops.secrets import rotate
from ops.secrets.store import NAMES, credentials_from
from ops.world import World
from ops.world.terraform import resources_from
from tests.support import fakes
from tests.support.site_in_aws import KEY, Cloud


@pytest.fixture(scope="module")
def replacement(cloud: Cloud, applied: Outputs, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The plan that replaces the host, as Terraform's own document."""
    assert applied
    plan = tmp_path_factory.mktemp("plan") / "replacement"
    assert cloud.terraform().plan(cloud.variables(), "-refresh=false", "-replace=aws_instance.host", f"-out={plan}")
    return cloud.show(plan)


def test_every_secret_has_a_value_and_no_state_plan_or_message_contains_it(
    cloud: Cloud, applied: Outputs, replacement: dict[str, Any]
) -> None:
    secrets = cloud.client("secretsmanager")
    names = {short: name for short, name in applied.secret_names.items() if short != "smtp-credentials"}
    values = [secrets.get_secret_value(SecretId=name)["SecretString"] for name in names.values()]
    assert set(names) == {name for name in NAMES if name != "smtp-credentials"}
    assert len(set(values)) == len(names)
    assert all(re.fullmatch(r"[A-Za-z0-9]{32,}", value) for value in values)
    everything = _everything_written(cloud, replacement)
    assert "aws_secretsmanager_secret" in everything
    assert [name for name, value in zip(names, values, strict=True) if value in everything] == []


def _everything_written(cloud: Cloud, plan: dict[str, Any]) -> str:
    """Terraform's state, a plan, the files of the state folder, and all progress lines."""
    files = [path.read_text(errors="replace") for path in cloud.workspace.state.rglob("*.json") if path.is_file()]
    return "\n".join([json.dumps(cloud.state()), json.dumps(plan), *files, *cloud.progress])


def test_the_mail_user_has_no_access_key_at_first(cloud: Cloud, applied: Outputs) -> None:
    assert cloud.client("iam").list_access_keys(UserName="test-mail")["AccessKeyMetadata"] == []
    held = cloud.client("secretsmanager").describe_secret(SecretId=applied.secret_names["smtp-credentials"])
    assert held["Name"] == "test/smtp-credentials"
    assert not held.get("VersionIdsToStages")


def test_the_secrets_that_a_restore_in_the_second_region_needs_are_there(cloud: Cloud, applied: Outputs) -> None:
    secrets = cloud.client("secretsmanager")
    replicas = {
        short: [each["Region"] for each in secrets.describe_secret(SecretId=name).get("ReplicationStatus", ())]
        for short, name in applied.secret_names.items()
    }
    assert {short: regions for short, regions in replicas.items() if regions} == {
        "gitea-secret-key": ["eu-west-1"],
        "restic-password": ["eu-west-1"],
    }


def test_gitea_s_jwt_secret_is_32_bytes_of_base64(cloud: Cloud, applied: Outputs) -> None:
    name = applied.secret_names["gitea-jwt-secret"]
    assert len(cloud.client("secretsmanager").get_secret_value(SecretId=name)["SecretString"]) == 43


def test_the_buckets_are_versioned_encrypted_and_closed(cloud: Cloud, applied: Outputs) -> None:
    storage = cloud.client("s3")
    for bucket in (applied.backup_bucket, f"{applied.backup_bucket}-replica", infrastructure.state_bucket(cloud.site)):
        assert storage.get_bucket_versioning(Bucket=bucket)["Status"] == "Enabled"
        assert all(storage.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"].values())
        assert storage.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]["Rules"]
        (statement,) = json.loads(storage.get_bucket_policy(Bucket=bucket)["Policy"])["Statement"]
        assert (statement["Effect"], statement["Condition"]) == ("Deny", {"Bool": {"aws:SecureTransport": "false"}})


def test_a_locked_version_of_a_backup_cannot_be_deleted(cloud: Cloud, applied: Outputs) -> None:
    storage = cloud.client("s3")
    for bucket in (applied.backup_bucket, f"{applied.backup_bucket}-replica"):
        place = {"Bucket": bucket, "Key": "backup"}
        version = {"VersionId": storage.put_object(**place, Body=b"precious")["VersionId"]}
        kept = storage.head_object(**place, **version)
        assert kept["ObjectLockMode"] == "GOVERNANCE"
        assert kept["ObjectLockRetainUntilDate"] - kept["LastModified"] > timedelta(days=6, hours=23)
        with pytest.raises(ClientError, match="AccessDenied"):
            storage.delete_object(**place, **version)
        storage.delete_object(**place, **version, BypassGovernanceRetention=True)
        (rule,) = storage.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]
        assert rule["NoncurrentVersionExpiration"] == {"NoncurrentDays": 67}


def test_backups_are_replicated_to_the_second_region(cloud: Cloud, applied: Outputs) -> None:
    storage = cloud.client("s3")
    assert storage.head_bucket(Bucket=f"{applied.backup_bucket}-replica")["BucketRegion"] == "eu-west-1"
    copying = storage.get_bucket_replication(Bucket=applied.backup_bucket)["ReplicationConfiguration"]
    (rule,) = copying["Rules"]
    assert (rule["Status"], rule.get("Filter", {}).get("Prefix", "")) == ("Enabled", "")
    assert rule["Destination"]["Bucket"] == f"arn:aws:s3:::{applied.backup_bucket}-replica"
    assert copying["Role"] == "arn:aws:iam::000000000000:role/test-replication"


def test_only_http_https_and_git_ssh_are_open_to_the_world(cloud: Cloud, applied: Outputs) -> None:
    groups = [group["GroupId"] for group in _network_card(cloud, applied)["Groups"]]
    rules = cloud.client("ec2").describe_security_group_rules(Filters=[{"Name": "group-id", "Values": groups}])
    incoming = [rule for rule in rules["SecurityGroupRules"] if not rule["IsEgress"]]
    for family, world in (("CidrIpv4", "0.0.0.0/0"), ("CidrIpv6", "::/0")):
        assert {rule["FromPort"] for rule in incoming if rule.get(family) == world} == {80, 443, 2222}
    assert [rule.get("CidrIpv4") for rule in incoming if rule["FromPort"] == 22] == ["203.0.113.7/32"]


def _network_card(cloud: Cloud, applied: Outputs) -> dict[str, Any]:
    filters = [{"Name": "attachment.instance-id", "Values": [applied.instance_id]}]
    (card,) = cloud.client("ec2").describe_network_interfaces(Filters=filters)["NetworkInterfaces"]
    return dict(card)


def test_the_host_s_ipv6_address_is_in_its_subnet_and_has_a_default_route(cloud: Cloud, applied: Outputs) -> None:
    network = cloud.client("ec2")
    card = _network_card(cloud, applied)
    (subnet,) = network.describe_subnets(SubnetIds=[card["SubnetId"]])["Subnets"]
    (lan,) = (ip_network(each["Ipv6CidrBlock"]) for each in subnet["Ipv6CidrBlockAssociationSet"])
    (address,) = (each["Ipv6Address"] for each in card["Ipv6Addresses"])
    assert ip_address(address) in lan
    assert cloud.records()["git.gitea.test.", "AAAA"] == [address]
    tables = network.describe_route_tables(Filters=[{"Name": "association.subnet-id", "Values": [card["SubnetId"]]}])
    routes = {
        route.get("DestinationIpv6CidrBlock"): route.get("GatewayId") for route in tables["RouteTables"][0]["Routes"]
    }
    assert routes["::/0"].startswith("igw-")


def test_traffic_is_logged_for_thirty_days(cloud: Cloud, applied: Outputs) -> None:
    assert applied
    (log,) = cloud.client("ec2").describe_flow_logs()["FlowLogs"]
    assert (log["TrafficType"], log["FlowLogStatus"]) == ("ALL", "ACTIVE")
    (group,) = cloud.client("logs").describe_log_groups(logGroupNamePrefix="/vpc/test")["logGroups"]
    assert log["LogDestination"] == group["arn"].removesuffix(":*")
    assert group["retentionInDays"] == 30


def test_an_alarm_recovers_an_instance_with_failed_hardware(cloud: Cloud, applied: Outputs) -> None:
    (alarm,) = cloud.client("cloudwatch").describe_alarms(AlarmNames=["test-recovery"])["MetricAlarms"]
    assert alarm["Dimensions"] == [{"Name": "InstanceId", "Value": applied.instance_id}]
    assert (alarm["MetricName"], alarm["ActionsEnabled"]) == ("StatusCheckFailed_System", True)
    assert alarm["AlarmActions"] == ["arn:aws:automate:eu-central-1:ec2:recover"]


def test_the_instance_requires_a_token_for_its_metadata(cloud: Cloud, applied: Outputs) -> None:
    (reservation,) = cloud.client("ec2").describe_instances(InstanceIds=[applied.instance_id])["Reservations"]
    options = reservation["Instances"][0]["MetadataOptions"]
    assert (options["HttpTokens"], options["HttpPutResponseHopLimit"]) == ("required", 1)


def test_replacing_the_host_replaces_only_the_instance_and_its_volume_attachment(replacement: dict[str, Any]) -> None:
    changes = {each["address"]: each["change"]["actions"] for each in replacement["resource_changes"]}
    assert {address for address, actions in changes.items() if "delete" in actions} == {
        "aws_instance.host",
        "aws_volume_attachment.data",
    }


def test_a_plan_that_would_destroy_the_data_disk_is_refused(cloud: Cloud, applied: Outputs) -> None:
    assert applied
    with pytest.raises(OpsError, match="Instance cannot be destroyed"):
        cloud.terraform().plan(cloud.variables(), "-refresh=false", "-replace=aws_ebs_volume.data")


def test_both_disks_are_encrypted_and_named(cloud: Cloud, applied: Outputs) -> None:
    filters = [{"Name": "attachment.instance-id", "Values": [applied.instance_id]}]
    volumes = cloud.client("ec2").describe_volumes(Filters=filters)["Volumes"]
    assert all(volume["Encrypted"] and volume["VolumeType"] == "gp3" for volume in volumes)
    names = {tag["Value"]: volume["VolumeId"] for volume in volumes for tag in volume["Tags"] if tag["Key"] == "Name"}
    assert names.keys() == {"test-root", "test-data"}
    assert names["test-data"] == applied.data_volume_id


def test_a_second_plan_has_no_changes_after_rotations_and_a_new_ami(cloud: Cloud, applied: Outputs) -> None:
    name, vault = applied.secret_names["metrics-token"], cloud.world.aws
    for value in ("rotated once", "rotated twice"):
        vault.promote_secret(name, vault.put_pending_secret(name, Secret(value)))
    assert rotate.ensure_smtp(cloud.site, cloud.world).changed is True
    assert cloud.terraform().plan(cloud.variables(), "-var=ami=ami-0123456789abcdef0") is False
    assert vault.secret(name).reveal() == "rotated twice"
    credentials = credentials_from(vault.secret(applied.secret_names["smtp-credentials"]))
    assert vault.access_keys("test-mail") == (AccessKey(credentials.username, active=True),)
    assert credentials.password.reveal() not in json.dumps(cloud.state())


def test_dns_has_the_records_for_the_host_and_its_mail(cloud: Cloud, applied: Outputs) -> None:
    records = cloud.records()
    assert records["git.gitea.test.", "A"] == [applied.public_address]
    assert '0 issue "letsencrypt.org"' in records["git.gitea.test.", "CAA"]
    assert records["test-bounces.gitea.test.", "TXT"] == ['"v=spf1 include:amazonses.com ~all"']
    assert len([name for name, kind in records if kind == "CNAME" and "._domainkey.gitea.test." in name]) == 3


def test_a_mail_identity_of_other_senders_is_refused_and_stays_as_it_is(cloud: Cloud, applied: Outputs) -> None:
    assert applied
    mail, sender = cloud.client("ses"), "gitea@shared.gitea.test"
    mail.verify_domain_identity(Domain="shared.gitea.test")
    site, before = replace(cloud.site, mail=replace(cloud.site.mail, sender=sender)), cloud.state()
    with pytest.raises(Refused, match=r"shared\.gitea\.test that this site did not create"):
        infrastructure.infrastructure(site, cloud.world, cloud.workspace, KEY)
    assert "shared.gitea.test" in mail.list_identities(IdentityType="Domain")["Identities"]
    assert cloud.state() == before


def test_a_mail_identity_that_is_managed_elsewhere_leaves_the_state_and_is_not_deleted(
    cloud: Cloud, applied: Outputs, tmp_path: Path
) -> None:
    assert applied
    site = replace(cloud.site, mail=replace(cloud.site.mail, manage_identity=False))
    bucket, storage = infrastructure.state_bucket(site), cloud.client("s3")
    keys = ("test/terraform.tfstate", "test/mail-identities/gitea.test")
    kept = {key: storage.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys}
    variables = tmp_path / "variables.json"
    variables.write_text(json.dumps(tool_variables.terraform_variables(site, KEY)))
    try:
        state = mail_identity.prepare(site, cloud.world, bucket, cloud.terraform())
        assert not [each for each in resources_from(state) if "ses_domain" in each or "dkim" in each]
        changes = cloud.terraform().changes(variables, "-refresh=false")
        assert [each for each in changes if each.action != "update"] == []
        with pytest.raises(Refused, match="did not create"):
            mail_identity.prepare(cloud.site, cloud.world, bucket, cloud.terraform())
    finally:
        for key, content in kept.items():
            storage.put_object(Bucket=bucket, Key=key, Body=content)
    assert "gitea.test" in cloud.client("ses").list_identities(IdentityType="Domain")["Identities"]


def test_a_locked_state_exits_8_and_names_the_holder(cloud: Cloud, applied: Outputs) -> None:
    assert applied
    lock = {
        "ID": "1",
        "Operation": "OperationTypeApply",
        "Who": "someone@elsewhere",
        "Version": "1.11.4",
        "Created": "2026-11-23T12:00:00Z",
        "Info": "",
        "Path": "x",
    }
    place = {"Bucket": infrastructure.state_bucket(cloud.site), "Key": "test/terraform.tfstate.tflock"}
    cloud.client("s3").put_object(**place, Body=json.dumps(lock).encode())
    try:
        with pytest.raises(Locked, match="someone@elsewhere") as caught:
            cloud.terraform().apply(cloud.variables(), "-lock-timeout=1s")
        assert caught.value.exit_code == 8
        _unlock_by(caught.value.hint, cloud)
        assert cloud.client("s3").list_objects_v2(Bucket=place["Bucket"], Prefix=place["Key"])["KeyCount"] == 0
    finally:
        cloud.client("s3").delete_object(**place)


def _unlock_by(hint: str, cloud: Cloud) -> None:
    """Run the command of the hint as the session `terraform` of noxw does, and agree when it asks."""
    variable, *run = shlex.split(hint.partition("if it was killed, run ")[2])
    assert run[:4] == ["./noxw", "-s", "terraform", "--"]
    name, _, value = variable.partition("=")
    argv = [sys.executable, "-m", "ops.cli.terraform", *run[4:]]
    environment = {**os.environ, **cloud.terraform().environment, name: value}
    done = subprocess.run(
        argv, cwd=run_registry.REPOSITORY, env=environment, input="yes\n", capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "successfully unlocked" in done.stdout


def test_an_unreachable_endpoint_is_reported_within_a_minute(cloud: Cloud, tmp_path: Path) -> None:
    away = fakes.site(aws={"region": "eu-central-1", "endpoint_url": "http://127.0.0.1:9"})
    began = time.monotonic()
    with pytest.raises(OpsError) as caught:
        infrastructure.infrastructure(
            away,
            World(away, tell=cloud.progress.append),
            Workspace(run_registry.REPOSITORY, tmp_path, run_registry.CACHE),
            KEY,
        )
    assert caught.value.exit_code == 7
    assert time.monotonic() - began < 60
