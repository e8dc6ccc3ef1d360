"""The door to the Docker engine."""

from __future__ import annotations

import gzip
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import docker
from docker.errors import APIError, BuildError, DockerException, ImageNotFound, NotFound
from requests import RequestException

from ops.errors import OpsError, Unavailable

_COMPOSE_PROJECT = "com.docker.compose.project"
_COMPOSE_SERVICE = "com.docker.compose.service"
# On a busy machine with control groups of version 1, runc gives up when a process is just being made; it thaws what it froze.
_FREEZES = 5
# Longer than that no one waits for a write; then the site goes on, and no backup is made of it.
FROZEN_SECONDS = 5.0
# When a container started that never did.
NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Service:
    """One container of the stack: its Compose service, image, engine state, health ("" without a health check) and start."""

    name: str
    image: str
    state: str
    health: str
    restarts: int
    started: datetime = NEVER


@dataclass(frozen=True)
class Member:
    """One of the containers of a service: its id, the image it was asked for and that image's id, state, health, birth."""

    identity: str
    image: str
    image_id: str
    state: str
    health: str
    created: datetime = NEVER


@dataclass(frozen=True)
class Ran:
    """What a command in a container came to."""

    code: int
    output: str


class Containers:
    """Looks at, runs in and builds containers on the engine that the environment names."""

    def __init__(self) -> None:
        with _translated_errors():
            self._docker = docker.from_env()
            self._docker.ping()

    def services(self, project: str) -> tuple[Service, ...]:
        """Return the containers of a Compose project, stopped ones included, sorted by service."""
        with _translated_errors():
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
        with _translated_errors():
            container = self._running(project, service)
            code, output = container.exec_run(list(argv), user=user, environment=dict(environment or {}))
        return Ran(int(code), output.decode("utf-8", "replace"))

    def restart(self, project: str, service: str) -> None:
        """Stop the container of a service, with the time it may take for that, and start it again.

        Raises OpsError when the service has no running container.
        """
        with _translated_errors():
            container = self._running(project, service)
            container.restart(timeout=container.attrs["Config"].get("StopTimeout") or 10)

    def stop(self, project: str, service: str, *, at_most: int | None = None) -> None:
        """Stop the container of a service, with the time it may take for that, but ``at_most`` so many seconds.

        One that is stopped is no error.
        """
        with _translated_errors():
            for container in self._all(project, service):
                allowed = container.attrs["Config"].get("StopTimeout") or 10
                container.stop(timeout=allowed if at_most is None else min(allowed, at_most))

    def start(self, project: str, service: str) -> None:
        """Start the container of a service that was stopped; raises OpsError when there is none."""
        with _translated_errors():
            found = self._all(project, service)
            if not found:
                raise OpsError(f"there is no container of {service}", "systemctl restart gitea-suite")
            found[0].start()

    def members(self, project: str, service: str) -> tuple[Member, ...]:
        """Return every container of a service, stopped ones included."""
        with _translated_errors():
            return tuple(_member(each.attrs) for each in self._all(project, service))

    def signal(self, identity: str, name: str) -> None:
        """Send a signal to the first process of a container; one that does not run or is gone is no error."""
        with _translated_errors(), suppress(APIError):
            self._docker.api.kill(identity, signal=name)

    def remove(self, identity: str) -> None:
        """Remove a container with its volumes that have no name, whatever it does; one that is gone is no error."""
        with _translated_errors(), suppress(NotFound):
            self._docker.api.remove_container(identity, force=True, v=True)

    def address(self, project: str, service: str, network: str) -> str:
        """Return the IP address of the running container of a service on a network; raises OpsError when there is none."""
        with _translated_errors():
            networks = self._running(project, service).attrs["NetworkSettings"]["Networks"]
        return str(networks[network]["IPAddress"])

    def command_lines(self, project: str, service: str) -> tuple[str, ...]:
        """Return the command line of each process in the running container of a service."""
        with _translated_errors():
            # Whole, however wide the terminal was that the engine was started at.
            top = self._running(project, service).top(ps_args="-efww")
        return tuple(row[-1] for row in top["Processes"] or ())

    def name(self, project: str, service: str) -> str:
        """Return the name of the running container of a service; raises OpsError when there is none."""
        with _translated_errors():
            return str(self._running(project, service).name)

    def run_script(
        self, image: str, script: str, *, folder: Path, target: str, user: str, writable: bool = False
    ) -> Ran:
        """Run a shell script in a new container of an image, a folder of this machine mounted at ``target``, and remove it.

        It has no network. Returns its exit code, and its standard output, or its errors when it failed.
        """
        mount = {str(folder): {"bind": target, "mode": "rw" if writable else "ro"}}
        with _translated_errors():
            made = self._docker.containers.create(
                image, ["-c", script], entrypoint=["sh"], user=user, network_mode="none", volumes=mount
            )
            try:
                made.start()
                code = int(made.wait()["StatusCode"])
                output = made.logs(stdout=not code, stderr=bool(code)).decode("utf-8", "replace")
            finally:
                made.remove(force=True, v=True)
        return Ran(code, output)

    def start_program(
        self, image: str, argv: Sequence[str], *, name: str, user: str, folder: Path, target: str
    ) -> None:
        """Start a program of an image in a new container without a network, a folder of this machine mounted at ``target``."""
        mount = {str(folder): {"bind": target, "mode": "rw"}}
        entry, *rest = argv
        with _translated_errors():
            self._docker.containers.run(
                image,
                rest,
                entrypoint=[entry],
                name=name,
                user=user,
                detach=True,
                network_mode="none",
                cap_drop=["ALL"],
                volumes=mount,
            )

    def exit_log(self, container: str) -> str:
        """Return the end of the log of a container that has ended, or "" while it runs."""
        with _translated_errors():
            found = self._docker.containers.get(container)
            if found.attrs["State"]["Running"]:
                return ""
            return str(found.logs(tail=20).decode("utf-8", "replace")) or "it said nothing"

    def start_watchdog(self, container: str, *, watchdog_image: str, seconds: float) -> str:
        """Put someone on duty who lets a frozen container go on after so many seconds, whoever froze it and then died.

        ``watchdog_image`` is an image with a shell and Docker's client; returns the id of its container.
        """
        script = f"echo on duty; sleep {seconds}; docker unpause {container}"
        with _translated_errors():
            watch = self._docker.containers.run(
                watchdog_image,
                ["-c", script],
                entrypoint=["sh"],
                init=True,
                detach=True,
                remove=True,
                network_mode="none",
                volumes={"/var/run/docker.sock": {"bind": "/var/run/docker.sock", "mode": "rw"}},
            )
            next(iter(watch.logs(stream=True, follow=True)))
        return str(watch.id)

    def freeze(self, container: str) -> None:
        """Stop every process of a container where it stands."""
        with _translated_errors():
            for attempt in range(_FREEZES):
                try:
                    self._docker.api.pause(container)
                except APIError as error:
                    if "unable to freeze" not in str(error.explanation) or attempt == _FREEZES - 1:
                        raise
                else:
                    return

    def thaw(self, container: str) -> bool:
        """Let a frozen container go on, and tell whether it stood still until now."""
        with _translated_errors():
            still = bool(self._docker.containers.get(container).attrs["State"]["Paused"])
            if still:
                self._docker.api.unpause(container)
        return still

    def stop_watchdog(self, watch: str) -> None:
        """End the duty of a watchman; one whose duty has ended is no error."""
        with _translated_errors(), suppress(APIError):
            self._docker.api.kill(watch)

    def discard(self, container: str) -> None:
        """End and remove a container of that name; none is no error."""
        with _translated_errors(), suppress(NotFound):
            self._docker.containers.get(container).remove(force=True, v=True)

    def pinned(self, project: str) -> Mapping[str, str]:
        """Return the image of each service of a project, by NAME:TAG@DIGEST where a registry told the digest."""
        with _translated_errors():
            running = self._docker.containers.list(
                ignore_removed=True, filters={"label": f"{_COMPOSE_PROJECT}={project}"}
            )
            return {
                each.labels[_COMPOSE_SERVICE]: _pinned(each.attrs["Config"]["Image"], each.image) for each in running
            }

    def pull(self, name: str, digest: str) -> None:
        """Have the image of that digest on this machine; raises Unavailable when no registry gives it."""
        with _translated_errors():
            try:
                self._docker.images.get(f"{name}@{digest}")
            except ImageNotFound:
                pass
            else:
                return
            try:
                self._docker.api.pull(name, tag=digest)
            except APIError as error:
                raise Unavailable(
                    f"{name}@{digest[:19]} cannot be pulled: {error.explanation or error}", "try again later"
                ) from error

    def image_id(self, reference: str) -> str:
        """Return the sha256:... id of a local image, or "" when the engine has none of that name."""
        with _translated_errors():
            try:
                return str(self._docker.images.get(reference).id)
            except ImageNotFound:
                return ""

    def build(self, context: Path, tag: str, arguments: Mapping[str, str], tell: Callable[[str], None]) -> str:
        """Build the Dockerfile in ``context``, tag it and return the image's id; raises OpsError with the log's end."""
        with _translated_errors():
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
        """Write an image as a compressed `docker save` archive; the file appears only when it is whole."""
        partial = archive.with_suffix(f".{os.getpid()}.partial")
        # The lowest level: it takes a third of the time of the usual one, for a tenth more bytes.
        with _translated_errors(), gzip.open(partial, "wb", compresslevel=1) as file:
            for chunk in self._docker.images.get(reference).save(named=True):
                file.write(chunk)
        partial.replace(archive)

    def _all(self, project: str, service: str) -> list[Any]:
        labels = [f"{_COMPOSE_PROJECT}={project}", f"{_COMPOSE_SERVICE}={service}"]
        return list(self._docker.containers.list(all=True, ignore_removed=True, filters={"label": labels}))

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
        health=health_from(state),
        restarts=attributes["RestartCount"],
        started=_moment(state["StartedAt"]),
    )


