"""A machine that Terraform has asked for and forgotten: interrupted while EC2 answers, the provider writes nothing of it to its state."""

from __future__ import annotations

from ops.config import Site
from ops.errors import Refused
from ops.world import World
from ops.world.terraform import Terraform, identities_from


def end(site: Site, terraform: Terraform, world: World) -> bool:
    """End each machine that bears the site's name and that no state knows, say which, and return whether there was one.

    It holds the host's network card, so that the next could not be made. Raises Refused for one that may be more than a moment
    old: outside of the network that the state knows, or with the data disk.
    """
    state = terraform.state()
    ours, subnets = identities_from(state, "aws_instance"), identities_from(state, "aws_subnet")
    disks = identities_from(state, "aws_ebs_volume")
    forgotten = [each for each in world.account.machines(site.name) if each.identity not in ours]
    for each in forgotten:
        if each.subnet not in subnets or disks & set(each.volumes):
            raise Refused(
                f"{each.identity} bears the site's name, and Terraform's state does not know it",
                f"look at it; if it is no one's: aws ec2 terminate-instances --instance-ids {each.identity}",
            )
    for each in forgotten:
        world.account.terminate(each.identity)
        world.tell(f"{each.identity}: ended, an earlier run was broken off as it was being made")
    return bool(forgotten)
