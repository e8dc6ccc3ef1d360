"""The order of the tasks of the role gitea."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

_TASKS = Path(__file__).parents[3] / "playbooks/roles/gitea/tasks/main.yml"


def _each(tasks: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    for task in tasks:
        yield from _each(task["block"]) if "block" in task else [task]


def _place(tasks: Sequence[Mapping[str, Any]], words: str) -> int:
    (found,) = [number for number, each in enumerate(tasks) if words in str(each)]
    return found


def test_a_running_gitea_gets_its_settings_when_the_rest_of_the_stack_is_in_place() -> None:
    tasks = list(_each(yaml.safe_load(_TASKS.read_text())))
    applying = [number for number, each in enumerate(tasks) if "gitea_settings_command" in str(each)]
    assert [tasks[each]["when"] for each in applying] == ["not gitea_runs", "gitea_runs"]
    first, last = applying
    # The test of a change needs HAProxy, the certificate and the administrator, which a site of an earlier release lacks.
    earlier = [
        _place(tasks, each)
        for each in ("'stack', 'recreate'", "docker_compose_v2", "'certs', 'renew'", "'secrets', 'apply'")
    ]
    assert first < min(earlier)
    assert max(earlier) < last
    # A container is not made from the settings of a change that was interrupted.
    assert _place(tasks, "'settings', 'resume'") < min(earlier)
