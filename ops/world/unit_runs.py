"""The running containers of ``ops`` that systemd units started."""

from __future__ import annotations

from docker import DockerClient

from ops.model import UnitRun

_UNIT, _INVOCATION = "gitea-suite.unit", "gitea-suite.invocation"


def unit_runs(client: DockerClient) -> tuple[UnitRun, ...]:
    """Return the runs by name; /usr/local/bin/ops labels their containers with the unit and its invocation."""
    found = client.containers.list(ignore_removed=True, filters={"label": _UNIT})
    labels = {str(each.name): each.labels for each in found}
    return tuple(
        UnitRun(name, each[_UNIT], each.get(_INVOCATION, "")) for name, each in sorted(labels.items()) if each[_UNIT]
    )
