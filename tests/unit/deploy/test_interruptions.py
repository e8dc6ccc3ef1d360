"""The changes for which a deployment asks the operator."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from ops.config.workspace import Workspace
from ops.deploy import infrastructure, interruptions
from ops.errors import Refused
from ops.model import Change
from ops.world.process import Finished
from tests.support import fakes

HOST = "aws_instance.host"


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (Change(HOST, "aws_instance", "replace", ('ami: "a" -> "b"',)), f'replace {HOST}\n  ami: "a" -> "b"'),
        (Change("aws_eip.host", "aws_eip", "destroy"), "destroy aws_eip.host"),
        (
            Change(HOST, "aws_instance", "update", ('instance_type: "t3.medium" -> "t3.large"',)),
            f'stop and start {HOST}\n  instance_type: "t3.medium" -> "t3.large"',
        ),
    ],
)
def test_what_is_replaced_destroyed_or_stopped_is_named_with_its_differences(change: Change, line: str) -> None:
    assert interruptions.in_words([change]) == (line,)


@pytest.mark.parametrize(
    "change",
    [
        Change(HOST, "aws_instance", "create"),
        Change(HOST, "aws_instance", "update", ('tags: {"a": "b"} -> {}',)),
        Change("aws_x.y", "aws_x", "update", ('instance_type: "t3.medium" -> "t3.large"',)),
        Change("aws_x.y", "aws_x", "forget"),
    ],
)
def test_other_changes_need_no_question(change: Change) -> None:
    assert interruptions.in_words([change]) == ()


def test_with_replace_host_only_other_resources_are_named() -> None:
    changes = [Change(HOST, "aws_instance", "replace"), Change("aws_vpc.site", "aws_vpc", "replace")]
    assert interruptions.in_words(changes, interruptions.REPLACED_WITH_HOST) == ("replace aws_vpc.site",)


PLAN = {
    "resource_changes": [
        {
            "address": HOST,
            "mode": "managed",
            "type": "aws_instance",
            "change": {"actions": ["delete", "create"], "before": {"a": 1}, "after": {"a": 2}},
        }
    ]
}


def _terraform(argv: Sequence[str]) -> Finished:
    outputs = {"show": json.dumps(PLAN), "state": "{}"}
    return Finished(2 if argv[1] == "plan" else 0, outputs.get(argv[1], ""))


def test_a_refused_plan_is_not_applied(tmp_path: Path) -> None:
    site, seen = fakes.site(), list[tuple[Change, ...]]()
    world: Any = fakes.FakeWorld(
        aws=fakes.FakeAws(buckets={infrastructure.state_bucket(site)}), processes=fakes.FakeProcesses(_terraform)
    )

    def refuse(changes: tuple[Change, ...]) -> None:
        seen.append(changes)
        raise Refused("no")

    workspace = Workspace(tmp_path, tmp_path, tmp_path)
    with pytest.raises(Refused, match="no"):
        infrastructure.apply_infrastructure(site, world, workspace, "key", [], agree=refuse)
    assert [each.address for each in seen[0]] == [HOST]
    assert [argv[1] for argv in world.processes.ran] == ["init", "state", "plan", "show"]
