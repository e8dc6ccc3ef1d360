"""One bit of one pack in the bucket is another: the daily verification finds it, and everyone who relies on backups is told."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.deployed_site import DeployedSite, Ssh, aws_client, ops

pytestmark = pytest.mark.usefixtures("by_hand")
_SHARES = 7


def test_a_flipped_bit_is_found_within_a_week_of_daily_verifications(
    site: DeployedSite, ssh: Ssh, repository: str
) -> None:
    assert repository
    taken = ops(ssh, "backup", "take")
    storage, bucket = aws_client(site.document, "s3"), site.document["backup"]["bucket"]
    pages = storage.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix="restic/data/")
    # The largest is one of contents: a tree that cannot be read is found at once, whatever is read of the packs.
    pack = max((each for page in pages for each in page["Contents"]), key=lambda each: each["Size"])["Key"]
    sound = storage.get_object(Bucket=bucket, Key=pack)["Body"].read()
    flipped = bytearray(sound)
    flipped[len(flipped) // 2] ^= 1
    storage.put_object(Bucket=bucket, Key=pack, Body=bytes(flipped), ChecksumAlgorithm="SHA256")
    try:
        reports = [_verified(ssh) for _ in range(_SHARES)]
    finally:
        storage.put_object(Bucket=bucket, Key=pack, Body=sound, ChecksumAlgorithm="SHA256")
    assert len({each["share"] for each in reports}) == _SHARES
    damaged = [each for each in reports if any("is damaged" in one for one in each["findings"])]
    assert len(damaged) == 1
    assert {each["exit_code"] for each in damaged} == {3}
    # Whole again: in another week nothing is found, and the site is well.
    assert [finding for _ in range(_SHARES) for finding in _verified(ssh)["findings"]] == []
    listed = {each["identity"]: each for each in ops(ssh, "backup", "list")["backups"]}
    assert listed[taken["identity"]]["verified"]
    assert ops(ssh, "health")["healthy"] is True


def _verified(ssh: Ssh) -> dict[str, Any]:
    """The report of a verification, whether it found something or not."""
    document: dict[str, Any] = json.loads(ssh("sudo ops backup verify --json").stdout)
    return document
