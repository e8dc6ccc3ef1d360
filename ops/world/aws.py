"""The door to AWS. Endpoint, region and credentials come from the environment, as boto3 reads it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from ops.errors import OpsError, Unavailable
from ops.model import Secret

# Two attempts and short time-outs: an operator waits for the answer, and every verb can be run again.
_CONFIG = Config(connect_timeout=5, read_timeout=30, retries={"total_max_attempts": 3}, s3={"addressing_style": "path"})


class Aws:
    """Reads and writes what the site keeps in AWS."""

    def __init__(self, region: str, endpoint_url: str = "") -> None:
        self._session = boto3.Session(region_name=region)
        self._endpoint_url = endpoint_url or None

    def secret(self, name: str) -> Secret:
        """Return the current value of a secret in Secrets Manager; raises OpsError when it is not there."""
        with _explained(f"secret {name}"):
            return Secret(self._client("secretsmanager").get_secret_value(SecretId=name)["SecretString"])

    def caller(self) -> str:
        """Return the ARN of the identity in use; raises Unavailable when there is none."""
        with _explained("AWS credentials"):
            return str(self._client("sts").get_caller_identity()["Arn"])

    def bucket_exists(self, bucket: str) -> bool:
        """Tell whether the bucket exists and is ours."""
        client = self._client("s3")
        try:
            client.head_bucket(Bucket=bucket)
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
                return False
            raise OpsError(
                f"bucket {bucket} is not ours to use: {error}", "choose another bucket name in the site file"
            ) from error
        except BotoCoreError as error:
            raise Unavailable(f"S3 did not answer: {error}", "check the network and the credentials") from error
        return True

    def _client(self, service: str) -> Any:
        return self._session.client(service, endpoint_url=self._endpoint_url, config=_CONFIG)


@contextmanager
def _explained(what: str) -> Iterator[None]:
    try:
        yield
    except ClientError as error:
        code = error.response["Error"]["Code"]
        kind = Unavailable if error.response["ResponseMetadata"]["HTTPStatusCode"] >= 500 else OpsError
        raise kind(
            f"{what}: AWS says {code}", "check that `ops deploy` has run and that the role may read it"
        ) from error
    except BotoCoreError as error:
        raise Unavailable(
            f"{what}: AWS is out of reach: {error}", "check network and credentials, then retry"
        ) from error
