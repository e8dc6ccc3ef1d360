"""The door to Ansible, by ansible-runner."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import ansible_runner

from ops.errors import ConfigError, Degraded, Locked, OpsError, Refused, RolledBack, Stranded, Unavailable
from ops.world.process import PATIENCE, POLITE_SECONDS, signals_held

# The task of site.yml that waits for the host; when it gives up, the host is away.
_REACH = "Reach the host"
# The task of the role gitea that asks whether the host updates or restores.
UNDERWAY = "Refuse to deploy during another operation"
_HEALS = "mend the cause and run again: it heals"
_KINDS: Mapping[int, type[OpsError]] = {
    each.exit_code: each for each in (ConfigError, Degraded, Refused, RolledBack, Stranded, Unavailable, Locked)
}
# How often ansible-runner asks whether to go on.
_ASK_SECONDS = 0.5


@dataclass(frozen=True)
class Played:
    """What a playbook came to: how many tasks ran, what each of them changed, and the slowest with their seconds."""

    ran: int
    changed: tuple[str, ...]
    slowest: tuple[tuple[str, float], ...]


def play(
    playbooks: Path,
    playbook: str,
    *,
    state: Path,
    host: Mapping[str, Any],
    variables: Mapping[str, Any],
    tell: Callable[[str], None],
    check: bool = False,
    boot_seconds: int = 20,
) -> Played:
    """Run a playbook against one host and return what changed; with ``check``, what would change, and change nothing.

    ``boot_seconds`` is how long the host may take until it answers: long for a machine that was made a moment ago.
    ``host`` holds the connection variables (ansible_host, ansible_user, ...). ``state`` takes the inventory, the variables
    and Ansible's artifacts. Raises Unavailable for a host that cannot be reached, and what ``failure_from`` makes of a failed
    task. An interrupt ends Ansible with all that it started here, and is raised once that is gone.
    """
    inventory, extra = state / "inventory.json", state / "variables.json"
    state.mkdir(parents=True, exist_ok=True)
    # The largest file is compressed already, and the rest is small.
    reached = {**host, "mitogen_ssh_compression": False}
    inventory.write_text(json.dumps({"all": {"hosts": {"site": reached}}}, indent=2), encoding="utf-8")
    extra.write_text(
        json.dumps({**variables, "site_boot_seconds": boot_seconds}, indent=2, default=str), encoding="utf-8"
    )
    events = Events(tell)
    with signals_held() as interrupts, ending(interrupts, events, tell) as is_due:
        runner = ansible_runner.run(
            private_data_dir=str(state),
            project_dir=str(playbooks),
            playbook=playbook,
            inventory=str(inventory),
            cmdline=f"--extra-vars @{extra}" + (" --check" if check else ""),
            event_handler=events.take,
            # Without one, ansible-runner takes the process's signals for itself, and keeps them.
            cancel_callback=is_due,
            envvars=environment(playbooks),
            settings={"pexpect_timeout": _ASK_SECONDS},
            quiet=True,
            rotate_artifacts=5,
        )
    if events.unreachable:
        raise Unavailable(
            f"the host is unreachable: {events.unreachable}",
            "check host.address, the ssh key and port 22; from another address than the host's firewall knows: "
            "ops deploy --session-manager",
        )
    if runner.rc != 0:
        if events.failed:
            # In check mode nothing is changed.
            raise failure_from(playbook, events.failed, [] if check else events.changed)
        raise OpsError(f"playbook {playbook} failed: {runner.stdout.read()}", _HEALS)
    return Played(events.ran, tuple(events.changed), tuple(sorted(events.seconds, key=lambda each: -each[1])[:8]))


def failure_from(playbook: str, failed: Mapping[str, Any], changed: Sequence[str]) -> OpsError:
    """Return how a run ends in which a task failed, from that event's data and from what had been changed on the host before.

    Of a loop, the data's ``results`` are those items that failed. What a role refuses (its assertions) is Refused, or Locked
    where the host updates or restores; what ``ops`` itself said on the host ends the run with the same exit code. All else is
    an OpsError.
    """
    name, result = failed["task"], failed["res"]
    before = f"\nwhat the playbook had changed on the host before stays: {len(changed)} change(s)" if changed else ""
    if failed.get("task_action") == "ansible.builtin.assert":
        if name == UNDERWAY:
            return Locked(_reason(result) + before, "ops deploy, once that has ended")
        return Refused(_reason(result) + before, "do what it says, then deploy again")
    said = f"playbook {playbook} failed: {name}: {_reason(result)}"
    kind = _kind(result)
    if kind is OpsError:
        return OpsError(said, _HEALS)
    return kind(said + before, _next_step(result) or _HEALS)


def _kind(result: Mapping[str, Any]) -> type[OpsError]:
    """What ``ops`` ended with on the host, where it was ``ops`` that failed there, and nothing else did."""
    kinds = {_KINDS.get(each.get("rc", 1), OpsError) if _is_ops(each) else OpsError for each in _failures(result)}
    return kinds.pop() if len(kinds) == 1 else OpsError


def _is_ops(result: Mapping[str, Any]) -> bool:
    argv = result.get("cmd")
    return isinstance(argv, list) and argv[:1] == ["ops"]


def _next_step(result: Mapping[str, Any]) -> str:
    """The hint in the one document that ``ops ... --json`` prints."""
    try:
        document = json.loads(_failures(result)[0].get("stdout", ""))
    except ValueError:
        return ""
    return str(document.get("next", "")) if isinstance(document, dict) else ""


def environment(playbooks: Path) -> dict[str, str]:
    """Return what ansible-playbook is to find in its environment: its settings, and Mitogen's strategy.

    Mitogen keeps one Python at work on the host and sends it what is to be done, where Ansible itself starts one anew for
    each step of each task (docs/decisions/0025-mitogen-for-ansible.md).
    """
    found = find_spec("ansible_mitogen")
    if not (found and found.submodule_search_locations):
        raise OpsError("Mitogen is not installed", "run ops in its own environment: ./noxw -s ops -- VERB")
    (folder,) = found.submodule_search_locations
    return {
        "ANSIBLE_CONFIG": str(playbooks / "ansible.cfg"),
        "ANSIBLE_FORCE_COLOR": "false",
        "ANSIBLE_STRATEGY": "mitogen_linear",
        "ANSIBLE_STRATEGY_PLUGINS": str(Path(folder, "plugins/strategy")),
        "PATH": _own_programs_first(),
    }


def _own_programs_first() -> str:
    """ansible-playbook of this very environment, whatever else is on PATH."""
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])


class Events:
    """What a playbook says while it runs: each task is told in a line as it begins, the rest is kept."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self.ran = 0
        self.changed: list[str] = []
        self.seconds: list[tuple[str, float]] = []
        self.failed: Mapping[str, Any] = {}
        self.unreachable = ""
        self.process = 0
        self._failed_items: list[Mapping[str, Any]] = []

    def take(self, event: Mapping[str, Any]) -> bool:
        """Hear one of ansible-runner's events, and have it kept among the artifacts."""
        data = event.get("event_data", {})
        name = data.get("task", "")
        self.process = self.process or event.get("pid", 0)
        if event["event"] == "playbook_on_task_start":
            self._failed_items = []
            self._tell(f"ansible: {data.get('role', 'site')}: {name}")
        if event["event"] == "runner_item_on_failed":
            self._failed_items.append(data["res"])
        if event["event"] == "runner_item_on_ok" and data.get("res", {}).get("changed"):
            self.changed.append(f"{name}: {_item(data['res'])}")
        if event["event"] in ("runner_on_ok", "runner_on_failed"):
            self._finished(event["event"], name, data)
        if event["event"] == "runner_on_unreachable":
            self.unreachable = str(data.get("res", {}).get("msg", "")).strip()
        return True

    def _finished(self, kind: str, name: str, data: Mapping[str, Any]) -> None:
        result = data.get("res", {})
        self.ran += 1
        self.seconds.append((name, round(float(data.get("duration", 0.0)), 1)))
        if kind == "runner_on_failed" and not data.get("ignore_errors"):
            # Which items failed the event itself says in some versions of Ansible only (2.19, not 2.21).
            self.failed = {**data, "res": {**result, "results": self._failed_items}}
            if name == _REACH:
                self.unreachable = _reason(result)
        elif result.get("changed") and "results" not in result:
            self.changed.append(f"{name}: {path}" if (path := _path(result)) else name)


