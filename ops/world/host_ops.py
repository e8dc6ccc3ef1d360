"""The adapter for ``ops`` on the host, over ssh."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ops.errors import OpsError, Unavailable
from ops.world.process import Processes


class HostOps:
    """Runs ``ops`` on the host that Ansible's connection variables describe."""

    def __init__(self, connection: Mapping[str, Any], processes: Processes) -> None:
        self._connection, self._processes = connection, processes

    def ops(self, *arguments: str) -> Mapping[str, Any]:
        """Run a verb as root and return its JSON document; its progress lines go to this process's stderr.

        Raises Unavailable when the host does not answer, and OpsError with the verb's own message when the verb failed.
        """
        command = shlex.join(["sudo", "-n", "ops", *arguments, "--json"])
        finished = self._processes.output([*self._ssh(), command], directory=Path.cwd(), environment={})
        return document_from(finished.code, finished.output, " ".join(arguments))

    def tunnel(self, port: int, target: str) -> list[str]:
        """Return the command that forwards a port of this machine's loopback to an address that the host reaches."""
        return [*self._ssh(), "-N", "-o", "ExitOnForwardFailure=yes", "-L", f"127.0.0.1:{port}:{target}"]

    def _ssh(self) -> list[str]:
        variables = self._connection
        where = ["-p", str(variables["ansible_port"]), f"{variables['ansible_user']}@{variables['ansible_host']}"]
        key = ["-i", str(variables["ansible_ssh_private_key_file"])]
        # ssh notices a dead connection within a minute.
        steady = ["-o", "BatchMode=yes", "-o", "ConnectTimeout=15", "-o", "ServerAliveInterval=15"]
        return ["ssh", "-n", *shlex.split(str(variables["ansible_ssh_common_args"])), *steady, *key, *where]


def document_from(code: int, output: str, verb: str) -> Mapping[str, Any]:
    """Return the JSON document of ``ops`` on the host; raises as ``HostOps.ops`` does. 255 is ssh's own exit code (ssh(1))."""
    if code == 255:
        raise Unavailable("the host does not answer over ssh", "check host.address, the ssh key and port 22")
    try:
        document = json.loads(output)
    except ValueError as error:
        raise OpsError(
            f"ops {verb} on the host printed no JSON: {output.strip()[-300:]}", "run ops deploy first"
        ) from error
    if code:
        raise OpsError(
            f"ops {verb} on the host: {document.get('summary')}",
            str(document.get("next", "")),
            left_as=str(document.get("left_as", "")),
        )
    printed: Mapping[str, Any] = document
    return printed
