"""Maintenance mode: running transfers end, new requests wait, and it ends whatever happens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from ops.errors import OpsError
from ops.stack import maintenance
from ops.stack.holding_proxy import RunningRequest, Waited, requests_in
from ops.stack.maintenance import UnderWay
from ops.world.containers import Member, Ran, Service
from tests.support import fakes
from tests.support.fake_proxy import FakeProxy, session

SITE = fakes.site()
REASON = "It is being updated to 28.1.0."
PUSHES = (
    "git receive-pack --stateless-rpc /data/git/repositories/a/b.git",
    "/usr/bin/git -c protocol.version=2 receive-pack --stateless-rpc .",
    "git-receive-pack a/b.git",
    "/usr/libexec/git-core/git-receive-pack /data/git/repositories/a/b.git",
)
OTHERS = (
    "git upload-pack --stateless-rpc .",
    "sshd: git",
    "/app/gitea/gitea web",
    "grep receive-pack",
    "git gc --auto",
)
SERV = "/usr/local/bin/gitea --config=/data/gitea/conf/app.ini serv key-12"


@pytest.mark.parametrize("line", PUSHES)
def test_a_push_is_recognized_by_its_process(line: str) -> None:
    assert maintenance.pushes_in(OTHERS) == 0
    assert maintenance.pushes_in([*OTHERS, line]) == 1


@pytest.mark.parametrize(("age", "seconds"), [("0s", 0), ("59s", 59), ("1m3s", 63), ("2h5m", 7500), ("1d2h", 93600)])
def test_the_age_of_a_session_is_read_in_seconds(age: str, seconds: int) -> None:
    assert requests_in(session("transfers", age)) == (RunningRequest("transfers", seconds),)


def test_waiting_requests_and_the_socket_of_the_control_are_not_running_requests() -> None:
    listed = session("<NONE>", "7s") + session("probe", "1s") + session("gitea", "2s") + session("streams", "9m1s")
    assert requests_in(listed) == (RunningRequest("gitea", 2), RunningRequest("streams", 541))


@pytest.mark.parametrize(
    ("line", "idle"),
    [
        (session("ssh", "20m1s"), 1),
        (session("ssh", "20m1s", left="57m0s"), 59),
        (session("ssh", "20m1s", left="57m0s", blocked="58m1s"), 0),
        (session("ssh", "1s", left="59m"), 0),
    ],
)
def test_an_ssh_connection_is_idle_since_its_last_byte_unless_something_is_left_to_send(line: str, idle: int) -> None:
    (found,) = requests_in(line)
    assert (found.backend, found.idle) == ("ssh", idle)


def test_event_streams_and_idle_ssh_connections_do_not_count_as_under_way() -> None:
    idle = [RunningRequest("streams", 900), RunningRequest("ssh", 300, 200), RunningRequest("ssh", 80, 75)]
    assert maintenance.under_way(idle, OTHERS) == UnderWay()
    # A command that is silent.
    assert maintenance.under_way(idle, [*OTHERS, SERV]) == UnderWay(transfers=(80,))
    active = RunningRequest("ssh", 40, 1)
    assert maintenance.under_way([*idle, active], OTHERS) == UnderWay(transfers=(40,))
    assert maintenance.under_way([*idle, active], [*OTHERS, SERV]) == UnderWay(transfers=(40,))


def test_a_push_whose_client_has_gone_is_under_way() -> None:
    assert maintenance.under_way([], [PUSHES[0]]) == UnderWay(others=(0,))
    assert maintenance.under_way([RunningRequest("transfers", 3)], [PUSHES[0]]) == UnderWay(transfers=(3,))


@dataclass
class FakeStack(fakes.FakeContainers):
    """nginx, HAProxy and Gitea: ``events`` records their commands in order."""

    events: list[str] = field(default_factory=list)
    nginx: Ran | None = field(default_factory=lambda: Ran(0, ""))
    proxy: FakeProxy = field(default_factory=FakeProxy)
    gitea: str = "running"
    unreachable_looks: int = 0
    lists_processes: bool = True

    def members(self, project: str, service: str) -> tuple[Member, ...]:
        return self.proxy.members

    def services(self, project: str) -> tuple[Service, ...]:
        return (Service("gitea", "gitea/gitea:28.1.0", self.gitea, "healthy", 0),)

    def execute(self, project: str, service: str, argv: Sequence[str], *_: object, **__: object) -> Ran:
        if service == "haproxy":
            if argv[1] in {"close", "reachable"}:
                self.events.append(" ".join(argv))
            if argv[1] == "reachable":
                self.unreachable_looks -= 1
                return Ran(1 if self.unreachable_looks >= 0 else 0, "")
            return self.proxy.execute(argv)
        if self.nginx is None:
            raise OpsError("nginx is not running")
        self.events.append(" ".join(argv))
        return self.nginx

    def command_lines(self, project: str, service: str) -> tuple[str, ...]:
        if self.gitea != "running":
            raise OpsError("gitea is not running")
        if not self.lists_processes:
            raise OpsError("Docker refuses: the engine is busy")
        return OTHERS

    def stop(self, project: str, service: str, **_: object) -> None:
        self.events.append(f"stop {service}")
        self.gitea = "exited"

    def start(self, project: str, service: str) -> None:
        self.events.append(f"start {service}")
        self.gitea = "running"


@dataclass
class Course:
    """A stack whose transfers have the given ages at a time, in seconds since the beginning."""

    ages: Callable[[float], Sequence[int]] = lambda _: ()
    changes: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.stack = FakeStack(**self.changes)
        self.world: Any = fakes.FakeWorld(containers=self.stack)
        self.stack.proxy.transfers = lambda: self.ages(self.now)
        self.stack.proxy.note = lambda event: self.stack.events.append(f"{event} at {self.now:.0f}")

    @property
    def now(self) -> float:
        return float(self.world.clock.monotonic())

    @property
    def events(self) -> list[str]:
        return self.stack.events


def test_on_a_quiet_site_requests_wait_at_once_and_are_served_when_gitea_is_reachable() -> None:
    course = Course(changes={"unreachable_looks": 2})
    course.stack.proxy.waited = 14
    with maintenance.maintenance_mode(SITE, course.world, REASON) as mode:
        mode.stop()
        mode.start()
    assert course.events == [
        f"nginx-away page 960 {REASON}",
        "hold transfers at 0",
        "hold all at 0",
        "stop gitea",
        "start gitea",
        *["hold reachable"] * 3,
        "hold none at 0",
        "nginx-away none",
    ]
    assert course.stack.proxy.sentence == f"Gitea is away for a moment. {REASON} Try again in a minute."
    assert (mode.drained, mode.awaited, mode.waited) == (True, 0, Waited(14, 0, 0.5))
    assert course.world.progress == ["14 requests waited for Gitea, the longest for 0.5 s"]


def test_a_clone_ends_before_anything_waits() -> None:
    course = Course(lambda now: [int(now) + 12] if now < 18 else [])
    with maintenance.maintenance_mode(SITE, course.world, REASON) as mode:
        assert 18 <= course.now < 19
    assert course.events[1:3] == ["hold transfers at 18", "hold all at 18"]
    assert (mode.drained, mode.awaited) == (True, 1)
    assert course.world.progress[:2] == [
        "waiting for 1 transfer, the oldest has run for 12 s (0 of at most 60 s)",
        "waiting for 1 transfer, the oldest has run for 17 s (5 of at most 60 s)",
    ]


def test_on_a_site_that_always_clones_new_transfers_wait_near_the_end_so_that_running_ones_can_end() -> None:
    def ages(now: float) -> Sequence[int]:
        # A new clone of 18 seconds every 3 seconds, until they wait.
        begins = [begin for begin in range(-18, 300, 3) if begin <= now < begin + 18]
        waits_from = next((float(each.split()[-1]) for each in course.events if "hold transfers" in each), 10**6)
        return [int(now - begin) for begin in begins if begin <= waits_from]

    course = Course(ages)
    with maintenance.maintenance_mode(SITE, course.world, REASON) as mode:
        assert 57 <= course.now < 60
    assert course.events[1] == "hold transfers at 40"
    assert (mode.drained, mode.awaited) == (True, 6)


def test_transfers_that_wait_too_long_for_a_running_one_go_on_and_the_drain_starts_again() -> None:
    # It seems to have ended once, and runs again.
    course = Course(lambda now: [] if now < 0.1 or now > 100 else [int(now)])
    with maintenance.maintenance_mode(SITE, course.world, REASON, drain_seconds=600) as mode:
        assert 100 <= course.now < 102
    held = [each for each in course.events if each.startswith("hold") and " at " in each]
    assert held == [
        "hold transfers at 0",
        "hold none at 20",
        "hold transfers at 100",
        "hold all at 100",
        "hold none at 100",
    ]
    assert mode.drained


def test_what_does_not_end_is_cut_off_at_the_limit_and_reported() -> None:
    course = Course(lambda now: [int(now) + 100, int(now) + 3])
    with maintenance.maintenance_mode(SITE, course.world, REASON, drain_seconds=30) as mode:
        assert 30 <= course.now < 31
        assert (mode.drained, mode.cut) == (False, 2)
    assert course.world.progress[-1] == "not ended after 30 s and cut off: 2 requests"


def test_idle_ssh_connections_are_closed_so_that_a_later_command_waits() -> None:
    course = Course()
    course.stack.proxy.others = session("ssh", "9m1s", left="57m0s")
    with maintenance.maintenance_mode(SITE, course.world, REASON) as mode:
        assert course.now < 1
        assert course.events[-1] == "hold close ssh"
    assert mode.drained


def test_the_last_short_requests_end_after_everything_waits() -> None:
    course = Course(lambda now: [int(now)] if now < 1.5 else [])
    site = replace(SITE, web=replace(SITE.web, hold_seconds=10))
    with maintenance.maintenance_mode(site, course.world, REASON, drain_seconds=0.1) as mode:
        assert 1.5 <= course.now < 2
    assert mode.drained


def test_without_a_drain_everything_waits_at_once_and_running_requests_are_cut_off() -> None:
    course = Course(lambda now: [90])
    with maintenance.maintenance_mode(SITE, course.world, REASON, drain_seconds=0) as mode:
        assert course.now == 0
    assert (mode.cut, course.events[1]) == (1, "hold all at 0")


def test_a_stopped_gitea_has_nothing_to_drain() -> None:
    course = Course(lambda now: [90], {"gitea": "exited"})
    with maintenance.maintenance_mode(SITE, course.world, REASON) as mode:
        assert course.now < 1
    assert mode.drained
    assert "hold reachable" not in course.events


def test_transfers_are_waited_for_although_the_engine_does_not_list_giteas_processes() -> None:
    course = Course(lambda now: [int(now) + 12] if now < 18 else [], {"lists_processes": False})
    with maintenance.maintenance_mode(SITE, course.world, REASON) as mode:
        assert 18 <= course.now < 19
    assert (mode.drained, mode.awaited) == (True, 1)


def test_a_gitea_that_haproxy_does_not_reach_is_reported_and_the_hold_ends() -> None:
    course = Course(changes={"unreachable_looks": 10**6})
    with maintenance.maintenance_mode(SITE, course.world, REASON):
        pass
    assert course.world.progress == ["HAProxy does not reach Gitea after 10 s"]
    assert course.stack.proxy.held == "none"


def test_an_interrupt_ends_maintenance_mode() -> None:
    course = Course()

    def interrupted() -> None:
        with maintenance.maintenance_mode(SITE, course.world, REASON) as mode:
            mode.stop()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert course.events[-2:] == ["hold none at 0", "nginx-away none"]


@pytest.mark.parametrize("nginx", [None, Ran(127, "nginx-away: not found")])
def test_an_nginx_without_the_maintenance_page_is_reported_and_the_block_runs(nginx: Ran | None) -> None:
    course = Course(changes={"nginx": nginx})
    with maintenance.maintenance_mode(SITE, course.world, REASON) as mode:
        mode.stop()
    assert "stop gitea" in course.events
    assert len(course.world.progress) == 2
    assert all(line.startswith("nginx does not serve the maintenance page: nginx") for line in course.world.progress)


def test_a_site_without_haproxy_is_reported_and_the_block_runs() -> None:
    course = Course(changes={"proxy": FakeProxy(members=())})
    with maintenance.maintenance_mode(SITE, course.world, REASON) as mode:
        mode.stop()
        mode.start()
    assert course.world.progress == ["new requests do not wait, they get the page: haproxy is not running"]
    assert "start gitea" in course.events


@pytest.mark.parametrize(("seconds", "limit"), [(None, 960), (3600, 4500), (0, 900)])
def test_nginx_forgets_the_reason_later_than_the_drain_can_end(seconds: int | None, limit: int) -> None:
    course = Course()
    with maintenance.maintenance_mode(SITE, course.world, REASON, drain_seconds=seconds):
        pass
    assert course.events[0] == f"nginx-away page {limit} {REASON}"


@dataclass
class FailingProxy(FakeProxy):
    """HAProxy whose ``failing`` command prints ``output`` and ends with ``code``."""

    failing: str = ""
    code: int = 0
    output: str = "Can't find the target PID matching the prefix '@1'"

    def execute(self, argv: Sequence[str]) -> Ran:
        return Ran(self.code, self.output) if argv[1] == self.failing else super().execute(argv)


def test_a_hold_that_was_begun_ends_although_haproxy_failed_during_the_drain() -> None:
    course = Course(changes={"proxy": FailingProxy(failing="sessions", code=1)})
    # It fails when it is asked for the running requests again.
    course.stack.proxy.held = "transfers"
    with maintenance.maintenance_mode(SITE, course.world, REASON) as mode:
        mode.stop()
    assert course.world.progress[0].startswith("new requests do not wait, they get the page: HAProxy refuses")
    assert course.stack.proxy.held == "none"


def test_a_haproxy_that_ends_while_the_hold_is_released_is_reported() -> None:
    course = Course(changes={"proxy": FailingProxy(failing="none")})
    with maintenance.maintenance_mode(SITE, course.world, REASON):
        pass
    assert course.world.progress == [
        "the hold on new requests ends by itself: HAProxy does not tell its state: Can't find the target PID matching the prefix "
        "'@1'"
    ]
