"""A restored site, and that a failure leaves either the old site or the restored one, complete.

That it may be interrupted anywhere: tests/integration/test_interruptions.py.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ops.backup import manifest
from ops.backup.manifest import Part
from ops.errors import Degraded, OpsError, Refused, RolledBack, Stranded
from ops.restore import restore
from ops.restore.plan import RestoreRequest
from ops.restore.staging import ASIDE, STAGED
from ops.stack import accounts
from tests.support.fake_restore_host import MADE, REFS, SITE, FakeRestoreHost

OTHER = {name: Part(f"remote-{name}-2", f"local-{name}-2", 1000) for name in manifest.PARTS}


def test_a_restored_site_runs_and_the_old_one_is_kept_aside(host: FakeRestoreHost) -> None:
    report = host.ops()
    assert (host.content(), host.running) == ("then", True)
    assert host.maintenance_calls == ["none", "push", "all", "none"]
    assert host.databases == {"gitea": "then", ASIDE: "now"}
    assert (host.paths.data / ".restore/before/git/repositories/a/b.git/content").read_text() == "now"
    assert report.facts["identity"] == MADE.identity
    host.databases["gitea"] = "now"
    (host.paths.live / "git/repositories/a/b.git/content").write_text("now")
    host.ops()  # what the first restore kept aside is replaced
    assert host.databases == {"gitea": "then", ASIDE: "now"}


def test_the_administrator_of_a_backup_can_sign_in_with_the_current_password(
    host: FakeRestoreHost, administrators: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    host.ops()
    assert administrators == ["then"]

    def refuse(site: Any, world: Any) -> None:
        raise OpsError("Gitea answers 500", "")

    monkeypatch.setattr(accounts, "ensure_admin", refuse)
    with pytest.raises(Degraded, match="cannot sign in: Gitea answers 500"):
        host.ops()
    assert (host.content(), host.running) == ("then", True)
    assert host.resume().changed is False


HOOKS, KEYS = (["gitea", "admin", "regenerate", name] for name in ("hooks", "keys"))


def test_a_restore_writes_the_hooks_and_reports_a_failure_to_do_so(host: FakeRestoreHost) -> None:
    host.ops()
    assert host.executed == [HOOKS, KEYS]
    host.regenerate_codes = {"hooks": 1}
    for requested in ({}, {"repository": "a/b"}):
        with pytest.raises(Degraded, match="hooks could not be written: permission denied"):
            host.ops(**requested)
        assert (host.content(), host.running) == ("then", True)


def test_a_restore_writes_the_ssh_keys_of_the_database_and_reports_a_failure_to_do_so(host: FakeRestoreHost) -> None:
    host.regenerate_codes = {"keys": 1}
    with pytest.raises(Degraded, match="the ssh keys could not be written: permission denied") as degraded:
        host.ops()
    assert "gitea admin regenerate keys" in degraded.value.hint
    assert (host.content(), host.running) == ("then", True)
    # The database of one repository's owner is not restored.
    host.executed.clear()
    host.ops(repository="a/b")
    assert KEYS not in host.executed


@pytest.mark.parametrize("from_snapshot", [True, False])
def test_a_restored_site_has_no_search_index_of_another_moment(host: FakeRestoreHost, from_snapshot: bool) -> None:
    if from_snapshot:
        host.keep_snapshot()
    host.ops()
    assert [each.name for each in (host.paths.live / "gitea").iterdir()] == ["avatars"]


def test_data_is_cloned_from_its_snapshot_and_the_snapshot_stays(host: FakeRestoreHost) -> None:
    snapshot = host.keep_snapshot()
    # A clone needs no further space.
    host.free_bytes = 1500
    report = host.ops()
    assert (host.content(), host.running, report.facts["picture"]) == ("then", True, True)
    assert "restore data" not in host.actions
    assert (snapshot / "git/repositories/a/b.git/content").read_text() == "then"
    assert host.databases == {"gitea": "then", ASIDE: "now"}


def test_the_snapshot_also_serves_an_earlier_backup_of_the_same_data(host: FakeRestoreHost) -> None:
    host.keep_snapshot(identity="20261123T120000Z")
    host.ops(identity=MADE.identity)
    assert (host.content(), "restore data" in host.actions) == ("then", False)


@pytest.mark.parametrize(
    ("requested", "change"),
    [
        ({"full_copy": True}, lambda host: None),
        ({}, lambda host: setattr(host, "btrfs_errors", ("corruption_errs 1",))),
        ({}, lambda host: host.paths.newest.unlink()),
        ({}, lambda host: shutil.rmtree(host.paths.snapshot_of(MADE.identity))),
        ({}, lambda host: host.paths.newest.write_bytes(manifest.to_json(replace(MADE, parts=OTHER)))),
        ({"repository": "a/b"}, lambda host: None),
    ],
    ids=["full copy", "checksum errors", "no manifest", "no snapshot", "another backup's", "one repository"],
)
def test_data_is_fetched_if_its_snapshot_must_not_be_used(
    host: FakeRestoreHost, requested: dict[str, Any], change: Callable[[FakeRestoreHost], object]
) -> None:
    host.keep_snapshot("something else")
    change(host)
    host.ops(**requested)
    assert "restore data" in host.actions
    assert "clone" not in host.actions
    assert (host.paths.live / "git/repositories/a/b.git/content").read_text() == "then"


def _snapshot_differs(host: FakeRestoreHost) -> None:
    host.refs = {"then": REFS, "damaged": REFS.replace("0001", "0002")}
    host.keep_snapshot("damaged")


def _cannot_be_read(host: FakeRestoreHost) -> None:
    host.unreadable_content = "damaged"
    host.keep_snapshot("damaged")


def _cannot_be_cloned(host: FakeRestoreHost) -> None:
    host.clone_fails = True
    host.keep_snapshot()


def _gets_checksum_errors(host: Any) -> None:
    host.keep_snapshot()
    errors = iter([(), ("corruption_errs 1",)])
    host.errors = lambda folder: next(errors)


UNUSABLE_SNAPSHOTS = [
    (_snapshot_differs, "repository a/b.git differs"),
    (_cannot_be_read, "the repositories cannot be listed"),
    (_cannot_be_cloned, "No space left on device"),
    (_gets_checksum_errors, "corruption_errs 1"),
]


@pytest.mark.parametrize(("prepare", "why"), UNUSABLE_SNAPSHOTS)
def test_data_is_fetched_if_its_snapshot_cannot_be_used(
    host: FakeRestoreHost, prepare: Callable[[FakeRestoreHost], None], why: str
) -> None:
    prepare(host)
    report = host.ops()
    assert (host.content(), host.running, report.facts["picture"]) == ("then", True, False)
    assert host.actions.index("clone") < host.actions.index("restore data") < host.actions.index("stop")
    assert [line for line in host.progress if "fetching everything" in line and why in line]


@pytest.mark.parametrize(("prepare", "why"), UNUSABLE_SNAPSHOTS)
def test_data_is_not_fetched_instead_of_a_snapshot_without_free_space(
    host: FakeRestoreHost, prepare: Callable[[FakeRestoreHost], None], why: str
) -> None:
    prepare(host)
    host.free_bytes = 1500
    with pytest.raises(Refused, match="are free on the data disk") as refused:
        host.ops()
    assert why in refused.value.message
    assert "restore data" not in host.actions
    assert (host.content(), host.running, host.databases) == ("now", True, {"gitea": "now"})
    assert list((host.paths.data / ".restore").iterdir()) == []


def test_a_database_that_differs_from_the_manifest_does_not_discard_the_snapshot(host: FakeRestoreHost) -> None:
    host.keep_snapshot()
    host.rows = 4
    with pytest.raises(Refused, match="table user has 4 rows of 3"):
        host.ops()
    assert "restore data" not in host.actions


def test_with_a_snapshot_a_damaged_local_copy_costs_only_the_fetch_of_the_database(host: FakeRestoreHost) -> None:
    host.keep_snapshot()
    host.damaged = {"local"}
    host.ops()
    assert (host.content(), "restore data" in host.actions) == ("then", False)
    assert [line for line in host.progress if "fetching the database from the bucket" in line]


def test_a_damaged_local_copy_is_replaced_by_the_one_in_the_bucket(host: FakeRestoreHost) -> None:
    host.damaged = {"local"}
    host.ops()
    assert host.content() == "then"
    assert any("from the bucket: local: ciphertext verification failed" in line for line in host.progress)


def test_a_backup_that_is_damaged_in_both_repositories_is_not_restored_and_the_failed_step_is_named(
    host: FakeRestoreHost,
) -> None:
    host.damaged = {"local", "remote"}
    with pytest.raises(RolledBack) as failed:
        host.ops()
    assert "the site was not changed: fetch: remote: ciphertext verification failed" in failed.value.message
    assert (host.content(), host.running, host.databases) == ("now", True, {"gitea": "now"})
    assert list((host.paths.data / ".restore").iterdir()) == []


def test_resume_removes_what_a_killed_restore_fetched_and_keeps_what_was_set_aside(host: FakeRestoreHost) -> None:
    host.ops()
    (host.paths.data / ".restore/gitea/half").mkdir(parents=True)
    host.databases[STAGED] = "half"
    assert not host.resume().changed
    assert [each.name for each in (host.paths.data / ".restore").iterdir()] == ["before"]
    assert host.databases == {"gitea": "then", ASIDE: "now"}


def test_a_dry_run_and_an_unconfirmed_restore_change_nothing(host: FakeRestoreHost) -> None:
    report = host.ops(dry_run=True)
    assert not report.changed
    assert report.facts["plan"] == list(report.lines)

    def never(name: str, lines: Sequence[str]) -> None:
        raise Refused("not confirmed")

    with pytest.raises(Refused):
        restore.restore(SITE, host, request=RestoreRequest(), confirm=never, paths=host.paths)  # type: ignore[arg-type]
    assert host.actions == []


def test_data_that_differs_from_the_manifest_is_never_put_in_place(host: FakeRestoreHost) -> None:
    host.refs = {"then": REFS.replace("0001", "0002")}
    with pytest.raises(OpsError, match=r"repository a/b\.git differs"):
        host.ops()
    assert (host.content(), host.running) == ("now", True)
    assert host.databases == {"gitea": "now"}
    assert list((host.paths.data / ".restore").iterdir()) == []
    assert "stop" not in host.actions


def test_an_unreadable_dump_without_wal_leaves_the_site_unchanged(host: FakeRestoreHost) -> None:
    host.dump_unreadable = True
    with pytest.raises(OpsError, match=r"is damaged\nand from WAL: backup .* is from before WAL was archived"):
        host.ops()
    assert (host.content(), host.running) == ("now", True)
    assert "the dump cannot be used, recovering its moment from base backup and WAL" in host.progress[-1]


def test_a_restored_site_that_does_not_start_is_rolled_back(host: FakeRestoreHost) -> None:
    host.comes_up = lambda content: content == "now"
    began = host.clock.monotonic()
    with pytest.raises(RolledBack):
        host.ops()
    # As long as an update may take: a backup of an earlier version is migrated, too.
    assert 15 * 60 < host.clock.monotonic() - began < 16 * 60
    assert (host.content(), host.running) == ("now", True)
    assert host.databases == {"gitea": "now"}
    host.comes_up = lambda content: False
    with pytest.raises(Stranded, match="back in its place and does not start either") as stranded:
        host.ops()
    assert "systemctl restart gitea-suite" in stranded.value.hint
    assert host.content() == "now"


def test_the_next_run_puts_a_site_back_that_could_not_be_put_back(
    host: FakeRestoreHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.comes_up = lambda content: content == "now"
    started = host.start

    def refuses(project: str, service: str) -> None:
        if host.content() == "now":
            raise OpsError("the engine does not start it")
        started(project, service)

    with monkeypatch.context() as patched:
        patched.setattr(host, "start", refuses)
        with pytest.raises(Stranded, match="cannot be put back: the engine does not start it") as stranded:
            host.ops()
    assert "ops restore --resume" in stranded.value.hint
    assert host.resume().changed
    assert (host.content(), host.running, host.databases["gitea"]) == ("now", True, "now")


def test_the_secret_key_of_a_backup_is_written_to_a_file_for_root_and_not_printed(host: FakeRestoreHost) -> None:
    made = restore.keep_secret_key(SITE, host, request=RestoreRequest(), paths=host.paths)  # type: ignore[arg-type]
    file = Path(made.facts["file"])
    assert (file.read_text(), file.stat().st_mode & 0o777) == ("k", 0o400)
    assert file.parent == host.paths.secrets.parent
    restore.keep_secret_key(SITE, host, request=RestoreRequest(), paths=host.paths)  # type: ignore[arg-type]
    host.ini = host.ini.replace("= k", "= another")
    with pytest.raises(OpsError, match=r"SECRET_KEY in app\.ini of backup .* does not match its manifest"):
        restore.keep_secret_key(SITE, host, request=RestoreRequest(), paths=host.paths)  # type: ignore[arg-type]
    assert host.actions == []


@pytest.mark.parametrize("ini", ["", "[security]\n", "[security]\nSECRET_KEY =\n"])
def test_an_app_ini_without_a_secret_key_is_an_error(ini: str) -> None:
    with pytest.raises(OpsError, match="has no SECRET_KEY"):
        restore.secret_key_from(ini)


def test_a_secret_key_is_read_in_gitea_s_format() -> None:
    assert restore.secret_key_from("A = b % c\n[security]\nSECRET_KEY = `a=b;c#%d`\n").reveal() == "a=b;c#%d"
