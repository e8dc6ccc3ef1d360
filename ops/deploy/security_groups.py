"""Security groups: rules are resources of their own, and Terraform sees those alone that it made."""

from __future__ import annotations

from ops.world import World
from ops.world.terraform import Terraform, rules_from


def foreign_rules(terraform: Terraform, world: World) -> dict[tuple[str, str], str]:
    """Return the rules that someone else made in the site's security groups: (group, rule) to its words."""
    return {
        (group, rule): words
        for group, ours in rules_from(terraform.state()).items()
        for rule, words in world.aws_account.rules(group).items()
        if rule not in ours
    }


def close(terraform: Terraform, world: World) -> bool:
    """Take the rules that someone else made out of the site's security groups, say which, and return whether there were any."""
    found = foreign_rules(terraform, world)
    for (group, rule), words in found.items():
        world.aws_account.revoke(group, rule, egress=words.startswith("egress"))
        world.tell(f"{group}: revoked a rule that is not ours: {words}")
    return bool(found)
