"""Pause a container and resume it, also where the engine cannot.

An engine that pauses a container while it starts a command in it, such as a health check, waits for that command for ever
(moby 20.10: ContainerExecStart holds the lock that inspect and unpause need, and the frozen command never ends its output).
The container then stays paused until its control group is thawed past the engine.

An engine also learns late, from an event of the runtime, that a container was paused: after it has resumed it, it may count it
as paused for a moment. It then refuses to pause it, and the runtime refuses to resume what is not frozen.
"""

from __future__ import annotations

import time
from contextlib import suppress

import docker
from docker.errors import APIError
from requests.exceptions import ReadTimeout

from ops.errors import OpsError

# On a busy machine with control groups version 1, runc fails while a process is being created, and thaws what it froze.
_PASSING = ("unable to freeze", "already paused")
_TRIES = 10
_BETWEEN_TRIES_SECONDS = 0.1
# An engine that is well resumes a container within milliseconds.
_ANSWER_SECONDS = 2
_PAST_THE_ENGINE_SECONDS = 60
_CGROUPS = "/host-cgroups"
# $1 is the container's id, $2 the seconds until it is resumed; SIGUSR1 ends the wait. Version 1 of control groups has
# freezer.state, version 2 cgroup.freeze. The engine resumes only what is frozen, and for it a container is paused until it has
# resumed it itself.
_WATCHDOG = rf"""
files_named() {{ find {_CGROUPS} \( -path "*[/-]$id/$1" -o -path "*[/-]$id.scope/$1" \); }}
set_frozen() {{
    if [ "$1" = 1 ]; then word=FROZEN; else word=THAWED; fi
    for file in $(files_named freezer.state); do
        echo "$word" >"$file"
        set -- ""
    done
    # A machine with version 1 may have version 2 beside it, in which the engine does not freeze.
    if [ -n "$1" ]; then
        for file in $(files_named cgroup.freeze); do echo "$1" >"$file"; done
    fi
}}
is_resumed() {{ [ "$(timeout {_ANSWER_SECONDS} docker inspect --format '{{{{.State.Paused}}}}' "$id")" = false ]; }}
resumes() {{ timeout {_ANSWER_SECONDS} docker unpause "$id"; is_resumed; }}
id=$1
trap : USR1
echo on duty
sleep "$2" &
wait $!
resumes && exit
for _ in 1 2 3 4 5; do
    set_frozen 0
    is_resumed && exit
    set_frozen 1
    resumes && exit
done
set_frozen 0
"""


def start_watchdog(client: docker.DockerClient, container: str, *, image: str, seconds: float) -> str:
    """Start a container that resumes ``container`` after so many seconds, or at SIGUSR1; returns its id once it runs."""
    watchdog = client.containers.run(
        image,
        ["-c", _WATCHDOG, "watchdog", _identity(client, container), str(seconds)],
        entrypoint=["sh"],
        init=True,
        detach=True,
        remove=True,
        network_mode="none",
        volumes={
            "/var/run/docker.sock": {"bind": "/var/run/docker.sock", "mode": "rw"},
            "/sys/fs/cgroup": {"bind": _CGROUPS, "mode": "rw"},
        },
    )
    next(iter(watchdog.logs(stream=True, follow=True)))
    return str(watchdog.id)


def pause(client: docker.DockerClient, container: str) -> None:
    """Suspend every process of a container; raises APIError when it is paused already, and stays so for a second."""
    for attempt in range(_TRIES):
        try:
            client.api.pause(container)
        except APIError as error:
            if attempt == _TRIES - 1 or not any(words in str(error.explanation) for words in _PASSING):
                raise
            time.sleep(_BETWEEN_TRIES_SECONDS)
        else:
            return


def resume(client: docker.DockerClient, container: str, watchdog: str) -> bool:
    """Resume a paused container and return whether it was paused until now.

    Raises OpsError when the engine did not resume it and the watchdog did.
    """
    try:
        return _unpause(container)
    except ReadTimeout as error:
        cause: Exception = error
        refusal = f"the Docker engine did not resume {container} within {_ANSWER_SECONDS} s"
    except APIError as error:
        cause = error
        refusal = f"the Docker engine refuses to resume {container} ({error.explanation})"
    _resume_past_the_engine(client, watchdog)
    raise OpsError(
        f"{refusal}; it was resumed past the engine", "run the command again", left_as=f"{container} runs"
    ) from cause


def _unpause(container: str) -> bool:
    impatient = docker.from_env(timeout=_ANSWER_SECONDS)
    try:
        impatient.api.unpause(container)
    except APIError as error:
        if "is not paused" not in str(error.explanation):
            raise
        return False
    finally:
        impatient.close()
    return True


def _resume_past_the_engine(client: docker.DockerClient, watchdog: str) -> None:
    # One that has ended has resumed it.
    with suppress(APIError):
        client.api.kill(watchdog, signal="SIGUSR1")
        client.api.wait(watchdog, timeout=_PAST_THE_ENGINE_SECONDS)


def _identity(client: docker.DockerClient, container: str) -> str:
    """Return a container's id by its name or id, without its lock in the engine."""
    found = client.api.containers(all=True)
    chosen = [each["Id"] for each in found if container in {each["Id"], *(name[1:] for name in each["Names"])}]
    if not chosen:
        raise OpsError(f"there is no container {container}", "look at docker ps --all")
    return str(chosen[0])
