"""The network between a host and S3, as slow as a small instance's."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

# What a t3.medium, the example site's, may receive for as long as it likes; for a while it may receive twenty times as much
# (Amazon EC2 Instance Types guide, "Network specifications": 0.256 Gbps baseline, 5 burst).
BASELINE_MBIT = 256


@contextmanager
def as_slow_as_a_small_instance_s(container: str, image: str) -> Iterator[None]:
    """Let a container send no more than the baseline until the block ends; ``image`` has iproute2."""
    _tc(container, image, f"qdisc add dev eth0 root tbf rate {BASELINE_MBIT}mbit burst 1mb latency 100ms")
    try:
        yield
    finally:
        _tc(container, image, "qdisc delete dev eth0 root")


def _tc(container: str, image: str, command: str) -> None:
    where = ["--network", f"container:{container}", "--cap-add", "NET_ADMIN", "--entrypoint", "tc"]
    subprocess.run(["docker", "run", "--rm", *where, image, *command.split()], check=True)
