"""A site in the run's LocalStack, for tests that create, inspect and destroy its infrastructure."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ground import aws, run_registry
from ops.config import tool_variables
from ops.config.load import site_from
from ops.config.schema import Site
from ops.config.workspace import Workspace
from ops.deploy import infrastructure
from ops.world import World
from ops.world.terraform import Terraform
from ops.world.terraform_program import command
from tests.support import fakes

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJX6cQ0N0gDkDn5iBpJFYKYxNlwM4n0c8mUAW4dEBlvL test"


@dataclass
class Cloud:
    """A site in the run's LocalStack."""

    site: Site
    world: World
    workspace: Workspace
    progress: list[str]

    def variables(self) -> Path:
        path = self.workspace.state / "infra/terraform.tfvars.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(tool_variables.terraform_variables(self.site, KEY)))
        return path

    def terraform(self) -> Terraform:
        return infrastructure.terraform_of(self.site, self.world, self.workspace)

    def client(self, service: str) -> Any:
        return aws.client(self.site.aws.endpoint_url, service)

    def state(self) -> dict[str, Any]:
        key = {"Bucket": infrastructure.state_bucket(self.site), "Key": "test/terraform.tfstate"}
        document: dict[str, Any] = json.loads(self.client("s3").get_object(**key)["Body"].read())
        return document

    def show(self, plan: Path) -> dict[str, Any]:
        argv = [*command(), "show", "-json", str(plan)]
        environment = os.environ | self.terraform().environment
        done = subprocess.run(
            argv, cwd=run_registry.REPOSITORY / "infra", env=environment, stdout=subprocess.PIPE, check=True
        )
        document: dict[str, Any] = json.loads(done.stdout)
        return document

    def disks(self, name: str) -> list[str]:
        found = self.client("ec2").describe_volumes(Filters=[{"Name": "tag:Name", "Values": [name]}])
        return [volume["VolumeId"] for volume in found["Volumes"]]

    def records(self) -> dict[tuple[str, str], list[str]]:
        names = self.client("route53")
        (zone,) = names.list_hosted_zones_by_name(DNSName="gitea.test")["HostedZones"]
        listed = names.list_resource_record_sets(HostedZoneId=zone["Id"])["ResourceRecordSets"]
        return {(each["Name"], each["Type"]): [value["Value"] for value in each["ResourceRecords"]] for each in listed}


def cloud_at(endpoint: str, folder: Path) -> Cloud:
    """Return a site that is not deployed; ``folder`` holds the state of its deployments."""
    os.environ.update(aws.CREDENTIALS)
    key = folder / "key"
    key.write_text("not a key")
    key.with_name("key.pub").write_text(KEY)
    host = {"ssh_key": str(key), "ami": aws.some_ami(endpoint)}
    document = fakes.site_document(
        domain="git.gitea.test",
        zone="gitea.test",
        aws={"region": "eu-central-1", "endpoint_url": endpoint},
        mail={"sender": "gitea@gitea.test", "smtp_host": "mail.gitea.test"},
        host=host,
        network={"admin_cidrs": ["203.0.113.7/32"], "ipv6": True, "flow_logs": True},
        backup={"bucket": "example-org-gitea-backup", "lock_days": 7, "replica_region": "eu-west-1"},
    )
    progress: list[str] = []
    site = site_from(document)
    world = World(site, tell=progress.append)
    return Cloud(site, world, Workspace(run_registry.REPOSITORY, folder / "state", run_registry.CACHE), progress)
