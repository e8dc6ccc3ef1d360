"""The adapter for Ansible, through ansible-runner."""

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
from ops.world.ansible_variables import as_data
from ops.world.environment import LOCALE, only_kept
from ops.world.playbook_watch import REMOTE_SECONDS, PlaybookWatch
from ops.world.process import INTERRUPTS_TOLERATED, POLITE_SECONDS, signals_held

# The task of site.yml that waits for the host. When it fails, the host is unreachable.
_REACH = "Reach the host"
# The task of the role gitea that checks for a running update or restore.
UNDERWAY = "Refuse to deploy during another operation"
_RUN_AGAIN = "fix the cause, then run the command again"
_KINDS: Mapping[int, type[OpsError]] = {
    each.exit_code: each for each in (ConfigError, Degraded, Refused, RolledBack, Stranded, Unavailable, Locked)
}
# How often ansible-runner calls cancel_callback.
_ASK_SECONDS = 0.5


@dataclass(frozen=True)
class Played:
    """The result of a playbook: how many tasks ran, what each of them changed, and the slowest with their seconds."""

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
    silence_seconds: float = REMOTE_SECONDS,
) -> Played:
    """Run a playbook against one host and return what changed. ``check`` only reports what would change.

    ``boot_seconds`` is how long the host may take until it answers; a new machine needs longer. A task that works on the
    host and has no event for ``silence_seconds`` ends the playbook.
    ``host`` holds the connection variables (ansible_host, ansible_user, ...). ``state`` takes the inventory, the variables
    and Ansible's artifacts. Raises Unavailable for an unreachable host or a silent playbook, and the error of ``failure_from`` for a failed
    task. An interrupt ends Ansible and all its processes on this machine; then it is raised.
    """
    inventory, extra = state / "inventory.json", state / "variables.json"
    state.mkdir(parents=True, exist_ok=True)
    # The largest file is already compressed, and the others are small.
    reached = {**host, "mitogen_ssh_compression": False}
    inventory.write_text(as_data({"all": {"hosts": {"site": reached}}}), encoding="utf-8")
    extra.write_text(as_data({**variables, "site_boot_seconds": boot_seconds}), encoding="utf-8")
    watch = PlaybookWatch(tell, remote_seconds=silence_seconds)
    events = Events(tell, watch)
    with signals_held() as interrupts, ending(interrupts, events, tell) as is_due:
        with only_kept():  # ansible-runner copies the environment of this process
            runner = ansible_runner.interface.init_runner(
                private_data_dir=str(state),
                project_dir=str(playbooks),
                playbook=playbook,
                inventory=str(inventory),
                cmdline=f"--extra-vars @{extra}" + (" --check" if check else ""),
                event_handler=events.take,
                # Without a callback, ansible-runner installs its own signal handlers and leaves them installed.
                cancel_callback=lambda: is_due() or watch.is_stuck(),
                envvars=environment(playbooks),
                settings={"pexpect_timeout": _ASK_SECONDS},
                quiet=True,
                rotate_artifacts=5,
            )
        runner.run()
    if watch.stuck:
        watch.kill_remaining()
        raise Unavailable(
            f"the playbook was ended: {watch.stuck}; its output is in {runner.config.artifact_dir}",
            "run ops deploy again, and report the output if it stops at the same task",
            left_as=_changes_kept([] if check else events.changed),
        )
    if events.unreachable:
        raise Unavailable(
            f"the host is unreachable: {events.unreachable}",
            "check host.address, the ssh key and port 22; if the host's security group does not know your address, "
            "run ops deploy --session-manager",
        )
    if runner.rc != 0:
        if events.failed:
            # A run in check mode changes nothing.
            raise failure_from(playbook, events.failed, [] if check else events.changed)
        raise OpsError(f"playbook {playbook} failed: {runner.stdout.read()}", _RUN_AGAIN)
    return Played(events.ran, tuple(events.changed), tuple(sorted(events.seconds, key=lambda each: -each[1])[:8]))


def failure_from(playbook: str, failed: Mapping[str, Any], changed: Sequence[str]) -> OpsError:
    """Return the error for a failed task, from its event's data and from the changes that the playbook made before it.

    For a loop, the data's ``results`` are the failed items. A failed assertion of a role becomes Refused, or Locked where
    an update or restore runs on the host. Where ``ops`` failed on the host, the error has the same exit code, hint and
    ``left_as`` as there. All other failures become an OpsError.
    """
    name, result = failed["task"], failed["res"]
    kept = _changes_kept(changed)
    if failed.get("task_action") == "ansible.builtin.assert":
        if name == UNDERWAY:
            return Locked(_reason(result), "wait until that has ended, then run ops deploy", left_as=kept)
        return Refused(_reason(result), "correct the cause named above, then run ops deploy", left_as=kept)
    message = f"playbook {playbook} failed: {name}: {_reason(result)}"
    kind = _kind(result)
    if kind is OpsError:
        return OpsError(message, _RUN_AGAIN, left_as=kept)
    left = "; ".join(part for part in (_of_ops(result, "left_as"), kept) if part)
    return kind(message, _of_ops(result, "next") or _RUN_AGAIN, left_as=left)


def _kind(result: Mapping[str, Any]) -> type[OpsError]:
    """The error class of ``ops`` on the host, where every failed result is one of ``ops`` with the same exit code."""
    kinds = {_KINDS.get(each.get("rc", 1), OpsError) if _is_ops(each) else OpsError for each in _failures(result)}
    return kinds.pop() if len(kinds) == 1 else OpsError


