"""A machine that EC2 has made and Terraform has forgotten."""

from __future__ import annotations

from typing import Any

import pytest

from ops.deploy import orphaned_instance
from ops.errors import Refused
from tests.support import fakes


def _state(**resources: str) -> dict[str, Any]:
    """A state of one resource a type."""
    return {
        "resources": [
            {"mode": "managed", "type": kind, "name": "one", "instances": [{"attributes": {"id": identity}}]}
            for kind, identity in resources.items()
        ]
    }


def _refuse(state: dict[str, Any], **holders: str) -> None:
    cards = {card.replace("_", "-"): machine for card, machine in holders.items()}
    world: Any = fakes.FakeWorld(aws_account=fakes.FakeAwsAccount(holders=cards))
    orphaned_instance.refuse(state, world)


def test_a_machine_that_no_state_knows_and_that_has_the_host_s_card_is_named_with_what_to_do() -> None:
    with pytest.raises(Refused, match="i-2 has the host's network card") as caught:
        _refuse(_state(aws_network_interface="eni-1"), eni_1="i-2")
    assert caught.value.hint == "if none is under way: aws ec2 terminate-instances --instance-ids i-2"


def test_the_site_s_own_machine_no_machine_and_other_cards_are_in_no_one_s_way() -> None:
    _refuse(_state(aws_network_interface="eni-1", aws_instance="i-2"), eni_1="i-2")
    _refuse(_state(aws_network_interface="eni-1"))
    _refuse(_state(), eni_1="i-2")
    _refuse(_state(aws_network_interface="eni-1"), eni_9="i-2")
