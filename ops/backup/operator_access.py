"""The repository in the bucket, reached by the operator's identity from a machine that need not have restic.

The host's role can add to the bucket and take nothing away (infra/access.tf). Whoever removes backups, or brings back what was
done to them, is therefore someone else, somewhere else.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from ops.backup import manifest, repositories
from ops.config.schema import Site
from ops.config.workspace import Workspace
from ops.errors import Locked
from ops.model import Secret
from ops.secrets.store import secret_name
from ops.world import World
from ops.world.container_processes import ContainerProcesses
from ops.world.lock import exclusive
from ops.world.restic import Restic


@contextmanager
def opened(site: Site, world: World, *, workspace: Workspace, image: str) -> Iterator[Restic]:
    """Open the repository in the bucket for the length of the block, by the restic of the ops image.

    Its password and the operator's credentials are files that no one else can read, and that are gone afterwards. Raises Locked
    while another run of this machine, or what a killed one has left, is at work on it.
    """
    with exclusive(workspace.state / "backups.lock", world.clock.now()), _private_folder() as folder:
        password = _written(folder / "password", world.aws.secret(secret_name(site, "restic-password")))
        credentials = _written(folder / "credentials", world.aws.credentials())
        cache = workspace.cache / "restic" / site.name
        cache.mkdir(parents=True, exist_ok=True)
        programs = ContainerProcesses(image, f"operator-{site.name}", (folder, cache))
        if programs.is_running():
            raise Locked(
                "a run that was killed has left restic at work in a container",
                "wait until it has ended: docker ps --filter label=gitea-suite.errand",
            )
        environment = {"AWS_SHARED_CREDENTIALS_FILE": str(credentials), "AWS_DEFAULT_REGION": site.aws.region}
        remote = replace(
            world.restic(repositories.remote_address(site), password_file=password, cache=cache),
            processes=programs,
            environment=environment,
        )
        for lock, holder in remote.locks().items():
            # A killed run's. The one above is this machine's alone, so no one else bears the name.
            if holder == programs.name:
                world.aws.hide_object(site.backup.bucket, f"{repositories.LOCKS}{lock}")
        yield remote


def hidden(site: Site, world: World) -> frozenset[str]:
    """Return the names of the backups whose manifest was taken away."""
    keys = world.aws_account.hidden_keys(site.backup.bucket, manifest.PREFIX)
    return frozenset(key.removeprefix(manifest.PREFIX).removesuffix(".json") for key in keys)


@contextmanager
def _private_folder() -> Iterator[Path]:
    # In memory where this machine has such a place for its user.
    with tempfile.TemporaryDirectory(dir=os.environ.get("XDG_RUNTIME_DIR")) as folder:
        yield Path(folder)


def _written(path: Path, value: Secret) -> Path:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(value.reveal())
    return path
