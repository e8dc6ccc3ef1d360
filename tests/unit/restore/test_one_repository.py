"""One repository is restored without touching the rest of the site, and what it replaced is kept outside of Gitea."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from ops.errors import OpsError, Refused
from tests.support.fake_restore_host import FakeRestoreHost, Killed


@pytest.mark.parametrize("name", ["a/never", "a", "../b", "a/b.git"])
def test_a_repository_that_the_backup_does_not_contain_is_refused(host: FakeRestoreHost, name: str) -> None:
    with pytest.raises(Refused, match="has no repository"):
        host.ops(repository=name)
    assert host.actions == []


def test_a_single_repository_needs_neither_space_for_the_whole_site_nor_its_secret_key(host: FakeRestoreHost) -> None:
    host.free_bytes = 10
    (host.paths.secrets / "gitea-secret-key").write_text("another")
    with pytest.raises(Refused, match="are free on the data disk"):
        host.ops()
    host.ops(repository="a/b")
    assert (host.paths.live / "git/repositories/a/b.git/content").read_text() == "then"


def test_a_single_repository_replaces_no_database_and_does_not_stop_gitea(host: FakeRestoreHost) -> None:
    host.ops(repository="A/b")
    assert (host.paths.live / "git/repositories/a/b.git/content").read_text() == "then"
    assert host.databases == {"gitea": "now"}
    assert "stop" not in host.actions
    assert not (host.paths.data / ".restore/journal").exists()


def test_what_a_single_repository_replaced_is_kept_outside_gitea_s_data_until_the_next_restore(
    host: FakeRestoreHost,
) -> None:
    kept = host.paths.data / ".restore/repository"
    report = host.ops(repository="a/b")
    assert (kept / "content").read_text() == "now"
    assert not (host.paths.live / ".restored").exists()
    assert f"kept aside until the next restore: {kept}" in report.lines
    host.ops(repository="a/b")
    assert (kept / "content").read_text() == "then"
    host.ops()
    assert not kept.exists()


@pytest.mark.parametrize("verb", ["resume", "ops"])
def test_what_an_earlier_release_kept_in_gitea_s_data_is_moved_out(host: FakeRestoreHost, verb: str) -> None:
    before = host.paths.live / ".restored/before"
    before.mkdir(parents=True)
    (before / "content").write_text("long ago")
    if verb == "resume":
        assert host.resume().changed is False
    else:
        host.ops(dry_run=True)
    assert (host.paths.data / ".restore/repository/content").read_text() == "long ago"
    assert not (host.paths.live / ".restored").exists()


@pytest.mark.usefixtures("token")
def test_a_restore_of_one_repository_may_be_killed_anywhere(tmp_path: Path) -> None:
    whole = FakeRestoreHost(directory=tmp_path / "whole")
    whole.ops(repository="a/b")
    for number in range(len(whole.actions)):
        host = FakeRestoreHost(directory=tmp_path / str(number), dies_before=number)
        with pytest.raises(Killed):
            host.ops(repository="a/b")
        host.resume()
        assert (host.paths.live / "git/repositories/a/b.git/content").read_text() in {"now", "then"}
        assert not (host.paths.live / ".restored").exists(), whole.actions[number]
        assert not (host.paths.data / ".restore/journal").exists()


@pytest.mark.parametrize("name", ["a/never", "a", "../b"])
def test_a_dry_run_for_a_repository_that_is_not_in_the_backup_is_refused_as_the_restore_is(
    host: FakeRestoreHost, name: str
) -> None:
    with pytest.raises(Refused, match="has no repository"):
        host.ops(repository=name, dry_run=True)


def test_a_dry_run_for_a_repository_that_is_not_on_the_site_is_refused_as_the_restore_is(host: FakeRestoreHost) -> None:
    shutil.rmtree(host.paths.live / "git/repositories/a/b.git")
    for dry_run in (True, False):
        with pytest.raises(Refused, match="does not exist on the site"):
            host.ops(repository="a/b", dry_run=dry_run)


def test_a_single_repository_is_fetched_from_the_bucket_if_the_local_copy_is_damaged(host: FakeRestoreHost) -> None:
    host.damaged = {"local"}
    host.ops(repository="a/b")
    assert (host.paths.live / "git/repositories/a/b.git/content").read_text() == "then"
    assert any("from the bucket: local: ciphertext verification failed" in line for line in host.progress)
    host.damaged = {"local", "remote"}
    (host.paths.live / "git/repositories/a/b.git/content").write_text("now")
    with pytest.raises(OpsError, match="remote: ciphertext verification failed"):
        host.ops(repository="a/b")
    assert (host.paths.live / "git/repositories/a/b.git/content").read_text() == "now"
