"""boto3's clients with the suite's settings, one per service."""

from __future__ import annotations

import functools
from typing import Any

import boto3
from botocore.config import Config

# LocalStack answers at once or not at all, and a server error of its own lasts: the SDKs' usual retries only delay the failure.
ENDPOINT_ATTEMPTS = 4
# Parameters of S3's operations (Amazon S3 User Guide, "Verifying bucket ownership with bucket owner condition").
_OWNERS = ("ExpectedBucketOwner", "ExpectedSourceBucketOwner")
# Threads that read objects share one client.
CONNECTIONS = 16


class AwsClients:
    """Makes the client of each service once. Credentials come from the environment, as boto3 reads them."""

    def __init__(self, region: str, endpoint_url: str = "") -> None:
        self.session = boto3.Session(region_name=region)
        self._endpoint_url = endpoint_url or None
        self._made: dict[str, Any] = {}

    def client(self, service: str) -> Any:
        """Return the client of an AWS service such as ``s3``."""
        if service not in self._made:
            made = self.session.client(service, endpoint_url=self._endpoint_url, config=_config(self._endpoint_url))
            if service == "s3":
                made.meta.events.register("provide-client-params.s3", self._name_owner)
            self._made[service] = made
        return self._made[service]

    @functools.cached_property
    def account(self) -> str:
        """The number of the account that the credentials belong to."""
        return str(self.client("sts").get_caller_identity()["Account"])

    def _name_owner(self, params: dict[str, Any], model: Any, **_: Any) -> dict[str, Any]:
        """Add this account as the bucket's expected owner, so that S3 refuses (403) a bucket of another account.

        A bucket's name is unique in all of AWS: anyone may own a name that the site file gives, and let us write to it.
        """
        accepted = model.input_shape.members if model.input_shape else {}
        owners = [each for each in _OWNERS if each in accepted]
        return params | dict.fromkeys(owners, self.account) if owners else params


def _config(endpoint_url: str | None) -> Config:
    # Short time-outs: an operator waits for the answer. AWS throttles, so its own number of attempts stays.
    retries = {"retries": {"total_max_attempts": ENDPOINT_ATTEMPTS}} if endpoint_url else {}
    return Config(
        connect_timeout=5,
        read_timeout=30,
        max_pool_connections=CONNECTIONS,
        s3={"addressing_style": "path"},
        **retries,
    )
