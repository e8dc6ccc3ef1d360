"""Rules in the site's security groups that Terraform did not make, and therefore does not see."""

from __future__ import annotations

from ops.world import World
from ops.world.terraform import Terraform, rules_from


def foreign_rules(terraform: Terraform, world: World) -> dict[tuple[str, str], str]:
    """Return the rules that Terraform did not make in the site's security groups: (group id, rule id) to a description."""
    return {
        (group, rule): words
        for group, ours in rules_from(terraform.state()).items()
        for rule, words in world.aws_account.rules(group).items()
        if rule not in ours
    }


def close(terraform: Terraform, world: World) -> bool:
    """Revoke and report each foreign rule in the site's security groups; return whether there was one."""
    found = foreign_rules(terraform, world)
    for (group, rule), words in found.items():
        world.aws_account.revoke(group, rule, egress=words.startswith("egress"))
        world.tell(f"{group}: revoked a rule that is not ours: {words}")
    return bool(found)
