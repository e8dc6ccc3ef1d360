"""EC2's place: a container with systemd, sshd and room for a Docker engine of its own, as a cloud image comes up."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
from docker.errors import APIError, NotFound
from docker.models.containers import Container

from ground.container import RUN_LABEL
from ops.errors import Unavailable

SSH_USER = "admin"
SSH_PORT = 22

# Where the data volume is found, whatever device number it got; a cloud makes such a link by the volume's id.
DATA_DEVICE = "/dev/disk/by-id/ground-data"

# Packages that one run downloaded serve the next; shared by runs side by side, and never removed by a run.
PACKAGE_CACHE_VOLUME = "gitea-suite-apt-cache"

# What the host keeps on its root disk, where the engine cannot work on the layers of a container.
_ROOT_VOLUME = "docker"
_DATA_VOLUME = "data"

_BOOT_SECONDS = 60
_SHUTDOWN_SECONDS = 90
_JOURNAL = ["journalctl", "--no-pager", "--lines=30", "--output=short-monotonic"]

# Where version 1 of the control groups keeps who stands still; there is no such place in version 2.
_FREEZER = Path("/sys/fs/cgroup/freezer")

# What systemd 257 must be told where the machine's control groups are version 1.
_CGROUP_V1_COMMAND = ["/sbin/init", "SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1", "systemd.unified_cgroup_hierarchy=0"]
# In version 2 the host has a hierarchy of its own, which the engine gives it to read. Had it this machine's, its own engine would
# look for its containers at the root of that, and one that it freezes would go on.
_CGROUP_V2_COMMAND = ["sh", "-c", "mount -o remount,bind,rw /sys/fs/cgroup && exec /sbin/init"]
_CGROUP = "/sys/fs/cgroup"


@dataclass(frozen=True)
class HostContainer:
    """A running host: its container's name, the address this machine reaches it by, and its data volume's device."""

    name: str
    address: str
    data_device: str = DATA_DEVICE


def start(
    docker_client: docker.DockerClient,
    *,
    network: str,
    run_id: str,
    image: str,
    public_key: str,
    metadata_address: str | None,
    address: str | None = None,
    data_gib: int = 20,
    shared: Sequence[Path] = (),
) -> HostContainer:
    """Start the run's host and return it once sshd answers; ``public_key`` may log in as SSH_USER.

    ``metadata_address`` is who answers for 169.254.169.254 (None: no one). ``address`` fixes the host's address on the
    network. The data volume is ``data_gib`` GiB, sparse, blank on the run's first host, and outlives a replaced one.
    What is ``shared`` of this machine's files it may read. Raises Unavailable with the journal's last lines when the host does
    not come up within a minute.
    """
    environment = {"container": "docker", "GROUND_SSH_KEY": public_key.strip(), "GROUND_DATA_GIB": str(data_gib)}
    if metadata_address:
        environment["GROUND_METADATA_ADDRESS"] = metadata_address
    endpoint = docker_client.api.create_endpoint_config(aliases=["host"], ipv4_address=address)
    container = _create(
        docker_client,
        image,
        _command(docker_client),
        name=f"{run_id}-host",
        hostname="host",
        labels={RUN_LABEL: run_id},
        environment=environment,
        network=network,
        networking_config={network: endpoint},
        volumes=_volumes(docker_client, run_id) | {str(each): {"bind": str(each), "mode": "ro"} for each in shared},
        # A machine that reboots itself comes up again.
        restart_policy={"Name": "unless-stopped"},
        **_rights(docker_client),
    )
    container.start()
    return _come_up(container)


def _create(client: docker.DockerClient, image: str, command: list[str], **settings: Any) -> Container:
    try:
        return client.containers.create(image, command, **settings)
    except APIError as error:
        if "invalid CapDrop" not in str(error):
            raise
    # A newer engine on a machine that has not SYS_RESOURCE either: it takes "all" for all there is, and leaving out more for a
    # mistake.
    return client.containers.create(image, command, **settings | {"cap_drop": []})


def restart(docker_client: docker.DockerClient, host: HostContainer) -> HostContainer:
    """Reboot the host in good order and return it once sshd answers; its address may be another one.

    Raises Unavailable with the journal's last lines when it does not come up again within a minute.
    """
    container = docker_client.containers.get(host.name)
    container.restart(timeout=_SHUTDOWN_SECONDS)
    return _come_up(container)


def cut_power(docker_client: docker.DockerClient, name: str) -> None:
    """End the host of that name as a loss of power does, and give the power back: returns once sshd answers.

    Raises Unavailable as ``restart`` does.
    """
    container = docker_client.containers.get(name)
    frozen = _said(container, ["docker", "ps", "--quiet", "--no-trunc", "--filter", "status=paused"]).split()
    blow = threading.Thread(target=container.kill)
    blow.start()
    # Whoever stands still does not die either where control groups are version 1, and the whole machine waits for it: by now
    # all others are dead, and it dies as it wakes.
    blow.join(1)
    for state in (state for each in frozen for state in _FREEZER.glob(f"**/{each}/freezer.state")):
        state.write_text("THAWED")
    blow.join()
    container.start()
    _come_up(container)


def power_off(docker_client: docker.DockerClient, host: HostContainer) -> None:
    """End the host in good order and for good: all it had is gone but for the data volume."""
    container = docker_client.containers.get(host.name)
    container.stop(timeout=_SHUTDOWN_SECONDS)
    container.remove(v=True)
    run_id = container.labels[RUN_LABEL]
    docker_client.volumes.get(f"{run_id}-{_ROOT_VOLUME}").remove()


def blank_disk(docker_client: docker.DockerClient, run_id: str) -> None:
    """Do away with the data volume of a host that is gone. The next host has a blank one."""
    docker_client.volumes.get(f"{run_id}-{_DATA_VOLUME}").remove()


def _has_cgroup_v2(client: docker.DockerClient) -> bool:
    return str(client.info().get("CgroupVersion")) == "2"


def _command(client: docker.DockerClient) -> list[str]:
    return _CGROUP_V2_COMMAND if _has_cgroup_v2(client) else _CGROUP_V1_COMMAND


def _rights(client: docker.DockerClient) -> dict[str, Any]:
    """What systemd and an inner engine need. SYS_RESOURCE is left out: a machine may not have it to give away."""
    return {
        "cap_add": ["ALL"],
        "cap_drop": ["SYS_RESOURCE"],
        "security_opt": ["seccomp=unconfined", "apparmor=unconfined"],
        # Loop devices and their control, for the data volume.
        "device_cgroup_rules": ["b 7:* rmw", "c 10:237 rmw"],
        "cgroupns": "private" if _has_cgroup_v2(client) else "host",
        "tmpfs": {"/run": "", "/run/lock": ""},
    }


def _volumes(client: docker.DockerClient, run_id: str) -> dict[str, dict[str, str]]:
    own = {_ROOT_VOLUME: "/var/lib/docker", _DATA_VOLUME: "/var/lib/ground"}
    for name in own:
        client.volumes.create(f"{run_id}-{name}", labels={RUN_LABEL: run_id})
    paths = {f"{run_id}-{name}": path for name, path in own.items()}
    paths[PACKAGE_CACHE_VOLUME] = "/var/cache/ground-apt"
    if not _has_cgroup_v2(client):
        paths[_CGROUP] = _CGROUP
    return {source: {"bind": path, "mode": "rw"} for source, path in paths.items()}


def _come_up(container: Container) -> HostContainer:
    deadline = time.monotonic() + _BOOT_SECONDS
    while time.monotonic() < deadline:
        container.reload()
        if container.status != "running":
            break
        address = _address(container)
        if _ssh_answers(address):
            _require_data_device(container)
            return HostContainer(str(container.name), address)
        time.sleep(0.1)
    message = f"{container.name} did not come up ({container.status}):\n{_last_words(container)}"
    raise Unavailable(message, f"docker exec {container.name} journalctl; docker logs {container.name}")


def _address(container: Container) -> str:
    (endpoint,) = container.attrs["NetworkSettings"]["Networks"].values()
    return str(endpoint["IPAddress"])


def _ssh_answers(address: str) -> bool:
    try:
        with socket.create_connection((address, SSH_PORT), timeout=2) as connection:
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def _require_data_device(container: Container) -> None:
    if container.exec_run(["test", "-b", DATA_DEVICE]).exit_code:
        words = _said(container, ["journalctl", "--no-pager", "--unit=ground-data-disk"])
        raise Unavailable(
            f"{container.name} has no data volume:\n{words}", "give this machine loop devices: modprobe loop"
        )


def _last_words(container: Container) -> str:
    """The journal where the host still runs, else what its console said."""
    if container.status == "running":
        return _said(container, _JOURNAL)
    return bytes(container.logs(tail=30)).decode("utf-8", "replace")


def _said(container: Container, command: list[str]) -> str:
    try:
        output: Any = container.exec_run(command).output
    except (APIError, NotFound) as error:
        return str(error)
    return str(output.decode("utf-8", "replace"))
