"""The door to the Docker engine."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import docker
from docker.errors import APIError, BuildError, DockerException, ImageNotFound, NotFound

from ops.errors import OpsError, Unavailable

_COMPOSE_PROJECT = "com.docker.compose.project"
_COMPOSE_SERVICE = "com.docker.compose.service"
_NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Service:
    """One container of the stack: its Compose service, image, engine state, health ("" without a health check) and start."""

    name: str
    image: str
    state: str
    health: str
    restarts: int
    started: datetime = _NEVER


@dataclass(frozen=True)
class Ran:
    """What a command in a container came to."""

    code: int
    output: str


class Containers:
    """Looks at, runs in and builds containers on the engine that the environment names."""

    def __init__(self) -> None:
        with _explained():
            self._docker = docker.from_env()
            self._docker.ping()

    def services(self, project: str) -> tuple[Service, ...]:
        """Return the containers of a Compose project, stopped ones included, sorted by service."""
        with _explained():
            found = self._docker.containers.list(
                all=True, ignore_removed=True, filters={"label": f"{_COMPOSE_PROJECT}={project}"}
            )
        return tuple(sorted((_service(each.attrs, each.labels) for each in found), key=lambda each: each.name))

    def execute(
        self,
        project: str,
        service: str,
        argv: Sequence[str],
        user: str = "",
        environment: Mapping[str, str] | None = None,
    ) -> Ran:
        """Run a command inside the running container of a service and return its exit code and output, errors included.

        Raises OpsError when the service has no running container.
        """
        with _explained():
            container = self._running(project, service)
            code, output = container.exec_run(list(argv), user=user, environment=dict(environment or {}))
        return Ran(int(code), output.decode("utf-8", "replace"))

    def restart(self, project: str, service: str) -> None:
        """Stop the container of a service, with the time it may take for that, and start it again.

        Raises OpsError when the service has no running container.
        """
        with _explained():
            container = self._running(project, service)
            container.restart(timeout=container.attrs["Config"].get("StopTimeout") or 10)

    def image_id(self, reference: str) -> str:
        """Return the sha256:... id of a local image, or "" when the engine has none of that name."""
        with _explained():
            try:
                return str(self._docker.images.get(reference).id)
            except ImageNotFound:
                return ""

    def build(self, context: Path, tag: str, arguments: Mapping[str, str], tell: Callable[[str], None]) -> str:
        """Build the Dockerfile in ``context``, tag it and return the image's id; raises OpsError with the log's end."""
        with _explained():
            try:
                image, log = self._docker.images.build(path=str(context), tag=tag, buildargs=dict(arguments), rm=True)
            except BuildError as error:
                tail = "".join(str(line.get("stream", "")) for line in list(error.build_log)[-20:])
                raise OpsError(f"building {tag} failed: {error.msg}\n{tail}", "mend the Dockerfile named") from error
        for line in log:
            if str(line.get("stream", "")).startswith("Step "):
                tell(str(line["stream"]).strip())
        return str(image.id)

    def save(self, reference: str, archive: Path) -> None:
        """Write an image as a `docker save` archive; the file appears only when it is whole."""
        partial = archive.with_suffix(f".{os.getpid()}.partial")
        with _explained(), partial.open("wb") as file:
            for chunk in self._docker.images.get(reference).save(named=True):
                file.write(chunk)
        partial.replace(archive)

    def _running(self, project: str, service: str) -> Any:
        labels = [f"{_COMPOSE_PROJECT}={project}", f"{_COMPOSE_SERVICE}={service}"]
        found = self._docker.containers.list(ignore_removed=True, filters={"label": labels})
        if not found:
            raise OpsError(f"{service} is not running", f"docker compose --project-name {project} up -d {service}")
        return found[0]


def _service(attributes: Mapping[str, Any], labels: Mapping[str, str]) -> Service:
    state = attributes["State"]
    return Service(
        name=labels[_COMPOSE_SERVICE],
        image=attributes["Config"]["Image"],
        state=state["Status"],
        health=state.get("Health", {}).get("Status", ""),
        restarts=attributes["RestartCount"],
        started=_moment(state["StartedAt"]),
    )


def _moment(text: str) -> datetime:
    """The engine tells nanoseconds; a datetime holds microseconds (0001-01-01 is a container that never started)."""
    return datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", text))


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except NotFound as error:
        raise OpsError(f"Docker does not know it: {error.explanation}", "look at `docker ps --all`") from error
    except APIError as error:
        raise OpsError(f"Docker refuses: {error.explanation or error}", "look at the engine's log") from error
    except DockerException as error:
        raise Unavailable(f"no Docker engine answers: {error}", "start it: systemctl start docker") from error
