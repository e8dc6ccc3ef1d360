"""The ops image: it is built once per content, and ops works in it."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import docker
import pytest

from ground import run_registry
from ops.config.tool_variables import host_document
from ops.images import ops_image as images_ops_image
from ops.images.ops_image import OpsImage
from ops.world import World
from tests.support import fakes


def test_an_unchanged_tree_is_not_built_again(ops_image: OpsImage) -> None:
    progress: list[str] = []
    assert (
        images_ops_image.ensure(run_registry.REPOSITORY, run_registry.CACHE, World(fakes.site(), tell=progress.append))
        == ops_image
    )
    assert progress == []


def test_the_archive_contains_the_image(ops_image: OpsImage) -> None:
    # Compressed, which saves a minute and a half over an uplink of 20 Mbit/s.
    with tarfile.open(ops_image.archive, "r:gz") as archive:
        manifest = archive.extractfile("manifest.json")
        assert manifest
        (entry,) = json.load(manifest)
    assert entry["RepoTags"] == [ops_image.reference]
    assert ops_image.identity.removeprefix("sha256:") in entry["Config"]


def _ops(client: docker.DockerClient, made: OpsImage, *argv: str, site: Path) -> tuple[int, str]:
    volumes = {str(site): {"bind": "/site.json", "mode": "ro"}}
    container = client.containers.run(
        made.reference,
        list(argv),
        # As the wrapper on the host sets it.
        environment={"OPS_SITE": "/site.json", "OPS_IMAGE": made.reference},
        volumes=volumes,
        network_mode="none",
        detach=True,
    )
    code = container.wait(timeout=60)["StatusCode"]
    output = container.logs(stdout=True, stderr=False).decode()
    container.remove(v=True)
    return code, output


@pytest.fixture
def site_file(tmp_path: Path) -> Path:
    path = tmp_path / "site.json"
    path.write_text(json.dumps(host_document(fakes.site())))
    return path


def test_ops_in_the_image_reads_the_site_of_the_host(
    docker_client: docker.DockerClient, ops_image: OpsImage, site_file: Path
) -> None:
    code, output = _ops(docker_client, ops_image, "site", "--json", site=site_file)
    assert (code, json.loads(output)["name"]) == (0, "test")


def test_ops_in_the_image_reports_a_missing_engine_as_one_json_document(
    docker_client: docker.DockerClient, ops_image: OpsImage, site_file: Path
) -> None:
    code, output = _ops(docker_client, ops_image, "health", "--json", site=site_file)
    assert (code, json.loads(output)["error"]) == (7, "Unavailable")


@pytest.mark.parametrize("verb", ["deploy", "backup prune", "secrets rotate metrics-token", "gate status"])
def test_ops_in_the_image_names_the_deploying_machine_for_a_verb_that_it_cannot_run(
    verb: str, docker_client: docker.DockerClient, ops_image: OpsImage, site_file: Path
) -> None:
    code, output = _ops(docker_client, ops_image, *verb.split(), "--json", site=site_file)
    document = json.loads(output)
    assert (code, document["next"]) == (
        2,
        f"run ./noxw -s ops -- {verb} --json in the checkout on the deploying machine",
    )


def test_the_image_has_compose_and_no_secret(docker_client: docker.DockerClient, ops_image: OpsImage) -> None:
    output = docker_client.containers.run(
        ops_image.reference, ["compose", "version"], entrypoint="docker", remove=True, network_mode="none"
    )
    assert b"Docker Compose version" in output
    variables = docker_client.images.get(ops_image.reference).attrs["Config"]["Env"]
    assert not [
        each for each in variables if any(word in each.upper() for word in ("PASSWORD", "SECRET", "TOKEN", "KEY"))
    ]
