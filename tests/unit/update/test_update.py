"""An update succeeds or was never there: what it decides, and that it may be killed anywhere."""

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
from ops.images.versions import VersionStep, release_from
from ops.model import Report
from ops.timeline_chart import chart_from_json
from ops.update import history, journal, plan, smoke_test, update
from ops.update.available import Offer
from ops.update.journal import Pending
from ops.update.plan import PlannedUpdate, UpdatePreconditions, UpdateRequest
from ops.update.policy import Choice
from ops.update.smoke_test import Look
from ops.world.files import Files
from ops.world.lock import exclusive
from tests.support import fakes
from tests.support.fake_host import PINS, Busy, Killed, Machine, ended, one_end
from tests.support.fake_restore_host import MADE

SITE = fakes.site()
NOW = fakes.FakeClock().now()
GITEA = PlannedUpdate(
    "gitea", Pin("gitea/gitea", "28.0.1", "sha256:0"), Pin("gitea/gitea", "28.1.0", "sha256:1"), VersionStep.MINOR
)
NGINX = PlannedUpdate(
    "nginx", Pin("nginx", "1.30.4", "sha256:0"), Pin("nginx", "1.30.5", "sha256:1"), VersionStep.PATCH
)
MAJOR = PlannedUpdate(
    "postgres", Pin("postgres", "18.6", "sha256:0"), Pin("postgres", "19.0", "sha256:1"), VersionStep.MAJOR
)
FACTS = UpdatePreconditions((), 1 << 40, 1 << 40, 1000, True, "")
PENDING = Pending(GITEA, NOW, "20261123T110000Z", 336, "c", False)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(directory=tmp_path)


def offer(
    service: str, image: str, newest: str = "", automatic: str = "", *, within: str = "", digest: str = ""
) -> Offer:
    pin = pins.pin_from(image)
    choice = Choice(release_from(newest), release_from(automatic), within=release_from(within))
    return Offer(service, pin, digest or pin.digest, choice)


OFFERS = [
    offer("gitea", "gitea/gitea:28.0.1@sha256:g", "29.0.0"),
    offer("postgres", "postgres:18.6@sha256:p", "19.0"),
    offer("nginx", "nginx:1.30.4@sha256:n", "1.32.0", "1.30.5"),
    offer("diun", "crazymax/diun:4.33.0@sha256:d"),
]


@pytest.mark.parametrize(
    ("requested", "planned"),
    [
        (UpdateRequest(), "nginx 1.32.0"),
        (UpdateRequest(automatic=True), "nginx 1.30.5"),
        (UpdateRequest("gitea"), "gitea 29.0.0"),
        (UpdateRequest("gitea", "28.1.0"), "gitea 28.1.0"),
        (UpdateRequest("postgres", "18.7"), "postgres 18.7"),
        (UpdateRequest("postgres", "19.0"), "postgres 19.0"),
        (UpdateRequest("diun"), ""),
        (UpdateRequest("gitea", "28.0.1"), ""),
    ],
)
def test_what_is_wished_for_becomes_moves_and_a_major_step_is_to_be_named(
    requested: UpdateRequest, planned: str
) -> None:
    assert (
        ", ".join(f"{each.service} {each.there.tag}" for each in plan.plan_updates(OFFERS, requested, SITE)) == planned
    )


@pytest.mark.parametrize(
    ("requested", "planned"),
    [
        (UpdateRequest(), "diun 4.33.0, postgres 18.7, gitea 28.0.2"),
        (UpdateRequest("postgres"), "postgres 18.7"),
        (UpdateRequest("gitea"), "gitea 29.0.0"),
    ],
)
def test_another_major_version_hides_no_release_of_the_one_in_use(requested: UpdateRequest, planned: str) -> None:
    found = [
        offer("gitea", "gitea/gitea:28.0.1@sha256:g", "29.0.0", within="28.0.2"),
        offer("postgres", "postgres:18.6@sha256:p", "19.0", within="18.7"),
        offer("diun", "crazymax/diun:4.33.0@sha256:d", "5.0.0", digest="sha256:rebuilt"),
    ]
    assert (
        ", ".join(f"{each.service} {each.there.tag}" for each in plan.plan_updates(found, requested, SITE)) == planned
    )


