"""PostgreSQL's data lie on the data disk, whichever folder its image has for them: it moved between 17 and 18."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import docker
import pytest

from ground.image_set import ImageSet
from tests.support.compose_stack import Stack, lay_out, run

IMAGES = {"17": "postgres:17.11", "18": "postgres:18.6"}


@pytest.fixture(params=IMAGES)
def major(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def stack(major: str, images: Mapping[str, str], built: ImageSet, run_id: str, tmp_path: Path) -> Iterator[Stack]:
    """The stack's database alone, of a major version."""
    made = lay_out(run_id, f"major-{major}", tmp_path, {**images, "POSTGRES_IMAGE": built.local(IMAGES[major])})
    yield made
    made.remove()


def sql(stack: Stack, statement: str) -> str:
    asked = ["psql", "--username=gitea", "--tuples-only", "--no-align", f"--command={statement}"]
    return run("docker", "exec", stack.container("postgres"), *asked).strip()


def test_the_images_of_17_and_18_have_their_data_in_different_folders(
    docker_client: docker.DockerClient, built: ImageSet
) -> None:
    folders = {}
    for major, reference in IMAGES.items():
        found = docker_client.images.get(built.local(reference)).attrs["Config"]
        variables = dict(each.split("=", 1) for each in found["Env"])
        assert variables["PG_MAJOR"] == major
        folders[major] = (variables["PGDATA"], *found["Volumes"])
    assert folders == {
        "17": ("/var/lib/postgresql/data", "/var/lib/postgresql/data"),
        "18": ("/var/lib/postgresql/18/docker", "/var/lib/postgresql"),
    }


def test_the_database_is_on_the_data_disk_and_survives_its_container(stack: Stack, major: str) -> None:
    stack.compose("up", "--detach", "--wait", "postgres")
    assert sql(stack, "SHOW data_directory") == f"/var/lib/postgresql/{major}/docker"
    assert sql(stack, "SHOW server_version").startswith(f"{major}.")
    sql(stack, "CREATE TABLE kept AS SELECT 1 AS one")
    # With its anonymous volumes, as a replacement of the host or a new container would lose them.
    stack.compose("rm", "--stop", "--force", "--volumes", "postgres")
    stack.compose("up", "--detach", "--wait", "postgres")
    assert sql(stack, "SELECT one FROM kept") == "1"
