"""The next deployment completes an interrupted one: the infrastructure, and the host."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from ground import host as ground_host
from ground import run_registry
from ground.container import RunContext
from ops.deploy import destroy, infrastructure
from ops.deploy.destroy import DestroyRequest
from ops.errors import Refused
from ops.model import Outputs
from ops.world.terraform_program import command
from tests.support.bare_machine import Machine, bare_machine, reasons
from tests.support.site_in_aws import KEY, Cloud, cloud_at


@pytest.fixture(scope="module")
def cloud(aws_endpoint: str, tmp_path_factory: pytest.TempPathFactory) -> Cloud:
    return cloud_at(aws_endpoint, tmp_path_factory.mktemp("cloud"))


@pytest.fixture(scope="module")
def applied(cloud: Cloud) -> Outputs:
    """The infrastructure after an interrupted apply and the apply that completed it."""
    _interrupt_apply(cloud)
    orphan = _run_orphaned_instance(cloud)
    with pytest.raises(Refused, match=f"instance {orphan} holds the host's network interface"):
        infrastructure.infrastructure(cloud.site, cloud.world, cloud.workspace, KEY)
    cloud.client("ec2").terminate_instances(InstanceIds=[orphan])
    return infrastructure.infrastructure(cloud.site, cloud.world, cloud.workspace, KEY)


def _interrupt_apply(cloud: Cloud) -> None:
    infrastructure.ensure_state_bucket(cloud.site, cloud.world, cloud.workspace)
    terraform = cloud.terraform()
    terraform.init(infrastructure.backend(cloud.site))
    # Without IPv6, which the next apply adds. Only the data disk and the network interface, because an interrupted apply waits
    # for slower resources. Not the instance: an interrupted provider does not record an instance that it is creating.
    targets = ["-target=aws_ebs_volume.data", "-target=aws_network_interface.host"]
    given = [f"-var-file={cloud.variables()}", "-var=ipv6=false", *targets]
    argv = [*command(), "apply", "-input=false", "-no-color", "-auto-approve", *given]
    environment = os.environ | terraform.environment
    with subprocess.Popen(
        argv,
        cwd=run_registry.REPOSITORY / "infra",
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout
        # The network interface must exist before: the next apply adds IPv6 to an interface without it.
        awaited = {"aws_ebs_volume.data: Creating...", "aws_network_interface.host: Creation complete"}
        for line in process.stdout:
            awaited = {each for each in awaited if not line.startswith(each)}
            if not awaited:
                break
        # The worst moment: the data disk, which must never be destroyed, exists, but Terraform has not recorded it as created.
        while process.poll() is None and not cloud.disks("test-data"):
            time.sleep(0.1)
        # As Ctrl-C does: Terraform writes its state and unlocks it.
        process.send_signal(2)
        process.stdout.read()
    assert process.returncode != 0


def _run_orphaned_instance(cloud: Cloud) -> str:
    """Run an instance as an apply does that is interrupted at that moment; returns the orphaned instance's id."""
    compute = cloud.client("ec2")
    (card,) = compute.describe_network_interfaces(Filters=[{"Name": "tag:Site", "Values": ["test"]}])[
        "NetworkInterfaces"
    ]
    made = compute.run_instances(
        ImageId=cloud.site.host.ami,
        MinCount=1,
        MaxCount=1,
        NetworkInterfaces=[{"DeviceIndex": 0, "NetworkInterfaceId": card["NetworkInterfaceId"]}],
    )
    return str(made["Instances"][0]["InstanceId"])


def test_the_next_apply_completes_an_interrupted_one(cloud: Cloud, applied: Outputs) -> None:
    assert re.fullmatch(r"[\d.]+", applied.public_address)
    assert applied.backup_bucket == cloud.site.backup.bucket
    assert any("aws_ebs_volume.data: keeping the resource" in line for line in cloud.progress)


def test_completing_an_interrupted_apply_creates_nothing_twice(cloud: Cloud, applied: Outputs) -> None:
    # A partly created host is terminated and created again; EC2 lists terminated instances for another hour.
    alive = {"Name": "instance-state-name", "Values": ["pending", "running", "stopping", "stopped"]}
    chosen = [{"Name": "tag:Site", "Values": ["test"]}, alive]
    reservations = cloud.client("ec2").describe_instances(Filters=chosen)["Reservations"]
    assert [one["InstanceId"] for each in reservations for one in each["Instances"]] == [applied.instance_id]
    assert cloud.disks("test-data") == [applied.data_volume_id]


def test_destroying_a_site_with_its_backups_leaves_nothing_behind(cloud: Cloud, applied: Outputs) -> None:
    asked: list[str] = []
    requested = DestroyRequest(with_backups=True, without_verified_backup=True)
    done = destroy.destroy(
        cloud.site,
        cloud.world,
        workspace=cloud.workspace,
        request=requested,
        confirm=lambda name, lost: asked.extend((name, *lost)),
    )
    assert done.changed
    assert asked[0] == "test"
    assert "lost: the data disk of 50 GiB" in "\n".join(asked)
    of_the_site = [{"Name": "tag:Site", "Values": ["test"]}]
    network = cloud.client("ec2")
    assert cloud.disks("test-data") == []
    assert network.describe_vpcs(Filters=of_the_site)["Vpcs"] == []
    assert network.describe_addresses(AllocationIds=[])["Addresses"] == []
    assert network.describe_network_interfaces(Filters=of_the_site)["NetworkInterfaces"] == []
    (host,) = network.describe_instances(InstanceIds=[applied.instance_id])["Reservations"][0]["Instances"]
    assert host["State"]["Name"] == "terminated"
    assert "gitea.test" not in cloud.client("ses").list_identities(IdentityType="Domain")["Identities"]
    # Other sites have their own buckets in the same account.
    left = {each["Name"] for each in cloud.client("s3").list_buckets()["Buckets"]}
    bucket = applied.backup_bucket
    assert left.isdisjoint({bucket, infrastructure.replica_bucket(cloud.site), infrastructure.state_bucket(cloud.site)})
    assert {kind for _, kind in cloud.records()} == {"NS", "SOA"}
    access = cloud.client("iam")
    assert [each["RoleName"] for each in access.list_roles()["Roles"] if each["RoleName"].startswith("test-")] == []
    assert access.list_users()["Users"] == []


@pytest.fixture
def bare(
    docker_client: docker.DockerClient, run_context: RunContext, host_image: str, tmp_path: Path
) -> Iterator[Machine]:
    with bare_machine(docker_client, run_context, host_image, tmp_path) as machine:
        yield machine


def test_the_next_run_completes_one_during_which_the_machine_lost_power(bare: Machine) -> None:
    cut_off = bare.play(power_cut_at="Install the base packages")
    ground_host.restart(bare.client, bare.host)
    assert cut_off.rc != 0
    assert bare.unfinished_packages() != ""
    completed = bare.play()
    assert completed.rc == 0, reasons(completed)
    assert bare.unfinished_packages() == ""
