"""The progress lines of a playbook, and the error of a failed task."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from ops.errors import Degraded, Locked, OpsError, Refused, RolledBack, Stranded, Unavailable
from ops.world.ansible import UNDERWAY, Events, ending, failure_from
from ops.world.process import POLITE_SECONDS

ROLES = Path(__file__).parents[3] / "playbooks/roles"
LONG = "first word " + "of very many " * 1000 + "last word"


def _event(kind: str, task: str, result: Mapping[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return {"event": kind, "pid": 740, "event_data": {"task": task, "role": "gitea", "res": result or {}} | more}


def _taken(*events: Mapping[str, Any]) -> tuple[Events, list[str]]:
    progress: list[str] = []
    taken = Events(progress.append)
    for each in events:
        assert taken.take(each)
    return taken, progress


def _message(taken: Events) -> str:
    return failure_from("site.yml", taken.failed, []).message


def test_each_task_prints_one_line_as_it_begins() -> None:
    _, progress = _taken(
        {"event": "playbook_on_start", "pid": 740},
        _event("playbook_on_task_start", "Make the folders"),
        _event("runner_item_on_ok", "Make the folders", {"changed": True, "path": "/a"}),
        _event("runner_item_on_ok", "Make the folders", {"changed": True, "path": "/b"}),
        _event("runner_on_ok", "Make the folders", {"changed": True, "results": [{}, {}]}),
        _event("playbook_on_task_start", "Start"),
        _event("runner_on_failed", "Start", {"msg": LONG, "stderr": "more\nlines"}),
    )
    assert progress == ["ansible: gitea: Make the folders", "ansible: gitea: Start"]


def test_each_changed_item_is_named_by_its_file() -> None:
    taken, _ = _taken(
        _event("runner_item_on_ok", "Make", {"changed": True, "path": "/a"}),
        _event("runner_item_on_ok", "Make", {"changed": False, "path": "/b"}),
        _event("runner_item_on_ok", "Make", {"changed": True, "item": "c"}),
        _event("runner_on_ok", "Make", {"changed": True, "results": [{}, {}, {}]}, duration=1.26),
        _event("runner_on_ok", "Write", {"changed": True, "dest": "/d"}),
        _event("runner_on_ok", "Restart", {"changed": True}),
        _event("runner_on_ok", "Look", {"changed": False}),
    )
    assert taken.changed == ["Make: /a", "Make: c", "Write: /d", "Restart"]
    assert (taken.ran, taken.seconds[0], taken.process) == (4, ("Make", 1.3), 740)


def test_the_message_of_a_failed_task_is_complete() -> None:
    taken, _ = _taken(_event("runner_on_failed", "Start", {"msg": LONG, "stderr": LONG + "!", "stdout": " said \n"}))
    assert _message(taken) == f"playbook site.yml failed: Start: {LONG}\n{LONG}!\nsaid"


def test_the_error_of_a_loop_has_the_message_of_each_failed_item() -> None:
    items: list[dict[str, Any]] = [
        {"item": "a", "msg": "no such unit"},
        {"item": "b", "changed": True},
        {"_ansible_item_label": "c", "item": {"c": 1}, "msg": "masked", "stderr": LONG},
    ]
    taken, _ = _taken(
        # An earlier task whose failure was ignored.
        _event("runner_item_on_failed", "Look", {"item": "z", "msg": "no"}),
        _event("runner_on_failed", "Look", {"msg": "One or more items failed"}, ignore_errors=True),
        _event("playbook_on_task_start", "Restart", {}),
        _event("runner_item_on_failed", "Restart", items[0]),
        _event("runner_item_on_ok", "Restart", items[1]),
        _event("runner_item_on_failed", "Restart", items[2]),
        # Not every version of Ansible lists the failed items here.
        _event("runner_on_failed", "Restart", {"msg": "One or more items failed", "results": items}),
    )
    assert _message(taken) == f"playbook site.yml failed: Restart: a: no such unit\nc: masked\n{LONG}"


def test_the_censored_result_of_a_task_stays_censored() -> None:
    hidden = "the output has been hidden due to the fact that 'no_log: true' was specified for this result"
    taken, _ = _taken(_event("runner_on_failed", "Set the password", {"censored": hidden}))
    assert _message(taken) == f"playbook site.yml failed: Set the password: {hidden}"
    items = [{"censored": hidden}]
    taken, _ = _taken(
        _event("runner_item_on_failed", "Set", items[0]),
        _event("runner_on_failed", "Set", {"msg": "One or more items failed", "results": items}),
    )
    assert _message(taken) == f"playbook site.yml failed: Set: None: {hidden}"


def test_an_ignored_failure_does_not_count() -> None:
    taken, _ = _taken(_event("runner_on_failed", "Look", {"msg": "no"}, ignore_errors=True))
    assert (taken.failed, taken.unreachable, taken.ran) == ({}, "", 1)


def test_an_unreachable_host_is_detected_from_ansible_and_from_the_waiting_task() -> None:
    assert _taken(_event("runner_on_unreachable", "Look", {"msg": " no route "}))[0].unreachable == "no route"
    assert _taken(_event("runner_on_failed", "Reach the host", {"msg": "timed out"}))[0].unreachable == "timed out"


class Sent:
    """The signals sent to processes and groups, with a clock that the test sets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        self.signals: list[tuple[str, int, int]] = []
        monkeypatch.setattr(os, "kill", lambda process, number: self.signals.append(("process", process, number)))
        monkeypatch.setattr(os, "killpg", self._group)
        monkeypatch.setattr(time, "monotonic", lambda: self.now)

    def _group(self, group: int, number: int) -> None:
        self.signals.append(("group", group, number))
        raise ProcessLookupError


