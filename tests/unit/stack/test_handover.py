"""The handover from one nginx to the next: its plan, and that some nginx serves wherever it is cut off."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ops.errors import OpsError, Refused, RolledBack
from ops.stack import handover
from ops.stack.handover import HandoverPlan, HandoverStack, image_from, plan_handover
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
        pytest.param([member("1")], HandoverPlan("", ("1",), ()), id="the old one serves until there is a new one"),
        pytest.param([member("1", NEW)], HandoverPlan("1", (), ()), id="nothing to do"),
        pytest.param(
            [member("1"), member("2", NEW)], HandoverPlan("2", ("1",), ()), id="cut off before the old one drained"
        ),
        pytest.param(
            [member("1"), member("2", NEW, health="starting")],
            HandoverPlan("", ("1",), ("2",)),
            id="cut off while the new one started",
        ),
        pytest.param(
            [member("1", state="exited"), member("2", NEW)],
            HandoverPlan("2", (), ("1",)),
            id="cut off after the old one drained",
        ),
        pytest.param(
            [member("1"), member("2", NEW, "created", "")], HandoverPlan("", ("1",), ("2",)), id="never started"
        ),
        pytest.param(
            [member("1", health="unhealthy")], HandoverPlan("", ("1",), ()), id="an unhealthy one goes on serving"
        ),
        pytest.param(
            [member("1", health="unhealthy"), member("2")],
            HandoverPlan("", ("2",), ("1",)),
            id="the healthy one serves",
        ),
        pytest.param([member("1", NEW), member("2", NEW)], HandoverPlan("2", ("1",), ()), id="one of two is enough"),
        pytest.param([member("1", state="exited")], HandoverPlan("", (), ("1",)), id="none runs"),
        pytest.param([], HandoverPlan("", (), ()), id="no container"),
    ],
)
def test_the_plan_names_the_replacement_the_serving_and_the_stale_containers(
    found: list[Member], plan: HandoverPlan
) -> None:
    assert plan_handover(reversed(found), NEW, "sha256:1.30.5") == plan
    assert plan_handover(found, NEW, "sha256:1.30.5") == plan


def test_force_recreate_replaces_a_container_that_has_the_image() -> None:
    assert plan_handover([member("1", NEW)], NEW, "sha256:1.30.5", force_recreate=True) == HandoverPlan("", ("1",), ())


@pytest.mark.parametrize("line", ["NGINX_IMAGE=nginx:1@sha256:0", "NGINX_IMAGE='nginx:1@sha256:0'"])
def test_the_image_is_read_from_the_compose_settings(line: str) -> None:
    assert image_from(f"A=1\n{line}\nB=2\n") == "nginx:1@sha256:0"
    with pytest.raises(OpsError, match="names no NGINX_IMAGE"):
        image_from("GITEA_IMAGE=gitea\n")


def test_an_image_that_was_pushed_again_under_its_tag_counts_as_another_image() -> None:
    assert plan_handover([member("1", NEW)], NEW, "sha256:other") == HandoverPlan("", ("1",), ())


class Killed(BaseException):
    """The process was killed: none of its later steps happens."""


@dataclass
class Engine(fakes.FakeContainers):
    """Containers of nginx, and as much of Compose as the handover uses. ``broken`` images never become healthy.

    Every listing records whether a container serves. The process dies before its ``dies_before``th step.
    """

    members_: dict[str, Member] = field(default_factory=lambda: {"1": member("1")})
    trial: str = ""
    broken: frozenset[str] = frozenset()
    stubborn: bool = False
    dies_before: int = 10**6
    steps: int = 0
    undone: bool = False
    cut: list[str] = field(default_factory=list)
    served_without_break: bool = True

    def step(self) -> None:
        self.steps += 1
        if self.steps >= self.dies_before or self.undone:
            # The cleanup on the way out does not run either.
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
        self.step()
        if not self.stubborn and self.members_[identity].state == "running":
            self.members_[identity] = replace(self.members_[identity], state="exited")

    def remove(self, identity: str) -> None:
        self.step()
        gone = self.members_.pop(identity)
        if gone.state == "running":
            self.cut.append(identity)

    def compose(self, argv: Sequence[str], image: str) -> Finished:
        self.step()
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
        web: Any = fakes.FakeHttps(None)
        web.request = lambda domain, address, *_: Answer(self.statuses.get(address, 200))
        self.https = web


def host(**changes: Any) -> Any:
    """Return a world whose containers and processes are those of one host."""
    return Host(containers=Engine(**changes))


@pytest.fixture(name="stack")
def stack_with_its_own_lock(tmp_path: Path) -> HandoverStack:
    return HandoverStack(directory=tmp_path, lock=tmp_path / "lock")


def images(world: Host) -> list[str]:
    return [each.image for each in world.engine.members_.values()]


def test_the_new_nginx_serves_before_the_old_one_ends(stack: HandoverStack) -> None:
    world = host()
    done = handover.hand_over(SITE, world, NEW, stack=stack)
    assert (done.changed, done.cut, images(world)) == (True, False, [NEW])
    assert world.engine.served_without_break
    assert (world.engine.trial, world.engine.cut) == ("", [])


def test_an_nginx_that_has_the_image_is_left_alone(stack: HandoverStack) -> None:
    world = host()
    assert not handover.hand_over(SITE, world, OLD, stack=stack).changed
    assert world.engine.steps == 0


def test_an_image_that_is_not_on_this_machine_is_refused_before_any_step(stack: HandoverStack) -> None:
    world = host()
    with pytest.raises(Refused, match="nginx:missing is not on this machine"):
        handover.hand_over(SITE, world, "nginx:missing", stack=stack)
    assert world.engine.steps == 0


def test_an_image_that_fails_its_smoke_test_never_serves_a_visitor(stack: HandoverStack) -> None:
    world = host(broken=frozenset({NEW}))
    with pytest.raises(Refused, match=r"nginx:1.30.5 fails its smoke test: .* unhealthy; .*unknown directive"):
        handover.hand_over(SITE, world, NEW, stack=stack)
    assert (images(world), world.engine.trial) == ([OLD], "")


def test_an_image_through_which_gitea_answers_differently_is_refused(stack: HandoverStack) -> None:
    world = host()
    world.statuses[NEW] = 500
    with pytest.raises(
        Refused, match=r"through the new nginx /api/healthz answers 500, through the serving one .* answers 200"
    ):
        handover.hand_over(SITE, world, NEW, stack=stack)
    assert images(world) == [OLD]


def test_a_new_nginx_that_does_not_become_healthy_is_removed_while_the_old_one_serves(stack: HandoverStack) -> None:
    world = host(broken=frozenset({f"beside {NEW}"}))
    with pytest.raises(RolledBack, match="it is running, unhealthy after 0 s"):
        handover.hand_over(SITE, world, NEW, stack=stack)
    assert images(world) == [OLD]
    assert world.engine.served_without_break


def test_an_old_nginx_that_does_not_drain_in_time_is_cut_off_and_reported(stack: HandoverStack) -> None:
    world = host(stubborn=True)
    done = handover.hand_over(SITE, world, NEW, drain_seconds=5, stack=stack)
    assert (done.cut, images(world), world.engine.cut) == (True, [NEW], ["1"])
    assert 5 <= done.drain_seconds < 7


def test_a_handover_killed_at_any_step_leaves_a_serving_nginx_and_the_next_run_completes_it(
    stack: HandoverStack,
) -> None:
    for dies_before in itertools.count(1):
        world = host(dies_before=dies_before)
        try:
            handover.hand_over(SITE, world, NEW, stack=stack)
        except Killed:
            assert world.engine.serves(), dies_before
        else:
            assert dies_before > 5
            return
        world.engine.dies_before, world.engine.undone = 10**6, False
        handover.hand_over(SITE, world, NEW, stack=stack)
        assert images(world) == [NEW], dies_before
        assert world.engine.served_without_break, dies_before


def test_without_any_nginx_one_is_started(stack: HandoverStack) -> None:
    world = host(members_={})
    assert handover.hand_over(SITE, world, NEW, stack=stack).changed
    assert images(world) == [NEW]


def test_the_output_of_compose_is_in_the_error(stack: HandoverStack) -> None:
    world = host()
    world.engine.compose = lambda argv, image: Finished(1, "no space left")
    with pytest.raises(OpsError, match="no space left"):
        handover.hand_over(SITE, world, NEW, stack=stack)
    assert images(world) == [OLD]


def test_ops_nginx_replaces_the_container_by_one_of_the_same_image_and_reports_the_drain(stack: HandoverStack) -> None:
    (stack.directory / ".env").write_text(f"NGINX_IMAGE='{OLD}'\n")
    world = host()
    report = handover.replace(SITE, world, stack=stack)
    assert (report.changed, list(world.engine.members_), images(world)) == (True, ["2"], [OLD])
    assert report.summary == "nginx was replaced; the old one drained in 0 s"
    assert report.facts == {"farewell_seconds": 0.0, "cut": False, "image": OLD}
