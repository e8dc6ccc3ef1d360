"""The adapter for AWS. boto3 reads endpoint, region and credentials from the environment."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from typing import TypeVar

from botocore.exceptions import BotoCoreError, ClientError

from ops.errors import OpsError, Refused, Unavailable
from ops.model import AccessKey, Secret
from ops.world.aws_clients import CONNECTIONS, AwsClients

_Answer = TypeVar("_Answer")

# Staging labels of secret versions. The first two are AWS's; FIRST stays with the version that Terraform wrote.
CURRENT, PENDING, FIRST = "AWSCURRENT", "AWSPENDING", "FIRST"

# Temporary errors with a status below 500: credentials of a role are renewed, throttling ends.
_LATER = frozenset(
    {"ExpiredToken", "ExpiredTokenException", "RequestExpired", "SlowDown", "Throttling", "ThrottlingException"}
)
# Objects per request of a deletion (S3 API, DeleteObjects), and per round of reading.
_BATCH = 1000


class Aws:
    """Reads and writes the site's secrets, access keys and objects."""

    def __init__(self, region: str, endpoint_url: str = "") -> None:
        self._clients = AwsClients(region, endpoint_url)
        self._client = self._clients.client

    def secret(self, name: str, stage: str = CURRENT) -> Secret:
        """Return the value of a secret in Secrets Manager; raises OpsError when the secret or that staging label does not exist."""
        with _translated_errors(f"secret {name}"):
            found = self._client("secretsmanager").get_secret_value(SecretId=name, VersionStage=stage)
        if "SecretString" not in found:
            raise Refused(f"secret {name} has a binary value", "set it as text in Secrets Manager")
        return Secret(found["SecretString"])

    def secret_stages(self, name: str) -> Mapping[str, str]:
        """Return the version of each staging label of a secret; empty for a secret without a value."""
        with _translated_errors(f"secret {name}"):
            described = self._client("secretsmanager").describe_secret(SecretId=name)
        stages = described.get("VersionIdsToStages") or {}
        return {stage: version for version, labels in stages.items() for stage in labels}

    def ensure_secret(self, name: str, site: str) -> None:
        """Make an empty secret for a site unless there is one of that name."""
        with _translated_errors(f"secret {name}"):
            client = self._client("secretsmanager")
            tags = [{"Key": "Site", "Value": site}, {"Key": "Project", "Value": "gitea-suite"}]
            try:
                client.create_secret(Name=name, Description=f"Gitea site {site}: a setting of Gitea", Tags=tags)
            except client.exceptions.ResourceExistsException:
                return

    def put_pending_secret(self, name: str, value: Secret) -> str:
        """Store a value as pending beside the current one and return its version. AWS makes a secret's first version current at once."""
        with _translated_errors(f"secret {name}"):
            request = {"SecretId": name, "SecretString": value.reveal(), "VersionStages": [PENDING]}
            return str(self._client("secretsmanager").put_secret_value(**request)["VersionId"])

    def promote_secret(self, name: str, version: str) -> None:
        """Make a version the current one; the previous one becomes AWSPREVIOUS. Promoting twice has no further effect."""
        stages = self.secret_stages(name)
        if stages.get(CURRENT) == version:
            return
        with _translated_errors(f"secret {name}"):
            client = self._client("secretsmanager")
            before = {"RemoveFromVersionId": stages[CURRENT]} if CURRENT in stages else {}
            if before and FIRST not in stages:
                # AWS deletes versions without a label, and Terraform would then generate a new value for the one it wrote.
                client.update_secret_version_stage(SecretId=name, VersionStage=FIRST, MoveToVersionId=stages[CURRENT])
            client.update_secret_version_stage(SecretId=name, VersionStage=CURRENT, MoveToVersionId=version, **before)

    def access_keys(self, user: str) -> tuple[AccessKey, ...]:
        """Return the access keys of an IAM user, at most two."""
        with _translated_errors(f"IAM user {user}"):
            found = self._client("iam").list_access_keys(UserName=user)["AccessKeyMetadata"]
        return tuple(AccessKey(each["AccessKeyId"], each["Status"] == "Active") for each in found)

    def make_access_key(self, user: str) -> tuple[str, Secret]:
        """Create an access key for an IAM user and return its id and its secret, which AWS shows only once."""
        with _translated_errors(f"IAM user {user}"):
            made = self._client("iam").create_access_key(UserName=user)["AccessKey"]
        return made["AccessKeyId"], Secret(made["SecretAccessKey"])

    def delete_access_key(self, user: str, identity: str) -> None:
        """Deactivate an access key of an IAM user, then delete it."""
        with _translated_errors(f"IAM user {user}"):
            client = self._client("iam")
            client.update_access_key(UserName=user, AccessKeyId=identity, Status="Inactive")
            client.delete_access_key(UserName=user, AccessKeyId=identity)

    def credentials(self) -> Secret:
        """Return the credentials in use as the text of a shared credentials file, for a program that reads one.

        Credentials of a role or of single sign-on expire, even while the program runs. Raises Unavailable without credentials.
        """
        with _translated_errors("AWS credentials"):
            found = self._clients.session.get_credentials()
            credentials = found.get_frozen_credentials() if found else None
        if credentials is None:
            raise Unavailable(
                "this machine has no AWS credentials",
                "run aws sso login, or set AWS_PROFILE to an administrator's profile",
            )
        lines = [
            "[default]",
            f"aws_access_key_id = {credentials.access_key}",
            f"aws_secret_access_key = {credentials.secret_key}",
        ]
        token = [f"aws_session_token = {credentials.token}"] if credentials.token else []
        return Secret("\n".join([*lines, *token, ""]))

    def bucket_exists(self, bucket: str) -> bool:
        """Return whether the bucket exists; raises OpsError when it belongs to another account."""
        client = self._client("s3")
        try:
            client.head_bucket(Bucket=bucket)
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
                return False
            raise OpsError(
                f"bucket {bucket} belongs to another account: {error}", "choose another bucket name in the site file"
            ) from error
        except BotoCoreError as error:
            raise Unavailable(f"S3 did not answer: {error}", "check the network and the credentials") from error
        return True

    def objects(self, bucket: str, prefix: str, *, after: str = "") -> tuple[str, ...]:
        """Return the keys in a bucket that begin with ``prefix``, sorted; with ``after`` only keys that sort after it."""
        with _translated_errors(f"bucket {bucket}"):
            request = {"Bucket": bucket, "Prefix": prefix, "StartAfter": after}
            pages = self._client("s3").get_paginator("list_objects_v2").paginate(**request)
            return tuple(sorted(each["Key"] for page in pages for each in page.get("Contents", ())))

    def read_object(self, bucket: str, key: str) -> bytes:
        """Return the content of an object; raises OpsError when it does not exist."""
        with _translated_errors(f"{key} in bucket {bucket}"):
            return bytes(self._client("s3").get_object(Bucket=bucket, Key=key)["Body"].read())

    def object_dates(self, bucket: str, prefix: str) -> dict[str, datetime]:
        """Return the keys in a bucket that begin with ``prefix``, with the moment at which each object was written."""
        with _translated_errors(f"bucket {bucket}"):
            pages = self._client("s3").get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
            return {each["Key"]: each["LastModified"] for page in pages for each in page.get("Contents", ())}

    def read_objects(self, bucket: str, keys: Sequence[str]) -> Iterator[bytes]:
        """Return the content of each object in the order of ``keys``, read by a few threads; raises as ``read_object`` does."""
        return self._for_each(functools.partial(self.read_object, bucket), keys)

    def _for_each(self, request: Callable[[str], _Answer], keys: Sequence[str]) -> Iterator[_Answer]:
        self._client("s3")  # The threads share it: boto3 makes clients in one thread only.
        with ThreadPoolExecutor(CONNECTIONS) as threads:
            # In batches, so that unread content does not fill the memory.
            for start in range(0, len(keys), _BATCH):
                yield from threads.map(request, keys[start : start + _BATCH])

    def replication(self, bucket: str, key: str) -> str:
        """Return the replication status of an object: COMPLETED, PENDING, FAILED, or "" where no replication rule applies.

        Amazon S3 User Guide, "Getting replication status information".
        """
        with _translated_errors(f"{key} in bucket {bucket}"):
            return str(self._client("s3").head_object(Bucket=bucket, Key=key).get("ReplicationStatus", ""))

    def replications(self, bucket: str, keys: Sequence[str]) -> tuple[str, ...]:
        """Return the replication status of each object, in the order of ``keys``, as ``replication`` does."""
        return tuple(self._for_each(functools.partial(self.replication, bucket), keys))

    def write_object(self, bucket: str, key: str, content: bytes) -> None:
        """Write an object; a previous object under that key stays as an older version."""
        with _translated_errors(f"{key} in bucket {bucket}"):
            self._client("s3").put_object(Bucket=bucket, Key=key, Body=content, ChecksumAlgorithm="SHA256")

    def hide_object(self, bucket: str, key: str) -> None:
        """Put a delete marker on an object; its versions stay until object lock and lifecycle rules remove them."""
        with _translated_errors(f"{key} in bucket {bucket}"):
            self._client("s3").delete_object(Bucket=bucket, Key=key)

    def hide_objects(self, bucket: str, keys: Sequence[str]) -> None:
        """Put a delete marker on each object, a thousand per request; raises OpsError that names the first that stays."""
        for start in range(0, len(keys), _BATCH):
            batch = [{"Key": key} for key in keys[start : start + _BATCH]]
            with _translated_errors(f"bucket {bucket}"):
                done = self._client("s3").delete_objects(Bucket=bucket, Delete={"Objects": batch, "Quiet": True})
            for first in done.get("Errors", ())[:1]:
                raise OpsError(f"{first['Key']} in bucket {bucket}: AWS says {first['Code']}", _REMEDY)


_REMEDY = "check that ops deploy has run and that the role may read it"
# AWS rejects requests whose time stamp is 15 minutes off (Signature Version 4).
_REMEDIES = {"RequestTimeTooSkewed": "set this machine's clock: check it with timedatectl and chronyc tracking"}


@contextmanager
def _translated_errors(what: str) -> Iterator[None]:
    try:
        yield
    except ClientError as error:
        code = error.response["Error"]["Code"]
        temporary = error.response["ResponseMetadata"]["HTTPStatusCode"] >= 500 or code in _LATER
        kind = Unavailable if temporary else OpsError
        raise kind(f"{what}: AWS says {code}", _REMEDIES.get(code, _REMEDY)) from error
    except BotoCoreError as error:
        raise Unavailable(
            f"{what}: AWS is out of reach: {error}", "check network and credentials, then run the command again"
        ) from error
