"""A new version that loses data in silence is taken back, with the data, and its report says what was compared."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ops.errors import OpsError, Refused, RolledBack
from ops.images.pins import Pin
from ops.images.versions import Release, VersionStep
from ops.step_timer import StepTimer
from ops.update import canary, data_check
from ops.update.journal import MaintenanceWindow, Pending, Progress, Run, UpdateContext
from ops.update.plan import PlannedUpdate
from ops.world.https import Answer
from tests.support import fakes
from tests.support.fake_host import FOREVER, FakeHost, Killed, Session, run_to_end


@pytest.fixture
def host(tmp_path: Path) -> FakeHost:
    return filled(tmp_path)


def filled(directory: Path, comments: int = 30, **more: Any) -> FakeHost:
    """Return a host whose users wrote this many comments."""
    made = FakeHost(directory=directory, **more)
    for number in range(comments):
        assert made.write(f"w{number}")
    return made


def killed_at(directory: Path, step: str, *, to: str) -> FakeHost:
    """Return a host whose update was killed at a step and can be resumed."""
    whole = filled(directory / "whole")
    run_to_end(lambda: whole.update(to=to))
    host = filled(directory / "killed", dies_before=whole.actions.index(step))
    with pytest.raises(Killed):
        host.update(to=to)
    host.dies_before = -1
    return host


def has_canary(host: FakeHost) -> bool:
    contents = host.contents()
    kept = (host.paths.live / "canary").exists() or (host.paths.data / ".update/expected.json").exists()
    return bool(kept or contents.documents or contents.files)


@pytest.mark.parametrize("to", ["28.1.1-forgets", "28.1.1-forgetsmigration"])
def test_a_release_that_empties_every_comment_is_rolled_back_with_the_data(host: FakeHost, to: str) -> None:
    before = host.comments()
    with pytest.raises(RolledBack) as caught:
        host.update(to=to)
    assert f"{to} lost data: comment: its body changed; public.comment.content: 30 became 0" in caught.value.message
    assert "--accept-loss canary.comment --accept-loss comment.content" in caught.value.message
    assert (host.version(), host.comments(), host.content()) == ("28.0.1", before, host.acknowledged)
    (entry,) = host.history()
    # Without a new number in the database, too: the image alone would leave the comments empty.
    assert (entry["outcome"], entry["with_data"]) == ("rolled back", True)
    assert not has_canary(host)


def test_the_canary_alone_finds_a_loss_on_a_site_with_few_comments(tmp_path: Path) -> None:
    host = filled(tmp_path, comments=3)
    with pytest.raises(RolledBack, match=r"28\.1\.1-forgets lost data: comment: its body changed; if"):
        host.update(to="28.1.1-forgets")
    assert all(host.comments())


def test_the_counts_alone_find_a_loss_without_the_canary(host: FakeHost) -> None:
    host.not_served = ["/comments$"]
    with pytest.raises(RolledBack, match=r"lost data: public\.comment\.content: 30 became 0"):
        host.update(to="28.1.1-forgets")
    assert all(host.comments())


def test_data_goes_back_as_well_if_a_version_fails_before_its_data_was_compared(host: FakeHost) -> None:
    with pytest.raises(RolledBack, match="the sign-in page answers 500"):
        host.update(to="28.1.1-forgetsandsour")
    assert all(host.comments())
    (entry,) = host.history()
    assert entry["with_data"] is True


def test_a_table_that_a_migration_removes_is_shown_and_kept(host: FakeHost) -> None:
    report = host.update(to="28.1.1-dropsmigration")
    assert report.facts["tables"]["removed"] == ["public.comment", "public.comment.content"]
    assert "public.comment is gone: the new version removed, renamed or narrowed it" in report.lines
    assert "public.comment is gone" in host.mail.taken[-1].text


def test_a_table_that_goes_without_a_migration_is_lost(host: FakeHost) -> None:
    with pytest.raises(RolledBack, match=r"public\.comment: 30 became none, it was removed without a migration"):
        host.update(to="28.1.1-drops")
    assert all(host.comments())


def test_a_loss_that_the_operator_accepts_is_kept_and_shown(host: FakeHost) -> None:
    with pytest.raises(RolledBack, match="comment: its body changed"):
        host.update(to="28.1.1-forgets", accept_loss=("comment.content",))
    report = host.update(to="28.1.1-forgets", accept_loss=("comment.content", "canary.comment"))
    assert report.facts["canary"]["skipped"] == {"comment": "its loss is accepted"}
    assert (report.facts["outcome"], report.facts["tables"]["shrunk"]) == (
        "updated",
        {"public.comment.content": [30, 0]},
    )


def test_the_report_says_what_was_compared_and_what_was_not(host: FakeHost) -> None:
    host.not_served = ["/wiki/"]
    report = host.update(to="28.1.0")
    facts = report.facts
    assert facts["canary"]["compared"] == [name for name in canary.PARTS if name != "wiki page"]
    assert facts["canary"]["skipped"] == {
        "wiki page": "Gitea answers 404 to POST /api/v1/repos/keeper/ops-canary/wiki/new"
    }
    assert any("the canary has no wiki page: Gitea answers 404" in line for line in host.progress)
    # Sessions end by themselves: shown, and no reason to go back.
    assert facts["tables"] == {
        "compared": 5,
        "uncounted": [],
        "removed": [],
        "shrunk": {"public.session": [500, 0]},
    }
    (skipped, shrunk) = report.lines
    assert skipped.startswith("not in the canary: wiki page: Gitea answers 404")
    assert shrunk == "public.session: 500 became 0"


def test_a_count_that_takes_too_long_is_left_out_and_reported(host: FakeHost) -> None:
    host.count_seconds = 45
    report = host.update(to="28.1.0")
    assert report.facts["tables"]["uncounted"] == ["public.comment", "public.comment.content"]
    told = [line for line in host.progress if "are not compared" in line]
    assert told[0] == "2 of 5 tables and columns are not compared: to count them takes more than 60 s"


def test_a_table_that_cannot_be_read_is_not_taken_for_one_that_takes_too_long(
    host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> list[list[str]]:
        raise OpsError("the database ended the session: ERROR: invalid page in block 3 of relation base/16384/16400")

    monkeypatch.setattr(Session, "_counts", broken)
    with pytest.raises(Refused, match="invalid page in block 3"):
        host.update(to="28.1.0")
    assert "stop gitea" not in host.actions


def test_a_401_while_the_database_is_away_is_not_a_finding_about_the_administrator(host: FakeHost) -> None:
    request = host.request

    def away(domain: str, address: str, method: str, path: str, headers: Any = None, document: Any = None) -> Answer:
        if host.version() == "28.0.2" and path in {"/api/v1/user", "/api/healthz"}:
            return Answer(424 if "healthz" in path else 401, certificate_ends=FOREVER)
        return request(domain, address, method, path, headers, document)

    host.request = away  # type: ignore[method-assign]
    with pytest.raises(RolledBack, match="/api/v1/user answers 401, because Gitea's database does not answer"):
        host.update(to="28.0.2")


def test_the_canary_is_removed_after_an_update_and_after_a_rollback(host: FakeHost) -> None:
    host.update(to="28.1.0")
    assert not has_canary(host)
    # The snapshots from before the update hold the canary.
    host.rollback()
    assert host.version() == "28.0.1"
    assert not has_canary(host)
    with pytest.raises(RolledBack):
        host.update(to="28.1.1-crash")
    assert not has_canary(host)


def test_a_canary_that_cannot_be_removed_is_reported_and_does_not_change_the_outcome(host: FakeHost) -> None:
    def refuse(*_: object) -> None:
        raise Refused("Gitea answers 500")

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(canary, "remove", refuse)
        patched.setattr(canary, "write", lambda *_: canary.Written("c" * 40, ()))
        (host.paths.live / "canary").write_text("")
        assert host.update(to="28.1.0").changed
    assert "the canary was not removed, the next update removes it: Gitea answers 500" in host.progress


@pytest.mark.parametrize("step", ["record judge", "record undo", "nginx-away none"])
def test_a_killed_update_compares_the_data_when_it_is_resumed(tmp_path: Path, step: str) -> None:
    host = killed_at(tmp_path, step, to="28.1.1-forgets")
    with pytest.raises(RolledBack, match=r"comment: its body changed; public\.comment\.content: 30 became 0"):
        host.resume()
    assert all(host.comments())
    assert not has_canary(host)


def test_an_update_that_an_older_ops_began_is_resumed_without_the_comparison(tmp_path: Path) -> None:
    host = killed_at(tmp_path, "record judge", to="28.1.0")
    (host.paths.data / ".update/expected.json").unlink()
    assert host.resume().facts["outcome"] == "updated"
    assert any("began without a count of its data" in line for line in host.progress)
    assert not has_canary(host)


def test_what_another_update_expected_is_not_compared(tmp_path: Path) -> None:
    host = killed_at(tmp_path, "record judge", to="28.1.0")
    kept = host.paths.data / ".update/expected.json"
    kept.write_text(json.dumps(json.loads(kept.read_text()) | {"backup": "20200101T000000Z"}))
    assert host.resume().facts["outcome"] == "updated"


def test_the_journal_of_an_update_keeps_its_fields(host: FakeHost) -> None:
    records: list[dict[str, Any]] = []
    action = host.action

    def keep(what: str) -> None:
        action(what)
        records.extend(next(iter(host.journals.values()), []) if what == "record stop" else [])

    host.action = keep  # type: ignore[method-assign]
    host.update(to="28.1.0")
    (begin,) = records
    assert sorted(begin) == [
        "automatic",
        "backup",
        "began",
        "canary",
        "from",
        "migration",
        "rollback",
        "service",
        "size",
        "step",
        "to",
    ]
    assert begin["canary"] == "c" * 40


BACKUP = "20261123T110000Z"
GITEA = PlannedUpdate(
    "gitea", Pin("gitea/gitea", "28.0.1", "sha256:0"), Pin("gitea/gitea", "28.1.0", "sha256:1"), VersionStep.MINOR
)
POSTGRES = PlannedUpdate(
    "postgres", Pin("postgres", "18.6", "sha256:0"), Pin("postgres", "18.7", "sha256:1"), VersionStep.MINOR
)
NGINX = PlannedUpdate(
    "nginx", Pin("nginx", "1.30.4", "sha256:0"), Pin("nginx", "1.30.5", "sha256:1"), VersionStep.PATCH
)
PENDING = Pending(GITEA, fakes.FakeClock().now(), BACKUP, 336, "c" * 40, False, steps=("stop", "picture", "pin", "up"))


def context(host: FakeHost) -> UpdateContext:
    world: Any = host
    return UpdateContext(host.site(), world, host.paths, host.compose)


def run_of(host: FakeHost, pending: Pending = PENDING) -> Run:
    at = context(host)
    return Run(at, pending, Progress(StepTimer(at.world), MaintenanceWindow(at)))


def forget_comments(host: FakeHost) -> None:
    """Empty every comment, as a broken release does."""
    host._write_database(host._database() | {"comments": [""] * 30})


@pytest.mark.parametrize(("planned", "release"), [(replace(GITEA, current=Pin("gitea/gitea", "1.27.3", "")), (1, 27, 3)), (POSTGRES, (28, 0, 1))])  # fmt: skip
def test_the_running_gitea_decides_which_parts_the_canary_has(
    host: FakeHost, monkeypatch: pytest.MonkeyPatch, planned: PlannedUpdate, release: tuple[int, ...]
) -> None:
    asked = []

    def write(site: Any, world: Any, token: Any, running: Release) -> canary.Written:
        asked.append(running.numbers)
        return canary.Written("c" * 40, ())

    monkeypatch.setattr(canary, "write", write)
    assert data_check.prepare(context(host), planned, BACKUP, ()) == "c" * 40
    assert asked == [release]


def test_only_root_may_enter_the_folder_with_the_expected_data(host: FakeHost) -> None:
    data_check.prepare(context(host), GITEA, BACKUP, ())
    assert (host.paths.data / ".update").stat().st_mode & 0o777 == 0o700
    assert not [line for line in host.progress if "are not compared" in line]


def test_a_refused_canary_is_removed_and_a_failure_to_remove_it_does_not_hide_the_reason(
    host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    removed = []

    def refuse(*_: object) -> canary.Written:
        raise OpsError("Gitea answers 500 to the creation of keeper/ops-canary")

    def remove(*_: object) -> None:
        removed.append(True)
        raise OpsError("Gitea answers 500 to the removal")

    monkeypatch.setattr(canary, "write", refuse)
    monkeypatch.setattr(canary, "remove", remove)
    with pytest.raises(OpsError, match="creation of keeper/ops-canary"):
        data_check.prepare(context(host), GITEA, BACKUP, ())
    assert removed == [True]
    assert not (host.paths.data / ".update/expected.json").exists()


def test_a_part_that_is_only_not_served_is_a_finding_and_no_loss(
    host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    data_check.prepare(context(host), GITEA, BACKUP, ())
    answer = ("wiki page: Gitea answers 500",)
    monkeypatch.setattr(canary, "compare", lambda *_: canary.Compared(answer, lost=False))
    run = run_of(host)
    run.progress.lines, run.progress.facts = ("before",), {"outcome": "updated"}
    assert data_check.findings(run) == answer
    # The comparison adds to the report.
    assert run.progress.lines == ("before",)
    assert sorted(run.progress.facts) == ["canary", "outcome", "tables"]


def test_lost_data_is_named_with_the_options_that_accept_it(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    data_check.prepare(context(host), GITEA, BACKUP, ())
    answer = ("release file: its content differs: 3 bytes",)
    monkeypatch.setattr(canary, "compare", lambda *_: canary.Compared(answer, lost=True))
    forget_comments(host)
    with pytest.raises(data_check.DataLostError) as caught:
        data_check.findings(run_of(host))
    assert caught.value.message == (
        "28.1.0 lost data: release file: its content differs: 3 bytes; public.comment.content: 30 became 0; "
        "if its release notes say so: --accept-loss canary.release-file --accept-loss comment.content"
    )


def test_the_expected_data_of_another_update_is_not_compared(host: FakeHost) -> None:
    data_check.prepare(context(host), GITEA, BACKUP, ())
    forget_comments(host)
    another = replace(PENDING, backup="20200101T000000Z")
    assert data_check.findings(run_of(host, another)) == ()
    assert "this update began without a count of its data: only the canary's commit is compared" in host.progress
    assert not data_check.has_lost_rows(context(host), another)


@pytest.mark.parametrize(
    ("steps", "seconds", "lost"),
    [
        (("stop", "picture", "pin", "up"), 0, True),
        (("stop", "picture", "pin"), 0, False),
        # The comments are counted after two other tables.
        (("stop", "picture", "pin", "up"), 7.4, True),
        (("stop", "picture", "pin", "up"), 7.6, False),
    ],
)
def test_only_a_started_version_can_have_lost_rows_and_they_are_counted_within_15_seconds(
    host: FakeHost, steps: tuple[str, ...], seconds: float, lost: bool
) -> None:
    data_check.prepare(context(host), GITEA, BACKUP, ())
    forget_comments(host)
    host.count_seconds = seconds
    assert data_check.has_lost_rows(context(host), replace(PENDING, steps=steps)) is lost


def test_a_database_that_cannot_be_counted_has_not_lost_rows(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    data_check.prepare(context(host), GITEA, BACKUP, ())

    def broken(*_: object) -> list[list[str]]:
        raise OpsError("the database does not answer")

    monkeypatch.setattr(Session, "_counts", broken)
    assert not data_check.has_lost_rows(context(host), PENDING)


@pytest.mark.parametrize("pending", [replace(PENDING, planned=NGINX), replace(PENDING, canary="")])
def test_an_update_without_a_canary_leaves_that_of_another_one(host: FakeHost, pending: Pending) -> None:
    data_check.prepare(context(host), GITEA, BACKUP, ())
    data_check.clean(context(host), pending)
    assert has_canary(host)
    data_check.clean(context(host), PENDING)
    assert not has_canary(host)
