"""Access to the repository in the bucket with the operator's identity, from a machine without restic.

The host's role can add objects to the bucket and delete none (infra/access.tf). So only the operator, on another machine, can
remove backups or undo changes to them.
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
def open_repository(site: Site, world: World, *, workspace: Workspace, image: str) -> Iterator[Restic]:
    """Open the repository in the bucket while the block runs, with the restic of the ops image.

    Its password and the operator's credentials are in private files, which are removed afterwards. Raises Locked while
    another run of this machine, or the container of a killed one, uses the repository.
    """
    with exclusive(workspace.state / "backups.lock", world.clock.now()), _private_folder() as folder:
        password = _write_secret(folder / "password", world.aws.secret(secret_name(site, "restic-password")))
        credentials = _write_secret(folder / "credentials", world.aws.credentials())
        cache = workspace.cache / "restic" / site.name
        cache.mkdir(parents=True, exist_ok=True)
        programs = ContainerProcesses(image, f"operator-{site.name}", (folder, cache))
        if programs.is_running():
            raise Locked(
                "restic of a killed run still works in a container",
                "wait until it has ended: docker ps --filter label=gitea-suite.errand",
            )
        environment = {"AWS_SHARED_CREDENTIALS_FILE": str(credentials), "AWS_DEFAULT_REGION": site.aws.region}
        remote = replace(
            world.restic(repositories.remote_address(site), password_file=password, cache=cache),
            processes=programs,
            environment=environment,
        )
        for lock, holder in remote.locks().items():
            # It belongs to a killed run: the lock above is held, so no other run has this name.
            if holder.host == programs.name:
                world.aws.hide_object(site.backup.bucket, f"{repositories.LOCKS}{lock}")
        yield remote


def hidden(site: Site, world: World) -> frozenset[str]:
    """Return the names of the backups whose manifest was hidden."""
    keys = world.aws_account.hidden_keys(site.backup.bucket, manifest.PREFIX)
    return frozenset(key.removeprefix(manifest.PREFIX).removesuffix(".json") for key in keys)


@contextmanager
def _private_folder() -> Iterator[Path]:
    # In memory if this machine has a runtime directory for its user.
    with tempfile.TemporaryDirectory(dir=os.environ.get("XDG_RUNTIME_DIR")) as folder:
        yield Path(folder)


def _write_secret(path: Path, value: Secret) -> Path:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(value.reveal())
    return path
