"""The images of a site: read from its .env, recorded in the bucket, and kept by a deployment."""

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


def test_each_shipped_pin_belongs_to_a_service_and_has_a_release() -> None:
    compose = "".join((ROOT / "compose" / each).read_text() for each in ("compose.yaml", "monitoring.yaml"))
    for variable, reference in pins.pinned(ROOT / "compose").items():
        service = pins.service_of(variable)
        assert f"\n  {service}:\n" in compose, variable
        assert pins.variable_of(service) == variable
        assert pins.pin_from(reference).release.numbers


def test_a_pin_is_read_from_the_environment_and_only_its_line_changes() -> None:
    assert pins.from_environment(ENVIRONMENT) == {
        "gitea": Pin("gitea/gitea", "28.0.1", DIGEST),
        "docker-socket-proxy": Pin("tecnativa/docker-socket-proxy", "v0.5.0"),
    }
    changed = pins.into_environment(ENVIRONMENT, "gitea", Pin("gitea/gitea", "28.1.0", "sha256:22"))
    assert changed == ENVIRONMENT.replace(f"28.0.1@{DIGEST}", "28.1.0@sha256:22")
    assert pins.into_environment(changed, "gitea", Pin("gitea/gitea", "28.0.1", DIGEST)) == ENVIRONMENT


def test_the_record_in_the_bucket_is_read_back_and_a_truncated_one_is_an_error() -> None:
    updated = {"gitea": Pin("gitea/gitea", "28.0.1", DIGEST), "nginx": Pin("nginx", "1.30.4", "sha256:2")}
    whole = pins.to_json(updated)
    assert pins.from_json(whole) == updated
    for length in range(len(whole) - 1):
        with pytest.raises(OpsError, match="truncated or not a record of pins"):
            pins.from_json(whole[:length])
    with pytest.raises(OpsError, match="another version of the suite"):
        pins.from_json(whole.replace(b'"schema": 1', b'"schema": 2'))


@pytest.mark.parametrize(
    ("variable", "shipped", "updated", "runs"),
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
def test_a_deployment_keeps_updated_pins_and_does_not_update_services_with_data(
    variable: str, shipped: str, updated: str, runs: str
) -> None:
    updates = {pins.service_of(variable): pins.pin_from(updated)}
    assert pins.deployed({variable: shipped}, updates) == {variable: runs}
    assert pins.deployed({variable: shipped}, {}) == {variable: shipped}


def test_a_deployment_lists_the_versions_that_it_leaves_to_an_update() -> None:
    shipped = {"GITEA_IMAGE": "gitea/gitea:28.1.0", "NGINX_IMAGE": "nginx:1.30.5"}
    updated = {"gitea": Pin("gitea/gitea", "28.0.1", DIGEST), "nginx": Pin("nginx", "1.30.4", "sha256:2")}
    assert pins.waiting(shipped, updated) == (
        "gitea stays at 28.0.1; to 28.1.0: ops update gitea --to 28.1.0 (on the host)",
    )
    assert pins.waiting(shipped, {}) == ()
