"""The update plan: what is planned for a request, what blocks it, and its consequences."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from ops.backup import catalogue, records
from ops.backup.records import Drill
from ops.errors import Refused, Unavailable
from ops.images import pins
from ops.images.pins import Pin
from ops.images.versions import VersionStep, release_from
from ops.update import plan
from ops.update.available import AvailableUpdate
from ops.update.plan import PlannedUpdate, UpdatePreconditions, UpdateRequest
from ops.update.policy import AvailableVersions
from tests.support import fakes

SITE = fakes.site()
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


def available_update(
    service: str, image: str, newest: str = "", automatic: str = "", *, newest_in_major: str = "", digest: str = ""
) -> AvailableUpdate:
    pin = pins.pin_from(image)
    versions = AvailableVersions(
        release_from(newest), release_from(automatic), newest_in_major=release_from(newest_in_major)
    )
    return AvailableUpdate(service, pin, digest or pin.digest, versions)


UPDATES = [
    available_update("gitea", "gitea/gitea:28.0.1@sha256:g", "29.0.0"),
    available_update("postgres", "postgres:18.6@sha256:p", "19.0"),
    available_update("nginx", "nginx:1.30.4@sha256:n", "1.32.0", "1.30.5"),
    available_update("diun", "crazymax/diun:4.33.0@sha256:d"),
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
def test_a_request_becomes_planned_updates_and_a_major_step_has_to_be_named(
    requested: UpdateRequest, planned: str
) -> None:
    assert (
        ", ".join(f"{each.service} {each.target.tag}" for each in plan.plan_updates(UPDATES, requested, SITE))
        == planned
    )


@pytest.mark.parametrize(
    ("requested", "planned"),
    [
        (UpdateRequest(), "diun 4.33.0, postgres 18.7, gitea 28.0.2"),
        (UpdateRequest("postgres"), "postgres 18.7"),
        (UpdateRequest("gitea"), "gitea 29.0.0"),
    ],
)
def test_another_major_version_does_not_hide_a_release_of_the_current_one(
    requested: UpdateRequest, planned: str
) -> None:
    found = [
        available_update("gitea", "gitea/gitea:28.0.1@sha256:g", "29.0.0", newest_in_major="28.0.2"),
        available_update("postgres", "postgres:18.6@sha256:p", "19.0", newest_in_major="18.7"),
        available_update("diun", "crazymax/diun:4.33.0@sha256:d", "5.0.0", digest="sha256:rebuilt"),
    ]
    assert (
        ", ".join(f"{each.service} {each.target.tag}" for each in plan.plan_updates(found, requested, SITE)) == planned
    )


@pytest.mark.parametrize(
    ("requested", "words"),
    [
        (UpdateRequest("postgres"), "so name the version: ops update postgres --to 19.0"),
        (UpdateRequest("gitea", "1.27.3"), "is older than"),
        (UpdateRequest("gitea", "28.1.0-rootless"), "another variant of the image"),
        (UpdateRequest("nothing"), "there is no service nothing"),
        (UpdateRequest("nginx"), "update.hold has nginx"),
    ],
)
def test_a_step_that_the_request_may_not_start_is_refused(requested: UpdateRequest, words: str) -> None:
    with pytest.raises(Refused, match=words):
        plan.plan_updates(UPDATES, requested, fakes.site(update={"hold": ["nginx"]}))


@pytest.mark.parametrize(
    ("planned", "changes", "words"),
    [
        (NGINX, {"failing": ("https: answers 502",)}, "the site is not healthy: https: answers 502"),
        (NGINX, {"free_images": 1}, "are free for images"),
        (GITEA, {"can_snapshot": False}, "are not on btrfs"),
        (GITEA, {"database": 1 << 41}, "enlarge host.data_gib"),
        (GITEA, {"drill_overdue": "no drill was ever passed"}, "no drill was ever passed: ops restore --drill"),
        (
            MAJOR,
            {"foreign_objects": ("database wiki",)},
            "objects other than Gitea's, which the new version would not get: database wiki",
        ),
        (MAJOR, {"database": 1 << 39}, "a copy of the database may need"),
    ],
)
def test_each_blocker_is_named_with_its_remedy(planned: PlannedUpdate, changes: dict[str, Any], words: str) -> None:
    facts = dataclasses.replace(FACTS, **changes)
    (problem,) = plan.blockers([planned], facts, UpdateRequest(automatic=True))
    assert words in problem


def test_an_operator_may_skip_the_drill_explicitly_and_gets_a_warning() -> None:
    facts = dataclasses.replace(FACTS, drill_overdue="no drill was ever passed")
    (problem,) = plan.blockers([GITEA], facts, UpdateRequest("gitea"))
    assert problem.startswith("no drill was ever passed: ops restore --drill; if the update cannot wait")
    assert plan.blockers([GITEA], facts, UpdateRequest("gitea", without_drill=True)) == ()
    assert any("warning: " in line for line in plan.consequences([GITEA], facts, SITE))
    assert not any("warning: " in line for line in plan.consequences([GITEA], FACTS, SITE))
    assert plan.blockers([NGINX], dataclasses.replace(facts, can_snapshot=False), UpdateRequest()) == ()


def test_the_blocker_and_the_warning_of_a_known_finding_name_the_option_that_accepts_it() -> None:
    found = Drill(datetime(2026, 11, 23, tzinfo=UTC), "x", 1.0, 1.0, ("git fsck of a/b.git: missing blob",))
    aws = fakes.FakeAws(stored={"drills/20261123T000000Z.json": records.to_json(found)})
    world: Any = fakes.FakeWorld(aws=aws, clock=fakes.FakeClock(found.began))
    facts = dataclasses.replace(
        FACTS, drill_overdue=catalogue.drill_overdue(SITE, world), drill_remedy=catalogue.drill_remedy(SITE, world)
    )
    remedy = "ops restore --drill, with --accept if its findings are known and no loss"
    (problem,) = plan.blockers([GITEA], facts, UpdateRequest(automatic=True))
    assert problem == f"the drill of 2026-11-23 00:00 UTC failed: git fsck of a/b.git: missing blob: {remedy}"
    (asked,) = plan.blockers([GITEA], facts, UpdateRequest("gitea"))
    assert asked == f"{problem}; if the update cannot wait for that: --without-drill"
    assert any(line.endswith(f"missing blob ({remedy})") for line in plan.consequences([GITEA], facts, SITE))


def test_a_request_has_every_flag_off_by_default() -> None:
    requested = UpdateRequest()
    assert (requested.automatic, requested.dry_run, requested.without_drill) == (False, False, False)
    assert requested.accept_loss == ()


@pytest.mark.parametrize(
    ("service", "step", "with_data", "needs_pg_upgrade"),
    [
        ("postgres", VersionStep.MAJOR, True, True),
        ("postgres", VersionStep.MINOR, True, False),
        ("gitea", VersionStep.MAJOR, True, False),
        ("gitea", VersionStep.PATCH, True, False),
        ("nginx", VersionStep.MAJOR, False, False),
    ],
)
def test_only_another_major_version_of_postgresql_gets_a_copy_of_the_data(
    service: str, step: VersionStep, with_data: bool, needs_pg_upgrade: bool
) -> None:
    planned = dataclasses.replace(MAJOR, service=service, step=step)
    assert (planned.with_data, planned.needs_pg_upgrade) == (with_data, needs_pg_upgrade)


def test_an_update_is_printed_as_its_service_tags_and_step() -> None:
    assert str(GITEA) == "gitea 28.0.1 -> 28.1.0 (minor)"
    assert plan.names([GITEA, NGINX]) == "gitea, nginx"
    assert plan.documents([NGINX]) == {
        "moves": [{"service": "nginx", "from": "nginx:1.30.4@sha256:0", "to": "nginx:1.30.5@sha256:1", "step": "patch"}]
    }


GIB = 1 << 30


@pytest.mark.parametrize(
    ("planned", "changes", "allowed"),
    [
        # An image needs 1 GiB.
        ([NGINX], {"free_images": GIB}, True),
        ([NGINX], {"free_images": GIB - 1}, False),
        ([NGINX, GITEA], {"free_images": 2 * GIB}, True),
        ([NGINX, GITEA], {"free_images": 2 * GIB - 1}, False),
        # A migration needs the database's size and a quarter of 1 GiB.
        ([GITEA], {"database": 3000, "free_data": 3000 + GIB // 4}, True),
        ([GITEA], {"database": 3000, "free_data": 2999 + GIB // 4}, False),
        # A copy of the database needs it twice and 1 GiB.
        ([MAJOR], {"database": 3000, "free_data": 6000 + GIB}, True),
        ([MAJOR], {"database": 3000, "free_data": 5999 + GIB}, False),
        # An image without data needs no space on the data disk.
        ([NGINX], {"free_data": 0}, True),
        # Only a copy of the database would lose other databases.
        ([GITEA], {"foreign_objects": ("database wiki",)}, True),
        ([MAJOR], {"foreign_objects": ("database wiki",)}, False),
    ],
)
def test_an_update_starts_with_exactly_the_required_space_and_not_with_one_byte_less(
    planned: Sequence[PlannedUpdate], changes: dict[str, Any], allowed: bool
) -> None:
    assert (plan.blockers(planned, dataclasses.replace(FACTS, **changes), UpdateRequest()) == ()) is allowed


def test_a_blocker_states_the_free_and_the_required_space() -> None:
    facts = dataclasses.replace(FACTS, free_images=GIB, free_data=GIB, database=3 * GIB)
    images, data = plan.blockers([MAJOR, NGINX], facts, UpdateRequest())
    assert images.startswith("1.0 GiB are free for images, 2.0 GiB are needed")
    assert data.startswith("1.0 GiB are free on the data disk, a copy of the database may need 7.0 GiB")
    (migration,) = plan.blockers([GITEA], facts, UpdateRequest())
    assert migration.startswith("1.0 GiB are free on the data disk, a migration may need 3.2 GiB")


def test_the_consequences_name_the_settings_that_the_new_version_does_not_document() -> None:
    site = fakes.site_with_settings({"service": {"DISABLE_REGISTRATON": True}})
    newer = dataclasses.replace(GITEA, target=Pin("gitea/gitea", "1.26.1", "sha256:1"))
    (line,) = (each for each in plan.consequences([newer, NGINX], FACTS, site) if "warning: " in each)
    assert line.startswith("warning: gitea.settings.service.DISABLE_REGISTRATON: Gitea 1.26 does not document it")
    assert not any("warning: " in each for each in plan.consequences([NGINX], FACTS, site))


def test_the_consequences_name_a_database_copy_only_for_a_major_version_of_postgresql() -> None:
    overdue = dataclasses.replace(FACTS, drill_overdue="no drill was ever passed")

    def begins(*planned: PlannedUpdate, facts: UpdatePreconditions = FACTS) -> list[str]:
        return [line.partition(":")[0] for line in plan.consequences(planned, facts, SITE)]

    assert begins(NGINX) == ["watched"]
    assert begins(GITEA) == ["before", "unavailable", "watched"]
    assert begins(GITEA, MAJOR) == ["before", "unavailable", "copied", "watched"]
    assert begins(GITEA, facts=overdue) == ["before", "unavailable", "warning", "watched"]
    assert begins(NGINX, facts=overdue) == ["watched"]


def test_an_unreachable_registry_blocks_only_a_named_service() -> None:
    unreachable = AvailableUpdate(
        "nginx", pins.pin_from("nginx:1.30.4@sha256:n"), lookup_error="no answer", unreachable=True
    )
    missing = dataclasses.replace(unreachable, lookup_error="no such image", unreachable=False)
    assert plan.plan_updates([unreachable, UPDATES[0]], UpdateRequest(), fakes.site(update={"gitea": "minor"})) == ()
    with pytest.raises(Unavailable, match="no answer"):
        plan.plan_updates([unreachable], UpdateRequest("nginx"), SITE)
    with pytest.raises(Refused, match="no such image"):
        plan.plan_updates([missing], UpdateRequest("nginx"), SITE)
    assert plan.plan_updates([missing], UpdateRequest(), SITE) == ()


def test_a_held_service_is_skipped_and_refused_when_it_is_named() -> None:
    held = fakes.site(update={"hold": ["nginx"]})
    assert plan.plan_updates(UPDATES, UpdateRequest(), held) == ()
    with pytest.raises(Refused, match=r"update\.hold has nginx") as caught:
        plan.plan_updates(UPDATES, UpdateRequest("nginx", "1.32.0"), held)
    assert caught.value.hint == "remove nginx from update.hold in the site file, then run ops deploy"


def test_a_guided_step_names_the_command_that_starts_it() -> None:
    with pytest.raises(Refused) as caught:
        plan.plan_updates(UPDATES, UpdateRequest("postgres"), SITE)
    assert caught.value.hint == "run ops update postgres --to 19.0"


def test_a_rebuilt_image_is_a_step_to_its_new_digest_under_the_same_tag() -> None:
    rebuilt = available_update("diun", "crazymax/diun:4.33.0@sha256:d", digest="sha256:rebuilt")
    (planned,) = plan.plan_updates([rebuilt], UpdateRequest(), SITE)
    assert (planned.step, str(planned.target)) == (VersionStep.DIGEST, "crazymax/diun:4.33.0@sha256:rebuilt")
    newer = available_update("diun", "crazymax/diun:4.33.0@sha256:d", "4.33.1", digest="sha256:rebuilt")
    (planned,) = plan.plan_updates([newer], UpdateRequest(), SITE)
    assert (planned.step, planned.target) == (VersionStep.PATCH, Pin("crazymax/diun", "4.33.1", ""))


def test_an_automatic_update_does_not_suggest_to_skip_the_drill() -> None:
    facts = dataclasses.replace(FACTS, drill_overdue="no drill was ever passed")
    assert plan.blockers([GITEA], facts, UpdateRequest(automatic=True)) == (
        "no drill was ever passed: ops restore --drill",
    )
    (problem,) = plan.blockers([GITEA], facts, UpdateRequest("gitea"))
    assert problem.endswith("--without-drill")
