"""The image set in the evidence: whether a stage ran on upstream's images, and whether a run may use the evidence of another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ops.gate.evidence import facts_of
from ops.model import Verdict

# The image sets of the test environment.
HERMETIC, UPSTREAM = "hermetic", "upstream"


def not_on_upstream(verdicts: Sequence[Verdict]) -> str:
    """Return which stages ran on the hermetic images and why, as a sentence; "" if none did."""
    facts = [facts_of(verdict.statement) for verdict in verdicts]
    hermetic = [each for each in facts if each.get("image_set") == HERMETIC]
    if not hermetic:
        return ""
    stages = " and ".join(each["stage"] for each in hermetic)
    reason = hermetic[-1].get("image_set_reason") or "the evidence has no reason"
    return f"{stages} ran on the hermetic images, with a stand-in for Gitea: {reason}"


def of_image_set(verdicts: Sequence[Verdict], image_set: str) -> tuple[Verdict, ...]:
    """Return the verdicts for a run on this image set: a stage that ran on the other one is unproven for it.

    A run without a set ("") takes them as they are.
    """
    return tuple(_for_run(verdict, image_set) for verdict in verdicts)


def _for_run(verdict: Verdict, image_set: str) -> Verdict:
    own = facts_of(verdict.statement).get("image_set")
    if not verdict.proven or not image_set or own not in (HERMETIC, UPSTREAM) or own == image_set:
        return verdict
    reason = f"it ran on the {own} images, and this run is on the {image_set} ones"
    return replace(verdict, proven=False, reason=reason, remedy=f"./noxw -s {verdict.stage}")
