"""The changes of a deployment that interrupt the site or lose something, for which the operator is asked."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from ops.model import Change

# Changing these stops a running instance and starts it again (provider aws 5.100, internal/service/ec2/ec2_instance.go).
_STOPPING = frozenset({"ebs_optimized", "instance_type", "user_data", "user_data_base64"})
# The resources that --replace-host replaces, for which the operator has agreed already.
REPLACED_WITH_HOST = frozenset({"aws_instance.host", "aws_volume_attachment.data"})


def in_words(changes: Iterable[Change], agreed: Collection[str] = ()) -> tuple[str, ...]:
    """Return a line for each resource that a deployment replaces, destroys or stops, with the attributes that differ.

    Resources whose address is in ``agreed`` are left out. No line means that the operator need not be asked.
    """
    return tuple(
        f"{verb} {each.address}" + "".join(f"\n  {one}" for one in each.differences)
        for each in changes
        if each.address not in agreed and (verb := _verb(each))
    )


def _verb(change: Change) -> str:
    if change.action in {"replace", "destroy"}:
        return change.action
    names = {each.partition(":")[0] for each in change.differences}
    stops = change.kind == "aws_instance" and change.action == "update" and names & _STOPPING
    return "stop and start" if stops else ""
