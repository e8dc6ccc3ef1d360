"""Gitea is away on purpose: who is turned away when, and that they are let in again whatever happens."""

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
def test_a_push_is_known_by_its_process(line: str) -> None:
    assert maintenance.pushes_in(OTHERS) == 0
    assert maintenance.pushes_in([*OTHERS, line]) == 1


@dataclass
class Gate(fakes.FakeContainers):
    """nginx and Gitea: what is told to them, in order, and so many looks during which a push runs."""

    told: list[str] = field(default_factory=list)
    busy_looks: int = 0
    late_look: int = -1
    nginx: Ran | None = field(default_factory=lambda: Ran(0, ""))

    def execute(self, project: str, service: str, argv: Sequence[str], *_: object, **__: object) -> Ran:
        assert service == "nginx"
        if self.nginx is None:
            raise OpsError("nginx is not running")
        self.told.append(" ".join(argv))
        return self.nginx

    def command_lines(self, project: str, service: str) -> tuple[str, ...]:
        self.busy_looks -= 1
        self.late_look -= 1
        return (*OTHERS, PUSHES[0]) if self.busy_looks >= 0 or self.late_look == 0 else OTHERS

    def stop(self, project: str, service: str, **_: object) -> None:
        self.told.append(f"stop {service}")

    def start(self, project: str, service: str) -> None:
        self.told.append(f"start {service}")


def host(**changes: Any) -> tuple[fakes.FakeWorld, list[str]]:
    gate = Gate(**changes)
    return fakes.FakeWorld(containers=gate, ssh=fakes.FakeSsh(gate.told)), gate.told


def test_pushes_are_turned_away_then_everyone_then_ssh_and_all_are_let_in_again() -> None:
    world, told = host(busy_looks=3)
    with maintenance.maintenance_mode(SITE, world, REASON) as absence:  # type: ignore[arg-type]
        assert absence.drained
        absence.stop()
        absence.start()
    assert told == [
        f"nginx-away push 900 {REASON}",
        f"nginx-away all 900 {REASON}",
        "stop gitea",
        f"ssh 2222: Gitea is away for a moment. {REASON} Try again in a minute.",
        "ssh is silent",
        "start gitea",
        "nginx-away none",
    ]
    assert 0.8 <= world.clock.monotonic() < 2


def test_a_push_that_was_let_in_a_moment_ago_and_had_no_process_yet_is_waited_for() -> None:
    world, _ = host(late_look=2)
    with maintenance.maintenance_mode(SITE, world, REASON):  # type: ignore[arg-type]
        assert world.clock.monotonic() >= 0.6


def test_a_push_that_does_not_end_is_cut_after_the_limit_and_that_is_said() -> None:
    world, told = host(busy_looks=10**6)
    with maintenance.maintenance_mode(SITE, world, REASON, drain_seconds=10) as absence:  # type: ignore[arg-type]
        assert not absence.drained
    assert 10 <= world.clock.monotonic() < 11
    assert world.told == ["1 pushes have not ended after 10 s: they are cut"]
    assert told[-1] == "nginx-away none"


def test_whatever_happens_meanwhile_everyone_is_let_in_again_and_ssh_is_free() -> None:
    world, told = host()

    def interrupted() -> None:
        with maintenance.maintenance_mode(SITE, world, REASON) as absence:  # type: ignore[arg-type]
            absence.stop()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert told[-2:] == ["ssh is silent", "nginx-away none"]


@pytest.mark.parametrize("nginx", [None, Ran(127, "nginx-away: not found")])
def test_an_nginx_that_can_not_turn_anyone_away_is_no_reason_not_to_go_on(nginx: Ran | None) -> None:
    world, told = host(nginx=nginx)
    with maintenance.maintenance_mode(SITE, world, REASON) as absence:  # type: ignore[arg-type]
        absence.stop()
    assert "stop gitea" in told
    assert all(line.startswith("nginx turns no one away: nginx") for line in world.told)


def test_a_port_that_is_taken_is_told_and_no_reason_not_to_go_on() -> None:
    world, told = host()
    world.ssh.free = False
    with maintenance.maintenance_mode(SITE, world, REASON) as absence:  # type: ignore[arg-type]
        absence.stop()
        absence.start()
    assert world.told == ["the port of git's ssh is taken: its users meet a refusal and not a sentence"]
    assert "start gitea" in told


@pytest.mark.parametrize("sentence", ["", "x", "Gitea is away.", "a" * 300])
def test_what_an_ssh_client_is_told_is_a_packet_of_the_protocol(sentence: str) -> None:
    said = ssh_notice.disconnect_message(sentence)
    version, _, packet = said.partition(b"\r\n")
    length, padding = int.from_bytes(packet[:4]), packet[4]
    assert version == b"SSH-2.0-away"
    assert (len(packet), len(packet) % 8, padding >= 4) == (4 + length, 0, True)
    payload = packet[5 : len(packet) - padding]
    assert payload == b"\x01\0\0\0\x07" + len(sentence).to_bytes(4) + sentence.encode() + bytes(4)
