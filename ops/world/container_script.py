"""Run a shell script in a new container and take its complete output from its own pipe, never from the container's log.

The engine rotates logs (``max-size``, ``max-file``), and what it rotated away is missing without an error.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping

import docker

from ops.errors import OpsError

# Runs the script in a shell of its own and prints the token $0 after the script's output, however the script ended.
_UNTIL_ITS_END = 'sh -c "$1"; code=$?; printf %s "$0"; exit "$code"'


def run(
    client: docker.DockerClient, image: str, script: str, *, mount: Mapping[str, Mapping[str, str]], user: str
) -> tuple[int, str]:
    """Run a script without network, remove its container, and return its exit code and its complete standard output.

    When the script failed, the text is its standard error. Raises OpsError when the stream ended before the output did.
    """
    # The script does not know the token, so nothing but the end of the output matches it.
    end = secrets.token_hex(16)
    made = client.containers.create(
        image,
        ["-c", _UNTIL_ITS_END, end, script],
        entrypoint=["sh"],
        user=user,
        network_mode="none",
        volumes=dict(mount),
        log_config={"type": "none"},
    )
    try:
        # Attached before the start: the stream has the first byte, too.
        stream = made.attach(stdout=True, stderr=True, stream=True, logs=False, demux=True)
        made.start()
        output, errors = _collected(stream)
        code = int(made.wait()["StatusCode"])
    finally:
        made.remove(force=True, v=True)
    whole = output.removesuffix(end.encode())
    if whole == output:
        raise OpsError(
            f"the output of a script in {image} ended early, after {len(output)} bytes (exit code {code})",
            "look at journalctl --unit docker, then run the command again",
        )
    return code, (errors if code else whole).decode("utf-8", "replace")


def _collected(stream: Iterable[tuple[bytes | None, bytes | None]]) -> tuple[bytes, bytes]:
    """Return the standard output and the standard error of an attached container, each to the end of the stream."""
    output, errors = bytearray(), bytearray()
    for out, error in stream:
        output += out or b""
        errors += error or b""
    return bytes(output), bytes(errors)
