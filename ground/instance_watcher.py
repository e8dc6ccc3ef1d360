"""Follow the site's instance in LocalStack: report when it ends and when a new one exists, with or without its data volume.

LocalStack's instances are records only; the host is a container, which the caller replaces.
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
def watching(
    endpoint_url: str, name: str, *, power_off: Callable[[], None], power_on: Callable[[bool], None]
) -> Iterator[None]:
    """Watch the instances called ``name`` for the length of the block.

    Calls ``power_off`` when the current instance ends, and ``power_on`` when the next one exists, with True if the data
    volume is still the same.
    """
    ended = threading.Event()
    watcher = threading.Thread(target=_watch, args=(endpoint_url, name, power_off, power_on, ended), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()


def _watch(
    endpoint_url: str,
    name: str,
    power_off: Callable[[], None],
    power_on: Callable[[bool], None],
    ended: threading.Event,
) -> None:
    client = aws.client(endpoint_url, "ec2")
    # None before the first instance exists. Empty after an instance has ended.
    current: str | None = None
    disk = ""
    while not ended.wait(_EVERY_SECONDS):
        try:
            alive, disks = _alive(client, name), _disks(client, name)
        except (BotoCoreError, ClientError):
            # LocalStack is busy. The next round asks again.
            continue
        if alive == (current or ""):
            if alive and disks:
                disk = disks[0]
            continue
        if current:
            power_off()
        if alive and current is not None:
            power_on(disk in disks)
        current = alive


def _alive(client: Any, name: str) -> str:
    """The id of the running instance called ``name``, or an empty string."""
    found = client.describe_instances(Filters=[{"Name": "tag:Name", "Values": [name]}])["Reservations"]
    instances = [one for each in found for one in each["Instances"]]
    return next((str(one["InstanceId"]) for one in instances if one["State"]["Name"] not in _ENDED), "")


def _disks(client: Any, name: str) -> list[str]:
    """The ids of the site's data volumes."""
    found = client.describe_volumes(Filters=[{"Name": "tag:Name", "Values": [f"{name}-data"]}])["Volumes"]
    return [str(each["VolumeId"]) for each in found]
