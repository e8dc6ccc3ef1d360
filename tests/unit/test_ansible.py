"""What is told of a playbook's tasks, and how one that failed ends the deployment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ops.world.ansible import Events

LONG = "first word " + "of very many " * 1000 + "last word"


def _event(kind: str, task: str, result: Mapping[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return {"event": kind, "pid": 740, "event_data": {"task": task, "role": "gitea", "res": result or {}} | more}


def _taken(*events: Mapping[str, Any]) -> tuple[Events, list[str]]:
    told: list[str] = []
    taken = Events(told.append)
    for each in events:
        assert taken.take(each)
    return taken, told


def test_each_task_is_told_in_one_line_as_it_begins() -> None:
    _, told = _taken(
        {"event": "playbook_on_start", "pid": 740},
        _event("playbook_on_task_start", "Make the folders"),
        _event("runner_item_on_ok", "Make the folders", {"changed": True, "path": "/a"}),
        _event("runner_item_on_ok", "Make the folders", {"changed": True, "path": "/b"}),
        _event("runner_on_ok", "Make the folders", {"changed": True, "results": [{}, {}]}),
        _event("playbook_on_task_start", "Start"),
        _event("runner_on_failed", "Start", {"msg": LONG, "stderr": "more\nlines"}),
    )
    assert told == ["ansible: gitea: Make the folders", "ansible: gitea: Start"]


def test_what_changed_is_named_by_its_file_once_an_item() -> None:
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


def test_the_failing_task_s_message_is_whole() -> None:
    taken, _ = _taken(_event("runner_on_failed", "Start", {"msg": LONG, "stderr": LONG + "!", "stdout": " said \n"}))
    assert taken.failure == f"Start: {LONG}\n{LONG}!\nsaid"


def test_of_a_loop_each_item_that_failed_says_why() -> None:
    items = [
        {"item": "a", "failed": True, "msg": "no such unit"},
        {"item": "b", "changed": True},
        {"_ansible_item_label": "c", "item": {"c": 1}, "failed": True, "msg": "masked", "stderr": LONG},
    ]
    taken, _ = _taken(_event("runner_on_failed", "Restart", {"msg": "One or more items failed", "results": items}))
    assert taken.failure == f"Restart: a: no such unit\nc: masked\n{LONG}"


def test_what_a_task_keeps_to_itself_stays_there() -> None:
    hidden = "the output has been hidden due to the fact that 'no_log: true' was specified for this result"
    taken, _ = _taken(_event("runner_on_failed", "Set the password", {"censored": hidden}))
    assert taken.failure == f"Set the password: {hidden}"
    items = [{"censored": hidden}]
    taken, _ = _taken(_event("runner_on_failed", "Set", {"msg": "One or more items failed", "results": items}))
    assert taken.failure == "Set: One or more items failed"


def test_a_failure_that_is_ignored_is_none() -> None:
    taken, _ = _taken(_event("runner_on_failed", "Look", {"msg": "no"}, ignore_errors=True))
    assert (taken.failure, taken.unreachable, taken.ran) == ("", "", 1)


def test_a_host_that_is_not_reached_is_away_whoever_says_so() -> None:
    assert _taken(_event("runner_on_unreachable", "Look", {"msg": " no route "}))[0].unreachable == "no route"
    assert _taken(_event("runner_on_failed", "Reach the host", {"msg": "timed out"}))[0].unreachable == "timed out"
