"""An instance that EC2 made and Terraform did not record."""

from __future__ import annotations

from typing import Any

import pytest

from ops.deploy import orphaned_instance
from ops.errors import Refused
from tests.support import fakes


def _state(**resources: str) -> dict[str, Any]:
    """Return a state with one resource of each type."""
    return {
        "resources": [
            {"mode": "managed", "type": kind, "name": "one", "instances": [{"attributes": {"id": identity}}]}
            for kind, identity in resources.items()
        ]
    }


def _check(state: dict[str, Any], **holders: str) -> None:
    cards = {card.replace("_", "-"): machine for card, machine in holders.items()}
    world: Any = fakes.FakeWorld(aws_account=fakes.FakeAwsAccount(holders=cards))
    orphaned_instance.require_none(state, world)


def test_an_instance_outside_the_state_with_the_host_s_interface_is_refused_with_the_command_to_terminate_it() -> None:
    with pytest.raises(Refused, match="instance i-2 holds the host's network interface") as caught:
        _check(_state(aws_network_interface="eni-1"), eni_1="i-2")
    assert caught.value.hint == (
        "wait for the other deployment; if none runs, run aws ec2 terminate-instances --instance-ids i-2"
    )


def test_the_site_s_own_instance_no_instance_and_other_interfaces_raise_nothing() -> None:
    _check(_state(aws_network_interface="eni-1", aws_instance="i-2"), eni_1="i-2")
    _check(_state(aws_network_interface="eni-1"))
    _check(_state(), eni_1="i-2")
    _check(_state(aws_network_interface="eni-1"), eni_9="i-2")
