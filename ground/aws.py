"""The stand-in for AWS: LocalStack's open core, and the metadata service with the credentials of the host's role."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import boto3
import docker
import requests
from botocore.config import Config

from ground.container import RunContext, create, wait
from ground.image_set import ImageSet

# LocalStack accepts any credentials. Real ones from the environment must never be used.
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_SESSION_TOKEN": "test"}
REGION = "eu-central-1"
_READY_SECONDS = 60


@dataclass(frozen=True)
class AwsEndpoint:
    """A running LocalStack: its endpoint, and the id of an AMI that it has."""

    endpoint_url: str
    ami: str = ""


def start(run_context: RunContext, images: ImageSet) -> AwsEndpoint:
    """Start LocalStack and the metadata service; raises Unavailable with their last log lines when they do not start."""
    create(run_context, "metadata", images.local("metadata"), cap_add=["NET_ADMIN"], environment={"REGION": REGION})
    container = create(run_context, "aws", images.local("localstack"))
    endpoint = f"http://{run_context.address('aws')}:4566"
    wait(container, lambda: requests.get(f"{endpoint}/_localstack/health", timeout=2).ok, _READY_SECONDS)
    return AwsEndpoint(endpoint, some_ami(endpoint))


def seed(endpoint_url: str, zone: str) -> None:
    """Create the hosted zone of the domain, which an account has before a site is deployed."""
    client(endpoint_url, "route53").create_hosted_zone(Name=zone, CallerReference=zone)


def lose_account(engine: docker.DockerClient, container: str, zone: str) -> None:
    """Restart a running LocalStack, which empties it, and create the hosted zone again as ``seed`` does.

    LocalStack keeps its state in memory and in its container's temporary folder. Raises Unavailable as ``start`` does.
    """
    found = engine.containers.get(container)
    found.restart(timeout=5)
    found.reload()
    (network,) = found.attrs["NetworkSettings"]["Networks"].values()
    endpoint = f"http://{network['IPAddress']}:4566"
    wait(found, lambda: requests.get(f"{endpoint}/_localstack/health", timeout=2).ok, _READY_SECONDS)
    seed(endpoint, zone)


def client(endpoint_url: str, service: str) -> Any:
    """Return a boto3 client for the run's LocalStack."""
    return boto3.client(
        service,
        region_name=REGION,
        endpoint_url=endpoint_url,
        aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
        config=Config(retries={"total_max_attempts": 2}, s3={"addressing_style": "path"}),
    )


def some_ami(endpoint: str) -> str:
    """Return the id of one of Canonical's AMIs.

    LocalStack lacks the public parameter with the id of Canonical's newest AMI, so the site file names one of its AMIs.
    """
    return str(client(endpoint, "ec2").describe_images(Owners=["099720109477"])["Images"][0]["ImageId"])
