"""A network link between the host and S3 with a small instance's bandwidth."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

# The sustained bandwidth of a t3.medium, the example site's instance; for a while it gets twenty times as much
# (Amazon EC2 Instance Types guide, "Network specifications": 0.256 Gbps baseline, 5 burst).
BASELINE_MBIT = 256


@contextmanager
def limited_to_baseline(container: str, image: str) -> Iterator[None]:
    """Limit what a container sends to the baseline during the block; ``image`` must have iproute2."""
    _tc(container, image, f"qdisc add dev eth0 root tbf rate {BASELINE_MBIT}mbit burst 1mb latency 100ms")
    try:
        yield
    finally:
        _tc(container, image, "qdisc delete dev eth0 root")


def _tc(container: str, image: str, command: str) -> None:
    where = ["--network", f"container:{container}", "--cap-add", "NET_ADMIN", "--entrypoint", "tc"]
    subprocess.run(["docker", "run", "--rm", *where, image, *command.split()], check=True)
