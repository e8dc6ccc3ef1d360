"""Which objects a replica is judged by, and the remedy for those that it lacks."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import botocore.session
import pytest
from botocore.validate import ParamValidator

from ops.backup import manifest, replication, status
from ops.config.paths import HostPaths
from ops.world.restic import Snapshot
from tests.support import fakes
from tests.unit.backup.test_status import ALL_WELL, OLDER

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
SITE = fakes.site(backup={"bucket": "example-org-gitea-backup", "replica_region": "eu-west-1"})
SWITCHED_ON = NOW - timedelta(days=1)
PACKS = {f"restic/data/00/{number:04}": NOW - timedelta(minutes=15 * number) for number in range(2000)}
DATES = {
    "restic/config": NOW - timedelta(days=300),
    "restic/keys/first": NOW - timedelta(days=300),
    **{f"restic/keys/{number:02}": NOW - timedelta(days=200) for number in range(20)},
    "restic/index/one": NOW - timedelta(days=2),
    "restic/index/of-an-hour-ago": NOW - timedelta(hours=1),
    "restic/snapshots/older": NOW - timedelta(hours=2),
    "restic/locks/one": NOW - timedelta(days=2),
    "restic/snapshots/one": NOW - timedelta(minutes=59),
    "manifests/one.json": NOW - timedelta(hours=2),
    **PACKS,
}


class ReplicatedBucket(fakes.FakeAws):
    """A bucket whose rule for replication has been there since SWITCHED_ON; S3 copies only later objects."""

    def object_dates(self, bucket: str, prefix: str) -> dict[str, datetime]:
        return {key: date for key, date in DATES.items() if key.startswith(prefix)}

    def replication(self, bucket: str, key: str) -> str:
        return "COMPLETED" if DATES.get(key, NOW) > SWITCHED_ON else ""


def _statuses() -> dict[str, str]:
    world: Any = fakes.FakeWorld(aws=ReplicatedBucket())
    return dict(replication.statuses(SITE, world))


def test_config_every_key_and_samples_of_packs_are_judged_and_locks_and_new_objects_are_not() -> None:
    found = _statuses()
    assert {each for each in DATES if each.startswith("restic/keys/")} <= set(found)
    assert {"restic/config", "restic/index/one", "restic/index/of-an-hour-ago", "restic/snapshots/older"} <= set(found)
    assert "restic/locks/one" not in found
    assert "restic/snapshots/one" not in found
    packs = [each for each in found if each.startswith("restic/data/")]
    # The oldest, which are the first to be missing, and others over the whole time.
    assert {f"restic/data/00/{number}" for number in range(1996, 2000)} <= set(packs)
    assert len(packs) == 16
    assert sum(PACKS[each] > SWITCHED_ON for each in packs) <= 2
    assert min(PACKS[each] for each in packs[4:]) < NOW - timedelta(days=15) < max(PACKS[each] for each in packs[4:])


def test_the_sample_changes_from_day_to_day_and_a_small_bucket_is_judged_whole() -> None:
    keys = [f"{number:04}" for number in range(2000)]
    days = [set(replication.sample(keys, NOW + timedelta(days=day))) for day in range(2)]
    assert len(days[0] & days[1]) == 4
    assert replication.sample(keys[:12], NOW) == keys[:12]
    assert replication.sample([], NOW) == []


def test_a_replica_that_was_switched_on_later_is_red_although_the_newest_backup_is_in_it() -> None:
    facts = replace(ALL_WELL, replicated=(OLDER.identity, "COMPLETED"), replica=_statuses())
    (probe,) = (each for each in status.check(SITE, facts, NOW) if each.name == "elsewhere")
    assert not probe.healthy
    assert "checked objects are not in eu-west-1: restic/config (never replicated)" in probe.seen
    assert replication.batch_command(SITE) in probe.remedy


def test_a_replica_with_every_checked_object_is_well() -> None:
    facts = replace(ALL_WELL, replicated=(OLDER.identity, "COMPLETED"), replica=dict.fromkeys(DATES, "COMPLETED"))
    (probe,) = (each for each in status.check(SITE, facts, NOW) if each.name == "elsewhere")
    assert probe.healthy


@pytest.mark.parametrize(
    ("region", "partition"),
    [("eu-central-1", "aws"), ("cn-north-1", "aws-cn"), ("us-gov-west-1", "aws-us-gov"), ("us-east-1", "aws")],
)
def test_the_command_of_batch_replication_is_one_that_aws_accepts(region: str, partition: str) -> None:
    site = replace(SITE, aws=replace(SITE.aws, region=region))
    program, service, verb, *words = shlex.split(replication.batch_command(site))
    assert (program, service, verb) == ("aws", "s3control", "create-job")
    assert words.pop() == "--no-confirmation-required"
    options = dict(zip(words[::2], words[1::2], strict=True))
    assert options.pop("--region") == region
    given: dict[str, Any] = {
        "AccountId": options.pop("--account-id"),
        "Operation": json.loads(options.pop("--operation")),
        "ManifestGenerator": json.loads(options.pop("--manifest-generator")),
        "Report": json.loads(options.pop("--report")),
        "Priority": int(options.pop("--priority")),
        "RoleArn": options.pop("--role-arn"),
        # The CLI makes it.
        "ClientRequestToken": "token",
    }
    assert options == {}
    model = botocore.session.get_session().get_service_model("s3control").operation_model("CreateJob")
    assert ParamValidator().validate(given, model.input_shape).generate_report() == ""
    assert given["RoleArn"] == f"arn:{partition}:iam::ACCOUNT:role/test-replication-batch"
    assert (given["AccountId"], given["Report"]) == ("ACCOUNT", {"Enabled": False})
    assert given["ManifestGenerator"]["S3JobManifestGenerator"] == {
        "ExpectedBucketOwner": "ACCOUNT",
        "SourceBucket": f"arn:{partition}:s3:::example-org-gitea-backup",
        "EnableManifestOutput": False,
        "Filter": {"EligibleForReplication": True, "ObjectReplicationStatuses": ["NONE", "FAILED"]},
    }


def test_the_status_asks_s3_for_these_objects_only_where_there_is_a_replica(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    paths = HostPaths(data=tmp_path / "data", local=tmp_path / "restic")
    settled = fakes.made(NOW - timedelta(hours=2))
    stored = {manifest.key_of(settled.identity): manifest.to_json(settled)}
    snapshots = {"remote": settled.parts.values(), "local": ()}

    class Site(fakes.FakeWorld):
        def restic(self, repository: str, **_: Any) -> Any:
            kind = "remote" if repository.startswith("s3:") else "local"
            found = tuple(Snapshot(part.remote, part.remote) for part in snapshots[kind])
            return SimpleNamespace(snapshots_or_none=lambda: found)

    world: Any = Site(aws=ReplicatedBucket(stored=stored))
    with_replica, without = (
        {each["name"]: each for each in status.status(site, world, paths=paths).facts["findings"]}
        for site in (SITE, fakes.site())
    )
    assert "restic/config (never replicated)" in with_replica["elsewhere"]["seen"]
    assert without["elsewhere"]["healthy"]
