"""An EC2 instance that Terraform made but did not record.

Interrupted while EC2 answers, the provider writes nothing about the new instance to its state.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ops.errors import Refused
from ops.world import World
from ops.world.terraform import identities_from


def require_none(state: Mapping[str, Any], world: World) -> None:
    """Raise Refused when an instance outside the state holds the host's network interface, which the host then cannot get.

    The instance is not terminated here: without a record in the state its owner is uncertain.
    """
    recorded = identities_from(state, "aws_instance")
    for card in identities_from(state, "aws_network_interface"):
        holder = world.aws_account.attached_instance(card)
        if holder and holder not in recorded:
            raise Refused(
                f"instance {holder} holds the host's network interface, but is not in Terraform's state: "
                "another deployment runs, or one was cut off while it made the instance",
                f"wait for the other deployment; if none runs, run aws ec2 terminate-instances --instance-ids {holder}",
                left_as="nothing was changed",
            )