@contextmanager
def ending(interrupts: Sequence[int], events: Events, tell: Callable[[str], None]) -> Iterator[Callable[[], bool]]:
    """End Ansible after an interrupt: at first politely, since its workers are in sessions of their own and end by it alone.

    What the block is given tells ansible-runner whether to kill it. Who interrupts a third time wants out at once.
    """
    asked_at: list[float] = []

    def is_due() -> bool:
        if not interrupts:
            return False
        if not asked_at:
            asked_at.append(time.monotonic())
            tell("interrupted: the playbook is ended")
            _signal(os.kill, events.process, signal.SIGINT)
        patient = events.process and len(interrupts) <= PATIENCE
        return not patient or time.monotonic() - asked_at[0] > POLITE_SECONDS

    try:
        yield is_due
    finally:
        if interrupts:
            # What Mitogen has begun on this very machine outlives it.
            _signal(os.killpg, events.process, signal.SIGKILL)


def _signal(send: Callable[[int, int], None], process: int, number: int) -> None:
    # 0 would be this process's own group: Ansible has not said yet which it is, and has no workers.
    if process:
        with suppress(ProcessLookupError):
            send(process, number)


def _item(result: Mapping[str, Any]) -> str:
    return _path(result) or str(result.get("_ansible_item_label") or result.get("item"))


def _path(result: Mapping[str, Any]) -> str:
    """The file that a task was about, where it was about one."""
    return str(result.get("dest") or result.get("path") or "")


def _reason(result: Mapping[str, Any]) -> str:
    """All that a task said when it failed; of a loop, what each item said that did."""
    if failed := result.get("results"):
        return "\n".join(f"{_item(each)}: {_reason(each)}" for each in failed)
    said = (str(result.get(key, "")).strip() for key in ("msg", "censored", "stderr", "stdout"))
    return "\n".join(part for part in said if part)


def _failures(result: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The results that failed: those of a loop's items, else the task's own."""
    return result.get("results") or [result]
