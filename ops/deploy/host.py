"""The host in a deployment: images, Ansible variables, connection, playbook."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ops.config import monitoring_files, tool_variables
from ops.config.schema import Site
from ops.config.workspace import Workspace
from ops.deploy.infrastructure import outputs_from, state_bucket
from ops.errors import Refused
from ops.images import ops_image, pins
from ops.images.ops_image import OpsImage
from ops.images.pins import Pin
from ops.model import Outputs
from ops.world import World
from ops.world.ansible import Played, play
from ops.world.playbook_watch import REMOTE_SECONDS


@dataclass(frozen=True)
class Material:
    """The images for the host: every image by its digest, and the image of ``ops`` itself.

    ``waiting`` has a line for each version that is newer in the suite than on the host, and that ``ops update`` must
    install. ``update_pins`` are the pins of updates from which the images were chosen.
    """

    pins: Mapping[str, str]
    ops: OpsImage
    waiting: tuple[str, ...] = ()
    update_pins: Mapping[str, Pin] = field(default_factory=dict)


def material_of(site: Site, world: World, workspace: Workspace) -> Material:
    """Look up the digests of the pinned images, and build the image of ``ops`` unless it is built already.

    An image that an update has installed on the host stays.
    """
    shipped, updated = _shipped(site, workspace), update_pins(site, world)
    resolved = pins.resolve(pins.deployed(shipped, updated), world.registry)
    made = ops_image.ensure(workspace.repository, workspace.cache, world)
    return Material(resolved, made, pins.waiting(shipped, updated), updated)


def _shipped(site: Site, workspace: Workspace) -> dict[str, str]:
    """Return the suite's images of the services that the site has."""
    without = () if site.monitoring.enabled else monitoring_files.SERVICES
    every = pins.pinned(workspace.repository / "compose")
    return {variable: image for variable, image in every.items() if pins.service_of(variable) not in without}


def update_pins(site: Site, world: World) -> dict[str, Pin]:
    """Return the pins that updates recorded in the bucket; empty without a bucket or a record."""
    bucket = site.backup.bucket
    exists = world.aws.bucket_exists(state_bucket(site)) and world.aws.bucket_exists(bucket)
    if not exists or pins.KEY not in world.aws.objects(bucket, pins.KEY):
        return {}
    return pins.from_json(world.aws.read_object(bucket, pins.KEY))


def host(
    site: Site,
    world: World,
    workspace: Workspace,
    outputs: Outputs,
    material: Material,
    *,
    check: bool = False,
    session_manager: bool = False,
) -> Played:
    """Run the playbook on the host and return its changes; with ``check`` return the changes that it would make."""
    variables = tool_variables.ansible_variables(
        site,
        material.pins,
        data_volume_id=outputs.data_volume_id,
        compose_source=workspace.repository / "compose",
        image_archive=material.ops.archive,
        image_id=material.ops.identity,
        image_name=material.ops.reference,
    )
    return play(
        workspace.repository / "playbooks",
        "site.yml",
        state=workspace.state / "ansible",
        host=connection(site, outputs, workspace.known_hosts, session_manager=session_manager),
        variables=variables,
        tell=world.tell,
        check=check,
        # Without a stored host key the machine is new, and may still boot.
        boot_seconds=20 if workspace.known_hosts.exists() else 240,
        # Before Gitea stops, running transfers end: the host has no event meanwhile.
        silence_seconds=REMOTE_SECONDS + site.web.drain_seconds,
    )


def connection(site: Site, outputs: Outputs, known_hosts: Path, *, session_manager: bool = False) -> dict[str, Any]:
    """Return Ansible's connection variables for the host. The first connection stores its key; later ones require that key.

    With ``session_manager``, or when the ssh port is open to no address, ssh goes through Session Manager (AWS Systems
    Manager User Guide, "Allow and control permissions for SSH connections through Session Manager").
    """
    options = [f"UserKnownHostsFile={known_hosts}", "StrictHostKeyChecking=accept-new", "IdentitiesOnly=yes"]
    session_manager = session_manager or not site.network.admin_cidrs
    if session_manager:
        options.append(f"ProxyCommand={SESSION_MANAGER} --region {site.aws.region}")
    return {
        "ansible_host": outputs.instance_id if session_manager else (site.host.address or outputs.public_address),
        "ansible_port": site.host.ssh_port,
        "ansible_user": site.host.ssh_user,
        "ansible_ssh_private_key_file": str(Path(site.host.ssh_key).expanduser().absolute()),
        "ansible_ssh_common_args": shlex.join(part for option in options for part in ("-o", option)),
    }


SESSION_MANAGER = "aws ssm start-session --target %h --document-name AWS-StartSSHSession --parameters portNumber=%p"


def require_session_manager(site: Site, world: World, *, session_manager: bool = False) -> None:
    """Raise Refused when the connection needs Session Manager and this machine lacks its programs."""
    direct = site.network.admin_cidrs and not session_manager
    needed = () if direct else ("aws", "session-manager-plugin")
    missing = [program for program in needed if not world.processes.installed(program)]
    if missing:
        raise Refused(
            f"{'the' if site.network.admin_cidrs else 'network.admin_cidrs is empty, and the'} connection through Session "
            f"Manager needs {' and '.join(missing)}",
            "install the AWS CLI and its Session Manager plugin, or give your address in network.admin_cidrs",
            left_as="nothing was changed",
        )


def connection_of(site: Site, workspace: Workspace) -> dict[str, Any]:
    """Return Ansible's connection variables for a deployed site's host; raises Refused without the state of a deployment."""
    if not workspace.outputs.is_file():
        raise Refused(f"site {site.name} was not deployed from this machine", "run ops deploy")
    outputs = outputs_from(json.loads(workspace.outputs.read_text(encoding="utf-8")))
    return connection(site, outputs, workspace.known_hosts)
