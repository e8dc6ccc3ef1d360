"""The adapter for the Docker engine."""

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
from ops.model import UnitRun
from ops.world import container_script, pauses, unit_runs
from ops.world.process import Processes

_COMPOSE_PROJECT = "com.docker.compose.project"
_COMPOSE_SERVICE = "com.docker.compose.service"
# The longest that a write may wait. After that the site is thawed and the backup fails.
FROZEN_SECONDS = 5.0
# The engine's state of a container that runs and is not paused.
RUNNING = "running"
# The start time of a container that has never started.
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
    """One container of a service: its id, the requested image and that image's id, state, health and creation time."""

    identity: str
    image: str
    image_id: str
    state: str
    health: str
    created: datetime = NEVER


@dataclass(frozen=True)
class Ran:
    """The result of a command in a container."""

    code: int
    output: str


class Containers:
    """Containers and images of the engine that the environment names."""

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

    def unit_runs(self) -> tuple[UnitRun, ...]:
        """Return the running containers of ``ops`` that systemd units started, by name."""
        with _translated_errors():
            return unit_runs.unit_runs(self._docker)

    def execute(
        self,
        project: str,
        service: str,
        argv: Sequence[str],
        user: str = "",
        environment: Mapping[str, str] | None = None,
        identity: str = "",
    ) -> Ran:
        """Run a command inside the running container of a service, by id if it has several; return exit code and output.

        The command line has only the names of ``environment``'s variables, so their values do not show in the process list.
        Raises OpsError when the service has no running container.
        """
        with _translated_errors():
            container = self._docker.containers.get(identity) if identity else self._running(project, service)
        # Not docker-py's exec_run, which loses what arrives together with the response's headers.
        variables = [word for name in environment or {} for word in ("--env", name)]
        command = ["docker", "exec", f"--user={user}", *variables, str(container.id), *argv]
        done = Processes().run(command, environment=environment, complete=True)
        return Ran(done.code, done.output)

    def stop(self, project: str, service: str, *, at_most: int | None = None) -> None:
        """Stop the container of a service, with its own stop time-out, but ``at_most`` that many seconds.

        A container that is already stopped is not an error.
        """
        with _translated_errors():
            for container in self._all(project, service):
                allowed = container.attrs["Config"].get("StopTimeout") or 10
                container.stop(timeout=allowed if at_most is None else min(allowed, at_most))

    def start(self, project: str, service: str) -> None:
        """Start the stopped container of a service; raises OpsError when the service has no container."""
        with _translated_errors():
            found = self._all(project, service)
            if not found:
                raise OpsError(f"{service} has no container", "run systemctl restart gitea-suite")
            found[0].start()

    def members(self, project: str, service: str) -> tuple[Member, ...]:
        """Return every container of a service, stopped ones included."""
        with _translated_errors():
            return tuple(_member(each.attrs) for each in self._all(project, service))

    def signal(self, identity: str, name: str) -> None:
        """Send a signal to the main process of a container; a stopped or removed container is not an error."""
        with _translated_errors(), suppress(APIError):
            self._docker.api.kill(identity, signal=name)

    def remove(self, identity: str) -> None:
        """Remove a container, running or not, with its anonymous volumes; a removed container is not an error."""
        with _translated_errors(), suppress(NotFound):
            self._docker.api.remove_container(identity, force=True, v=True)

    def address(self, project: str, service: str, network: str) -> str:
        """Return the IP address of a service's running container on a network; raises OpsError when it does not run."""
        with _translated_errors():
            networks = self._running(project, service).attrs["NetworkSettings"]["Networks"]
        return str(networks[network]["IPAddress"])

    def command_lines(self, project: str, service: str) -> tuple[str, ...]:
        """Return the command line of each process in a service's running container."""
        with _translated_errors():
            # -ww: full lines, whatever the width of the terminal that started the engine.
            top = self._running(project, service).top(ps_args="-efww")
        return tuple(row[-1] for row in top["Processes"] or ())

    def name(self, project: str, service: str) -> str:
        """Return the name of a service's running container; raises OpsError when it does not run."""
        with _translated_errors():
            return str(self._running(project, service).name)

    def run_script(
        self, image: str, script: str, *, folder: Path, target: str, user: str, writable: bool = False
    ) -> Ran:
        """Run a shell script in a new container without network, with ``folder`` mounted at ``target``; then remove the container.

        Returns the exit code, and the complete standard output, or standard error when the script failed. The output comes
        from the program's own pipe, never from the container's log: the engine rotates logs. Raises OpsError when the stream
        ended before the script's output did.
        """
        with _translated_errors():
            code, output = container_script.run(
                self._docker, image, script, mount=_bind(folder, target, writable=writable), user=user
            )
        return Ran(code, output)

    def start_program(
        self, image: str, argv: Sequence[str], *, name: str, user: str, folder: Path, target: str
    ) -> None:
        """Start a program in a new container without network, with ``folder`` mounted at ``target``; does not wait for it."""
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
                volumes=_bind(folder, target, writable=True),
            )

    def exit_log(self, container: str) -> str:
        """Return the last 20 lines of an exited container's log, or "" while it runs."""
        with _translated_errors():
            found = self._docker.containers.get(container)
            if found.attrs["State"]["Running"]:
                return ""
            return str(found.logs(tail=20).decode("utf-8", "replace")) or "it logged nothing"

    def start_watchdog(self, container: str, *, watchdog_image: str, seconds: float) -> str:
        """Start a container that resumes a paused container after so many seconds, even if the process that paused it was killed.

        ``watchdog_image`` is an image with a shell and Docker's client; returns the id of its container.
        """
        with _translated_errors():
            return pauses.start_watchdog(self._docker, container, image=watchdog_image, seconds=seconds)

    def freeze(self, container: str) -> None:
        """Suspend every process of a container."""
        with _translated_errors():
            pauses.pause(self._docker, container)

    def thaw(self, container: str, watchdog: str) -> bool:
        """Resume a paused container, and return whether it was paused until now.

        Raises OpsError when the engine did not answer and the watchdog resumed the container past it.
        """
        with _translated_errors():
            return pauses.resume(self._docker, container, watchdog)

    def stop_watchdog(self, watchdog: str) -> None:
        """Stop a watchdog; one that has already ended is not an error."""
        with _translated_errors(), suppress(APIError):
            self._docker.api.kill(watchdog)

    def discard(self, container: str) -> None:
        """Stop and remove the container of that name; a name without a container is not an error."""
        with _translated_errors(), suppress(NotFound):
            self._docker.containers.get(container).remove(force=True, v=True)

    def pinned(self, project: str) -> Mapping[str, str]:
        """Return the image of each service of a project, running or stopped, as NAME:TAG@DIGEST where its registry gave the digest."""
        with _translated_errors():
            found = self._docker.containers.list(
                all=True, ignore_removed=True, filters={"label": f"{_COMPOSE_PROJECT}={project}"}
            )
            # A stopped container counts where its service has no running one.
            found.sort(key=lambda each: bool(each.attrs["State"]["Running"]))
            chosen = {each.labels[_COMPOSE_SERVICE]: each for each in found}
            return {name: _pinned(each) for name, each in chosen.items()}

    def pull(self, name: str, digest: str) -> None:
        """Pull the image of that digest unless this machine has it; raises Unavailable when the pull fails."""
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
                    f"{name}@{digest[:19]} cannot be pulled: {error.explanation or error}",
                    "check the registry and the network, then run the command again",
                ) from error

    def image_id(self, reference: str) -> str:
        """Return the sha256:... id of a local image, or "" when the engine has no image of that name."""
        with _translated_errors():
            try:
                return str(self._docker.images.get(reference).id)
            except ImageNotFound:
                return ""

    def build(self, context: Path, tag: str, arguments: Mapping[str, str], tell: Callable[[str], None]) -> str:
        """Build the Dockerfile in ``context``, tag the image and return its id; raises OpsError with the end of the build log."""
        with _translated_errors():
            try:
                image, log = self._docker.images.build(path=str(context), tag=tag, buildargs=dict(arguments), rm=True)
            except BuildError as error:
                tail = "".join(str(line.get("stream", "")) for line in list(error.build_log)[-20:])
                raise OpsError(
                    f"building {tag} failed: {error.msg}\n{tail}", "fix the Dockerfile, then run the command again"
                ) from error
        for line in log:
            if str(line.get("stream", "")).startswith("Step "):
                tell(str(line["stream"]).strip())
        return str(image.id)

    def save(self, reference: str, archive: Path) -> None:
        """Write an image as a compressed `docker save` archive; the file appears only when it is complete."""
        partial = archive.with_suffix(f".{os.getpid()}.partial")
        # The lowest level takes a third of the default level's time, for a tenth more bytes.
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
            raise OpsError(f"{service} is not running", f"run docker compose --project-name {project} up -d {service}")
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
    """Return healthy, unhealthy, starting, or "" without a health check, from the engine's state of a container.

    The engine calls a paused container unhealthy until its next check. Until then the last check since the container's start counts.
    """
    health = state.get("Health", {})
    status, checks = str(health.get("Status", "")), health.get("Log") or []
    if status == "unhealthy" and checks and checks[-1]["ExitCode"] == 0:
        return "healthy" if _moment(checks[-1]["Start"]) >= _moment(state["StartedAt"]) else "starting"
    return status


def _bind(folder: Path, target: str, *, writable: bool) -> dict[str, dict[str, str]]:
    return {str(folder): {"bind": target, "mode": "rw" if writable else "ro"}}


def _pinned(container: Any) -> str:
    reference = str(container.attrs["Config"]["Image"])
    if "@" in reference:
        return reference
    digests = container.image.attrs.get("RepoDigests") or [f"@{container.image.id}"]
    return f"{reference}@{digests[0].partition('@')[2]}"


def _moment(text: str) -> datetime:
    """The engine gives nanoseconds; a datetime holds microseconds (0001-01-01 is a container that never started)."""
    return datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", text))


@contextmanager
def _translated_errors() -> Iterator[None]:
    try:
        yield
    except NotFound as error:
        raise OpsError(f"Docker does not find it: {error.explanation}", "look at docker ps --all") from error
    except APIError as error:
        raise OpsError(f"Docker refuses: {error.explanation or error}", "look at journalctl --unit docker") from error
    # When a connection breaks, docker-py passes on the exception of requests.
    except (DockerException, RequestException) as error:
        raise Unavailable(
            f"no Docker engine answers: {error}",
            "run systemctl start docker; if it is not installed: apt-get install docker.io",
        ) from error
