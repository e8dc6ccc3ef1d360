"""A bucket like the site's with a repository of restic, and the operator's machine."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from ground import aws
from ops.backup import catalogue, manifest, operator_access
from ops.backup.manifest import Manifest, Part
from ops.config.schema import Site
from ops.config.workspace import Workspace
from ops.images.ops_image import OpsImage
from ops.world import World
from ops.world.container_processes import ContainerProcesses
from ops.world.restic import Restic
from tests.support import fakes


@dataclass
class Vault:
    """A bucket like the site's, and the operator's machine."""

    site: Site
    world: World
    workspace: Workspace
    image: OpsImage
    folder: Path
    made: list[Manifest]

    def client(self) -> Any:
        return aws.client(self.site.aws.endpoint_url, "s3")

    @property
    def source(self) -> Path:
        return self.folder / "source"

    def opened(self) -> Any:
        return operator_access.open_repository(
            self.site, self.world, workspace=self.workspace, image=self.image.reference
        )

    def seeing(self, remote: Restic) -> Restic:
        """Return the same repository, with this test's folder mounted in the container."""
        programs = remote.processes
        assert isinstance(programs, ContainerProcesses)
        return dataclasses.replace(
            remote, processes=dataclasses.replace(programs, folders=(*programs.folders, self.folder))
        )

    def take(self, remote: Restic, moment: datetime) -> Manifest:
        """Take a backup of the source folder, and write its manifest last."""
        (self.source / "now").write_text(str(moment))
        identity = manifest.identity_of(moment)
        # One restic snapshot serves as all three parts: the bucket does not distinguish them.
        stored = self.seeing(remote).store([self.source], host="h", tags=[identity, "data"])
        parts = dict.fromkeys(manifest.PARTS, Part(stored.snapshot, stored.snapshot, stored.size))
        made = fakes.made(moment, parts=parts)
        self.world.aws.write_object(self.site.backup.bucket, manifest.key_of(identity), manifest.to_json(made))
        self.made.append(made)
        return made

    def whole(self) -> list[str]:
        with self.opened() as remote:
            found = catalogue.list_backups_in(self.site, self.world, remote)
        return [each.identity for each in found if each.manifest]
