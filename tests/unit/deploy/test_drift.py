"""The report of a site's drift."""

from __future__ import annotations

from typing import Any

from ops.deploy import drift, security_groups
from ops.model import Change
from ops.world.terraform import changes_from, resources_from, rules_from
from tests.support import fakes


def _planned(address: str, actions: list[str], before: Any, after: Any, **more: Any) -> dict[str, Any]:
    change = {"actions": actions, "before": before, "after": after} | more
    return {"address": address, "mode": "managed", "type": address.split(".")[-2], "change": change}


def test_the_changes_of_a_plan_name_the_attributes_that_differ() -> None:
    plan = {
        "resource_changes": [
            _planned("aws_a.same", ["no-op"], {"x": 1}, {"x": 1}),
            _planned("aws_a.new", ["create"], None, {"x": 1}),
            _planned("aws_a.other", ["update"], {"x": 1, "y": [1]}, {"x": 2, "y": [1]}),
            _planned("aws_a.moved", ["delete", "create"], {"id": "a"}, {}, after_unknown={"id": True}),
            _planned("aws_a.gone", ["delete"], {"x": 1}, None),
        ]
    }
    assert changes_from(plan) == (
        Change("aws_a.new", "aws_a", "create"),
        Change("aws_a.other", "aws_a", "update", ("x: 1 -> 2",)),
        Change("aws_a.moved", "aws_a", "replace", ('id: "a" -> (known afterwards)',)),
        Change("aws_a.gone", "aws_a", "destroy"),
    )


def test_data_sources_do_not_count_as_changes() -> None:
    read = _planned("aws_a.data", ["read"], None, {}) | {"mode": "data"}
    assert changes_from({"resource_changes": [read]}) == ()


def test_a_sensitive_attribute_is_named_and_its_value_hidden() -> None:
    one = _planned("aws_a.b", ["update"], {"p": "old"}, {"p": "new"}, after_sensitive={"p": True})
    assert changes_from({"resource_changes": [one]})[0].differences == ("p: (hidden)",)


STATE: dict[str, Any] = {
    "resources": [
        {"mode": "data", "type": "aws_vpc", "name": "v", "instances": [{"attributes": {"id": "vpc-1"}}]},
        {
            "mode": "managed",
            "type": "aws_security_group",
            "name": "host",
            "instances": [{"attributes": {"id": "sg-1"}}],
        },
        {
            "mode": "managed",
            "type": "aws_vpc_security_group_ingress_rule",
            "name": "open",
            "instances": [{"index_key": "http", "attributes": {"id": "sgr-1", "security_group_id": "sg-1"}}],
        },
    ]
}


def test_a_state_lists_its_resources_and_its_own_rules() -> None:
    assert rules_from(STATE) == {"sg-1": frozenset({"sgr-1"})}
    assert resources_from(STATE) == ["aws_security_group.host", 'aws_vpc_security_group_ingress_rule.open["http"]']


class _Terraform:
    def state(self) -> dict[str, Any]:
        return STATE


def test_a_rule_made_by_hand_is_foreign_and_revoked_and_our_own_stay() -> None:
    account = fakes.FakeAwsAccount(
        found={"sg-1": {"sgr-1": "ingress tcp 80 from 0.0.0.0/0", "sgr-2": "ingress tcp 8080 from 0.0.0.0/0"}}
    )
    world: Any = fakes.FakeWorld(aws_account=account)
    terraform: Any = _Terraform()
    assert security_groups.foreign_rules(terraform, world) == {("sg-1", "sgr-2"): "ingress tcp 8080 from 0.0.0.0/0"}
    assert security_groups.close(terraform, world) is True
    assert security_groups.close(terraform, world) is False
    assert security_groups.foreign_rules(terraform, world) == {}
    assert world.aws_account.rules("sg-1").keys() == {"sgr-1"}
    assert world.progress == ["sg-1: revoked a rule that is not ours: ingress tcp 8080 from 0.0.0.0/0"]


def test_no_drift_is_exit_0_and_drift_is_exit_3_item_by_item() -> None:
    assert drift.report_from([], {}, []).exit_code == 0
    changes = [Change("aws_a.b", "aws_a", "update", ('status: "Suspended" -> "Enabled"',))]
    found = drift.report_from(
        changes,
        {("sg-1", "sgr-2"): "ingress tcp 8080 from 0.0.0.0/0"},
        ["Write it: /etc/x"],
        {"b": ("versioning", "encryption")},
    )
    assert found.exit_code == 3
    assert found.lines == (
        'AWS   update aws_a.b: status: "Suspended" -> "Enabled"',
        "AWS   sg-1: a rule that is not ours: ingress tcp 8080 from 0.0.0.0/0",
        "AWS   bucket b: versioning is off",
        "AWS   bucket b: encryption is off",
        "host  Write it: /etc/x",
    )
    assert found.summary.startswith("5 difference(s)")
