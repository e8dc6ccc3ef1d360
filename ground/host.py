"""The stand-in for EC2: a container with systemd, sshd and its own Docker engine, in the state of a new cloud instance."""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
from docker.errors import APIError, NotFound
from docker.models.containers import Container

from ground import freezer
from ground.container import RUN_LABEL
from ops.errors import Unavailable

SSH_USER = "admin"
SSH_PORT = 22

# A stable link to the data volume, whatever its device number; a cloud makes such a link from the volume's id.
DATA_DEVICE = "/dev/disk/by-id/ground-data"

# Downloaded packages, shared by all runs and never removed by a run.
PACKAGE_CACHE_VOLUME = "gitea-suite-apt-cache"

# Docker's data on the host's root disk: the inner engine cannot work on the layers of a container.
_ROOT_VOLUME = "docker"
_DATA_VOLUME = "data"

_BOOT_SECONDS = 60
_SHUTDOWN_SECONDS = 90
_JOURNAL = ["journalctl", "--no-pager", "--lines=30", "--output=short-monotonic"]

# systemd 257 needs these settings on a machine with cgroup version 1.
_CGROUP_V1_COMMAND = ["/sbin/init", "SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1", "systemd.unified_cgroup_hierarchy=0"]
# With cgroup version 2 the host gets its own hierarchy, which the engine mounts read-only. With this machine's hierarchy the inner
# engine would look for its containers at the wrong root, and a paused container would keep running.
_CGROUP_V2_COMMAND = ["sh", "-c", "mount -o remount,bind,rw /sys/fs/cgroup && exec /sbin/init"]
_CGROUP = "/sys/fs/cgroup"


@dataclass(frozen=True)
class HostContainer:
    """A running host container: its name, its IP address on the run's network, and the device of its data volume."""

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

    ``metadata_address`` answers for 169.254.169.254 (None: no metadata service). ``address`` fixes the host's address on
    the network. The data volume is a sparse file of ``data_gib`` GiB, blank on the run's first host; a replacement host
    keeps it. ``shared`` paths of this machine are mounted read-only. Raises Unavailable with the journal's last lines
    when sshd does not answer within a minute.
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
        # A host that reboots itself starts again.
        restart_policy={"Name": "unless-stopped"},
        **_privileges(docker_client),
    )
    container.start()
    return _await_boot(container)


def _create(client: docker.DockerClient, image: str, command: list[str], **settings: Any) -> Container:
    try:
        return client.containers.create(image, command, **settings)
    except APIError as error:
        if "invalid CapDrop" not in str(error):
            raise
    # On a machine without SYS_RESOURCE a newer engine does not count it in "ALL", and rejects dropping it.
    return client.containers.create(image, command, **settings | {"cap_drop": []})


def restart(docker_client: docker.DockerClient, host: HostContainer) -> HostContainer:
    """Reboot the host with a clean shutdown and return it once sshd answers; its address may have changed.

    Raises Unavailable with the journal's last lines when sshd does not answer within a minute.
    """
    container = docker_client.containers.get(host.name)
    container.restart(timeout=_SHUTDOWN_SECONDS)
    return _await_boot(container)


def cut_power(docker_client: docker.DockerClient, name: str) -> None:
    """Kill the host container without a shutdown, as a power failure does, and start it: returns once sshd answers.

    Raises Unavailable as ``restart`` does.
    """
    container = docker_client.containers.get(name)
    first = int(container.attrs["State"]["Pid"])
    with ThreadPoolExecutor(1) as pool:
        kill = pool.submit(container.kill)
        # After a second all processes but the frozen ones are dead; a thawed one dies at once.
        while wait([kill], 1).not_done:
            freezer.thaw_descendants(first)
        kill.result()
    container.start()
    _await_boot(container)


def power_off(docker_client: docker.DockerClient, host: HostContainer) -> None:
    """Shut the host down cleanly and remove it; only its data volume remains."""
    container = docker_client.containers.get(host.name)
    container.stop(timeout=_SHUTDOWN_SECONDS)
    container.remove(v=True)
    run_id = container.labels[RUN_LABEL]
    docker_client.volumes.get(f"{run_id}-{_ROOT_VOLUME}").remove()


def blank_disk(docker_client: docker.DockerClient, run_id: str) -> None:
    """Remove the data volume of a removed host; the next host gets a blank one."""
    docker_client.volumes.get(f"{run_id}-{_DATA_VOLUME}").remove()


def _has_cgroup_v2(client: docker.DockerClient) -> bool:
    return str(client.info().get("CgroupVersion")) == "2"


def _command(client: docker.DockerClient) -> list[str]:
    return _CGROUP_V2_COMMAND if _has_cgroup_v2(client) else _CGROUP_V1_COMMAND


def _privileges(client: docker.DockerClient) -> dict[str, Any]:
    """The privileges of systemd and an inner engine, without SYS_RESOURCE, which some machines cannot grant."""
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


def _await_boot(container: Container) -> HostContainer:
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
    message = f"{container.name} did not boot ({container.status}):\n{_last_output(container)}"
    raise Unavailable(message, f"run docker exec {container.name} journalctl, and docker logs {container.name}")


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
        log = _output(container, ["journalctl", "--no-pager", "--unit=ground-data-disk"])
        raise Unavailable(
            f"{container.name} has no data volume:\n{log}", "give this machine loop devices: run modprobe loop"
        )


def _last_output(container: Container) -> str:
    """The end of the journal of a running host, of the console of a stopped one."""
    if container.status == "running":
        return _output(container, _JOURNAL)
    return bytes(container.logs(tail=30)).decode("utf-8", "replace")


def _output(container: Container, command: list[str]) -> str:
    try:
        output: Any = container.exec_run(command).output
    except (APIError, NotFound) as error:
        return str(error)
    return str(output.decode("utf-8", "replace"))