def _is_ops(result: Mapping[str, Any]) -> bool:
    argv = result.get("cmd")
    return isinstance(argv, list) and argv[:1] == ["ops"]


def _of_ops(result: Mapping[str, Any], key: str) -> str:
    """A text of the JSON document that ``ops ... --json`` printed on the host; "" without such a document or key."""
    try:
        document = json.loads(_failures(result)[0].get("stdout", ""))
    except ValueError:
        return ""
    return str(document.get(key, "")) if isinstance(document, dict) else ""


def _changes_kept(changed: Sequence[str]) -> str:
    return f"the host keeps {len(changed)} change(s) that the playbook made before the failure" if changed else ""


def environment(playbooks: Path) -> dict[str, str]:
    """Return the environment variables for ansible-playbook: its settings and Mitogen's strategy.

    Mitogen keeps one Python process on the host for the whole play. Ansible itself starts a new one for each step of each
    task (docs/decisions/0025-mitogen-for-ansible.md).
    """
    found = find_spec("ansible_mitogen")
    if not (found and found.submodule_search_locations):
        raise OpsError("Mitogen is not installed", "run ops in its own environment: ./noxw -s ops -- VERB")
    (folder,) = found.submodule_search_locations
    return {
        "ANSIBLE_CONFIG": str(playbooks / "ansible.cfg"),
        "ANSIBLE_FORCE_COLOR": "false",
        # A playbook that is stuck prints the stacks of its threads before it is killed (ops/world/playbook_watch.py).
        "PYTHONFAULTHANDLER": "1",
        "ANSIBLE_STRATEGY": "mitogen_linear",
        "ANSIBLE_STRATEGY_PLUGINS": str(Path(folder, "plugins/strategy")),
        "PATH": _own_programs_first(),
        **LOCALE,
    }


def _own_programs_first() -> str:
    """PATH with this Python environment's programs first, so that its own ansible-playbook runs."""
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])


class Events:
    """The events of a running playbook: prints a line as each task begins, and keeps changes, times and failures."""

    def __init__(self, tell: Callable[[str], None], watch: PlaybookWatch | None = None) -> None:
        self._tell = tell
        self._watch = watch or PlaybookWatch(tell)
        self.ran = 0
        self.changed: list[str] = []
        self.seconds: list[tuple[str, float]] = []
        self.failed: Mapping[str, Any] = {}
        self.unreachable = ""
        self.process = 0
        self._failed_items: list[Mapping[str, Any]] = []

    def take(self, event: Mapping[str, Any]) -> bool:
        """Take an event of ansible-runner; returns True so that ansible-runner keeps it among the artifacts."""
        data = event.get("event_data", {})
        name = data.get("task", "")
        self._watch.process = self.process = self.process or event.get("pid", 0)
        self._watch.heard()
        if event["event"] == "playbook_on_task_start":
            self._failed_items = []
            self._watch.begin(name, data.get("task_action", ""))
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
            # Only some versions of Ansible list the failed items in this event (2.19 does, 2.21 does not).
            self.failed = {**data, "res": {**result, "results": self._failed_items}}
            if name == _REACH:
                self.unreachable = _reason(result)
        elif result.get("changed") and "results" not in result:
            self.changed.append(f"{name}: {path}" if (path := _path(result)) else name)


@contextmanager
def ending(interrupts: Sequence[int], events: Events, tell: Callable[[str], None]) -> Iterator[Callable[[], bool]]:
    """End Ansible after an interrupt: first with SIGINT, because its workers run in sessions of their own and only Ansible ends them.

    Yields the cancel callback for ansible-runner, which returns True to kill Ansible. A third interrupt kills it at once.
    """
    asked_at: list[float] = []

    def is_due() -> bool:
        if not interrupts:
            return False
        if not asked_at:
            asked_at.append(time.monotonic())
            tell("interrupted: ending the playbook")
            _signal(os.kill, events.process, signal.SIGINT)
        patient = events.process and len(interrupts) <= INTERRUPTS_TOLERATED
        return not patient or time.monotonic() - asked_at[0] > POLITE_SECONDS

    try:
        yield is_due
    finally:
        if interrupts:
            # Mitogen's processes on this machine outlive Ansible.
            _signal(os.killpg, events.process, signal.SIGKILL)


def _signal(send: Callable[[int, int], None], process: int, number: int) -> None:
    # 0 would be this process's own group. Before its first event Ansible's process id is unknown, and it has no workers.
    if process:
        with suppress(ProcessLookupError):
            send(process, number)


def _item(result: Mapping[str, Any]) -> str:
    return _path(result) or str(result.get("_ansible_item_label") or result.get("item"))


def _path(result: Mapping[str, Any]) -> str:
    """The file that a task works on, or ""."""
    return str(result.get("dest") or result.get("path") or "")


def _reason(result: Mapping[str, Any]) -> str:
    """The full text of a task's failure; for a loop, the text of each failed item."""
    if failed := result.get("results"):
        return "\n".join(f"{_item(each)}: {_reason(each)}" for each in failed)
    texts = (str(result.get(key, "")).strip() for key in ("msg", "censored", "stderr", "stdout"))
    return "\n".join(part for part in texts if part)


def _failures(result: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The failed results: those of a loop's items, or the task's own."""
    return result.get("results") or [result]
