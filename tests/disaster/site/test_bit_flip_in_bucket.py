"""A pack in the bucket has a flipped bit: the daily verifications find it."""

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
    # The largest pack holds file contents: an unreadable tree is found at once, whichever share is read.
    pack = max((each for page in pages for each in page["Contents"]), key=lambda each: each["Size"])["Key"]
    intact = storage.get_object(Bucket=bucket, Key=pack)["Body"].read()
    flipped = bytearray(intact)
    flipped[len(flipped) // 2] ^= 1
    storage.put_object(Bucket=bucket, Key=pack, Body=bytes(flipped), ChecksumAlgorithm="SHA256")
    try:
        reports = [_verified(ssh) for _ in range(_SHARES)]
    finally:
        storage.put_object(Bucket=bucket, Key=pack, Body=intact, ChecksumAlgorithm="SHA256")
    assert len({each["share"] for each in reports}) == _SHARES
    damaged = [each for each in reports if any("is damaged" in one for one in each["findings"])]
    assert len(damaged) == 1
    assert {each["exit_code"] for each in damaged} == {3}
    # The pack is intact again: another week of verifications finds nothing, and the site is healthy.
    assert [finding for _ in range(_SHARES) for finding in _verified(ssh)["findings"]] == []
    listed = {each["identity"]: each for each in ops(ssh, "backup", "list")["backups"]}
    assert listed[taken["identity"]]["verified"]
    assert ops(ssh, "health")["healthy"] is True


def _verified(ssh: Ssh) -> dict[str, Any]:
    """Run a verification and return its report, with or without findings."""
    document: dict[str, Any] = json.loads(ssh("sudo ops backup verify --json").stdout)
    return document
