"""The choice of the image set: once a run, by asking a registry, and the same for every process of the run."""

from __future__ import annotations

import json
import os
import queue
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import requests

from ground import image_recipes
from ops.errors import ConfigError, OpsError, Unavailable
from ops.world.registry import Registry

HERMETIC, UPSTREAM = "hermetic", "upstream"
VARIABLE = "IMAGE_SET"
# What the first process of a run found out, for the processes that it starts.
FOUND = "IMAGE_SET_FOUND"
# The registry to ask and to pull from, instead of Docker Hub.
REGISTRY = "GROUND_REGISTRY"
# The time for all answers together: without a route, the run starts that much later.
PATIENCE_SECONDS = 5.0
# An operator who sets IMAGE_SET=upstream wants these images, and waits for a slow registry.
_LONG_PATIENCE_SECONDS = 60.0


@dataclass(frozen=True)
class Choice:
    """The image set of a run, the reason for it, and the registry's digest of each image that the upstream set pulls."""

    name: str
    reason: str
    digests: Mapping[str, str] = field(default_factory=dict)

    def variables(self) -> dict[str, str]:
        """Return the environment variables that pass the choice on to another process."""
        found = {"set": self.name, "reason": self.reason, "digests": dict(self.digests)}
        return {VARIABLE: self.name, FOUND: json.dumps(found, sort_keys=True)}


def choose() -> Choice:
    """Return the image set of this run, and pass it on to all processes that this one starts.

    IMAGE_SET names it; without that, or with "auto", it is upstream's if a registry has a manifest of every image of
    ``image_recipes.from_registry``, else the hermetic one. Raises ConfigError for another IMAGE_SET, and Unavailable if
    IMAGE_SET=upstream and the registry does not answer.
    """
    named = os.environ.get(VARIABLE) or "auto"
    if named not in ("auto", HERMETIC, UPSTREAM):
        raise ConfigError(f"{VARIABLE}={named} is not a valid image set", "give auto, hermetic or upstream")
    if (passed_on := _passed_on()) and passed_on.name == named:
        return passed_on
    if named == HERMETIC:
        choice = Choice(HERMETIC, f"{VARIABLE}={HERMETIC}")
    elif named == UPSTREAM:
        choice = Choice(UPSTREAM, f"{VARIABLE}={UPSTREAM}", _digests(_LONG_PATIENCE_SECONDS))
    else:
        choice = _ask()
    os.environ.update(choice.variables())
    return choice


def registry() -> str:
    """Return the address of GROUND_REGISTRY, or "" for Docker Hub."""
    return os.environ.get(REGISTRY, "").rstrip("/")


def answers(images: Iterable[str], seconds: float) -> dict[str, str]:
    """Return the digest of each image in the registry; raises OpsError with the first reason why one has none.

    All are asked at the same time, and it takes at most ``seconds``, however slowly the registry answers.
    """
    asked, found = tuple(images), queue.SimpleQueue[tuple[str, str | OpsError]]()
    deadline = time.monotonic() + seconds
    for image in asked:
        # A daemon, so that a silent registry does not hold up the end of the process.
        threading.Thread(target=_digest, args=(image, seconds, found), daemon=True).start()
    digests: dict[str, str] = {}
    while len(digests) < len(asked):
        try:
            image, answer = found.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            raise _silent(seconds) from None
        if isinstance(answer, OpsError):
            raise _explained(answer, seconds)
        digests[image] = answer
    return digests


def _passed_on() -> Choice | None:
    if not (text := os.environ.get(FOUND)):
        return None
    document = json.loads(text)
    return Choice(document["set"], document["reason"], document["digests"])


def _ask() -> Choice:
    try:
        digests = _digests(PATIENCE_SECONDS)
    except OpsError as error:
        return Choice(HERMETIC, error.message)
    return Choice(UPSTREAM, f"{_name()} has all {len(digests)} images", digests)


def _digests(seconds: float) -> dict[str, str]:
    return answers(image_recipes.from_registry(), seconds)


def _digest(image: str, seconds: float, found: queue.SimpleQueue[tuple[str, str | OpsError]]) -> None:
    try:
        found.put((image, Registry(registry(), patience=seconds).digest(image)))
    except OpsError as error:
        found.put((image, error))


def _explained(error: OpsError, seconds: float) -> OpsError:
    """Return the error with its cause in words; the message of requests names objects and memory addresses."""
    cause = error.__cause__
    if isinstance(cause, requests.Timeout):
        return _silent(seconds)
    if isinstance(cause, requests.RequestException):
        return Unavailable(f"there is no route to {_name()}", _HINT)
    return error


def _silent(seconds: float) -> Unavailable:
    return Unavailable(f"{_name()} did not answer within {seconds:g} s", _HINT)


def _name() -> str:
    return f"the registry {registry()}" if registry() else "Docker Hub"


_HINT = f"check the network and run it again, or set {VARIABLE}={HERMETIC}"
