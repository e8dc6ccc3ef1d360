"""The settings that protect a bucket, as S3 reports them; infra/bucket makes them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from botocore.exceptions import ClientError

_NOT_SET = frozenset(
    {
        "NoSuchBucketPolicy",
        "NoSuchPublicAccessBlockConfiguration",
        "ServerSideEncryptionConfigurationNotFoundError",
    }
)


def missing(client: Any, bucket: str) -> tuple[str, ...]:
    """Return which of versioning, encryption, public access block and TLS-only policy a bucket lacks.

    ``client`` is boto3's for S3. Raises ClientError or BotoCoreError when S3 does not answer one of the questions.
    """
    checks: Mapping[str, Callable[[], bool]] = {
        "versioning": lambda: client.get_bucket_versioning(Bucket=bucket).get("Status") == "Enabled",
        "encryption": lambda: bool(client.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]),
        "public access block": lambda: _is_closed(client.get_public_access_block(Bucket=bucket)),
        "TLS-only policy": lambda: is_tls_only(json.loads(client.get_bucket_policy(Bucket=bucket)["Policy"])),
    }
    return tuple(name for name, check in checks.items() if not _is_set(check))


def is_tls_only(policy: Mapping[str, Any]) -> bool:
    """Return whether a bucket policy denies every request without TLS to everyone."""
    return any(
        each["Effect"] == "Deny"
        and each["Principal"] in ("*", {"AWS": "*"})
        and each["Action"] in ("s3:*", ["s3:*"])
        and each.get("Condition") == {"Bool": {"aws:SecureTransport": "false"}}
        for each in policy["Statement"]
    )


def _is_closed(answer: Mapping[str, Any]) -> bool:
    return all(answer["PublicAccessBlockConfiguration"].values())


def _is_set(check: Callable[[], bool]) -> bool:
    try:
        return check()
    except ClientError as error:
        if error.response["Error"]["Code"] in _NOT_SET:
            return False
        raise