def _member(attributes: Mapping[str, Any]) -> Member:
    state = attributes["State"]
    return Member(
        identity=attributes["Id"],
        image=attributes["Config"]["Image"],
        image_id=attributes["Image"],
        state=state["Status"],
        health=health_from(state),
        created=_moment(attributes["Created"]),
    )


def health_from(state: Mapping[str, Any]) -> str:
    """Return healthy, unhealthy, starting, or "" without a check, from what the engine says of a container's state.

    The engine calls whoever was paused unhealthy until it has asked again: what this very run was told last counts until then.
    """
    health = state.get("Health", {})
    verdict, told = str(health.get("Status", "")), health.get("Log") or []
    if verdict == "unhealthy" and told and told[-1]["ExitCode"] == 0:
        return "healthy" if _moment(told[-1]["Start"]) >= _moment(state["StartedAt"]) else "starting"
    return verdict


def _pinned(reference: str, image: Any) -> str:
    digests = image.attrs.get("RepoDigests") or [f"@{image.id}"]
    return reference if "@" in reference else f"{reference}@{digests[0].partition('@')[2]}"


def _moment(text: str) -> datetime:
    """The engine tells nanoseconds; a datetime holds microseconds (0001-01-01 is a container that never started)."""
    return datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", text))


@contextmanager
def _translated_errors() -> Iterator[None]:
    try:
        yield
    except NotFound as error:
        raise OpsError(f"Docker does not know it: {error.explanation}", "look at `docker ps --all`") from error
    except APIError as error:
        raise OpsError(f"Docker refuses: {error.explanation or error}", "look at the engine's log") from error
    # What the library asks for over a connection that breaks, it lets its own library say.
    except (DockerException, RequestException) as error:
        raise Unavailable(
            f"no Docker engine answers: {error}",
            "start it: systemctl start docker; where there is none: apt-get install docker.io",
        ) from error
