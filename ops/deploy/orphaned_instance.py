"""A machine that Terraform has asked for and forgotten: interrupted while EC2 answers, the provider writes nothing of it to its state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ops.errors import Refused
from ops.world import World
from ops.world.terraform import identities_from


def refuse(state: Mapping[str, Any], world: World) -> None:
    """Raise Refused when a machine that the state does not know has the host's network card, which no other can have then.

    It is not ended here: of what no state knows no one can say for certain whose it is.
    """
    known = identities_from(state, "aws_instance")
    for card in identities_from(state, "aws_network_interface"):
        holder = world.aws_account.attached_instance(card)
        if holder and holder not in known:
            raise Refused(
                f"{holder} has the host's network card, and Terraform's state does not know it: "
                "another deployment is under way, or one was broken off as the machine was being made",
                f"if none is under way: aws ec2 terminate-instances --instance-ids {holder}",
            )