@pytest.mark.parametrize(
    ("requested", "words"),
    [
        (UpdateRequest("postgres"), "its version is to be named: ops update postgres --to 19.0"),
        (UpdateRequest("gitea", "1.27.3"), "is older than"),
        (UpdateRequest("gitea", "28.1.0-rootless"), "another kind of image"),
        (UpdateRequest("nothing"), "there is no service nothing"),
        (UpdateRequest("nginx"), "update.hold has nginx"),
    ],
)
def test_what_no_one_may_take_so_is_refused(requested: UpdateRequest, words: str) -> None:
    with pytest.raises(Refused, match=words):
        plan.plan_updates(OFFERS, requested, fakes.site(update={"hold": ["nginx"]}))


@pytest.mark.parametrize(
    ("move", "changes", "words"),
    [
        (NGINX, {"red": ("https: answers 502",)}, "the site is not well: https: answers 502"),
        (NGINX, {"free_images": 1}, "are free for images"),
        (GITEA, {"photographs": False}, "no btrfs"),
        (GITEA, {"database": 1 << 41}, "enlarge host.data_gib"),
        (GITEA, {"undrilled": "no drill was ever passed"}, "no drill was ever passed: ops restore --drill"),
        (
            MAJOR,
            {"strangers": ("database wiki",)},
            "more than Gitea's, which the new version would be without: database wiki",
        ),
        (MAJOR, {"database": 1 << 39}, "a copy of the database may need"),
    ],
)
def test_what_stands_in_the_way_is_named_with_its_remedy(
    move: PlannedUpdate, changes: dict[str, Any], words: str
) -> None:
    facts = dataclasses.replace(FACTS, **changes)
    (problem,) = plan.blockers([move], facts, UpdateRequest(automatic=True))
    assert words in problem


