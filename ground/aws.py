"""AWS's place: LocalStack's open core, and the metadata service that gives the host its role's credentials."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import boto3
import docker
import requests
from botocore.config import Config

from ground.container import RunContext, create, wait
from ground.image_set import ImageSet

# LocalStack takes any; real ones, should the environment hold some, have no business here.
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_SESSION_TOKEN": "test"}
REGION = "eu-central-1"
_READY_SECONDS = 60


@dataclass(frozen=True)
class AwsEndpoint:
    """A running AWS: its endpoint, and an image that instances can be made of."""

    endpoint_url: str
    ami: str = ""


def start(run_context: RunContext, images: ImageSet) -> AwsEndpoint:
    """Start LocalStack and the metadata service; raises Unavailable with their last words when they do not come up."""
    create(run_context, "metadata", images.local("metadata"), cap_add=["NET_ADMIN"], environment={"REGION": REGION})
    container = create(run_context, "aws", images.local("localstack"))
    endpoint = f"http://{run_context.address('aws')}:4566"
    wait(container, lambda: requests.get(f"{endpoint}/_localstack/health", timeout=2).ok, _READY_SECONDS)
    return AwsEndpoint(endpoint, some_ami(endpoint))


def seed(endpoint_url: str, zone: str) -> None:
    """Make what an account has before a site is deployed: the hosted zone of the domain."""
    client(endpoint_url, "route53").create_hosted_zone(Name=zone, CallerReference=zone)


def lose_account(engine: docker.DockerClient, container: str, zone: str) -> None:
    """Have a running AWS forget all that was made in it, and be as ``start`` and ``seed`` left it.

    LocalStack keeps everything in memory and in its container's temporary folder. Raises Unavailable as ``start`` does.
    """
    found = engine.containers.get(container)
    found.restart(timeout=5)
    found.reload()
    (network,) = found.attrs["NetworkSettings"]["Networks"].values()
    endpoint = f"http://{network['IPAddress']}:4566"
    wait(found, lambda: requests.get(f"{endpoint}/_localstack/health", timeout=2).ok, _READY_SECONDS)
    seed(endpoint, zone)


def client(endpoint_url: str, service: str) -> Any:
    """Return a boto3 client for the ground's AWS."""
    return boto3.client(
        service,
        region_name=REGION,
        endpoint_url=endpoint_url,
        aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
        config=Config(retries={"total_max_attempts": 2}, s3={"addressing_style": "path"}),
    )


def some_ami(endpoint: str) -> str:
    """Return an image that instances can be made of.

    LocalStack has not the public parameter that names Canonical's image, so the site file names one that it has.
    """
    return str(client(endpoint, "ec2").describe_images(Owners=["099720109477"])["Images"][0]["ImageId"])
