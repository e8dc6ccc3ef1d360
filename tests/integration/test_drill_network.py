"""The drill's scratch site sends no mail, calls no webhook and mirrors nothing: it is configured so, and its network has no way out."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from docker.errors import NotFound
from docker.models.networks import Network

from ground import image_set
from ground.image_set import ImageSet
from tests.support.compose_stack import COMPOSE
from tests.support.gitea_contract import Bench, eventually

# What `ops restore --drill` starts.
SERVICES = ("gitea", "postgres")


@pytest.fixture(scope="module")
def scratch() -> dict[str, Any]:
    """The scratch site's configuration as Compose merges it."""
    names = re.findall(r"(?<!\$)\$\{(\w+)", (COMPOSE / "compose.yaml").read_text())
    given = dict.fromkeys(names, "1") | {"DATA_DIRECTORY": "/srv", "SECRETS_DIRECTORY": "/run"}
    files = [part for name in ("compose.yaml", "drill.yaml") for part in ("--file", str(COMPOSE / name))]
    argv = ["docker", "compose", "--project-name", "gitea-drill", *files, "config", "--format", "json"]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, env=os.environ | given)
    return dict(json.loads(done.stdout))


def test_the_scratch_site_is_in_an_internal_network_alone_and_has_no_port(scratch: dict[str, Any]) -> None:
    for name in SERVICES:
        service = scratch["services"][name]
        assert list(service["networks"]) == ["database"]
        assert not service.get("ports")
        assert not service.get("network_mode")
        assert not service.get("extra_hosts")
    assert scratch["networks"]["database"]["internal"] is True
    # The project's own network: the running site's database is in another.
    assert scratch["networks"]["database"]["name"] == "gitea-drill_database"


def test_the_scratch_site_does_not_try_to_send_or_mirror(scratch: dict[str, Any]) -> None:
    environment = scratch["services"]["gitea"]["environment"]
    off = {name: value for name, value in environment.items() if re.search("mailer__ENABLED|mirror|webhook", name)}
    assert off == {
        "GITEA__mailer__ENABLED": "false",
        "GITEA__mirror__ENABLED": "false",
        "GITEA__cron_0X2E_update_mirrors__ENABLED": "false",
        "GITEA__webhook__ALLOWED_HOST_LIST": "none.invalid",
    }


@pytest.fixture
def internal(bench: Bench) -> Iterator[Network]:
    """A network like that of the scratch site."""
    network = bench.client.networks.create(f"{bench.run}-internal", internal=True, labels=bench.network.attrs["Labels"])
    yield network
    with suppress(NotFound):
        network.remove()


def test_no_connection_leaves_an_internal_network(bench: Bench, built: ImageSet, internal: Network) -> None:
    image = built.local(image_set.pinned()["DOOR_IMAGE"])
    server = bench.start("listener", image, command=["sh", "-c", "while true; do echo hello | nc -l -p 8080; done"])
    server.reload()
    address = server.attrs["NetworkSettings"]["Networks"][bench.network.name]["IPAddress"]
    outside = bench.start("outside", image, command=["sleep", "600"])
    inside = bench.client.containers.run(
        image,
        ["sleep", "600"],
        detach=True,
        name=f"{bench.run}-inside",
        network=internal.name,
        labels=bench.network.attrs["Labels"],
    )
    try:
        ask = ["sh", "-c", f"nc -w 3 {address} 8080 </dev/null"]
        eventually(lambda: outside.exec_run(ask).output == b"hello\n")
        assert inside.exec_run(ask).exit_code != 0
    finally:
        inside.remove(force=True)
