"""The programs of the watch take the files that follow from a site file."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from ground.image_set import ImageSet, pinned
from ops.config import monitoring_files
from ops.config.schema import Site
from tests.support.drawn_sites import ROOT, drawn

COMPOSE = ROOT / "compose"
SITES = 20


@pytest.fixture(scope="module")
def images(built: ImageSet) -> Mapping[str, str]:
    return {name: built.local(reference) for name, reference in pinned().items()}


def _write(site: Site, folder: Path) -> None:
    for path, text in monitoring_files.files(site, COMPOSE).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    (folder / "token").write_text("token")
    for each in (folder, *folder.rglob("*")):
        each.chmod(0o755 if each.is_dir() else 0o644)


def _run(image: str, folder: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    places = [
        f"{folder}/prometheus:/etc/prometheus:ro",
        f"{folder}/token:/run/secrets/metrics-token:ro",
        f"{folder}:/made:ro",
        "/etc/ssl/certs:/etc/ssl/certs:ro",
    ]
    mounts = [part for each in places for part in ("--volume", each)]
    place = ["docker", "run", "--rm", "--network", "none", *mounts, "--entrypoint", argv[0], image, *argv[1:]]
    return subprocess.run(place, capture_output=True, text=True, check=False, timeout=120)


def test_the_programs_take_the_files_of_every_site(images: Mapping[str, str], tmp_path: Path) -> None:
    for number, site in enumerate(drawn(200)[:SITES]):
        folder = tmp_path / str(number)
        _write(site, folder)
        if not site.monitoring.enabled:
            assert [each.name for each in folder.iterdir()] == ["token"]
            continue
        checks = [
            (images["PROMETHEUS_IMAGE"], "promtool", "check", "config", "/etc/prometheus/prometheus.yml"),
            (images["ALERTMANAGER_IMAGE"], "amtool", "check-config", "/made/alertmanager/alertmanager.yml"),
            (
                images["BLACKBOX_EXPORTER_IMAGE"],
                "/bin/blackbox_exporter",
                "--config.file=/made/blackbox-exporter/blackbox.yml",
                "--config.check",
            ),
        ]
        for image, *argv in checks:
            done = _run(image, folder, *argv)
            assert done.returncode == 0, f"{done.stdout}{done.stderr}"
