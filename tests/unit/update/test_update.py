"""The decisions of an update, and that it either succeeds or leaves the old version running.

That it may be killed anywhere: tests/integration/test_kills.py.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ops.backup.manifest import Part
from ops.errors import Degraded, Locked, OpsError, Refused, RolledBack, Stranded, Unavailable
from ops.images import pins
from ops.images.pins import Pin
from ops.images.versions import VersionStep
from ops.model import Report
from ops.timeline_chart import chart_from_json
from ops.update import history, journal, smoke_test, update
from ops.update.journal import Pending
from ops.update.plan import PlannedUpdate, UpdateRequest
from ops.update.smoke_test import SiteCheck
from ops.world.files import Files
from ops.world.lock import exclusive
from tests.support import fakes
from tests.support.fake_host import PINS, Busy, FakeHost, Killed, assert_one_version, run_to_end
from tests.support.fake_restore_host import MADE

SITE = fakes.site()
NOW = fakes.FakeClock().now()
GITEA = PlannedUpdate(
    "gitea", Pin("gitea/gitea", "28.0.1", "sha256:0"), Pin("gitea/gitea", "28.1.0", "sha256:1"), VersionStep.MINOR
)
PENDING = Pending(GITEA, NOW, "20261123T110000Z", 336, "c", False)


@pytest.fixture
def host(tmp_path: Path) -> FakeHost:
    return FakeHost(directory=tmp_path)


@pytest.mark.parametrize(
    ("steps", "migration", "answers", "data"),
    [
        ((), 336, False, False),
        (("stop", "picture", "pin"), 336, False, False),
        (("stop", "picture", "pin", "up"), 336, False, True),
        (("stop", "picture", "pin", "up"), 336, True, False),
        (("stop", "picture", "pin", "up"), 338, True, True),
        (("stop", "picture", "pin", "up", "judge"), 336, False, False),
        (("stop", "picture", "pin", "up", "judge"), 340, False, True),
        (("stop", "picture", "pin", "up", "judge"), None, False, True),
    ],
)
def test_the_image_alone_is_rolled_back_only_if_the_new_version_was_healthy_and_migrated_nothing(
    steps: tuple[str, ...], migration: int | None, answers: bool, data: bool
) -> None:
    pending = dataclasses.replace(PENDING, steps=steps)
    assert journal.needs_data(pending, migration, answers=answers) is data


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({}, ""),
        ({"parts": {"database": Part("r", "l", 0)}}, "its database is empty"),
        ({"rows": {"repository": 1}}, "it has no user"),
        ({"rows": {"user": 1, "repository": 2}, "repositories": {}}, "it has none of 2 repositories"),
    ],
)
def test_an_empty_backup_does_not_count_as_a_backup(changes: dict[str, Any], why: str) -> None:
    assert update.backup_fault(dataclasses.replace(MADE, **changes)) == why


def test_a_good_update_is_pinned_mailed_and_recorded(host: FakeHost) -> None:
    host.write("before")
    report = host.update(to="28.1.0")
    assert (host.version(), host.pinned_in_environment()) == ("28.1.0", "gitea/gitea:28.1.0@sha256:28.1.0")
    assert host.content() == host.acknowledged
    assert pins.from_json(host.bucket[pins.KEY])["gitea"] == Pin("gitea/gitea", "28.1.0", "sha256:28.1.0")
    assert report.facts["outcome"] == "updated"
    assert [letter.subject for letter in host.mail.taken] == ["[test] gitea 28.0.1 -> 28.1.0: updated"]
    (entry,) = host.history()
    assert (entry["from"], entry["outcome"]) == ("gitea/gitea:28.0.1@sha256:28.0.1", "updated")
    assert [json.loads(content)["to"] for key, content in host.bucket.items() if key.startswith(history.HISTORY)] == [
        "gitea/gitea:28.1.0@sha256:28.1.0"
    ]
    actions = host.actions
    # The image is pulled and the backup complete before Gitea is stopped.
    assert actions.index("pull gitea/gitea") < actions.index("put manifests") < actions.index("stop gitea")
    assert actions.index("snapshot postgresql") < actions.index("write .env") < actions.index("compose create gitea")


@pytest.mark.parametrize(
    ("service", "to", "reason"),
    [
        ("gitea", "28.1.0", "It is being updated to 28.1.0."),
        ("postgres", "18.7", "Its database is being updated to 18.7."),
    ],
)
def test_requests_wait_while_gitea_is_stopped_and_are_served_before_the_check(
    host: FakeHost, service: str, to: str, reason: str
) -> None:
    host.update(service, to)
    course = [each for each in host.actions if "away" in each or "hold" in each or each in _COURSE]
    assert course == [
        "record stop",
        "nginx-away page",
        "hold transfers",
        "hold all",
        "stop gitea",
        "record up",
        "start gitea",
        "hold none",
        "nginx-away none",
        "record judge",
    ]
    assert host.proxy.sentence == f"Gitea is away for a moment. {reason} Try again in a minute."


_COURSE = ("record stop", "stop gitea", "record up", "start gitea", "record judge")


def test_a_running_transfer_may_finish_before_gitea_is_stopped(host: FakeHost) -> None:
    host.checks_with_a_push = 20
    report = host.update(to="28.1.0")
    assert 4 <= report.facts["durations"]["stop"] < 6
    # Gitea still serves reads, so it is not unavailable yet.
    assert report.facts["away"] < 1


def test_a_push_to_an_unhealthy_version_is_not_drained(host: FakeHost) -> None:
    action = host.action

    def pushes(what: str) -> None:
        host.checks_with_a_push = 10**6 if what == "record undo" else host.checks_with_a_push
        action(what)

    host.action = pushes  # type: ignore[method-assign]
    with pytest.raises(RolledBack):
        host.update(to="28.1.1-broken")
    (entry,) = host.history()
    assert entry["away"] < 1


def test_a_version_that_hangs_is_killed_soon_if_its_data_is_discarded(host: FakeHost) -> None:
    with pytest.raises(RolledBack):
        host.update(to="28.1.1-hang")
    (entry,) = host.history()
    # It has a minute to start.
    assert 60 <= entry["away"] < 70


def test_requests_wait_during_a_rollback_with_its_reason_and_are_served_after_it(host: FakeHost) -> None:
    host.update(to="28.1.0")
    host.actions.clear()
    host.rollback()
    assert (
        host.proxy.sentence == "Gitea is away for a moment. It is being rolled back to 28.0.1. Try again in a minute."
    )
    assert host.actions.index("hold all") < host.actions.index("stop gitea")
    assert host.proxy.held == "none"
    assert host.serves()


def test_after_a_rollback_the_site_passes_its_own_health_checks(host: FakeHost) -> None:
    host.update(to="28.0.2")
    host.rollback()
    assert host.update(to="28.0.2").changed
    with pytest.raises(RolledBack):
        host.update(to="28.1.1-broken")
    assert host.update(to="28.1.0").changed


def test_the_resuming_run_ends_maintenance_mode_of_a_killed_update(tmp_path: Path) -> None:
    whole = FakeHost(directory=tmp_path / "whole")
    whole.update(to="28.1.0")
    stop = whole.actions.index("stop gitea")
    for number in (stop - 1, stop, whole.actions.index("record up"), whole.actions.index("hold none")):
        host = FakeHost(directory=tmp_path / str(number), dies_before=number)
        with pytest.raises(Killed):
            host.update(to="28.1.0")
        host.dies_before = -1
        assert host.proxy.held != "none"
        run_to_end(host.resume)
        assert host.proxy.held == "none"
        assert_one_version(host, "gitea", "28.1.0")


def test_the_unavailable_time_of_an_interrupted_rollback_counts_from_its_own_start(host: FakeHost) -> None:
    host.update(to="28.1.0")
    host.clock.sleep(timedelta(days=5).total_seconds())
    action = host.action

    def dies(what: str) -> None:
        if what == "snapshot" or what.startswith("rename"):
            raise Killed(what)
        action(what)

    host.action = dies  # type: ignore[method-assign]
    with pytest.raises(Killed):
        host.rollback()
    host.action = action  # type: ignore[method-assign]
    host.clock.sleep(60)
    assert 60 <= host.resume().facts["away"] < 70


def test_an_update_of_nginx_causes_no_outage_even_if_it_was_interrupted(tmp_path: Path) -> None:
    whole = FakeHost(directory=tmp_path / "whole")
    whole.update("nginx", "1.30.5")
    host = FakeHost(directory=tmp_path / "cut off", dies_before=whole.actions.index("record judge"))
    with pytest.raises(Killed):
        host.update("nginx", "1.30.5")
    host.dies_before = -1
    host.clock.sleep(60)
    resumed = host.resume()
    assert (resumed.facts["outcome"], resumed.facts["away"]) == ("updated", 0.0)
    assert chart_from_json(json.dumps(resumed.facts["course"])).marks == ()


def test_a_stranded_site_does_not_stay_in_maintenance_mode(host: FakeHost) -> None:
    host.start = lambda project, service: None  # type: ignore[method-assign]
    with pytest.raises(Stranded):
        host.update(to="28.1.0")
    assert host.proxy.held == "none"


@pytest.mark.parametrize(
    ("to", "with_data", "words"),
    [
        ("28.1.1-crash", True, "gitea does not stay up"),
        ("28.1.1-hang", True, "gitea is not healthy after 1 min"),
        ("28.1.1-sour", False, "checks failed"),
        ("28.1.1-midmigration", True, "gitea does not stay up"),
        ("28.1.1-broken", True, "the sign-in page answers 500"),
    ],
)
def test_a_broken_release_is_rolled_back_without_loss_of_written_data(
    host: FakeHost, to: str, with_data: bool, words: str
) -> None:
    host.write("before")
    with pytest.raises(RolledBack, match=words) as caught:
        host.update(to=to)
    assert caught.value.exit_code == 5
    assert (host.version(), host.serves()) == ("28.0.1", True)
    assert host.pinned_in_environment() == "gitea/gitea:28.0.1@sha256:28.0.1"
    assert host.content() == host.acknowledged
    assert pins.KEY not in host.bucket
    (entry,) = host.history()
    assert (entry["outcome"], entry["with_data"]) == ("rolled back", with_data)
    assert "rolled back" in host.mail.taken[0].subject
    assert host.resume().changed is False


def test_another_major_version_of_postgresql_runs_on_a_copy_of_the_database(host: FakeHost) -> None:
    host.write("before")
    report = host.update("postgres", "19.0")
    live = host.paths.data / "postgresql"
    assert (report.facts["outcome"], (live / "PG_VERSION").read_text()) == ("updated", "19")
    assert host.serves()
    assert host.write("after")
    assert host.content() == ["before", "after"]
    actions = host.actions
    course = [
        "snapshot postgresql",
        "copy the database",
        "stop postgres",
        "exchange postgresql",
        "write .env",
        "compose create postgres",
    ]
    assert [each for each in actions if each in course] == course
    assert not (host.paths.data / ".update/anew").exists()
    # The rollback puts the old files back.
    host.rollback()
    assert (host.pinned_in_environment("postgres"), (live / "PG_VERSION").read_text()) == (PINS["postgres"], "18")
    assert host.content() == ["before"]


def test_a_copy_that_lacks_a_row_does_not_replace_the_database(host: FakeHost) -> None:
    host.write("one")
    host.write("two")
    host.loses_rows = True
    with pytest.raises(RolledBack, match=r"table public.issue: 2 rows \(one two\) became 1 rows \(one\)"):
        host.update("postgres", "19.0")
    assert (host.content(), host.serves()) == (["one", "two"], True)
    assert "stop postgres" not in host.actions
    (entry,) = host.history()
    assert (entry["outcome"], entry["with_data"]) == ("rolled back", False)
    host.loses_rows = False
    assert host.update("postgres", "19.0").changed


def test_a_new_server_that_exits_at_once_is_not_waited_for_and_its_output_is_shown(host: FakeHost) -> None:
    host.initdb_fails = True
    with pytest.raises(RolledBack, match=r"19\.0 creates no database: initdb: invalid locale name"):
        host.update("postgres", "19.0")
    (entry,) = host.history()
    assert entry["away"] < 10


def test_a_database_from_before_a_rotation_gets_the_current_password(host: FakeHost) -> None:
    host.update(to="28.1.0")
    host.actions.clear()
    host.rollback()
    actions = host.actions
    assert actions.index("start postgres") < actions.index("alter the role") < actions.index("start gitea")


def test_a_server_with_foreign_objects_is_not_upgraded_to_another_major_version(host: FakeHost) -> None:
    # A database that a restore keeps aside is not a foreign object.
    (host.paths.data / "postgresql/gitea_before").write_text("{}")
    (host.paths.data / "postgresql/wiki").write_text("{}")
    with pytest.raises(Refused, match="would not get: database wiki: move"):
        host.update("postgres", "19.0")
    (host.paths.data / "postgresql/wiki").unlink()
    assert host.update("postgres", "19.0").changed


def test_data_written_to_a_release_that_migrated_and_then_failed_is_kept_aside(host: FakeHost) -> None:
    host.write("before")
    with pytest.raises(RolledBack, match="kept aside"):
        Busy.on(host).update(to="28.1.1-sourmigration")
    assert "before" in host.content()
    missing = set(host.acknowledged) - set(host.content())
    assert missing <= set((host.paths.data / ".update/undone/gitea/writes").read_text().split())


def test_a_site_that_does_not_start_again_is_stranded_and_can_be_resumed(host: FakeHost) -> None:
    host.write("before")
    start = host.start
    host.start = lambda project, service: None  # type: ignore[method-assign]
    with pytest.raises(Stranded, match=r"28\.0\.1 does not start again") as caught:
        host.update(to="28.1.1-crash")
    assert "ops update --resume" in caught.value.hint
    assert "20261123T" in caught.value.left_as
    host.start = start  # type: ignore[method-assign]
    with pytest.raises(RolledBack):
        host.resume()
    assert_one_version(host, "gitea", "28.1.0")


def test_an_image_that_cannot_be_pulled_changes_nothing(host: FakeHost) -> None:
    host.missing_digests = frozenset({"sha256:28.1.0"})
    with pytest.raises(Unavailable, match="cannot be pulled"):
        host.update(to="28.1.0")
    host.missing_digests, host.full = frozenset(), True
    with pytest.raises(Refused, match="no space left"):
        host.update(to="28.1.0")
    with pytest.raises(Refused, match="is not in the registry"):
        host.update(to="28.1.9")
    assert "stop gitea" not in host.actions
    assert_one_version(host, "gitea", "28.1.0")


def test_the_confirmed_image_is_used_even_if_its_tag_moves_meanwhile(host: FakeHost) -> None:
    def confirm(name: str, lines: Sequence[str]) -> None:
        host.registry.digests["gitea/gitea:28.1.0"] = "sha256:moved"

    requested = UpdateRequest("gitea", "28.1.0")
    world: Any = host
    update.update(host.site(), world, request=requested, confirm=confirm, paths=host.paths, compose=host.compose)
    assert host.pinned_in_environment() == "gitea/gitea:28.1.0@sha256:28.1.0"


def test_a_rebuilt_image_is_used_with_the_digest_that_was_looked_up(host: FakeHost) -> None:
    host.registry.digests["nginx:1.30.4"] = "sha256:rebuilt"
    del host.registry.digests["nginx:1.30.5"]
    assert host.update("nginx").facts["to"] == "nginx:1.30.4@sha256:rebuilt"
    host.registry.digests["nginx:1.30.4"] = "sha256:gone"
    host.missing_digests = frozenset({"sha256:gone"})
    with pytest.raises(Unavailable, match="cannot be pulled"):
        host.update("nginx")
    assert host.pinned_in_environment("nginx") == "nginx:1.30.4@sha256:rebuilt"
    assert not any(host.journals.values())


def test_the_site_stays_available_while_nginx_is_updated(host: FakeHost) -> None:
    done = host.update("nginx")
    assert (done.facts["to"], done.facts["away"]) == ("nginx:1.30.5@sha256:1.30.5", 0.0)
    assert host.actions.index("compose up another nginx") < host.actions.index("QUIT to the old nginx")
    assert host.stack["nginx"].image == "nginx:1.30.5@sha256:1.30.5"


def test_an_update_waits_for_a_deployment_that_replaces_nginx(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    with ExitStack() as deployment:
        lock = host.paths.lock.with_name("nginx.lock")
        deployment.enter_context(exclusive(lock, host.clock.now()))
        passes = host.clock.sleep

        def sleep(seconds: float) -> None:
            passes(seconds)
            if host.clock.monotonic() > 20:
                deployment.close()

        monkeypatch.setattr(host.clock, "sleep", sleep)
        assert host.update("nginx").facts["outcome"] == "updated"
    assert host.clock.monotonic() > 20


def test_an_nginx_that_fails_its_trial_never_replaces_the_current_one(host: FakeHost) -> None:
    host.failing_nginx_images = frozenset({"nginx:1.30.5@sha256:1.30.5"})
    with pytest.raises(RolledBack, match="fails its smoke test"):
        host.update("nginx")
    assert not [each for each in host.actions if "the old nginx" in each]
    assert host.pinned_in_environment("nginx") == host.stack["nginx"].image == PINS["nginx"]


def test_an_unreachable_registry_changes_nothing_and_is_asked_again_in_the_same_window(
    host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(name: str) -> tuple[str, ...]:
        raise Unavailable("registry is out of reach")

    host.clock.sleep(timedelta(days=5, hours=15, minutes=20).total_seconds())
    with monkeypatch.context() as patched:
        patched.setattr(host.registry, "tags", unreachable)
        with pytest.raises(Unavailable, match="out of reach"):
            host.update("nginx")
        assert host.update("", automatic=True).summary == "there is nothing to update"
    assert host.actions == []
    host.clock.sleep(900)
    assert host.update("", automatic=True).facts["to"] == "nginx:1.30.5@sha256:1.30.5"


def test_a_registry_that_fails_after_the_plan_changes_nothing(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = host.registry.digest

    def refuses(image: str) -> str:
        if image == "gitea/gitea:28.1.0":
            raise Unavailable("registry answers 429")
        return digest(image)

    monkeypatch.setattr(host.registry, "digest", refuses)
    with pytest.raises(Unavailable, match="429"):
        host.update(to="28.1.0")
    assert host.actions == []


@pytest.mark.parametrize(
    ("checks", "healthy"),
    [
        ("++++++", True),
        ("+++-++", True),
        ("+-+-++", False),
        ("-+++++-+++++", True),
        ("-+++-+++-+++", False),
        ("++++--", False),
        ("++--++", False),
    ],
)
def test_a_single_failed_check_is_tolerated_and_flapping_health_is_not(checks: str, healthy: bool) -> None:
    seen = [SiteCheck(each == "+", "answers 200" if each == "+" else "answers 500", 0) for each in checks]
    assert (smoke_test.findings_of(seen) == ()) is healthy


def test_a_version_that_restarts_is_not_healthy_whatever_it_answers() -> None:
    assert "it restarted 1 times" in smoke_test.findings_of([SiteCheck(True, "", 1), SiteCheck(True, "", 2)])


def test_a_second_operator_learns_which_operation_is_running(host: FakeHost) -> None:
    def meanwhile(name: str, lines: Sequence[str]) -> None:
        with pytest.raises(Locked, match="ops update, process"):
            host.rollback()

    requested = UpdateRequest("gitea", "28.1.0")
    world: Any = host
    update.update(host.site(), world, request=requested, confirm=meanwhile, paths=host.paths, compose=host.compose)
    assert host.version() == "28.1.0"


def test_a_mail_that_cannot_be_sent_does_not_change_the_outcome(host: FakeHost) -> None:
    host.mail.accepts = None
    assert host.update(to="28.1.0").changed
    with pytest.raises(RolledBack):
        host.update(to="28.1.1-crash")


def test_a_bucket_that_is_unreachable_at_the_end_leaves_the_record_to_the_next_run(
    host: FakeHost,
) -> None:
    action = host.action

    def go_unreachable(what: str) -> None:
        host.bucket_unreachable = host.bucket_unreachable or what == "record commit"
        action(what)

    host.action = go_unreachable  # type: ignore[method-assign]
    with pytest.raises(Degraded, match="not recorded in the bucket"):
        host.update(to="28.1.0")
    assert host.version() == "28.1.0"
    host.action = action  # type: ignore[method-assign]
    host.bucket_unreachable = False
    assert host.resume().changed
    assert pins.from_json(host.bucket[pins.KEY])["gitea"].tag == "28.1.0"
    assert_one_version(host, "gitea", "28.1.0")


def test_only_one_update_runs_at_a_time(host: FakeHost) -> None:
    with exclusive(host.paths.lock, NOW), pytest.raises(Locked):
        host.update(to="28.1.0")
    assert host.actions == []


def test_a_dry_run_and_an_unconfirmed_update_change_nothing(host: FakeHost) -> None:
    report = host.update(to="28.1.0", dry_run=True)
    assert report.lines[0] == "gitea 28.0.1 -> 28.1.0 (minor)"

    def never(name: str, lines: Sequence[str]) -> None:
        raise Refused("not confirmed")

    with pytest.raises(Refused):
        update.update(
            host.site(),
            host,  # type: ignore[arg-type]
            request=UpdateRequest("gitea"),
            confirm=never,
            paths=host.paths,
            compose=host.compose,
        )
    assert host.actions == []


def test_automatic_updates_run_once_in_a_window(host: FakeHost) -> None:
    assert host.update("", automatic=True).summary == "no update is due"
    host.clock.sleep(timedelta(days=5, hours=15, minutes=20).total_seconds())
    host.bucket["drills/1.json"] = host.bucket["drills/1.json"].replace(b"2026-11-22", b"2026-11-28")
    report = host.update("", automatic=True)
    assert (report.facts["service"], report.facts["to"]) == ("nginx", "nginx:1.30.5@sha256:1.30.5")
    assert host.version() == "28.0.1"
    assert host.update("", automatic=True).summary == "no update is due"


def test_a_release_that_was_rolled_back_is_not_tried_again_automatically(host: FakeHost) -> None:
    host.failing_nginx_images = frozenset({"nginx:1.30.5@sha256:1.30.5"})
    host.clock.sleep(timedelta(days=5, hours=15, minutes=20).total_seconds())
    host.bucket["drills/1.json"] = host.bucket["drills/1.json"].replace(b"2026-11-22", b"2026-11-28")
    with pytest.raises(RolledBack):
        host.update("", automatic=True)
    host.failing_nginx_images = frozenset()
    host.clock.sleep(timedelta(days=7).total_seconds())
    host.bucket["drills/1.json"] = host.bucket["drills/1.json"].replace(b"2026-11-28", b"2026-12-05")
    assert host.update("", automatic=True).summary == "there is nothing to update"
    assert "the last attempt was rolled back; ops update nginx tries it again" in host.progress[-1]
    assert host.update("nginx").facts["to"] == "nginx:1.30.5@sha256:1.30.5"


def test_a_failed_automatic_update_does_not_stop_the_others(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    def moved(at: object, planned: PlannedUpdate, request: UpdateRequest) -> Report:
        if planned.service in ("diun", "certbot"):
            raise RolledBack(f"{planned.service} was not healthy")
        return Report("update", True, f"{planned.service} is done")

    steps: list[PlannedUpdate] = [
        PlannedUpdate(each, Pin(each, "1"), Pin(each, "2"), VersionStep.PATCH) for each in ("diun", "certbot", "nginx")
    ]
    monkeypatch.setattr(update, "_apply", moved)
    at: Any = SimpleNamespace(world=host)
    with pytest.raises(RolledBack) as failed:
        update._apply_each(at, steps, UpdateRequest(automatic=True))
    assert failed.value.message == "diun was not healthy; certbot was not healthy; nginx is done"
    with pytest.raises(RolledBack) as failed:
        update._apply_each(at, steps, UpdateRequest())
    assert failed.value.message == "diun was not healthy"


def test_an_unreachable_registry_does_not_count_as_one_without_updates(
    host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(name: str) -> tuple[str, ...]:
        raise Unavailable("registry is out of reach")

    monkeypatch.setattr(host.registry, "tags", unreachable)
    with pytest.raises(Unavailable, match=r"nginx: .*out of reach"):
        host.update("")


def test_a_rollback_restores_the_old_data_and_keeps_the_newer_data_aside(host: FakeHost) -> None:
    with pytest.raises(Refused, match="no snapshot to roll back to"):
        host.rollback()
    host.write("before")
    host.update(to="28.1.0")
    host.write("after")
    report = host.rollback()
    assert (host.version(), host.content()) == ("28.0.1", ["before"])
    assert (host.paths.data / ".update/undone/gitea/writes").read_text().split() == ["before", "after"]
    assert pins.from_json(host.bucket[pins.KEY])["gitea"].tag == "28.0.1"
    assert report.changed
    with pytest.raises(Refused, match="no snapshot to roll back to"):
        host.rollback()


def test_snapshots_for_a_rollback_are_removed_when_they_are_old(host: FakeHost) -> None:
    host.update(to="28.1.0")
    host.clock.sleep(timedelta(days=6).total_seconds())
    host.resume()
    assert (host.paths.data / ".update/before/gitea").is_dir()
    host.clock.sleep(timedelta(days=2).total_seconds())
    host.resume()
    assert not (host.paths.data / ".update/before/gitea").exists()
    with pytest.raises(Refused, match="no snapshot to roll back to"):
        host.rollback()


def test_the_timer_removes_old_snapshots_on_a_host_that_never_boots(host: FakeHost) -> None:
    host.update(to="28.1.0")
    host.clock.sleep(timedelta(days=2).total_seconds())
    assert host.update("", automatic=True).summary == "no update is due"
    assert (host.paths.data / ".update/before/gitea").is_dir()
    host.clock.sleep(timedelta(days=5, hours=20).total_seconds())
    assert host.update("", automatic=True).summary == "no update is due"
    assert not (host.paths.data / ".update/before/gitea").exists()


def test_a_snapshot_that_cannot_be_cloned_leaves_the_live_data_in_place(
    host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.write("before")
    host.update(to="28.1.0")
    host.write("after")

    def no_room(snapshot: Path, folder: Path) -> None:
        raise OpsError("btrfs subvolume snapshot failed: No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(host, "clone", no_room)
        with pytest.raises(Stranded):
            host.rollback()
    assert (host.paths.live / "writes").read_text().split() == ["before", "after"]
    with suppress(RolledBack):
        host.resume()
    assert (host.version(), host.content()) == ("28.0.1", ["before"])


def test_a_rollback_to_an_image_that_cannot_be_pulled_changes_nothing(host: FakeHost) -> None:
    host.update(to="28.1.0")
    host.write("after")
    host.missing_digests = frozenset({"sha256:28.0.1"})
    with pytest.raises(Unavailable, match="cannot be pulled"):
        host.rollback()
    assert host.serves()
    assert (host.version(), host.content()) == ("28.1.0", ["after"])
    host.missing_digests = frozenset()
    host.rollback()
    assert host.version() == "28.0.1"


def test_a_truncated_line_of_the_history_does_not_lose_the_others(host: FakeHost) -> None:
    host.update(to="28.1.0")
    kept = host.paths.data / ".update/history"
    (file,) = [each for each in kept.parent.iterdir() if each.name.startswith("history")]
    with file.open("a") as log:
        log.write('{"service": "gi')
    Files().append(file, file.read_text().splitlines()[0])
    assert [each["service"] for each in host.history()] == ["gitea", "gitea"]
    assert file.read_text().endswith("}\n")


def test_an_unhealthy_site_is_not_updated(host: FakeHost) -> None:
    host.stack["diun"].state = "exited"
    with pytest.raises(Refused, match="the site is not healthy: container diun"):
        host.update(to="28.1.0")
    assert host.actions == []


def test_the_journal_describes_the_update_in_progress() -> None:
    begin = journal.begin_record(PENDING)
    assert journal.pending_from([]) is None
    assert journal.pending_from([begin]) == PENDING
    steps = [{"step": "stop"}, {"step": "picture"}]
    assert journal.pending_from([begin, *steps]) == dataclasses.replace(PENDING, steps=("stop", "picture"))
    undo = {"step": "undo", "with_data": True, "why": "502"}
    undoing = journal.pending_from([begin, *steps, undo])
    assert undoing
    assert (undoing.undoing, undoing.with_data, undoing.why) == (True, True, "502")


def test_charts_mark_when_gitea_was_unavailable(host: FakeHost) -> None:
    good = chart_from_json(json.dumps(host.update(to="28.0.2").facts["course"]))
    assert good.title == "gitea 28.0.1 -> 28.0.2: updated"
    assert [*good.steps][-5:] == ["stop", "picture", "pin", "up", "judge"]
    assert [mark.name for mark in good.marks] == ["Gitea is stopped", "the service answers"]
    with pytest.raises(RolledBack):
        host.update(to="28.1.1-sour")
    entries = host.history()
    back = chart_from_json(json.dumps(entries[-1]["course"]))
    assert back.title == "gitea 28.0.2 -> 28.1.1-sour: rolled back"
    # The failed step counts, too.
    assert [*back.steps][-2:] == ["judge", "back"]
    assert back.steps["judge"] > 20
    assert back.marks[-1].at == round(sum(back.steps.values()), 2)
