"""Which images a site runs: read from its .env, kept in the bucket, and not undone by a deployment."""

from __future__ import annotations

from pathlib import Path

import pytest

from ops.errors import OpsError
from ops.images import pins
from ops.images.pins import Pin

ROOT = Path(__file__).parents[3]
DIGEST = "sha256:" + "1" * 64
ENVIRONMENT = f"""# Ansible managed
CONTACT='it\\'s me'
GITEA_IMAGE='gitea/gitea:28.0.1@{DIGEST}'
GITEA_TITLE='GITEA_IMAGE=x'
SOCKET_PROXY_IMAGE='tecnativa/docker-socket-proxy:v0.5.0'
"""


def test_every_pin_that_ships_is_of_a_service_and_names_a_release() -> None:
    compose = (ROOT / "compose/compose.yaml").read_text()
    for variable, reference in pins.pinned(ROOT / "compose").items():
        service = pins.service_of(variable)
        assert f"\n  {service}:\n" in compose, variable
        assert pins.variable_of(service) == variable
        assert pins.pin_from(reference).release.numbers


def test_a_pin_is_read_from_the_environment_and_replaced_there_alone() -> None:
    assert pins.from_environment(ENVIRONMENT) == {
        "gitea": Pin("gitea/gitea", "28.0.1", DIGEST),
        "docker-socket-proxy": Pin("tecnativa/docker-socket-proxy", "v0.5.0"),
    }
    changed = pins.into_environment(ENVIRONMENT, "gitea", Pin("gitea/gitea", "28.1.0", "sha256:22"))
    assert changed == ENVIRONMENT.replace(f"28.0.1@{DIGEST}", "28.1.0@sha256:22")
    assert pins.into_environment(changed, "gitea", Pin("gitea/gitea", "28.0.1", DIGEST)) == ENVIRONMENT


def test_what_the_bucket_keeps_is_read_again_and_half_of_it_is_an_error() -> None:
    proven = {"gitea": Pin("gitea/gitea", "28.0.1", DIGEST), "nginx": Pin("nginx", "1.30.4", "sha256:2")}
    whole = pins.to_json(proven)
    assert pins.from_json(whole) == proven
    for length in range(len(whole) - 1):
        with pytest.raises(OpsError, match="cut off or not ours"):
            pins.from_json(whole[:length])
    with pytest.raises(OpsError, match="another suite"):
        pins.from_json(whole.replace(b'"schema": 1', b'"schema": 2'))


@pytest.mark.parametrize(
    ("variable", "shipped", "proven", "runs"),
    [
        ("GITEA_IMAGE", "gitea/gitea:28.1.0", "gitea/gitea:28.1.1@sha256:1", "gitea/gitea:28.1.1@sha256:1"),
        ("GITEA_IMAGE", "gitea/gitea:28.1.0", "gitea/gitea:28.1.0@sha256:1", "gitea/gitea:28.1.0@sha256:1"),
        ("GITEA_IMAGE", "gitea/gitea:28.1.0", "gitea/gitea:1.27.3@sha256:1", "gitea/gitea:1.27.3@sha256:1"),
        ("NGINX_IMAGE", "nginx:1.30.5", "nginx:1.30.4@sha256:1", "nginx:1.30.5"),
        ("NGINX_IMAGE", "nginx:1.30.5", "nginx:1.32.0@sha256:1", "nginx:1.32.0@sha256:1"),
        ("GITEA_IMAGE", "forgejo/forgejo:12.0.0", "gitea/gitea:28.1.1@sha256:1", "forgejo/forgejo:12.0.0"),
        ("GITEA_IMAGE", "gitea/gitea:28.1.0@sha256:3", "gitea/gitea:28.1.1@sha256:1", "gitea/gitea:28.1.0@sha256:3"),
    ],
)
def test_a_deployment_never_undoes_an_update_and_takes_nothing_with_data_a_step_further(
    variable: str, shipped: str, proven: str, runs: str
) -> None:
    known = {pins.service_of(variable): pins.pin_from(proven)}
    assert pins.deployed({variable: shipped}, known) == {variable: runs}
    assert pins.deployed({variable: shipped}, {}) == {variable: shipped}


def test_what_a_deployment_leaves_to_an_update_is_said() -> None:
    shipped = {"GITEA_IMAGE": "gitea/gitea:28.1.0", "NGINX_IMAGE": "nginx:1.30.5"}
    proven = {"gitea": Pin("gitea/gitea", "28.0.1", DIGEST), "nginx": Pin("nginx", "1.30.4", "sha256:2")}
    assert pins.waiting(shipped, proven) == (
        "gitea stays at 28.0.1; to 28.1.0: ops update gitea --to 28.1.0 (on the host)",
    )
    assert pins.waiting(shipped, {}) == ()
