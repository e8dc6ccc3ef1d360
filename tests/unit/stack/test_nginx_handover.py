"""One nginx takes another's place: what is decided, and that it may be cut off anywhere and is never without one that serves."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ops.errors import OpsError, Refused, RolledBack
from ops.stack import nginx_handover
from ops.stack.nginx_handover import Front, Plan, image_from, plan_handover
from ops.world.containers import Member
from ops.world.https import Answer
from ops.world.process import Finished
from tests.support import fakes

NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
OLD, NEW = "nginx:1.30.4", "nginx:1.30.5"
SITE = fakes.site()


def member(identity: str, image: str = OLD, state: str = "running", health: str = "healthy") -> Member:
    age = timedelta(minutes=int(identity))
    return Member(identity, image, f"sha256:{image.rpartition(':')[2]}", state, health, NOON + age)


@pytest.mark.parametrize(
    ("found", "plan"),
    [
        pytest.param([member("1")], Plan("", ("1",), ()), id="the old one serves until there is a new one"),
        pytest.param([member("1", NEW)], Plan("1", (), ()), id="nothing to do"),
        pytest.param([member("1"), member("2", NEW)], Plan("2", ("1",), ()), id="cut off before the farewell"),
        pytest.param([member("1"), member("2", NEW, health="starting")], Plan("", ("1",), ("2",)), id="begun"),
        pytest.param([member("1", state="exited"), member("2", NEW)], Plan("2", (), ("1",)), id="cut off after it"),
        pytest.param([member("1"), member("2", NEW, "created", "")], Plan("", ("1",), ("2",)), id="never started"),
        pytest.param([member("1", health="unhealthy")], Plan("", ("1",), ()), id="an ill one serves as well as it can"),
        pytest.param(
            [member("1", health="unhealthy"), member("2")], Plan("", ("2",), ("1",)), id="the well one serves"
        ),
        pytest.param([member("1", NEW), member("2", NEW)], Plan("2", ("1",), ()), id="one of two is enough"),
        pytest.param([member("1", state="exited")], Plan("", (), ("1",)), id="no one serves"),
        pytest.param([], Plan("", (), ()), id="there is none"),
    ],
)
def test_who_stays_who_serves_until_then_and_who_is_in_the_way(found: list[Member], plan: Plan) -> None:
    assert plan_handover(reversed(found), NEW, "sha256:1.30.5") == plan
    assert plan_handover(found, NEW, "sha256:1.30.5") == plan


def test_there_is_another_one_anew_though_one_is_of_the_image() -> None:
    assert plan_handover([member("1", NEW)], NEW, "sha256:1.30.5", anew=True) == Plan("", ("1",), ())


@pytest.mark.parametrize("line", ["NGINX_IMAGE=nginx:1@sha256:0", "NGINX_IMAGE='nginx:1@sha256:0'"])
def test_the_image_is_that_of_compose_s_settings(line: str) -> None:
    assert image_from(f"A=1\n{line}\nB=2\n") == "nginx:1@sha256:0"
    with pytest.raises(OpsError, match="names no NGINX_IMAGE"):
        image_from("GITEA_IMAGE=gitea\n")


def test_an_image_that_was_pushed_anew_under_its_tag_is_another_one() -> None:
    assert plan_handover([member("1", NEW)], NEW, "sha256:other") == Plan("", ("1",), ())


class Killed(BaseException):
    """The process is gone: nothing that it would still have done happens."""


@dataclass
class Engine(fakes.FakeContainers):
    """Containers of nginx, and Compose as far as it is asked. ``broken`` images never become healthy.

    Every look asserts that someone serves. The process dies before its ``dies_before``th deed.
    """

    members_: dict[str, Member] = field(default_factory=lambda: {"1": member("1")})
    trial: str = ""
    broken: frozenset[str] = frozenset()
    stubborn: bool = False
    dies_before: int = 10**6
    deeds: int = 0
    undone: bool = False
    cut: list[str] = field(default_factory=list)
    served_without_break: bool = True

    def deed(self) -> None:
        self.deeds += 1
        if self.deeds >= self.dies_before or self.undone:
            # What would be undone on the way out is not done either.
            self.undone = True
            raise Killed

    def serves(self) -> bool:
        return any((each.state, each.health) == ("running", "healthy") for each in self.members_.values())

    def members(self, project: str, service: str) -> tuple[Member, ...]:
        assert (project, service) == ("gitea-suite", "nginx")
        self.served_without_break &= self.serves()
        return tuple(self.members_.values())

    def image_id(self, reference: str) -> str:
        return "" if reference == "nginx:missing" else super().image_id(reference)

    def address(self, project: str, service: str, network: str) -> str:
        assert network == "gitea-suite_web"
        return {("gitea-suite", "door"): OLD, ("gitea-suite-trial", "nginx"): self.trial}[project, service]

    def signal(self, identity: str, name: str) -> None:
        assert name == "QUIT"
        self.deed()
        if not self.stubborn and self.members_[identity].state == "running":
            self.members_[identity] = replace(self.members_[identity], state="exited")

    def remove(self, identity: str) -> None:
        self.deed()
        gone = self.members_.pop(identity)
        if gone.state == "running":
            self.cut.append(identity)

    def compose(self, argv: Sequence[str], image: str) -> Finished:
        self.deed()
        arguments = list(argv)
        if "logs" in arguments:
            return Finished(0, "nginx: [emerg] unknown directive")
        if any(each.endswith("trial.yaml") for each in arguments):
            self.trial = image if "up" in arguments else ""
            return Finished(1, "container is unhealthy") if self.trial in self.broken else Finished(0, "")
        assert arguments[-5:-2] == ["--detach", "--no-recreate", "--scale"]
        for _ in range(int(arguments[-2].partition("=")[2]) - len(self.members_)):
            health = "unhealthy" if f"beside {image}" in self.broken else "healthy"
            identity = str(max(map(int, self.members_), default=0) + 1)
            self.members_[identity] = member(identity, image, health=health)
        return Finished(0, "")


@dataclass
class Compose(fakes.FakeProcesses):
    engine: Engine = field(default_factory=Engine)

    def run(
        self,
        argv: Sequence[str],
        *,
        directory: Path | None = None,
        environment: Mapping[str, str] | None = None,
        **_: Any,
    ) -> Finished:
        assert environment
        return self.engine.compose(argv, environment["NGINX_IMAGE"])


@dataclass
class Host(fakes.FakeWorld):
    statuses: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        assert isinstance(self.containers, Engine)
        self.engine = self.containers
        self.processes = Compose(engine=self.engine)
        web: Any = fakes.FakeWeb(None)
        web.request = lambda domain, address, *_: Answer(self.statuses.get(address, 200))
        self.https = web


def host(**changes: Any) -> Any:
    """A host that stands for the whole world."""
    return Host(containers=Engine(**changes))


@pytest.fixture(name="front")
def front_with_a_lock_of_its_own(tmp_path: Path) -> Front:
    return Front(directory=tmp_path, lock=tmp_path / "lock")


def images(world: Host) -> list[str]:
    return [each.image for each in world.engine.members_.values()]


def test_the_new_one_serves_before_the_old_one_goes_and_is_alone_then(front: Front) -> None:
    world = host()
    done = nginx_handover.replace_nginx(SITE, world, NEW, front=front)
    assert (done.changed, done.cut, images(world)) == (True, False, [NEW])
    assert world.engine.served_without_break
    assert (world.engine.trial, world.engine.cut) == ("", [])


def test_an_nginx_of_the_image_is_left_alone(front: Front) -> None:
    world = host()
    assert not nginx_handover.replace_nginx(SITE, world, OLD, front=front).changed
    assert world.engine.deeds == 0


def test_an_image_that_is_not_here_is_refused_before_anything_is_done(front: Front) -> None:
    world = host()
    with pytest.raises(Refused, match="nginx:missing is not on this machine"):
        nginx_handover.replace_nginx(SITE, world, "nginx:missing", front=front)
    assert world.engine.deeds == 0


def test_an_image_that_does_not_stand_its_trial_never_meets_a_visitor(front: Front) -> None:
    world = host(broken=frozenset({NEW}))
    with pytest.raises(Refused, match=r"nginx:1.30.5 does not stand its trial: .* unhealthy; .*unknown directive"):
        nginx_handover.replace_nginx(SITE, world, NEW, front=front)
    assert (images(world), world.engine.trial) == ([OLD], "")


def test_an_image_through_which_gitea_answers_otherwise_is_refused(front: Front) -> None:
    world = host()
    world.statuses[NEW] = 500
    with pytest.raises(
        Refused, match=r"through it /api/healthz answers 500, through the one that serves .* answers 200"
    ):
        nginx_handover.replace_nginx(SITE, world, NEW, front=front)
    assert images(world) == [OLD]


def test_a_new_one_that_does_not_become_healthy_is_removed_and_the_old_one_has_served_on(front: Front) -> None:
    world = host(broken=frozenset({f"beside {NEW}"}))
    with pytest.raises(RolledBack, match="it is running, unhealthy after 0 s"):
        nginx_handover.replace_nginx(SITE, world, NEW, front=front)
    assert images(world) == [OLD]
    assert world.engine.served_without_break


def test_an_old_one_that_does_not_end_in_time_is_cut_and_that_is_said(front: Front) -> None:
    world = host(stubborn=True)
    done = nginx_handover.replace_nginx(SITE, world, NEW, farewell_seconds=5, front=front)
    assert (done.cut, images(world), world.engine.cut) == (True, [NEW], ["1"])
    assert 5 <= done.farewell_seconds < 7


def test_a_succession_that_dies_anywhere_leaves_one_that_serves_and_the_next_run_finishes_it(front: Front) -> None:
    for dies_before in itertools.count(1):
        world = host(dies_before=dies_before)
        try:
            nginx_handover.replace_nginx(SITE, world, NEW, front=front)
        except Killed:
            assert world.engine.serves(), dies_before
        else:
            assert dies_before > 5
            return
        world.engine.dies_before, world.engine.undone = 10**6, False
        nginx_handover.replace_nginx(SITE, world, NEW, front=front)
        assert images(world) == [NEW], dies_before
        assert world.engine.served_without_break, dies_before


def test_without_any_nginx_one_is_started(front: Front) -> None:
    world = host(members_={})
    assert nginx_handover.replace_nginx(SITE, world, NEW, front=front).changed
    assert images(world) == [NEW]


def test_what_compose_says_is_passed_on(front: Front) -> None:
    world = host()
    world.engine.compose = lambda argv, image: Finished(1, "no space left")
    with pytest.raises(OpsError, match="no space left"):
        nginx_handover.replace_nginx(SITE, world, NEW, front=front)
    assert images(world) == [OLD]


def test_the_verb_makes_another_one_of_the_same_image_and_says_how_it_went(front: Front) -> None:
    (front.directory / ".env").write_text(f"NGINX_IMAGE='{OLD}'\n")
    world = host()
    report = nginx_handover.replace(SITE, world, front=front)
    assert (report.changed, list(world.engine.members_), images(world)) == (True, ["2"], [OLD])
    assert report.summary == "another nginx serves; the one before took 0 s to end what it had begun"