def test_without_an_interrupt_ansible_gets_no_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = Sent(monkeypatch)
    taken, progress = _taken({"event": "playbook_on_start", "pid": 740})
    with ending([], taken, progress.append) as is_due:
        assert not is_due()
    assert (sent.signals, progress) == ([], [])


def test_an_interrupt_is_passed_on_once_and_remaining_processes_are_killed_after_a_time_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sent = Sent(monkeypatch)
    taken, progress = _taken({"event": "playbook_on_start", "pid": 740})
    with ending([signal.SIGTERM], taken, progress.append) as is_due:
        assert not is_due()
        sent.now += POLITE_SECONDS
        assert not is_due()
        sent.now += 0.1
        assert is_due()
        assert sent.signals == [("process", 740, signal.SIGINT)]
    assert sent.signals[1:] == [("group", 740, signal.SIGKILL)]
    assert progress == ["interrupted: ending the playbook"]


def test_a_third_interrupt_kills_ansible_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    Sent(monkeypatch)
    interrupts: list[int] = [signal.SIGINT, signal.SIGINT]
    taken, progress = _taken({"event": "playbook_on_start", "pid": 740})
    with ending(interrupts, taken, progress.append) as is_due:
        assert not is_due()
        interrupts.append(signal.SIGINT)
        assert is_due()


def test_ansible_without_an_event_yet_is_killed_at_once_and_no_process_group_gets_a_signal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sent = Sent(monkeypatch)
    taken, progress = _taken()
    with ending([signal.SIGINT], taken, progress.append) as is_due:
        assert is_due()
    assert sent.signals == []


ASSERT = "ansible.builtin.assert"


def _failed(task: str, result: Mapping[str, Any], action: str = "ansible.builtin.command") -> dict[str, Any]:
    return {"task": task, "task_action": action, "res": {"failed": True, **result}}


def _ran(code: int, *argv: str) -> dict[str, Any]:
    return {"cmd": list(argv), "rc": code, "msg": "non-zero return code", "stderr": "its words"}


