"""Gitea is restarted, recreated or stopped while requests wait."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ops.errors import OpsError
from ops.stack import handover, restart
from ops.stack.handover import HandoverStack
from ops.world.containers import Member, Ran, Service
from ops.world.process import Finished
from tests.support import fakes
from tests.support.fake_proxy import FakeProxy

SITE = fakes.site()
NAMES = ("door", "gitea", "haproxy", "nginx", "postgres")


@dataclass
class Engine(fakes.FakeContainers):
    """The stack's containers, and as much of Compose as this uses; ``events`` has the steps in order."""

    events: list[str] = field(default_factory=list)
    proxy: FakeProxy = field(default_factory=FakeProxy)
    missing_images: set[str] = field(default_factory=set)
    compose_fails: bool = False

    def __post_init__(self) -> None:
        self.found = tuple(Service(name, f"{name}:1", "running", "healthy", 0) for name in NAMES)
        self.proxy.note = self.events.append

    def members(self, project: str, service: str) -> tuple[Member, ...]:
        return self.proxy.members

    def command_lines(self, project: str, service: str) -> tuple[str, ...]:
        return ()

    def execute(self, project: str, service: str, argv: Sequence[str], *_: object, **__: object) -> Ran:
        return self.proxy.execute(argv) if service == "haproxy" else Ran(0, "")

    def image_id(self, reference: str) -> str:
        return "" if reference in self.missing_images else super().image_id(reference)

    def stop(self, project: str, service: str, *, at_most: int | None = None) -> None:
        self.events.append(f"stop {service}")
        super().stop(project, service)

    def start(self, project: str, service: str) -> None:
        self.events.append(f"start {service}")
        super().start(project, service)

    def compose(self, argv: Sequence[str]) -> Finished:
        words = argv[argv.index("gitea-suite") + 1 :]
        self.events.append(" ".join(word for word in words if not word.startswith("--") and "compose.yaml" not in word))
        return Finished(int(self.compose_fails), "no such image")


@dataclass
class Compose(fakes.FakeProcesses):
    engine: Engine = field(default_factory=Engine)

    def run(self, argv: Sequence[str], *, directory: Path | None = None, **_: Any) -> Finished:
        return self.engine.compose(list(argv))


@pytest.fixture
def engine() -> Engine:
    return Engine()


@pytest.fixture
def world(engine: Engine) -> Any:
    return fakes.FakeWorld(containers=engine, processes=Compose(engine=engine))


@pytest.fixture
def stack(tmp_path: Path) -> HandoverStack:
    (tmp_path / ".env").write_text("GITEA_IMAGE='gitea/gitea:28.1.0'\nPOSTGRES_IMAGE='postgres:18.6'\n")
    return HandoverStack(directory=tmp_path)


@pytest.fixture(autouse=True)
def replaced(monkeypatch: pytest.MonkeyPatch, engine: Engine) -> None:
    """The handovers, which have tests of their own."""
    monkeypatch.setattr(
        handover, "replace", lambda _site, _world, *, stack: engine.events.append(f"replace {stack.service}")
    )


def test_a_restart_drains_holds_stops_starts_and_releases(world: Any, engine: Engine) -> None:
    engine.proxy.waited = 3
    mode = restart.restart_gitea(SITE, world, "It is being restarted.", seconds=60)
    assert engine.events == ["hold transfers", "hold all", "stop gitea", "start gitea", "hold none"]
    assert mode.waited.requests == 3


def test_a_gitea_that_does_not_become_healthy_is_reported_and_requests_wait_no_longer(
    world: Any, engine: Engine
) -> None:
    engine.never_healthy = frozenset({"gitea"})
    with pytest.raises(OpsError, match="gitea: not healthy 60 s after the restart"):
        restart.restart_gitea(SITE, world, "It is being restarted.", seconds=60)
    assert engine.events[-1] == "hold none"


