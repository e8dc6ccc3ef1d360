"""The ssh tunnel from the deploying machine to Grafana on the host."""

from __future__ import annotations

from ops.config.monitoring_files import GRAFANA_PATH
from ops.config.schema import Site
from ops.errors import OpsError
from ops.model import Report
from ops.secrets.store import secret_name
from ops.stack.dashboards import require_monitoring
from ops.world import World
from ops.world.host_ops import HostOps
from ops.world.process import Terminated

USER = "admin"
_PACE_SECONDS = 1


def open_tunnel(site: Site, world: World, host: HostOps, *, port: int, minutes: int) -> Report:
    """Keep a tunnel from a port of this machine to Grafana for so many minutes, or until Ctrl-C.

    Raises Refused for a site without monitoring, Unavailable when the host does not answer, and OpsError when Grafana does not
    run or the tunnel breaks, for example because the port is in use.
    """
    require_monitoring(site)
    target = str(host.ops("dashboards")["address"])
    url = f"http://localhost:{port}{GRAFANA_PATH}"
    with world.processes.in_background(host.tunnel(port, target)) as tunnel:
        deadline = world.clock.monotonic() + minutes * 60
        try:
            world.clock.sleep(_PACE_SECONDS)
            for line in _directions(site, url, minutes):
                world.tell(line)
            while world.clock.monotonic() < deadline:
                if ended := tunnel.ended():
                    raise OpsError(
                        f"the tunnel ended: {ended.output.strip() or f'exit code {ended.code}'}",
                        f"run ops dashboards again, with --port NUMBER if port {port} of this machine is in use",
                        left_as="nothing was changed",
                    )
                world.clock.sleep(_PACE_SECONDS)
        except KeyboardInterrupt as interrupt:
            if isinstance(interrupt, Terminated):
                raise
    return Report("dashboards", False, "the tunnel is closed", {"url": url, "user": USER})


def _directions(site: Site, url: str, minutes: int) -> tuple[str, ...]:
    name = secret_name(site, "grafana-password")
    return (
        f"dashboards: {url} for {minutes} minutes, or until Ctrl-C",
        f"user: {USER}",
        f"password: aws secretsmanager get-secret-value --region {site.aws.region} --secret-id {name} "
        "--query SecretString --output text",
    )
