"""The decisions of an update, and that it either succeeds or leaves the old version running.

That it may be killed anywhere: tests/integration/test_kills.py.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ops.backup.manifest import Part
from ops.errors import Degraded, RolledBack, Stranded, Unavailable
from ops.images import pins
from ops.images.pins import Pin
from ops.images.versions import VersionStep
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


def test_requests_wait_until_the_old_version_runs_again(host: FakeHost) -> None:
    with pytest.raises(RolledBack):
        host.update(to="28.1.1-crash")
    course = [each for each in host.actions if "hold" in each or each in {"stop gitea", "start gitea"}]
    twice = ["stop gitea", "start gitea"] * 2
    assert course == ["hold transfers", "hold all", *twice, "hold none"]


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


def test_a_truncated_line_of_the_history_does_not_lose_the_others(host: FakeHost) -> None:
    host.update(to="28.1.0")
    kept = host.paths.data / ".update/history"
    (file,) = [each for each in kept.parent.iterdir() if each.name.startswith("history")]
    with file.open("a") as log:
        log.write('{"service": "gi')
    Files().append(file, file.read_text().splitlines()[0])
    assert [each["service"] for each in host.history()] == ["gitea", "gitea"]
    assert file.read_text().endswith("}\n")


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
