"""A new cloud machine, for tests that run the playbook on it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ansible_runner
import docker

from ground import host as ground_host
from ground import run_registry
from ground.container import RUN_LABEL, RunContext
from ground.host import HostContainer
from ops.world import ansible

PLAYBOOKS = run_registry.REPOSITORY / "playbooks"
MIRROR = "http://registry:5000"
VARIABLES = {
    "base_hostname": "git",
    "base_data_device": ground_host.DATA_DEVICE,
    "docker_registry_mirrors": [MIRROR],
    # The tests come from the run's own network.
    "base_ssh_sources": ["10.0.0.0/8"],
}


@dataclass(frozen=True)
class Machine:
    """A bare host container and its ssh key."""

    client: docker.DockerClient
    host: HostContainer
    key: Path
    folder: Path
    variables: Mapping[str, Any] = field(default_factory=lambda: VARIABLES)

    def play(
        self, changes: Mapping[str, Any] | None = None, *, tags: str = "base,docker", power_cut_at: str = ""
    ) -> Any:
        """Run the playbook and return ansible-runner's object. During task ``power_cut_at`` the machine is killed."""
        connection = {
            "ansible_host": self.host.address,
            "ansible_user": ground_host.SSH_USER,
            "ansible_ssh_private_key_file": str(self.key),
            "ansible_ssh_common_args": f"-o UserKnownHostsFile={self.folder}/known_hosts -o StrictHostKeyChecking=accept-new",
        }
        variables = self.folder / "variables.json"
        variables.write_text(json.dumps({**self.variables, **(changes or {})}))
        killed = threading.Event()

        def watch(event: Mapping[str, Any]) -> bool:
            if event["event"] == "playbook_on_task_start" and event["event_data"]["task"] == power_cut_at:
                threading.Thread(target=self._cut_power, args=[killed]).start()
            return True

        return ansible_runner.run(
            private_data_dir=str(self.folder),
            project_dir=str(PLAYBOOKS),
            playbook="site.yml",
            inventory={"all": {"hosts": {"site": connection}}},
            cmdline=f"--tags {tags} --extra-vars @{variables}",
            envvars=ansible.environment(PLAYBOOKS),
            event_handler=watch,
            cancel_callback=killed.is_set,
            quiet=True,
        )

    def unfinished_packages(self) -> str:
        """The report of dpkg about packages that are unpacked but not configured."""
        audited: Any = self.client.containers.get(self.host.name).exec_run(["dpkg", "--audit"])
        return str(audited.output.decode())

    def _cut_power(self, killed: threading.Event) -> None:
        deadline = time.monotonic() + 120
        while not self.unfinished_packages() and time.monotonic() < deadline:
            time.sleep(0.1)
        self.client.containers.get(self.host.name).kill()
        killed.set()


@contextmanager
def bare_machine(client: docker.DockerClient, run_context: RunContext, image: str, folder: Path) -> Iterator[Machine]:
    """Start a machine for the length of the block; its key is in ``folder``."""
    key = run_registry.write_key(folder)
    started = ground_host.start(
        client,
        network=run_context.network,
        run_id=run_context.run,
        image=image,
        public_key=key.with_suffix(".pub").read_text(),
        metadata_address=None,
        address=run_context.address("host"),
    )
    try:
        yield Machine(client, started, key, folder)
    finally:
        client.containers.get(started.name).remove(force=True, v=True)
        for volume in client.volumes.list(filters={"label": f"{RUN_LABEL}={run_context.run}"}):
            volume.remove(force=True)


def reasons(played: Any) -> str:
    """Return the error messages of a failed run."""
    kinds = ("runner_on_failed", "runner_item_on_failed", "runner_on_unreachable")
    return "\n".join(str(event["event_data"]["res"].get("msg")) for event in played.events if event["event"] in kinds)
