"""The runs of the test environment: all containers, volumes and networks of a run carry its label and end with it."""

from __future__ import annotations

import fcntl
import ipaddress
import os
import secrets
import shutil
import subprocess
import time
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import docker
import tomli_w
from docker.errors import APIError, NotFound

from ground import freezer
from ground.container import RUN_LABEL, RunContext
from ops.errors import Unavailable

Tell = Callable[[str], None]

REPOSITORY = Path(__file__).parents[1]
# Per user, not per checkout: all checkouts share the engine, so they must share the list of runs.
RUNS = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state") / "gitea-suite"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gitea-suite"
_KEPT = "kept"
_REMOVAL_SECONDS = 30
# 10.200.0.0/24 and the 5,119 networks after it: home routers and clouds rarely use these.
_FIRST_NETWORK, _NETWORKS = 0x0AC80000, 5120
_PREFIX = "ground-"


def new_run(client: docker.DockerClient, tell: Tell) -> tuple[RunContext, Path, Any]:
    """Start a run: name it, lock its folder and create its network. Leftover runs are removed first.

    Returns the run's context, its folder, and the lock file, which the caller must keep open until the run ends.
    """
    remove_leftovers(client, tell)
    run = f"{_PREFIX}{secrets.token_hex(3)}"
    folder, lock = _claim(run)
    network, subnet = _network(client, run)
    return RunContext(client, network, subnet, run), folder, lock


def keep(folder: Path) -> None:
    """Mark a run to outlive its process; `./noxw -s down` removes it."""
    (folder / _KEPT).touch()


def remove_leftovers(client: docker.DockerClient, tell: Tell, *, kept_too: bool = False) -> list[str]:
    """Remove every run whose process has ended, and with ``kept_too`` the kept runs; returns their names."""
    removed = leftovers(client, kept_too=kept_too)
    for run in removed:
        tell(f"removing leftovers of {run}")
        remove(client, run)
    return removed


def leftovers(client: docker.DockerClient, *, kept_too: bool = False) -> list[str]:
    """Return the names of runs whose process has ended; kept runs only with ``kept_too``."""
    ended = (run for run in sorted(_runs(client)) if not _owned(RUNS / run))
    return [run for run in ended if kept_too or not (RUNS / run / _KEPT).exists()]


def remove(client: docker.DockerClient, run: str) -> None:
    """Remove a run's containers, volumes, networks and folder. Several processes may do so, also at the same time.

    Raises Unavailable with the names that the engine could not remove within half a minute.
    """
    deadline = time.monotonic() + _REMOVAL_SECONDS
    while remaining := _remove_once(client, run):
        if time.monotonic() > deadline:
            raise Unavailable(
                f"{run}: {', '.join(remaining)} cannot be removed",
                "look at the log of the Docker engine, then run ./noxw -s down",
            )
        time.sleep(0.3)
    shutil.rmtree(RUNS / run, ignore_errors=True)


def _remove_once(client: docker.DockerClient, run: str) -> list[str]:
    """Ask the engine once to remove everything with the run's label; returns the names that remain."""
    filters = {"label": f"{RUN_LABEL}={run}"}
    remaining = []
    for kind, options in (
        (client.containers, {"all": True, "ignore_removed": True}),
        (client.volumes, {}),
        (client.networks, {}),
    ):
        for each in kind.list(filters=filters, **options):
            try:
                each.remove(**({"force": True, "v": True} if options else {}))
            except NotFound:
                continue
            except APIError:
                # Another process is removing it, its user is still being removed, or a frozen process of it cannot be killed.
                if first := each.attrs.get("State", {}).get("Pid"):
                    freezer.thaw_descendants(first)
                remaining.append(f"{type(each).__name__.lower()} {each.name}")
    return remaining


def write_key(folder: Path) -> Path:
    """Make the run's Ed25519 key pair and return the private key's path."""
    key = folder / "ssh_key"
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", folder.name, "-f", str(key)],
        check=True,
        stdin=subprocess.DEVNULL,
    )
    return key


def write_site(template: Path, folder: Path, changes: Mapping[str, Mapping[str, Any]]) -> Path:
    """Write the run's site file (the template with the values in ``changes`` replaced) and return its path."""
    document = tomllib.loads(template.read_text(encoding="utf-8"))
    for section, values in changes.items():
        document.setdefault(section, {}).update(values)
    path = folder / "site.toml"
    path.write_bytes(tomli_w.dumps(document).encode())
    return path


def _runs(client: docker.DockerClient) -> set[str]:
    filters = {"label": RUN_LABEL}
    found = [*client.networks.list(filters=filters), *client.volumes.list(filters=filters)]
    labelled = {each.attrs["Labels"][RUN_LABEL] for each in found}
    labelled |= {
        each.labels[RUN_LABEL] for each in client.containers.list(all=True, ignore_removed=True, filters=filters)
    }
    labelled = {name for name in labelled if name.startswith(_PREFIX)}
    return labelled | ({folder.name for folder in RUNS.glob(f"{_PREFIX}*")} if RUNS.is_dir() else set())


def _claim(run: str) -> tuple[Path, Any]:
    """Create the run's folder with its lock already held, so that no other run removes it as a leftover."""
    unnamed = RUNS / f".{run}"
    unnamed.mkdir(parents=True, mode=0o700)
    lock = (unnamed / "lock").open("w")
    fcntl.flock(lock, fcntl.LOCK_EX)
    return unnamed.rename(RUNS / run), lock


def _owned(folder: Path) -> bool:
    """Whether a living process owns the run: the kernel releases the lock with the process, however it ends."""
    try:
        with (folder / "lock").open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def _network(client: docker.DockerClient, run: str) -> tuple[str, str]:
    for _ in range(20):
        subnet = str(ipaddress.ip_network((_FIRST_NETWORK + 256 * secrets.randbelow(_NETWORKS), 24)))
        pool = docker.types.IPAMConfig(pool_configs=[docker.types.IPAMPool(subnet=subnet)])
        try:
            client.networks.create(f"{run}-network", driver="bridge", ipam=pool, labels={RUN_LABEL: run})
        except APIError as error:
            if "overlap" not in str(error):
                raise Unavailable(
                    f"Docker cannot create a network: {error.explanation}", "look at the log of the Docker engine"
                ) from error
        else:
            return f"{run}-network", subnet
    raise Unavailable("no free private network was found for the run", "remove unused networks: docker network prune")
