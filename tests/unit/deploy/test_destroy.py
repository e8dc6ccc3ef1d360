"""The preconditions of ops destroy, and the losses that the operator confirms."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from ops.backup import manifest, records
from ops.backup.records import Verification
from ops.config.workspace import Workspace
from ops.deploy import destroy
from ops.deploy.destroy import DestroyRequest, Losses
from ops.model import BucketContents
from tests.support import fakes

WHEN = datetime(2026, 12, 1, 8, 30, tzinfo=UTC)
LOSSES = Losses(resources=40, data_gib=50, backups=BucketContents(12, 0, 3 * 2**30), verified_backup=WHEN)


def test_a_site_with_a_verified_backup_can_be_destroyed() -> None:
    assert destroy.blockers(LOSSES, DestroyRequest()) == ()


@pytest.mark.parametrize(
    ("newest", "words"),
    [("20261123T110000Z", "the newest backup, 20261123T110000Z, is not verified"), ("", "this site has no backup")],
)
def test_a_site_without_a_verified_backup_is_destroyed_only_with_the_flag(newest: str, words: str) -> None:
    losses = dataclasses.replace(LOSSES, newest_backup=newest, verified_backup=None)
    (problem,) = destroy.blockers(losses, DestroyRequest())
    assert words in problem
    assert destroy.blockers(losses, DestroyRequest(without_verified_backup=True)) == ()


@pytest.mark.parametrize(
    ("verified", "findings", "passed"),
    [(0, (), True), (1, (), False), (0, ("a bit",), False)],
    ids=["the newest passed", "an older one passed", "the newest failed"],
)
def test_the_newest_backup_must_be_verified(verified: int, findings: tuple[str, ...], passed: bool) -> None:
    newest, older = fakes.made(WHEN), fakes.made(WHEN - timedelta(hours=1))
    record = Verification(WHEN, (newest, older)[verified].identity, 1, findings)
    stored = {manifest.key_of(each.identity): manifest.to_json(each) for each in (newest, older)}
    stored[records.key_of(records.VERIFICATIONS, WHEN)] = records.to_json(record)
    site = fakes.site()
    world = fakes.FakeWorld(aws=fakes.FakeAws(stored=stored, buckets={site.backup.bucket}))
    assert destroy._newest_backup(site, world) == (newest.identity, WHEN if passed else None)  # type: ignore[arg-type]


def test_locked_backups_are_not_deleted_and_the_end_of_the_lock_is_named() -> None:
    losses = dataclasses.replace(LOSSES, locked_until=WHEN)
    (problem,) = destroy.blockers(losses, DestroyRequest(with_backups=True))
    assert "locked until 2026-12-01 08:30 UTC" in problem
    assert destroy.blockers(losses, DestroyRequest()) == ()


def test_the_backups_of_a_destroyed_site_are_deleted_without_a_verified_backup() -> None:
    losses = dataclasses.replace(LOSSES, resources=0, verified_backup=None)
    assert destroy.blockers(losses, DestroyRequest(with_backups=True)) == ()


@pytest.mark.parametrize(("with_backups", "word"), [(True, "lost"), (False, "kept")])
def test_the_operator_reads_the_losses_before_confirming(with_backups: bool, word: str) -> None:
    lines = destroy.in_words(fakes.site(), LOSSES, DestroyRequest(with_backups=with_backups))
    assert "lost: the data disk of 50 GiB with every repository, issue and account of git.example.org" in lines
    assert any(line.startswith(f"{word}: 12 versions of backups, 3.0 GiB in example-org") for line in lines)


def test_the_secrets_of_settings_are_lost_with_the_backups() -> None:
    site = fakes.site_with_settings({"email.incoming": {"PASSWORD": "secret:imap"}})
    *_, stored = destroy.in_words(site, LOSSES, DestroyRequest(with_backups=True))
    assert stored.endswith("and the secrets that decrypt them, setting-imap")


@pytest.mark.parametrize(("with_backups", "deleted"), [(True, ["test/setting-"]), (False, [])])
def test_the_secrets_of_settings_are_deleted_with_the_backups(
    tmp_path: Path, with_backups: bool, deleted: list[str]
) -> None:
    world: Any = fakes.FakeWorld()
    account, found = mock.Mock(), Workspace(tmp_path, tmp_path, tmp_path)
    world.aws_account = account
    destroy._forget(fakes.site(), world, found, DestroyRequest(with_backups=with_backups))
    assert [call.args[0] for call in account.delete_secrets.call_args_list] == deleted


def test_destroying_a_site_that_does_not_exist_changes_nothing_and_asks_nothing(tmp_path: Path) -> None:
    def confirm(*_: Any) -> None:
        pytest.fail("the operator is asked although nothing can be lost")

    world: Any = fakes.FakeWorld()
    workspace = Workspace(tmp_path, tmp_path, tmp_path)
    done = destroy.destroy(fakes.site(), world, workspace=workspace, request=DestroyRequest(), confirm=confirm)
    assert (done.changed, done.exit_code) == (False, 0)
