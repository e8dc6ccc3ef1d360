"""The image of ops as an archive: saved once, kept as long as a deployment may copy it, then removed."""

from __future__ import annotations

import os
from pathlib import Path

from ops.images import ops_image
from tests.support import fakes

ROOT = Path(__file__).parents[3]


def test_a_recent_archive_of_another_deployment_stays_and_an_old_one_is_removed(tmp_path: Path) -> None:
    world = fakes.FakeWorld()
    folder = tmp_path / "ops-image"
    folder.mkdir()
    now = world.clock.now().timestamp()
    for name, age in (("of-another-deployment.tar", 60), ("of-last-week.tar", 7 * 86400)):
        (folder / name).touch()
        os.utime(folder / name, (now - age, now - age))
    kept = ops_image.ensure(ROOT, tmp_path, world)  # type: ignore[arg-type]
    assert {path.name for path in folder.iterdir()} == {"of-another-deployment.tar", kept.archive.name}


def test_an_archive_that_is_used_again_stays_however_old_it_is(tmp_path: Path) -> None:
    world = fakes.FakeWorld()
    made = ops_image.ensure(ROOT, tmp_path, world)  # type: ignore[arg-type]
    os.utime(made.archive, (0, 0))
    assert ops_image.ensure(ROOT, tmp_path, world) == made  # type: ignore[arg-type]
    assert made.archive.is_file()
