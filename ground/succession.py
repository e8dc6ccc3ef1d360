"""The host's container follows the instance that it stands for: when AWS ends that and has another, so does the ground."""

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
    endpoint_url: str, name: str, *, power_off: Callable[[], None], power_on: Callable[[], None]
) -> Iterator[None]:
    """Watch the instances called ``name`` for the length of the block.

    ``power_off`` is called when the instance ends that was there first, ``power_on`` when the next one lives.
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
    endpoint_url: str, name: str, power_off: Callable[[], None], power_on: Callable[[], None], over: threading.Event
) -> None:
    client = aws.client(endpoint_url, "ec2")
    # None: there is no instance yet, and the machine waits for the first. Empty: its instance has ended.
    standing: str | None = None
    while not over.wait(_EVERY_SECONDS):
        try:
            alive = _alive(client, name)
        except (BotoCoreError, ClientError):
            # Busy for a moment; it is asked again.
            continue
        if alive == (standing or ""):
            continue
        if standing:
            power_off()
        if alive and standing is not None:
            power_on()
        standing = alive


def _alive(client: Any, name: str) -> str:
    """The id of the instance called ``name`` that has not ended; empty when there is none."""
    found = client.describe_instances(Filters=[{"Name": "tag:Name", "Values": [name]}])["Reservations"]
    instances = [one for each in found for one in each["Instances"]]
    return next((str(one["InstanceId"]) for one in instances if one["State"]["Name"] not in _ENDED), "")
