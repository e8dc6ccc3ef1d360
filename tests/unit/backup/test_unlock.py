"""Which locks of the bucket's repository are removed: those whose holder is provably gone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from ops.backup import unlock
from ops.errors import Locked, Unavailable
from ops.world.process import Finished
from ops.world.restic_locks import LockHolder
from tests.support import fakes

SITE = fakes.site()
HERE, ELSEWHERE = "this-host", "another-host"
# As `docker top CONTAINER -eo pid,args` prints it.
TOP = """PID                 COMMAND
4201                /sbin/docker-init -- python3 -m ops backup stream
4230                python3 -m ops backup stream
"""


@dataclass
class LockedRepository:
    """The bucket's repository with these locks."""

    found: dict[str, LockHolder]

    def locks(self) -> dict[str, LockHolder]:
        return self.found


@dataclass
class Host(fakes.FakeWorld):
    """A host on which one container of ``ops`` runs; its processes are in ``top``."""

    found: Any = None
    top: str = TOP
    top_code: int = 0
    engine_answers: bool = True

    def __post_init__(self) -> None:
        def program(argv: Sequence[str]) -> Finished:
            if not self.engine_answers:
                raise Unavailable("docker is not installed")
            if argv[1] == "ps":
                assert list(argv) == ["docker", "ps", "--quiet", "--filter", "label=gitea-suite.verb"]
                return Finished(0, "0af3\n")
            assert list(argv) == ["docker", "top", "0af3", "-eo", "pid,args"]
            return Finished(self.top_code, self.top)

        self.processes = fakes.FakeProcesses(program)
        self.aws.stored = {f"restic/locks/{name}": b"" for name in self.found}

    def restic(self, repository: str, **_: Any) -> Any:
        return LockedRepository(self.found if repository.startswith("s3:") else {})


@pytest.fixture(autouse=True)
def name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.node", lambda: HERE)


def holder(host: str, minutes: float, *, exclusive: bool = True) -> LockHolder:
    return LockHolder(host, 4242, fakes.FakeClock().now() - timedelta(minutes=minutes), exclusive)


def run(host: Host) -> Any:
    world: Any = host
    return unlock.unlock(SITE, world)


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (holder(ELSEWHERE, 31), "not refreshed for half an hour"),
        (holder(HERE, 1), "of this host, where no restic runs"),
        (holder(HERE, 31, exclusive=False), "both"),
    ],
)
def test_a_lock_whose_holder_is_gone_is_removed(found: LockHolder, why: str) -> None:
    host = Host(found={"a1": found})
    report = run(host)
    assert (report.changed, report.exit_code, report.facts) == (True, 0, {"removed": ["a1"]}), why
    assert (report.verb, report.summary) == ("backup", "1 locks of killed runs were removed")
    assert host.aws.stored == {}
    assert "process 4242" in report.lines[0]


@pytest.mark.parametrize(
    ("found", "more"),
    [
        (holder(ELSEWHERE, 29), {}),
        (holder(HERE, 1), {"top": f"{TOP}4250                restic --option s3.bucket-lookup=path check\n"}),
        (holder(HERE, 1), {"top": f"{TOP}4250                /usr/bin/restic check\n"}),
        (holder(HERE, 1), {"top": "PID                 COMMAND\n4250                restic check\n"}),
        (holder(HERE, 1), {"engine_answers": False}),
        (holder(HERE, 1), {"top": "Error response from daemon: Couldn't find PID field", "top_code": 1}),
    ],
    ids=[
        "another host",
        "restic runs here",
        "by its path",
        "the only process",
        "the engine does not answer",
        "the engine does not tell",
    ],
)
def test_a_lock_whose_holder_may_run_stays_and_the_holder_is_named(found: LockHolder, more: dict[str, Any]) -> None:
    host = Host(found={"a1": found}, **more)
    with pytest.raises(Locked) as held:
        run(host)
    assert f"exclusive lock of process 4242 on {found.host}, last refreshed 2026-11-23 11:" in held.value.message
    assert f"from {found.refreshed + timedelta(minutes=30):%H:%M:%S} UTC" in held.value.hint
    assert held.value.left_as == "nothing was changed"
    assert list(host.aws.stored) == ["restic/locks/a1"]


def test_a_column_named_like_restic_or_an_argument_of_that_name_is_no_running_restic() -> None:
    top = "PID restic\n4230 python3 restic unlock\n"
    assert run(Host(found={"a1": holder(HERE, 1)}, top=top)).changed


def test_a_container_that_ended_meanwhile_runs_no_restic() -> None:
    top = "Error response from daemon: container 0af3 is not running"
    assert run(Host(found={"a1": holder(HERE, 1)}, top=top, top_code=1)).changed


def test_a_lock_that_stays_does_not_keep_the_locks_of_killed_runs() -> None:
    host = Host(found={"a1": holder(ELSEWHERE, 1), "b2": holder(ELSEWHERE, 45)})
    with pytest.raises(Locked) as held:
        run(host)
    assert held.value.left_as == "1 locks of killed runs were removed"
    assert list(host.aws.stored) == ["restic/locks/a1"]


def test_an_unlocked_repository_is_left_alone() -> None:
    report = run(Host(found={}))
    assert (report.changed, report.summary) == (False, "the repository in the bucket is not locked")
