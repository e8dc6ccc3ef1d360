"""boto3's clients with the suite's settings, one per service."""

from __future__ import annotations

from typing import Any

import boto3
from botocore.config import Config

# LocalStack answers at once or not at all, and a server error of its own lasts: the SDKs' usual retries only delay the failure.
ENDPOINT_ATTEMPTS = 4
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
            self._made[service] = made
        return self._made[service]


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
