"""The door to AWS. Endpoint, region and credentials come from the environment, as boto3 reads it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from botocore.exceptions import BotoCoreError, ClientError

from ops.errors import OpsError, Unavailable
from ops.model import AccessKey, Secret
from ops.world.aws_clients import AwsClients

# Stages are labels that point at versions. The first two are AWS's own; ours stays with the version that Terraform wrote.
CURRENT, PENDING, FIRST = "AWSCURRENT", "AWSPENDING", "FIRST"

# What AWS says with a code below 500, and would not say a little later: a role's credentials are renewed, a crowd goes.
_LATER = frozenset(
    {"ExpiredToken", "ExpiredTokenException", "RequestExpired", "SlowDown", "Throttling", "ThrottlingException"}
)


class Aws:
    """Reads and writes what the site keeps in AWS."""

    def __init__(self, region: str, endpoint_url: str = "") -> None:
        self._clients = AwsClients(region, endpoint_url)
        self._client = self._clients.client

    def secret(self, name: str, stage: str = CURRENT) -> Secret:
        """Return the value of a secret in Secrets Manager; raises OpsError when the secret or that stage is not there."""
        with _explained(f"secret {name}"):
            found = self._client("secretsmanager").get_secret_value(SecretId=name, VersionStage=stage)
            return Secret(found["SecretString"])

    def secret_stages(self, name: str) -> Mapping[str, str]:
        """Return the version that each stage of a secret points at; empty for a secret that has no value yet."""
        with _explained(f"secret {name}"):
            described = self._client("secretsmanager").describe_secret(SecretId=name)
        stages = described.get("VersionIdsToStages") or {}
        return {stage: version for version, labels in stages.items() for stage in labels}

    def put_pending_secret(self, name: str, value: Secret) -> str:
        """Keep a value beside the current one and return its version. AWS makes a secret's first version current at once."""
        with _explained(f"secret {name}"):
            request = {"SecretId": name, "SecretString": value.reveal(), "VersionStages": [PENDING]}
            return str(self._client("secretsmanager").put_secret_value(**request)["VersionId"])

    def promote_secret(self, name: str, version: str) -> None:
        """Make a version the current one; the one before is AWSPREVIOUS then. Promoting twice is no error."""
        stages = self.secret_stages(name)
        if stages.get(CURRENT) == version:
            return
        with _explained(f"secret {name}"):
            client = self._client("secretsmanager")
            before = {"RemoveFromVersionId": stages[CURRENT]} if CURRENT in stages else {}
            if before and FIRST not in stages:
                # AWS forgets versions without a label, and Terraform would make a new value for the one it wrote.
                client.update_secret_version_stage(SecretId=name, VersionStage=FIRST, MoveToVersionId=stages[CURRENT])
            client.update_secret_version_stage(SecretId=name, VersionStage=CURRENT, MoveToVersionId=version, **before)

    def access_keys(self, user: str) -> tuple[AccessKey, ...]:
        """Return the keys of an IAM user, of which there are at most two."""
        with _explained(f"IAM user {user}"):
            found = self._client("iam").list_access_keys(UserName=user)["AccessKeyMetadata"]
        return tuple(AccessKey(each["AccessKeyId"], each["Status"] == "Active") for each in found)

    def make_access_key(self, user: str) -> tuple[str, Secret]:
        """Make a key for an IAM user and return its id and its secret, which AWS shows this once."""
        with _explained(f"IAM user {user}"):
            made = self._client("iam").create_access_key(UserName=user)["AccessKey"]
        return made["AccessKeyId"], Secret(made["SecretAccessKey"])

    def delete_access_key(self, user: str, identity: str) -> None:
        """Deactivate a key of an IAM user, then delete it."""
        with _explained(f"IAM user {user}"):
            client = self._client("iam")
            client.update_access_key(UserName=user, AccessKeyId=identity, Status="Inactive")
            client.delete_access_key(UserName=user, AccessKeyId=identity)

    def caller(self) -> str:
        """Return the ARN of the identity in use; raises Unavailable when there is none."""
        with _explained("AWS credentials"):
            return str(self._client("sts").get_caller_identity()["Arn"])

    def credentials(self) -> Secret:
        """Return the identity in use as the text of a shared credentials file, for a program that reads one.

        Those of a role or of single sign-on end after a while, and the program's work with them. Raises Unavailable for none.
        """
        with _explained("AWS credentials"):
            found = self._clients.session.get_credentials()
            known = found.get_frozen_credentials() if found else None
        if known is None:
            raise Unavailable("there are no AWS credentials here", "aws sso login, or AWS_PROFILE of an administrator")
        lines = ["[default]", f"aws_access_key_id = {known.access_key}", f"aws_secret_access_key = {known.secret_key}"]
        token = [f"aws_session_token = {known.token}"] if known.token else []
        return Secret("\n".join([*lines, *token, ""]))

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

    def objects(self, bucket: str, prefix: str, *, after: str = "") -> tuple[str, ...]:
        """Return the keys in a bucket that begin with ``prefix``, sorted; with ``after`` only those behind that one."""
        with _explained(f"bucket {bucket}"):
            request = {"Bucket": bucket, "Prefix": prefix, "StartAfter": after}
            pages = self._client("s3").get_paginator("list_objects_v2").paginate(**request)
            return tuple(sorted(each["Key"] for page in pages for each in page.get("Contents", ())))

    def read_object(self, bucket: str, key: str) -> bytes:
        """Return the content of an object; raises OpsError when it is not there."""
        with _explained(f"{key} in bucket {bucket}"):
            return bytes(self._client("s3").get_object(Bucket=bucket, Key=key)["Body"].read())

    def replication(self, bucket: str, key: str) -> str:
        """Return what S3 says of an object's copy in another region: COMPLETED, PENDING, FAILED, or "" where no rule copies it.

        Amazon S3 User Guide, "Getting replication status information".
        """
        with _explained(f"{key} in bucket {bucket}"):
            return str(self._client("s3").head_object(Bucket=bucket, Key=key).get("ReplicationStatus", ""))

    def write_object(self, bucket: str, key: str, content: bytes) -> None:
        """Write an object; what is there under its key stays as an older version."""
        with _explained(f"{key} in bucket {bucket}"):
            self._client("s3").put_object(Bucket=bucket, Key=key, Body=content, ChecksumAlgorithm="SHA256")

    def hide_object(self, bucket: str, key: str) -> None:
        """Put a delete marker on an object; its versions stay until lock and lifecycle end them."""
        with _explained(f"{key} in bucket {bucket}"):
            self._client("s3").delete_object(Bucket=bucket, Key=key)


_REMEDY = "check that `ops deploy` has run and that the role may read it"
# AWS takes no request whose clock is a quarter of an hour off (Signature Version 4).
_REMEDIES = {"RequestTimeTooSkewed": "set this machine's clock: timedatectl, chronyc tracking"}


@contextmanager
def _explained(what: str) -> Iterator[None]:
    try:
        yield
    except ClientError as error:
        code = error.response["Error"]["Code"]
        away = error.response["ResponseMetadata"]["HTTPStatusCode"] >= 500 or code in _LATER
        kind = Unavailable if away else OpsError
        raise kind(f"{what}: AWS says {code}", _REMEDIES.get(code, _REMEDY)) from error
    except BotoCoreError as error:
        raise Unavailable(
            f"{what}: AWS is out of reach: {error}", "check network and credentials, then retry"
        ) from error