def test_an_operator_may_update_without_a_drill_in_so_many_words_and_is_warned() -> None:
    facts = dataclasses.replace(FACTS, undrilled="no drill was ever passed")
    (problem,) = plan.blockers([GITEA], facts, UpdateRequest("gitea"))
    assert problem.startswith("no drill was ever passed: ops restore --drill; where the update cannot wait")
    assert plan.blockers([GITEA], facts, UpdateRequest("gitea", without_drill=True)) == ()
    assert any("beware" in line for line in plan.consequences([GITEA], facts, SITE))
    assert not any("beware" in line for line in plan.consequences([GITEA], FACTS, SITE))
    assert plan.blockers([NGINX], dataclasses.replace(facts, photographs=False), UpdateRequest()) == ()


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
def test_the_image_alone_goes_back_only_when_the_new_version_was_well_and_migrated_nothing(
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
def test_an_empty_backup_is_no_backup(changes: dict[str, Any], why: str) -> None:
    assert update.empty(dataclasses.replace(MADE, **changes)) == why


def test_a_good_update_is_pinned_told_and_recorded(machine: Machine) -> None:
    machine.write("before")
    report = machine.update(to="28.1.0")
    assert (machine.version(), machine.pinned_in_environment()) == ("28.1.0", "gitea/gitea:28.1.0@sha256:28.1.0")
    assert machine.content() == machine.acknowledged
    assert pins.from_json(machine.bucket[pins.KEY])["gitea"] == Pin("gitea/gitea", "28.1.0", "sha256:28.1.0")
    assert report.facts["outcome"] == "updated"
    assert [letter.subject for letter in machine.mail.taken] == ["[test] gitea 28.0.1 -> 28.1.0: updated"]
    (entry,) = machine.history()
    assert (entry["from"], entry["outcome"]) == ("gitea/gitea:28.0.1@sha256:28.0.1", "updated")
    assert [
        json.loads(content)["to"] for key, content in machine.bucket.items() if key.startswith(history.HISTORY)
    ] == ["gitea/gitea:28.1.0@sha256:28.1.0"]
    deeds = machine.deeds
    # The image is there and the backup whole before anything stops.
    assert deeds.index("pull gitea/gitea") < deeds.index("put manifests") < deeds.index("stop gitea")
    assert deeds.index("photograph postgresql") < deeds.index("write .env") < deeds.index("compose create gitea")


@pytest.mark.parametrize(
    ("service", "to", "reason"),
    [
        ("gitea", "28.1.0", "It is being updated to 28.1.0."),
        ("postgres", "18.7", "Its database is being updated to 18.7."),
    ],
)
def test_while_gitea_is_stopped_visitors_are_told_why_and_they_are_in_again_when_it_is_judged(
    machine: Machine, service: str, to: str, reason: str
) -> None:
    machine.ssh = fakes.FakeSsh(machine.deeds)
    machine.update(service, to)
    course = [each for each in machine.deeds if "away" in each or "ssh" in each or each in _COURSE]
    assert course == [
        "record stop",
        "nginx-away push",
        "nginx-away all",
        "stop gitea",
        f"ssh 2222: Gitea is away for a moment. {reason} Try again in a minute.",
        "record up",
        "ssh is silent",
        "start gitea",
        "nginx-away none",
        "record judge",
    ]


_COURSE = ("record stop", "stop gitea", "record up", "start gitea", "record judge")


def test_a_push_under_way_is_let_finish_before_gitea_is_stopped(machine: Machine) -> None:
    machine.pushing_looks = 20
    report = machine.update(to="28.1.0")
    assert 4 <= report.facts["durations"]["stop"] < 6
    # Whoever reads meanwhile is served, so it is not away yet.
    assert report.facts["away"] < 1


def test_a_push_to_a_version_that_is_not_well_is_not_waited_for(machine: Machine) -> None:
    deed = machine.deed

    def pushes(what: str) -> None:
        machine.pushing_looks = 10**6 if what == "record undo" else machine.pushing_looks
        deed(what)

    machine.deed = pushes  # type: ignore[method-assign]
    with pytest.raises(RolledBack):
        machine.update(to="28.1.1-broken")
    (entry,) = machine.history()
    assert entry["away"] < 1


def test_a_version_that_hangs_is_not_waited_for_when_its_data_goes_anyway(machine: Machine) -> None:
    with pytest.raises(RolledBack):
        machine.update(to="28.1.1-hang")
    (entry,) = machine.history()
    # It has a minute to come up.
    assert 60 <= entry["away"] < 70


def test_visitors_are_told_of_the_way_back_and_are_in_again_after_it(machine: Machine) -> None:
    machine.update(to="28.1.0")
    machine.ssh = fakes.FakeSsh(machine.deeds)
    machine.deeds.clear()
    machine.rollback()
    assert (
        "ssh 2222: Gitea is away for a moment. It is being taken back to 28.0.1. Try again in a minute."
        in machine.deeds
    )
    assert machine.deeds.index("nginx-away all") < machine.deeds.index("stop gitea")
    assert machine.turned_away == "none"
    assert machine.serves()


def test_gone_back_or_taken_back_the_site_is_well_by_its_own_checks_too(machine: Machine) -> None:
    machine.update(to="28.0.2")
    machine.rollback()
    assert machine.update(to="28.0.2").changed
    with pytest.raises(RolledBack):
        machine.update(to="28.1.1-broken")
    assert machine.update(to="28.1.0").changed


def test_visitors_whom_a_killed_update_turned_away_are_let_in_by_whoever_goes_on(tmp_path: Path) -> None:
    whole = Machine(directory=tmp_path / "whole")
    whole.update(to="28.1.0")
    turned = whole.deeds.index("nginx-away all")
    for number in (turned, turned + 1, whole.deeds.index("record up"), whole.deeds.index("nginx-away none")):
        machine = Machine(directory=tmp_path / str(number), dies_before=number)
        with pytest.raises(Killed):
            machine.update(to="28.1.0")
        machine.dies_before = -1
        assert machine.turned_away != "none"
        ended(machine.resume)
        assert machine.turned_away == "none"
        one_end(machine, "gitea", "28.1.0")


def test_the_absence_of_a_way_back_that_was_cut_off_is_counted_from_its_own_begin(machine: Machine) -> None:
    machine.update(to="28.1.0")
    machine.clock.sleep(timedelta(days=5).total_seconds())
    deed = machine.deed

    def dies(what: str) -> None:
        if what == "photograph" or what.startswith("rename"):
            raise Killed(what)
        deed(what)

    machine.deed = dies  # type: ignore[method-assign]
    with pytest.raises(Killed):
        machine.rollback()
    machine.deed = deed  # type: ignore[method-assign]
    machine.clock.sleep(60)
    assert 60 <= machine.resume().facts["away"] < 70


def test_of_nginx_no_one_is_without_also_when_its_update_was_cut_off(tmp_path: Path) -> None:
    whole = Machine(directory=tmp_path / "whole")
    whole.update("nginx", "1.30.5")
    machine = Machine(directory=tmp_path / "cut off", dies_before=whole.deeds.index("record judge"))
    with pytest.raises(Killed):
        machine.update("nginx", "1.30.5")
    machine.dies_before = -1
    machine.clock.sleep(60)
    resumed = machine.resume()
    assert (resumed.facts["outcome"], resumed.facts["away"]) == ("updated", 0.0)
    assert chart_from_json(json.dumps(resumed.facts["course"])).marks == ()


def test_visitors_of_a_site_that_is_stranded_are_not_told_that_it_comes_back_in_a_moment(machine: Machine) -> None:
    machine.start = lambda project, service: None  # type: ignore[method-assign]
    with pytest.raises(Stranded):
        machine.update(to="28.1.0")
    assert machine.turned_away == "none"


@pytest.mark.parametrize(
    ("to", "with_data", "words"),
    [
        ("28.1.1-crash", True, "gitea does not stay up"),
        ("28.1.1-hang", True, "gitea is not well after 1 min"),
        ("28.1.1-sour", False, "looks failed"),
        ("28.1.1-midmigration", True, "gitea does not stay up"),
        ("28.1.1-broken", True, "the sign-in page answers 500"),
    ],
)
def test_a_broken_release_is_taken_back_and_nothing_that_was_written_is_missing(
    machine: Machine, to: str, with_data: bool, words: str
) -> None:
    machine.write("before")
    with pytest.raises(RolledBack, match=words) as caught:
        machine.update(to=to)
    assert caught.value.exit_code == 5
    assert (machine.version(), machine.serves()) == ("28.0.1", True)
    assert machine.pinned_in_environment() == "gitea/gitea:28.0.1@sha256:28.0.1"
    assert machine.content() == machine.acknowledged
    assert pins.KEY not in machine.bucket
    (entry,) = machine.history()
    assert (entry["outcome"], entry["with_data"]) == ("rolled back", with_data)
    assert "rolled back" in machine.mail.taken[0].subject
    assert machine.resume().changed is False


def test_another_major_version_of_postgresql_gets_a_copy_that_takes_the_old_one_s_place(machine: Machine) -> None:
    machine.write("before")
    report = machine.update("postgres", "19.0")
    live = machine.paths.data / "postgresql"
    assert (report.facts["outcome"], (live / "PG_VERSION").read_text()) == ("updated", "19")
    assert machine.serves()
    assert machine.write("after")
    assert machine.content() == ["before", "after"]
    deeds = machine.deeds
    course = [
        "photograph postgresql",
        "copy the database",
        "stop postgres",
        "exchange postgresql",
        "write .env",
        "compose create postgres",
    ]
    assert [each for each in deeds if each in course] == course
    assert not (machine.paths.data / ".update/anew").exists()
    # And back, with the files of then.
    machine.rollback()
    assert (machine.pinned_in_environment("postgres"), (live / "PG_VERSION").read_text()) == (PINS["postgres"], "18")
    assert machine.content() == ["before"]


def test_a_copy_that_lacks_a_row_does_not_take_the_database_s_place(machine: Machine) -> None:
    machine.write("one")
    machine.write("two")
    machine.loses_rows = True
    with pytest.raises(RolledBack, match=r"table public.issue: 2 rows \(one two\) became 1 rows \(one\)"):
        machine.update("postgres", "19.0")
    assert (machine.content(), machine.serves()) == (["one", "two"], True)
    assert "stop postgres" not in machine.deeds
    (entry,) = machine.history()
    assert (entry["outcome"], entry["with_data"]) == ("rolled back", False)
    machine.loses_rows = False
    assert machine.update("postgres", "19.0").changed


def test_a_new_server_that_ends_at_once_is_not_waited_for_and_its_words_are_told(machine: Machine) -> None:
    machine.makes_no_database = True
    with pytest.raises(RolledBack, match=r"19\.0 makes no database: initdb: invalid locale name"):
        machine.update("postgres", "19.0")
    (entry,) = machine.history()
    assert entry["away"] < 10


def test_a_database_of_before_a_rotation_takes_the_password_of_now(machine: Machine) -> None:
    machine.update(to="28.1.0")
    machine.deeds.clear()
    machine.rollback()
    deeds = machine.deeds
    assert deeds.index("start postgres") < deeds.index("alter the role") < deeds.index("start gitea")


def test_a_server_with_more_than_gitea_s_database_is_not_taken_to_another_major_version(machine: Machine) -> None:
    # What a restore has kept aside is not in the way.
    (machine.paths.data / "postgresql/gitea_before").write_text("{}")
    (machine.paths.data / "postgresql/wiki").write_text("{}")
    with pytest.raises(Refused, match="without: database wiki: move"):
        machine.update("postgres", "19.0")
    (machine.paths.data / "postgresql/wiki").unlink()
    assert machine.update("postgres", "19.0").changed


def test_what_was_written_to_a_release_that_migrated_and_then_went_bad_is_kept_aside(machine: Machine) -> None:
    machine.write("before")
    with pytest.raises(RolledBack, match="kept aside"):
        Busy.on(machine).update(to="28.1.1-sourmigration")
    assert "before" in machine.content()
    missing = set(machine.acknowledged) - set(machine.content())
    assert missing <= set((machine.paths.data / ".update/undone/gitea/writes").read_text().split())


def test_a_site_that_does_not_come_back_is_stranded_and_resuming_it_is_tried_again(machine: Machine) -> None:
    machine.write("before")
    start = machine.start
    machine.start = lambda project, service: None  # type: ignore[method-assign]
    with pytest.raises(Stranded, match=r"28\.0\.1 does not come back") as caught:
        machine.update(to="28.1.1-crash")
    assert "ops update --resume" in caught.value.hint
    assert "20261123T" in caught.value.hint
    machine.start = start  # type: ignore[method-assign]
    with pytest.raises(RolledBack):
        machine.resume()
    one_end(machine, "gitea", "28.1.0")


def test_an_image_that_cannot_be_had_changes_nothing(machine: Machine) -> None:
    machine.vanished = frozenset({"sha256:28.1.0"})
    with pytest.raises(Unavailable, match="cannot be pulled"):
        machine.update(to="28.1.0")
    machine.vanished, machine.full = frozenset(), True
    with pytest.raises(Refused, match="no space left"):
        machine.update(to="28.1.0")
    with pytest.raises(Refused, match="is not in the registry"):
        machine.update(to="28.1.9")
    assert "stop gitea" not in machine.deeds
    one_end(machine, "gitea", "28.1.0")


def test_what_was_agreed_to_is_taken_though_the_tag_names_other_bytes_meanwhile(machine: Machine) -> None:
    def confirm(name: str, lines: Sequence[str]) -> None:
        machine.registry.digests["gitea/gitea:28.1.0"] = "sha256:moved"

    requested = UpdateRequest("gitea", "28.1.0")
    world: Any = machine
    update.update(
        machine.site(), world, request=requested, confirm=confirm, paths=machine.paths, compose=machine.compose
    )
    assert machine.pinned_in_environment() == "gitea/gitea:28.1.0@sha256:28.1.0"


def test_other_bytes_under_the_tag_in_use_are_taken_as_they_were_looked_up(machine: Machine) -> None:
    machine.registry.digests["nginx:1.30.4"] = "sha256:mended"
    del machine.registry.digests["nginx:1.30.5"]
    assert machine.update("nginx").facts["to"] == "nginx:1.30.4@sha256:mended"
    machine.registry.digests["nginx:1.30.4"] = "sha256:gone"
    machine.vanished = frozenset({"sha256:gone"})
    with pytest.raises(Unavailable, match="cannot be pulled"):
        machine.update("nginx")
    assert machine.pinned_in_environment("nginx") == "nginx:1.30.4@sha256:mended"
    assert not any(machine.journals.values())


def test_no_one_finds_the_site_away_while_nginx_is_updated(machine: Machine) -> None:
    done = machine.update("nginx")
    assert (done.facts["to"], done.facts["away"]) == ("nginx:1.30.5@sha256:1.30.5", 0.0)
    assert machine.deeds.index("compose up another nginx") < machine.deeds.index("QUIT to the old nginx")
    assert machine.stack["nginx"].image == "nginx:1.30.5@sha256:1.30.5"


def test_a_deployment_that_replaces_nginx_already_is_waited_for(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ExitStack() as deployment:
        lock = machine.paths.lock.with_name("nginx.lock")
        deployment.enter_context(exclusive(lock, machine.clock.now()))
        passes = machine.clock.sleep

        def sleep(seconds: float) -> None:
            passes(seconds)
            if machine.clock.monotonic() > 20:
                deployment.close()

        monkeypatch.setattr(machine.clock, "sleep", sleep)
        assert machine.update("nginx").facts["outcome"] == "updated"
    assert machine.clock.monotonic() > 20


def test_an_nginx_that_does_not_stand_its_trial_never_takes_the_place_of_the_one_that_serves(machine: Machine) -> None:
    machine.fails_trial = frozenset({"nginx:1.30.5@sha256:1.30.5"})
    with pytest.raises(RolledBack, match="does not stand its trial"):
        machine.update("nginx")
    assert not [each for each in machine.deeds if "the old nginx" in each]
    assert machine.pinned_in_environment("nginx") == machine.stack["nginx"].image == PINS["nginx"]


def test_a_registry_that_does_not_answer_changes_nothing_and_is_asked_again_in_the_same_window(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(name: str) -> tuple[str, ...]:
        raise Unavailable("registry is out of reach")

    machine.clock.sleep(timedelta(days=5, hours=15, minutes=20).total_seconds())
    with monkeypatch.context() as patched:
        patched.setattr(machine.registry, "tags", away)
        with pytest.raises(Unavailable, match="out of reach"):
            machine.update("nginx")
        assert machine.update("", automatic=True).summary == "there is nothing to update"
    assert machine.deeds == []
    machine.clock.sleep(900)
    assert machine.update("", automatic=True).facts["to"] == "nginx:1.30.5@sha256:1.30.5"


def test_a_registry_that_answers_no_more_once_the_plan_is_made_changes_nothing(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = machine.registry.digest

    def refuses(image: str) -> str:
        if image == "gitea/gitea:28.1.0":
            raise Unavailable("registry answers 429")
        return digest(image)

    monkeypatch.setattr(machine.registry, "digest", refuses)
    with pytest.raises(Unavailable, match="429"):
        machine.update(to="28.1.0")
    assert machine.deeds == []


@pytest.mark.parametrize(
    ("looks", "well"),
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
def test_one_look_that_fails_is_a_hiccup_and_health_that_flaps_is_none(looks: str, well: bool) -> None:
    seen = [Look(each == "+", "answers 200" if each == "+" else "answers 500", 0) for each in looks]
    assert (smoke_test.check(seen) == ()) is well


def test_a_version_that_starts_anew_is_not_well_however_it_answers() -> None:
    assert "it started anew 1 times" in smoke_test.check([Look(True, "", 1), Look(True, "", 2)])


def test_a_second_operator_is_told_who_is_at_work(machine: Machine) -> None:
    def meanwhile(name: str, lines: Sequence[str]) -> None:
        with pytest.raises(Locked, match="ops update, process"):
            machine.rollback()

    requested = UpdateRequest("gitea", "28.1.0")
    world: Any = machine
    update.update(
        machine.site(), world, request=requested, confirm=meanwhile, paths=machine.paths, compose=machine.compose
    )
    assert machine.version() == "28.1.0"


def test_a_notice_that_cannot_be_sent_changes_nothing_of_the_outcome(machine: Machine) -> None:
    machine.mail.known = None
    assert machine.update(to="28.1.0").changed
    with pytest.raises(RolledBack):
        machine.update(to="28.1.1-crash")


def test_a_bucket_that_is_away_at_the_end_leaves_the_update_done_and_the_record_to_the_next_run(
    machine: Machine,
) -> None:
    deed = machine.deed

    def away(what: str) -> None:
        machine.bucket_is_away = machine.bucket_is_away or what == "record commit"
        deed(what)

    machine.deed = away  # type: ignore[method-assign]
    with pytest.raises(Degraded, match="the bucket does not know it"):
        machine.update(to="28.1.0")
    assert machine.version() == "28.1.0"
    machine.deed = deed  # type: ignore[method-assign]
    machine.bucket_is_away = False
    assert machine.resume().changed
    assert pins.from_json(machine.bucket[pins.KEY])["gitea"].tag == "28.1.0"
    one_end(machine, "gitea", "28.1.0")


def test_one_update_at_a_time(machine: Machine) -> None:
    with exclusive(machine.paths.lock, NOW), pytest.raises(Locked):
        machine.update(to="28.1.0")
    assert machine.deeds == []


def test_a_rehearsed_update_and_one_that_no_one_agrees_to_do_nothing(machine: Machine) -> None:
    report = machine.update(to="28.1.0", dry_run=True)
    assert report.lines[0] == "gitea 28.0.1 -> 28.1.0 (minor)"

    def never(name: str, lines: Sequence[str]) -> None:
        raise Refused("no one agreed")

    with pytest.raises(Refused):
        update.update(
            machine.site(),
            machine,  # type: ignore[arg-type]
            request=UpdateRequest("gitea"),
            confirm=never,
            paths=machine.paths,
            compose=machine.compose,
        )
    assert machine.deeds == []


def test_updates_of_their_own_happen_once_in_a_window(machine: Machine) -> None:
    assert machine.update("", automatic=True).summary == "no update is due"
    machine.clock.sleep(timedelta(days=5, hours=15, minutes=20).total_seconds())
    machine.bucket["drills/1.json"] = machine.bucket["drills/1.json"].replace(b"2026-11-22", b"2026-11-28")
    report = machine.update("", automatic=True)
    assert (report.facts["service"], report.facts["to"]) == ("nginx", "nginx:1.30.5@sha256:1.30.5")
    assert machine.version() == "28.0.1"
    assert machine.update("", automatic=True).summary == "no update is due"


def test_a_release_that_was_taken_back_is_not_tried_again_unasked(machine: Machine) -> None:
    machine.fails_trial = frozenset({"nginx:1.30.5@sha256:1.30.5"})
    machine.clock.sleep(timedelta(days=5, hours=15, minutes=20).total_seconds())
    machine.bucket["drills/1.json"] = machine.bucket["drills/1.json"].replace(b"2026-11-22", b"2026-11-28")
    with pytest.raises(RolledBack):
        machine.update("", automatic=True)
    machine.fails_trial = frozenset()
    machine.clock.sleep(timedelta(days=7).total_seconds())
    machine.bucket["drills/1.json"] = machine.bucket["drills/1.json"].replace(b"2026-11-28", b"2026-12-05")
    assert machine.update("", automatic=True).summary == "there is nothing to update"
    assert "was taken back when it was tried last; ops update nginx tries it again" in machine.told[-1]
    assert machine.update("nginx").facts["to"] == "nginx:1.30.5@sha256:1.30.5"


def test_an_update_that_is_taken_back_stops_no_other_unless_someone_asked_for_all(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def moved(at: object, move: PlannedUpdate, *, automatic: bool) -> Report:
        if move.service in ("diun", "certbot"):
            raise RolledBack(f"{move.service} was not well")
        return Report("update", True, f"{move.service} is done")

    steps: list[PlannedUpdate] = [
        PlannedUpdate(each, Pin(each, "1"), Pin(each, "2"), VersionStep.PATCH) for each in ("diun", "certbot", "nginx")
    ]
    monkeypatch.setattr(update, "_moved", moved)
    at: Any = SimpleNamespace(world=machine)
    with pytest.raises(RolledBack) as failed:
        update._each_moved(at, steps, automatic=True)
    assert failed.value.message == "diun was not well; certbot was not well; nginx is done"
    with pytest.raises(RolledBack) as failed:
        update._each_moved(at, steps, automatic=False)
    assert failed.value.message == "diun was not well"


def test_a_registry_that_tells_nothing_is_not_one_that_has_nothing(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(name: str) -> tuple[str, ...]:
        raise Unavailable("registry is out of reach")

    monkeypatch.setattr(machine.registry, "tags", away)
    with pytest.raises(Unavailable, match=r"nginx: .*out of reach"):
        machine.update("")


def test_one_can_go_back_with_the_data_of_then_and_what_was_written_since_is_kept_aside(machine: Machine) -> None:
    with pytest.raises(Refused, match="nothing is kept to go back to"):
        machine.rollback()
    machine.write("before")
    machine.update(to="28.1.0")
    machine.write("after")
    report = machine.rollback()
    assert (machine.version(), machine.content()) == ("28.0.1", ["before"])
    assert (machine.paths.data / ".update/undone/gitea/writes").read_text().split() == ["before", "after"]
    assert pins.from_json(machine.bucket[pins.KEY])["gitea"].tag == "28.0.1"
    assert report.changed
    with pytest.raises(Refused, match="nothing is kept"):
        machine.rollback()


def test_what_is_kept_for_the_way_back_goes_when_it_is_old(machine: Machine) -> None:
    machine.update(to="28.1.0")
    machine.clock.sleep(timedelta(days=6).total_seconds())
    machine.resume()
    assert (machine.paths.data / ".update/before/gitea").is_dir()
    machine.clock.sleep(timedelta(days=2).total_seconds())
    machine.resume()
    assert not (machine.paths.data / ".update/before/gitea").exists()
    with pytest.raises(Refused, match="nothing is kept"):
        machine.rollback()


def test_the_timer_ends_what_is_kept_too_long_though_no_host_ever_boots(machine: Machine) -> None:
    machine.update(to="28.1.0")
    machine.clock.sleep(timedelta(days=2).total_seconds())
    assert machine.update("", automatic=True).summary == "no update is due"
    assert (machine.paths.data / ".update/before/gitea").is_dir()
    machine.clock.sleep(timedelta(days=5, hours=20).total_seconds())
    assert machine.update("", automatic=True).summary == "no update is due"
    assert not (machine.paths.data / ".update/before/gitea").exists()


def test_a_picture_that_cannot_be_copied_leaves_what_is_there_where_it_is(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.write("before")
    machine.update(to="28.1.0")
    machine.write("after")

    def no_room(picture: Path, folder: Path) -> None:
        raise OpsError("btrfs subvolume snapshot failed: No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(machine, "clone", no_room)
        with pytest.raises(Stranded):
            machine.rollback()
    assert (machine.paths.live / "writes").read_text().split() == ["before", "after"]
    with suppress(RolledBack):
        machine.resume()
    assert (machine.version(), machine.content()) == ("28.0.1", ["before"])


def test_no_one_goes_back_to_an_image_that_is_not_to_be_had_any_more(machine: Machine) -> None:
    machine.update(to="28.1.0")
    machine.write("after")
    machine.vanished = frozenset({"sha256:28.0.1"})
    with pytest.raises(Unavailable, match="cannot be pulled"):
        machine.rollback()
    assert machine.serves()
    assert (machine.version(), machine.content()) == ("28.1.0", ["after"])
    machine.vanished = frozenset()
    machine.rollback()
    assert machine.version() == "28.0.1"


def test_a_line_of_the_history_that_was_cut_off_takes_no_other_with_it(machine: Machine) -> None:
    machine.update(to="28.1.0")
    kept = machine.paths.data / ".update/history"
    (file,) = [each for each in kept.parent.iterdir() if each.name.startswith("history")]
    with file.open("a") as written:
        written.write('{"service": "gi')
    Files().append(file, file.read_text().splitlines()[0])
    assert [each["service"] for each in machine.history()] == ["gitea", "gitea"]
    assert file.read_text().endswith("}\n")


def test_a_site_that_is_not_well_is_not_updated(machine: Machine) -> None:
    machine.stack["diun"].state = "exited"
    with pytest.raises(Refused, match="the site is not well: container diun"):
        machine.update(to="28.1.0")
    assert machine.deeds == []


def test_what_a_journal_says_is_under_way() -> None:
    begin = journal.begin_record(PENDING)
    assert journal.pending_from([]) is None
    assert journal.pending_from([begin]) == PENDING
    steps = [{"step": "stop"}, {"step": "picture"}]
    assert journal.pending_from([begin, *steps]) == dataclasses.replace(PENDING, steps=("stop", "picture"))
    undo = {"step": "undo", "with_data": True, "why": "red"}
    undone = journal.pending_from([begin, *steps, undo])
    assert undone
    assert (undone.undoing, undone.with_data, undone.why) == (True, True, "red")


def test_an_update_and_one_that_is_taken_back_are_drawn_with_when_gitea_was_away(machine: Machine) -> None:
    good = chart_from_json(json.dumps(machine.update(to="28.0.2").facts["course"]))
    assert good.title == "gitea 28.0.1 -> 28.0.2: updated"
    assert [*good.steps][-5:] == ["stop", "picture", "pin", "up", "judge"]
    assert [mark.name for mark in good.marks] == ["Gitea is stopped", "it answers"]
    with pytest.raises(RolledBack):
        machine.update(to="28.1.1-sour")
    entries = machine.history()
    back = chart_from_json(json.dumps(entries[-1]["course"]))
    assert back.title == "gitea 28.0.2 -> 28.1.1-sour: rolled back"
    # The step that failed took its time, too.
    assert [*back.steps][-2:] == ["judge", "back"]
    assert back.steps["judge"] > 20
    assert back.marks[-1].at == round(sum(back.steps.values()), 2)
