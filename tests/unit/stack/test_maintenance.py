"""Maintenance mode: the order in which requests are refused, and that it ends whatever happens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from ops.errors import OpsError
from ops.stack import maintenance
from ops.world import ssh_notice
from ops.world.containers import Ran
from tests.support import fakes

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


@pytest.mark.parametrize("line", PUSHES)
def test_a_push_is_recognized_by_its_process(line: str) -> None:
    assert maintenance.pushes_in(OTHERS) == 0
    assert maintenance.pushes_in([*OTHERS, line]) == 1


@dataclass
class FakeStack(fakes.FakeContainers):
    """nginx and Gitea: ``events`` records their commands in order. During ``busy_looks`` looks a push runs.

    Another push runs only at the look of number ``late_look``.
    """

    events: list[str] = field(default_factory=list)
    busy_looks: int = 0
    late_look: int = -1
    nginx: Ran | None = field(default_factory=lambda: Ran(0, ""))

    def execute(self, project: str, service: str, argv: Sequence[str], *_: object, **__: object) -> Ran:
        assert service == "nginx"
        if self.nginx is None:
            raise OpsError("nginx is not running")
        self.events.append(" ".join(argv))
        return self.nginx

    def command_lines(self, project: str, service: str) -> tuple[str, ...]:
        self.busy_looks -= 1
        self.late_look -= 1
        return (*OTHERS, PUSHES[0]) if self.busy_looks >= 0 or self.late_look == 0 else OTHERS

    def stop(self, project: str, service: str, **_: object) -> None:
        self.events.append(f"stop {service}")

    def start(self, project: str, service: str) -> None:
        self.events.append(f"start {service}")


def host(**changes: Any) -> tuple[fakes.FakeWorld, list[str]]:
    stack = FakeStack(**changes)
    return fakes.FakeWorld(containers=stack, ssh=fakes.FakeSsh(stack.events)), stack.events


def test_pushes_are_refused_then_all_requests_then_ssh_and_all_are_served_again() -> None:
    world, events = host(busy_looks=3)
    with maintenance.maintenance_mode(SITE, world, REASON) as mode:  # type: ignore[arg-type]
        assert mode.drained
        mode.stop()
        mode.start()
    assert events == [
        f"nginx-away push 900 {REASON}",
        f"nginx-away all 900 {REASON}",
        "stop gitea",
        f"ssh 2222: Gitea is away for a moment. {REASON} Try again in a minute.",
        "ssh is silent",
        "start gitea",
        "nginx-away none",
    ]
    assert 0.8 <= world.clock.monotonic() < 2


def test_a_push_that_was_just_accepted_and_has_no_process_yet_is_waited_for() -> None:
    world, _ = host(late_look=2)
    with maintenance.maintenance_mode(SITE, world, REASON):  # type: ignore[arg-type]
        assert world.clock.monotonic() >= 0.6


def test_a_push_that_does_not_end_is_cut_off_after_the_limit_and_reported() -> None:
    world, events = host(busy_looks=10**6)
    with maintenance.maintenance_mode(SITE, world, REASON, drain_seconds=10) as mode:  # type: ignore[arg-type]
        assert not mode.drained
    assert 10 <= world.clock.monotonic() < 11
    assert world.progress == ["1 pushes have not ended after 10 s: they are cut off"]
    assert events[-1] == "nginx-away none"


def test_an_interrupt_ends_maintenance_mode_and_frees_the_ssh_port() -> None:
    world, events = host()

    def interrupted() -> None:
        with maintenance.maintenance_mode(SITE, world, REASON) as mode:  # type: ignore[arg-type]
            mode.stop()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert events[-2:] == ["ssh is silent", "nginx-away none"]


@pytest.mark.parametrize("nginx", [None, Ran(127, "nginx-away: not found")])
def test_an_nginx_without_the_maintenance_page_is_reported_and_the_block_runs(nginx: Ran | None) -> None:
    world, events = host(nginx=nginx)
    with maintenance.maintenance_mode(SITE, world, REASON) as mode:  # type: ignore[arg-type]
        mode.stop()
    assert "stop gitea" in events
    assert all(line.startswith("nginx does not serve the maintenance page: nginx") for line in world.progress)


def test_an_ssh_port_in_use_is_reported_and_the_block_runs() -> None:
    world, events = host()
    world.ssh.free = False
    with maintenance.maintenance_mode(SITE, world, REASON) as mode:  # type: ignore[arg-type]
        mode.stop()
        mode.start()
    assert world.progress == ["git's ssh port is in use: its clients see a refused connection instead of the notice"]
    assert "start gitea" in events


@pytest.mark.parametrize("sentence", ["", "x", "Gitea is away.", "a" * 300])
def test_the_ssh_notice_is_a_valid_packet_of_the_protocol(sentence: str) -> None:
    sent = ssh_notice.disconnect_message(sentence)
    version, _, packet = sent.partition(b"\r\n")
    length, padding = int.from_bytes(packet[:4]), packet[4]
    assert version == b"SSH-2.0-away"
    assert (len(packet), len(packet) % 8, padding >= 4) == (4 + length, 0, True)
    payload = packet[5 : len(packet) - padding]
    assert payload == b"\x01\0\0\0\x07" + len(sentence).to_bytes(4) + sentence.encode() + bytes(4)
