"""One run of the ground: everything it started carries its name, is found by its label, and goes when the run ends."""

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

from ground.container import RUN_LABEL, RunContext
from ops.errors import Unavailable

Tell = Callable[[str], None]

REPOSITORY = Path(__file__).parents[1]
# Of the user and not of the checkout: the engine is shared by all checkouts, so must be the knowledge of who runs what.
RUNS = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state") / "gitea-suite"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gitea-suite"
_KEPT = "kept"
_REMOVAL_SECONDS = 30
# 10.200.0.0/24 and the 5,119 networks behind it: away from what home routers and clouds hand out.
_FIRST_NETWORK, _NETWORKS = 0x0AC80000, 5120
_PREFIX = "ground-"


def new_run(client: docker.DockerClient, tell: Tell) -> tuple[RunContext, Path, Any]:
    """Begin a run: name it, lock its folder, make its network; returns the place, the folder and the lock to keep open.

    Runs whose owner is gone are removed first.
    """
    remove_leftovers(client, tell)
    run = f"{_PREFIX}{secrets.token_hex(3)}"
    folder, lock = _claim(run)
    network, subnet = _network(client, run)
    return RunContext(client, network, subnet, run), folder, lock


def keep(folder: Path) -> None:
    """Mark a run as one that outlives the process that made it; `./noxw -s down` ends it."""
    (folder / _KEPT).touch()


def remove_leftovers(client: docker.DockerClient, tell: Tell, *, kept_too: bool = False) -> list[str]:
    """Remove every run whose owner is gone (and, if asked, those kept on purpose); returns their names."""
    removed = leftovers(client, kept_too=kept_too)
    for run in removed:
        tell(f"removing what is left of {run}")
        remove(client, run)
    return removed


def leftovers(client: docker.DockerClient, *, kept_too: bool = False) -> list[str]:
    """The runs whose owner is gone; those kept on purpose are among them only if asked for."""
    gone = (run for run in sorted(_runs(client)) if not _owned(RUNS / run))
    return [run for run in gone if kept_too or not (RUNS / run / _KEPT).exists()]


def remove(client: docker.DockerClient, run: str) -> None:
    """Remove a run's containers, volumes, networks and folder. Removing twice is no error, nor is it at the same time.

    Raises Unavailable naming what the engine would not let go of within half a minute.
    """
    deadline = time.monotonic() + _REMOVAL_SECONDS
    while left := _removed(client, run):
        if time.monotonic() > deadline:
            raise Unavailable(
                f"{run}: {', '.join(left)} cannot be removed", "look at the engine's log, then: ./noxw -s down"
            )
        time.sleep(0.3)
    shutil.rmtree(RUNS / run, ignore_errors=True)


def _removed(client: docker.DockerClient, run: str) -> list[str]:
    """Ask the engine to remove all that carries the run's label; returns what it would not let go of yet."""
    chosen = {"label": f"{RUN_LABEL}={run}"}
    left = []
    for kind, options in (
        (client.containers, {"all": True, "ignore_removed": True}),
        (client.volumes, {}),
        (client.networks, {}),
    ):
        for each in kind.list(filters=chosen, **options):
            try:
                each.remove(**({"force": True, "v": True} if options else {}))
            except NotFound:
                continue
            except APIError:
                # Someone else is removing it, or what uses it is on its way out.
                left.append(f"{type(each).__name__.lower()} {each.name}")
    return left


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
    """Write the run's site file: the template with the ground's addresses put in; returns its path."""
    document = tomllib.loads(template.read_text(encoding="utf-8"))
    for section, values in changes.items():
        document.setdefault(section, {}).update(values)
    path = folder / "site.toml"
    path.write_bytes(tomli_w.dumps(document).encode())
    return path


def _runs(client: docker.DockerClient) -> set[str]:
    chosen = {"label": RUN_LABEL}
    found = [*client.networks.list(filters=chosen), *client.volumes.list(filters=chosen)]
    labelled = {each.attrs["Labels"][RUN_LABEL] for each in found}
    labelled |= {
        each.labels[RUN_LABEL] for each in client.containers.list(all=True, ignore_removed=True, filters=chosen)
    }
    labelled = {name for name in labelled if name.startswith(_PREFIX)}
    return labelled | ({folder.name for folder in RUNS.glob(f"{_PREFIX}*")} if RUNS.is_dir() else set())


def _claim(run: str) -> tuple[Path, Any]:
    """Make the run's folder appear with its lock already held, so that no one takes it for a leftover."""
    unnamed = RUNS / f".{run}"
    unnamed.mkdir(parents=True, mode=0o700)
    lock = (unnamed / "lock").open("w")
    fcntl.flock(lock, fcntl.LOCK_EX)
    return unnamed.rename(RUNS / run), lock


def _owned(folder: Path) -> bool:
    """Whether a living process holds the run: the kernel drops the lock with the process, however it ends."""
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
                    f"Docker cannot make a network: {error.explanation}", "look at the engine's log"
                ) from error
        else:
            return f"{run}-network", subnet
    raise Unavailable("no free private network was found for the run", "docker network prune")
