"""Where Grafana listens on the host."""

from __future__ import annotations

from ops.config import monitoring_files
from ops.config.paths import PROJECT
from ops.config.schema import Site
from ops.errors import Refused
from ops.model import Report
from ops.world import World

SERVICE = "grafana"


def require_monitoring(site: Site) -> None:
    """Raise Refused for a site without monitoring."""
    if not site.monitoring.enabled:
        raise Refused(
            "the site has no dashboards: monitoring.enabled is false",
            "set it to true in the site file and run ops deploy",
            left_as="nothing was changed",
        )


def address(site: Site, world: World) -> Report:
    """Return the address and port of Grafana's container, which the host alone reaches; raises OpsError when it does not run."""
    require_monitoring(site)
    network = f"{PROJECT}_{monitoring_files.grafana_network(site)}"
    found = f"{world.containers.address(PROJECT, SERVICE, network)}:{monitoring_files.GRAFANA_PORT}"
    return Report("dashboards", False, f"Grafana listens at {found}", {"address": found})
