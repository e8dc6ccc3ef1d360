"""Terraform, Ansible and Compose get exactly the variables that they declare."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from ops.config import tool_variables
from ops.config.schema import Site
from ops.images import pins
from ops.secrets import store
from tests.support import fakes

ROOT = Path(__file__).parents[3]


def test_terraform_s_variables_are_exactly_those_derived_from_the_site() -> None:
    declared = set(re.findall(r'^variable "(\w+)"', (ROOT / "infra/variables.tf").read_text(), re.MULTILINE))
    assert set(tool_variables.terraform_variables(fakes.site(), "ssh-ed25519 A")) == declared


def test_terraform_makes_exactly_the_secrets_of_the_store() -> None:
    text = (ROOT / "infra/secrets.tf").read_text() + (ROOT / "infra/mail.tf").read_text()
    made = set(re.findall(r'^    "([a-z-]+)"\s*= \d+$', text, re.MULTILINE))
    made |= set(re.findall(r"\$\{var\.name\}/([a-z-]+)", text))
    assert made == set(store.NAMES)


def test_compose_s_variables_are_exactly_those_derived_from_the_site() -> None:
    # A variable with a default in the file is for a single run.
    files = "".join((ROOT / "compose" / each).read_text() for each in ("compose.yaml", "monitoring.yaml"))
    asked = set(re.findall(r"(?<!\$)\$\{(\w+)(?!\w|:-)", files))
    given = tool_variables.compose_environment(fakes.site(), pins.pinned(ROOT / "compose"))
    assert set(given) == asked
    assert all(given.values())


def host_variables(site: Site, pinned: Mapping[str, str] | None = None) -> dict[str, Any]:
    return tool_variables.ansible_variables(
        site,
        pinned or {},
        data_volume_id="vol-1",
        compose_source=ROOT,
        image_archive=ROOT,
        image_id="sha256:0",
        image_name="ops:0",
    )


def test_every_role_variable_has_a_default_in_its_role() -> None:
    defaults = [
        yaml.safe_load(file.read_text()) or {} for file in (ROOT / "playbooks/roles").glob("*/defaults/main.yml")
    ]
    known = {name for each in defaults for name in each}
    variables = host_variables(fakes.site())
    assert set(variables) <= known


def test_the_host_pulls_every_image_that_compose_uses() -> None:
    pinned = pins.pinned(ROOT / "compose")
    made = host_variables(fakes.site(), pinned)
    assert set(made["docker_images"]) == {made["gitea_environment"][name] for name in pinned}


def test_the_host_gets_an_endpoint_only_when_the_site_file_has_one() -> None:
    assert "AWS_ENDPOINT_URL" not in tool_variables.ops_environment(fakes.site())
    elsewhere = fakes.site(aws={"region": "eu-central-1", "endpoint_url": "http://192.0.2.5:4566"})
    assert tool_variables.ops_environment(elsewhere)["AWS_ENDPOINT_URL"] == "http://192.0.2.5:4566"


def test_the_data_disk_s_device_path_follows_from_its_volume_id() -> None:
    assert tool_variables.volume_device("vol-0abc") == "/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_vol0abc"


def test_the_host_s_firewall_opens_what_the_security_group_opens() -> None:
    site = fakes.site(gitea={"admin_username": "keeper", "admin_email": "keeper@example.org", "ssh_port": 2200})
    host = host_variables(site)
    cloud = tool_variables.terraform_variables(site, "ssh-ed25519 A")
    rules = (ROOT / "infra/network.tf").read_text()
    named = re.search(r"\{ http = (\d+), https = (\d+), git = var\.git_ssh_port \}", rules)
    assert named
    assert host["base_open_ports"] == [int(named[1]), int(named[2]), cloud["git_ssh_port"]]
    assert host["base_ssh_sources"] == cloud["admin_cidrs"]
