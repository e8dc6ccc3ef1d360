"""Terraform's root on a real endpoint: it applies from nothing, converges, heals, and keeps no secret."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ground import aws, run
from ops import deploy, inputs
from ops.config import Site, site_from
from ops.deploy import Workshop
from ops.errors import Locked, OpsError
from ops.model import Outputs
from ops.world import World
from ops.world.terraform import Terraform
from tests import fakes

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJX6cQ0N0gDkDn5iBpJFYKYxNlwM4n0c8mUAW4dEBlvL test"


@dataclass
class Cloud:
    """A site's corner of the ground's AWS."""

    site: Site
    world: World
    workshop: Workshop
    said: list[str]

    def variables(self) -> Path:
        path = self.workshop.state / "infra/terraform.tfvars.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(inputs.terraform_variables(self.site, KEY)))
        return path

    def terraform(self) -> Terraform:
        return deploy.terraform_of(self.site, self.world, self.workshop)

    def client(self, service: str) -> Any:
        return aws.client(self.site.aws.endpoint_url, service)


@pytest.fixture(scope="module")
def cloud(aws_endpoint: str, tmp_path_factory: pytest.TempPathFactory) -> Cloud:
    os.environ.update(aws.CREDENTIALS)
    host = {"ssh_key": "unused", "ami": aws.some_ami(aws_endpoint)}
    document = fakes.site_document(
        domain="git.gitea.test",
        zone="gitea.test",
        aws={"region": "eu-central-1", "endpoint_url": aws_endpoint},
        host=host,
    )
    said: list[str] = []
    site = site_from(document)
    world = World(site, tell=said.append)
    return Cloud(site, world, Workshop(run.REPOSITORY, tmp_path_factory.mktemp("state"), run.CACHE), said)


@pytest.fixture(scope="module")
def applied(cloud: Cloud) -> Outputs:
    """The infrastructure, after an apply that was killed midway and the one that healed it."""
    _apply_and_kill(cloud)
    return deploy.infrastructure(cloud.site, cloud.world, cloud.workshop, KEY)


def _apply_and_kill(cloud: Cloud) -> None:
    deploy.ensure_state_bucket(cloud.site, cloud.world, cloud.workshop)
    terraform = cloud.terraform()
    terraform.init(deploy.backend(cloud.site))
    argv = ["terraform", "apply", "-input=false", "-no-color", "-auto-approve", f"-var-file={cloud.variables()}"]
    environment = os.environ | terraform.environment
    with subprocess.Popen(
        argv, cwd=run.REPOSITORY / "infra", env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdout
        for line in process.stdout:
            if line.startswith("aws_s3_bucket.backup: Creation complete"):
                break
        # As Ctrl-C does: Terraform writes what it has and frees the state.
        process.send_signal(2)
        process.stdout.read()
    assert process.returncode != 0


def test_an_apply_that_was_broken_off_is_finished_by_the_next(cloud: Cloud, applied: Outputs) -> None:
    assert re.fullmatch(r"[\d.]+", applied.public_address)
    assert applied.backup_bucket == cloud.site.backup.bucket
    assert cloud.client("ec2").describe_instances(InstanceIds=[applied.instance_id])["Reservations"]


def test_a_second_plan_finds_nothing_to_do(cloud: Cloud, applied: Outputs) -> None:
    assert applied
    assert cloud.terraform().plan(cloud.variables()) is False


def test_every_secret_has_a_value_that_no_state_plan_or_message_holds(cloud: Cloud, applied: Outputs) -> None:
    secrets = cloud.client("secretsmanager")
    values = [secrets.get_secret_value(SecretId=name)["SecretString"] for name in applied.secret_names.values()]
    assert len(set(values)) == 6
    assert all(re.fullmatch(r"[A-Za-z0-9]{32,}", value) for value in values)
    storage = cloud.client("s3")
    state = (
        storage.get_object(Bucket=deploy.state_bucket(cloud.site), Key="test/terraform.tfstate")["Body"].read().decode()
    )
    kept = [path.read_text(errors="replace") for path in cloud.workshop.state.rglob("*.json") if path.is_file()]
    everything = "\n".join([state, *kept, *cloud.said])
    assert "aws_secretsmanager_secret" in state
    assert [name for name, value in zip(applied.secret_names, values, strict=True) if value in everything] == []


def test_gitea_s_jwt_secret_is_32_bytes_of_base64(cloud: Cloud, applied: Outputs) -> None:
    name = applied.secret_names["gitea-jwt-secret"]
    assert len(cloud.client("secretsmanager").get_secret_value(SecretId=name)["SecretString"]) == 43


def test_the_buckets_are_versioned_encrypted_and_closed(cloud: Cloud, applied: Outputs) -> None:
    storage = cloud.client("s3")
    for bucket in (applied.backup_bucket, deploy.state_bucket(cloud.site)):
        assert storage.get_bucket_versioning(Bucket=bucket)["Status"] == "Enabled"
        assert all(storage.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"].values())
        assert storage.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]["Rules"]
        (statement,) = json.loads(storage.get_bucket_policy(Bucket=bucket)["Policy"])["Statement"]
        assert (statement["Effect"], statement["Condition"]) == ("Deny", {"Bool": {"aws:SecureTransport": "false"}})


def test_only_the_web_and_git_are_open_to_the_world(cloud: Cloud, applied: Outputs) -> None:
    (reservation,) = cloud.client("ec2").describe_instances(InstanceIds=[applied.instance_id])["Reservations"]
    groups = [group["GroupId"] for group in reservation["Instances"][0]["SecurityGroups"]]
    rules = cloud.client("ec2").describe_security_group_rules(Filters=[{"Name": "group-id", "Values": groups}])
    incoming = [rule for rule in rules["SecurityGroupRules"] if not rule["IsEgress"]]
    world = {rule["FromPort"] for rule in incoming if rule["CidrIpv4"] == "0.0.0.0/0"}
    assert world == {80, 443, 2222}
    assert {rule["CidrIpv4"] for rule in incoming if rule["FromPort"] == 22} == {"203.0.113.7/32"}


def test_the_instance_demands_a_token_for_its_metadata(cloud: Cloud, applied: Outputs) -> None:
    (reservation,) = cloud.client("ec2").describe_instances(InstanceIds=[applied.instance_id])["Reservations"]
    options = reservation["Instances"][0]["MetadataOptions"]
    assert (options["HttpTokens"], options["HttpPutResponseHopLimit"]) == ("required", 2)


def test_a_state_that_another_run_holds_is_exit_8_and_says_who(cloud: Cloud, applied: Outputs) -> None:
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
    place = {"Bucket": deploy.state_bucket(cloud.site), "Key": "test/terraform.tfstate.tflock"}
    cloud.client("s3").put_object(**place, Body=json.dumps(lock).encode())
    try:
        with pytest.raises(Locked, match="someone@elsewhere") as caught:
            cloud.terraform().apply(cloud.variables(), "-lock-timeout=1s")
    finally:
        cloud.client("s3").delete_object(**place)
    assert caught.value.exit_code == 8


def test_an_endpoint_that_does_not_answer_is_unavailable_soon(cloud: Cloud, tmp_path: Path) -> None:
    away = fakes.site(aws={"region": "eu-central-1", "endpoint_url": "http://127.0.0.1:9"})
    began = time.monotonic()
    with pytest.raises(OpsError) as caught:
        deploy.infrastructure(
            away, World(away, tell=cloud.said.append), Workshop(run.REPOSITORY, tmp_path, run.CACHE), KEY
        )
    assert caught.value.exit_code == 7
    assert time.monotonic() - began < 60
