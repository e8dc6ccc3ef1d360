"""Whether S3 has copied to the second region what a restore there needs.

S3 replicates an object when it is written. Objects from before the replica was switched on are copied only by a Batch
Replication job, and without them restic cannot open the repository (Amazon S3 User Guide, "Replicating existing objects").
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from ops.backup import manifest, repositories
from ops.config.schema import Site
from ops.world import World

# Most objects take 15 minutes.
REPLICATED_WITHIN = timedelta(hours=1)
# Every restore needs these.
_ALL_OF = (f"{repositories.REMOTE}config", f"{repositories.REMOTE}keys/")
_SAMPLED = (
    manifest.PREFIX,
    *(f"{repositories.REMOTE}{folder}/" for folder in ("data", "index", "snapshots")),
)
# Of each sampled prefix: the oldest objects, which are the first to be missing, and others spread over the rest.
_OLDEST, _SPREAD = 4, 12


def statuses(site: Site, world: World) -> Mapping[str, str]:
    """Return S3's replication status of each key that is checked: restic's config and keys, and samples of the rest.

    The status is COMPLETED, PENDING, FAILED, or "" for an object that no rule has replicated. Objects younger than an hour
    are left out.
    """
    bucket, now = site.backup.bucket, world.clock.now()
    keys: list[str] = []
    for prefix in (*_ALL_OF, *_SAMPLED):
        dates = world.aws.object_dates(bucket, prefix)
        old = sorted((key for key in dates if now - dates[key] >= REPLICATED_WITHIN), key=lambda key: (dates[key], key))
        keys += old if prefix in _ALL_OF else sample(old, now)
    return dict(zip(keys, world.aws.replications(bucket, keys), strict=True))


def sample(keys: Sequence[str], now: datetime) -> list[str]:
    """Return the first of the keys and an even spread of the others, which differs from day to day."""
    rest = keys[_OLDEST:]
    step = max(1, len(rest) // _SPREAD)
    return [*keys[:_OLDEST], *rest[now.toordinal() % step :: step][:_SPREAD]]


def in_words(site: Site, found: Mapping[str, str]) -> str:
    """Return which of the checked objects are missing in the second region, or ""."""
    missing = sorted(key for key, status in found.items() if status != "COMPLETED")
    if not missing:
        return ""
    status = found[missing[0]] or "never replicated"
    return f"{len(missing)} of {len(found)} checked objects are not in {site.backup.replica_region}: {missing[0]} ({status})"


def batch_command(site: Site) -> str:
    """Return the shell command that has S3 copy every object that it has not copied yet."""
    account = "ACCOUNT"
    generator = {
        "ExpectedBucketOwner": account,
        "SourceBucket": f"arn:{_partition(site.aws.region)}:s3:::{site.backup.bucket}",
        "EnableManifestOutput": False,
        "Filter": {"EligibleForReplication": True, "ObjectReplicationStatuses": ["NONE", "FAILED"]},
    }
    role = f"arn:{_partition(site.aws.region)}:iam::{account}:role/{site.name}-replication-batch"
    options = {
        "region": site.aws.region,
        "account-id": account,
        "operation": _quoted({"S3ReplicateObject": {}}),
        "manifest-generator": _quoted({"S3JobManifestGenerator": generator}),
        "report": _quoted({"Enabled": False}),
        "priority": "1",
        "role-arn": role,
    }
    given = " ".join(f"--{name} {value}" for name, value in options.items())
    return f"aws s3control create-job {given} --no-confirmation-required"


def _quoted(document: Mapping[str, object]) -> str:
    return f"'{json.dumps(document, separators=(',', ':'))}'"


def _partition(region: str) -> str:
    return next(
        (name for start, name in (("cn-", "aws-cn"), ("us-gov-", "aws-us-gov")) if region.startswith(start)), "aws"
    )