def test_gitea_is_recreated_by_compose_while_requests_wait(world: Any, engine: Engine, stack: HandoverStack) -> None:
    report = restart.recreate(SITE, world, ["gitea"], stack=stack)
    assert engine.events == [
        "hold transfers",
        "hold all",
        "stop gitea",
        "create never gitea",
        "start gitea",
        "hold none",
    ]
    assert (report.changed, report.facts["recreated"], report.facts["cut"]) == (True, ["gitea"], 0)
    assert report.summary.startswith("recreated gitea; Gitea was away for ")


def test_on_the_site_of_a_release_without_haproxy_everything_is_left_to_compose(
    world: Any, engine: Engine, stack: HandoverStack
) -> None:
    engine.found = tuple(each for each in engine.found if each.name != "haproxy")
    report = restart.recreate(SITE, world, ["gitea", "nginx"], stack=stack)
    assert (report.changed, engine.events) == (False, [])


def test_the_database_is_recreated_before_gitea_starts_again(world: Any, engine: Engine, stack: HandoverStack) -> None:
    restart.recreate(SITE, world, ["postgres"], stack=stack)
    assert engine.events[2:-1] == [
        "stop gitea",
        "stop postgres",
        "create never postgres",
        "start postgres",
        "start gitea",
    ]


def test_a_missing_image_is_pulled_before_requests_wait(world: Any, engine: Engine, stack: HandoverStack) -> None:
    engine.missing_images = {"gitea/gitea:28.1.0"}
    restart.recreate(SITE, world, ["gitea"], stack=stack)
    assert engine.events[:2] == ["pull gitea", "hold transfers"]


def test_nginx_and_haproxy_are_replaced_by_a_second_container(world: Any, engine: Engine, stack: HandoverStack) -> None:
    report = restart.recreate(SITE, world, ["haproxy", "nginx", "diun"], stack=stack)
    assert engine.events == ["replace nginx", "replace haproxy"]
    assert report.facts == {"recreated": ["nginx", "haproxy"]}


@pytest.mark.parametrize("services", [["door", "nginx"], ["diun"], []])
def test_what_compose_does_as_well_is_left_to_it(
    world: Any, engine: Engine, stack: HandoverStack, services: Sequence[str]
) -> None:
    assert not restart.recreate(SITE, world, services, stack=stack).changed
    assert engine.events == []


def test_while_gitea_does_not_run_everything_is_left_to_compose(
    world: Any, engine: Engine, stack: HandoverStack
) -> None:
    engine.stop("gitea-suite", "gitea")
    engine.events.clear()
    assert not restart.recreate(SITE, world, ["gitea", "postgres", "nginx"], stack=stack).changed
    assert engine.events == []


def test_an_error_of_compose_is_reported_and_requests_wait_no_longer(
    world: Any, engine: Engine, stack: HandoverStack
) -> None:
    engine.compose_fails = True
    with pytest.raises(OpsError, match="Compose failed: no such image"):
        restart.recreate(SITE, world, ["gitea"], stack=stack)
    assert engine.events[-1] == "hold none"


def test_a_stop_drains_and_reports_what_was_cut_off(world: Any, engine: Engine) -> None:
    engine.proxy.transfers = lambda: [5]
    report = restart.stop(SITE, world)
    assert engine.events == ["hold transfers", "hold all", "stop gitea", "hold none"]
    assert report.facts["cut"] == 1
    assert report.summary.endswith("1 transfers were waited for, 1 requests were cut off")


def test_the_facts_of_several_stops_are_added() -> None:
    empty: Mapping[str, Any] = restart.requests_facts([])
    assert empty == {"awaited": 0, "cut": 0, "waited": 0, "refused": 0, "longest_wait": 0.0}
    line = restart.requests_line({**empty, "waited": 4, "longest_wait": 2.5, "refused": 2})
    assert line == (
        "4 requests waited for it, the longest for 2.5 s, 2 too many got the page; 0 transfers were waited for, 0 requests "
        "were cut off"
    )
