"""A machine that EC2 has made and Terraform has forgotten."""

from __future__ import annotations

from typing import Any

import pytest

from ops import stray
from ops.errors import Refused
from ops.model import Machine
from tests import fakes

FORGOTTEN = Machine("i-2", "subnet-1", ())


def _state(**resources: str) -> dict[str, Any]:
    return {
        "resources": [
            {"mode": "managed", "type": kind, "name": "one", "instances": [{"attributes": {"id": identity}}]}
            for kind, identity in resources.items()
        ]
    }


class Root:
    """Terraform, with a state."""

    def __init__(self, **resources: str) -> None:
        self._state = _state(**resources)

    def state(self) -> dict[str, Any]:
        return self._state


def _ended(root: Root, *machines: Machine) -> list[str]:
    account = fakes.FakeAccount(machines_found=list(machines))
    world = fakes.FakeWorld(account=account)
    ended = stray.end(fakes.site(), root, world)  # type: ignore[arg-type]
    assert ended is bool(account.terminated)
    assert len(world.told) == len(account.terminated)
    return account.terminated


def test_a_machine_in_the_site_s_own_network_that_no_state_knows_is_ended() -> None:
    assert _ended(Root(aws_subnet="subnet-1", aws_ebs_volume="vol-1"), FORGOTTEN) == ["i-2"]


def test_the_site_s_own_machine_stays() -> None:
    assert _ended(Root(aws_subnet="subnet-1", aws_instance="i-2"), FORGOTTEN) == []
    assert _ended(Root(aws_subnet="subnet-1")) == []


@pytest.mark.parametrize(
    ("root", "machine"),
    [
        pytest.param(Root(aws_ebs_volume="vol-1"), FORGOTTEN, id="of a network that the state does not know"),
        pytest.param(Root(), FORGOTTEN, id="the state was lost"),
        pytest.param(
            Root(aws_subnet="subnet-1", aws_ebs_volume="vol-1"),
            Machine("i-2", "subnet-1", ("vol-9", "vol-1")),
            id="with the data disk",
        ),
    ],
)
def test_a_machine_that_may_be_someone_s_is_named_and_left(root: Root, machine: Machine) -> None:
    with pytest.raises(Refused, match="i-2 bears the site's name") as caught:
        _ended(root, machine)
    assert "aws ec2 terminate-instances --instance-ids i-2" in caught.value.hint
