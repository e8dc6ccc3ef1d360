"""Attacks on the backups in a bucket, each with the IAM action that it needs, and what a policy permits of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from moto.iam.access_control import IAMPolicy, PermissionResult

BUCKET = "attacked-gitea-backup"


@dataclass(frozen=True)
class Attack:
    """An attack on an object or on the bucket: the IAM action that it needs, and the call.

    ``mapped`` tells whether moto maps the call to the same action; for the others its engine checks the action alone.
    """

    action: str
    call: Callable[[Any, str, str], Any]
    of_bucket: bool = False
    mapped: bool = True

    def resource(self, key: str) -> str:
        return f"arn:aws:s3:::{BUCKET}" + ("" if self.of_bucket else f"/{key}")


WHOLE = {"Bucket": BUCKET}
_EXPIRE = {
    "Rules": [{"ID": "end", "Status": "Enabled", "Filter": {}, "NoncurrentVersionExpiration": {"NoncurrentDays": 1}}]
}
_DENY = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Deny", "Principal": "*", "Action": "s3:*", "Resource": "*"}],
}
_SOON = {"Mode": "GOVERNANCE", "RetainUntilDate": datetime.now(UTC) + timedelta(minutes=1)}
ATTACKS = {
    "overwrite": Attack("s3:PutObject", lambda s3, key, _: s3.put_object(**WHOLE, Key=key, Body=b"garbage" * 99)),
    "remove": Attack("s3:DeleteObject", lambda s3, key, _: s3.delete_object(**WHOLE, Key=key)),
    "delete a version": Attack(
        "s3:DeleteObjectVersion", lambda s3, key, version: s3.delete_object(**WHOLE, Key=key, VersionId=version)
    ),
    "delete a locked version": Attack(
        "s3:BypassGovernanceRetention",
        lambda s3, key, version: s3.delete_object(**WHOLE, Key=key, VersionId=version, BypassGovernanceRetention=True),
    ),
    "shorten a lock": Attack(
        "s3:PutObjectRetention",
        lambda s3, key, version: s3.put_object_retention(**WHOLE, Key=key, VersionId=version, Retention=_SOON),
        mapped=False,
    ),
    "remove the legal hold": Attack(
        "s3:PutObjectLegalHold",
        lambda s3, key, _: s3.put_object_legal_hold(**WHOLE, Key=key, LegalHold={"Status": "OFF"}),
        mapped=False,
    ),
    "suspend versioning": Attack(
        "s3:PutBucketVersioning",
        lambda s3, *_: s3.put_bucket_versioning(**WHOLE, VersioningConfiguration={"Status": "Suspended"}),
        of_bucket=True,
    ),
    "expire old versions": Attack(
        "s3:PutLifecycleConfiguration",
        lambda s3, *_: s3.put_bucket_lifecycle_configuration(**WHOLE, LifecycleConfiguration=_EXPIRE),
        of_bucket=True,
    ),
    "disable object lock": Attack(
        "s3:PutBucketObjectLockConfiguration",
        lambda s3, *_: s3.put_object_lock_configuration(**WHOLE, ObjectLockConfiguration={"ObjectLockEnabled": "Enabled"}),
        of_bucket=True, mapped=False,
    ),
    "deny everyone": Attack(
        "s3:PutBucketPolicy", lambda s3, *_: s3.put_bucket_policy(**WHOLE, Policy=json.dumps(_DENY)), of_bucket=True
    ),
    "delete the bucket policy": Attack("s3:DeleteBucketPolicy", lambda s3, *_: s3.delete_bucket_policy(**WHOLE), of_bucket=True),
    "make the bucket public": Attack(
        "s3:PutBucketAcl", lambda s3, *_: s3.put_bucket_acl(**WHOLE, ACL="public-read-write"), of_bucket=True
    ),
    "replicate elsewhere": Attack(
        "s3:PutReplicationConfiguration",
        lambda s3, *_: s3.put_bucket_replication(**WHOLE, ReplicationConfiguration={"Role": "", "Rules": []}),
        of_bucket=True, mapped=False,
    ),
    "delete the bucket": Attack("s3:DeleteBucket", lambda s3, *_: s3.delete_bucket(**WHOLE), of_bucket=True),
}  # fmt: skip
KEYS = ("restic/config", "restic/keys/0a", "restic/index/0b", "restic/snapshots/0c", "restic/data/0d/0d1e", "manifests/20261123T110000Z.json", "verifications/20261123T110000Z.json", "drills/20261123T110000Z.json")  # fmt: skip
LOCK = "restic/locks/0e"


def permitted(policy: str, key: str) -> set[str]:
    """Return the names of the attacks on an object, or on the bucket, that the policy permits."""
    evaluator = IAMPolicy(policy)
    return {
        name
        for name, attack in ATTACKS.items()
        if evaluator.is_action_permitted(attack.action, attack.resource(key)) is PermissionResult.PERMITTED
    }
