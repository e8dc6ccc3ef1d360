"""The host's container follows the instance that it stands for: when AWS ends that and has another, so does the ground.

So does the data disk: a machine whose volume is gone from AWS too gets a blank one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from ground import aws

_EVERY_SECONDS = 0.5
_ENDED = frozenset({"shutting-down", "terminated"})


@contextmanager
def following(
    endpoint_url: str, name: str, *, power_off: Callable[[], None], power_on: Callable[[bool], None]
) -> Iterator[None]:
    """Watch the instances called ``name`` for the length of the block.

    ``power_off`` is called when the instance ends that was there first, ``power_on`` when the next one lives,
    and told whether the data volume is still there.
    """
    over = threading.Event()
    watcher = threading.Thread(target=_watch, args=(endpoint_url, name, power_off, power_on, over), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


def _watch(
    endpoint_url: str, name: str, power_off: Callable[[], None], power_on: Callable[[bool], None], over: threading.Event
) -> None:
    client = aws.client(endpoint_url, "ec2")
    # None: there is no instance yet, and the machine waits for the first. Empty: its instance has ended.
    standing: str | None = None
    disk = ""
    while not over.wait(_EVERY_SECONDS):
        try:
            alive, disks = _alive(client, name), _disks(client, name)
        except (BotoCoreError, ClientError):
            # Busy for a moment; it is asked again.
            continue
        if alive == (standing or ""):
            if alive and disks:
                disk = disks[0]
            continue
        if standing:
            power_off()
        if alive and standing is not None:
            power_on(disk in disks)
        standing = alive


def _alive(client: Any, name: str) -> str:
    """The id of the instance called ``name`` that has not ended; empty when there is none."""
    found = client.describe_instances(Filters=[{"Name": "tag:Name", "Values": [name]}])["Reservations"]
    instances = [one for each in found for one in each["Instances"]]
    return next((str(one["InstanceId"]) for one in instances if one["State"]["Name"] not in _ENDED), "")


def _disks(client: Any, name: str) -> list[str]:
    """The ids of the site's data volumes."""
    found = client.describe_volumes(Filters=[{"Name": "tag:Name", "Values": [f"{name}-data"]}])["Volumes"]
    return [str(each["VolumeId"]) for each in found]