@pytest.mark.parametrize(
    ("failed", "kind"),
    [
        (_failed("Refuse a port that another program holds", {"msg": "443 is taken"}, ASSERT), Refused),
        (_failed("Refuse wrong variables of base", {"msg": "give a number"}, ASSERT), Refused),
        (_failed(UNDERWAY, {"msg": "ops update is at work"}, ASSERT), Locked),
        # Not an assertion: it fails after an attempt.
        (_failed("Report why the stack does not run", {"msg": "unhealthy"}, "ansible.builtin.fail"), OpsError),
        (_failed("Renew the certificate when it is missing or due", _ran(7, "ops", "certs", "renew")), Unavailable),
        (_failed("Have", _ran(3, "ops", "secrets", "apply")), Degraded),
        (_failed("Have", _ran(4, "ops", "secrets", "apply")), Refused),
        (_failed("Have", _ran(5, "ops", "secrets", "apply")), RolledBack),
        (_failed("Have", _ran(6, "ops", "secrets", "apply")), Stranded),
        (_failed("Have", _ran(8, "ops", "secrets", "apply")), Locked),
        # A bug, a signal, docker's own exit code.
        *((_failed("Have", _ran(code, "ops", "secrets", "apply")), OpsError) for code in (1, 9, 125, 130, 143)),
        # Other programs give these codes another meaning.
        (_failed("Look", _ran(7, "docker", "compose", "restart")), OpsError),
        (_failed("Look", {"cmd": "ops health", "rc": 7, "msg": "a shell's"}), OpsError),
        (_failed("Look", {"cmd": [], "rc": 7, "msg": "nothing"}), OpsError),
        (_failed("Install", {"rc": 4, "msg": "apt's"}, "ansible.builtin.apt"), OpsError),
        (_failed("Restart", {"results": [_ran(5, "ops", "nginx", "replace")]}), RolledBack),
        (_failed("Restart", {"results": [_ran(5, "ops", "nginx", "replace"), _ran(1, "docker", "x")]}), OpsError),
    ],
    ids=lambda given: str(given.get("task")) if isinstance(given, dict) else given.__name__,
)
def test_the_error_class_of_a_failed_task(failed: Mapping[str, Any], kind: type[OpsError]) -> None:
    ended = failure_from("site.yml", failed, [])
    assert type(ended) is kind
    assert failed["res"].get("msg", "its words") in ended.message
    assert ended.left_as == ""
    assert ended.hint


@pytest.mark.parametrize(
    ("changed", "left_as"),
    [
        ([], ""),
        (["a", "b"], "the host keeps 2 change(s) that the playbook made before the failure"),
    ],
)
def test_a_refusal_has_the_assertion_s_message_and_names_earlier_changes(changed: Sequence[str], left_as: str) -> None:
    failed = _failed("Refuse a port that another program holds", {"msg": "443 is taken"}, ASSERT)
    refused = failure_from("site.yml", failed, changed)
    assert (refused.message, refused.left_as) == ("443 is taken", left_as)


def test_a_verb_that_failed_on_the_host_passes_on_its_next_step_and_the_state_it_left() -> None:
    result = _ran(7, "ops", "certs", "renew", "--json")
    document = {"next": "run ops certs renew", "left_as": "the old certificate is in use"}
    failed = _failed("Have", result | {"stdout": json.dumps(document)})
    ended = failure_from("site.yml", failed, [])
    assert (ended.hint, ended.left_as) == ("run ops certs renew", "the old certificate is in use")
    assert "playbook site.yml failed: Have: non-zero return code\nits words" in ended.message
    ended = failure_from("site.yml", failed, ["a"])
    assert ended.left_as == (
        "the old certificate is in use; the host keeps 1 change(s) that the playbook made before the failure"
    )
    for printed in ("", "no document", "[1]", "{}"):
        ended = failure_from("site.yml", _failed("Have", result | {"stdout": printed}), [])
        assert (ended.hint, ended.left_as) == ("fix the cause, then run the command again", "")


def test_roles_assert_only_in_tasks_named_refuse_and_the_task_for_running_updates_exists() -> None:
    text = "\n".join(path.read_text() for path in sorted(ROLES.glob("*/tasks/*.yml")))
    asserted = re.findall(rf"- name: (.+)\n +{re.escape(ASSERT)}:", text)
    assert len(asserted) == text.count(ASSERT) > 5
    assert [name for name in asserted if not name.startswith("Refuse ")] == []
    assert UNDERWAY in asserted
