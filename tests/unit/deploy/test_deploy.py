"""What a deployment decides before it touches anything."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from ops.config.workspace import Workspace
from ops.deploy import host, infrastructure
from ops.errors import Refused
from ops.images import pins
from ops.images.pins import Pin
from ops.model import Outputs
from tests.support import fakes

OUTPUTS = {
    "public_address": "192.0.2.1",
    "instance_id": "i-1",
    "data_volume_id": "vol-1",
    "backup_bucket": "b",
    "secret_names": {"a": "test/a"},
}


def test_terraform_s_outputs_become_a_value_whatever_else_there_is() -> None:
    assert infrastructure.outputs_from(OUTPUTS | {"more": 1}) == Outputs(
        "192.0.2.1", "i-1", "vol-1", "b", {"a": "test/a"}
    )


@pytest.mark.parametrize("present", [(), ("key",), ("key.pub",)])
def test_a_key_pair_that_is_not_whole_is_refused_with_the_command_that_makes_one(
    tmp_path: Path, present: tuple[str, ...]
) -> None:
    for name in present:
        (tmp_path / name).write_text("content")
    with pytest.raises(Refused) as caught:
        infrastructure.public_key(tmp_path / "key")
    assert caught.value.hint == f"ssh-keygen -t ed25519 -f {tmp_path / 'key'}"


def test_the_host_is_reached_at_the_site_s_address_before_the_elastic_ip(tmp_path: Path) -> None:
    outputs = infrastructure.outputs_from(OUTPUTS)
    assert host.connection(fakes.site(), outputs, tmp_path)["ansible_host"] == "192.0.2.1"
    elsewhere = fakes.site(host={"ssh_key": "k", "address": "192.0.2.9"})
    assert host.connection(elsewhere, outputs, tmp_path)["ansible_host"] == "192.0.2.9"


def test_the_host_s_key_is_learnt_once_and_kept_with_the_site(tmp_path: Path) -> None:
    arguments = host.connection(fakes.site(), infrastructure.outputs_from(OUTPUTS), tmp_path / "known")[
        "ansible_ssh_common_args"
    ]
    assert f"UserKnownHostsFile={tmp_path}/known" in arguments
    assert "StrictHostKeyChecking=accept-new" in arguments


def test_the_host_of_a_deployed_site_is_known_without_terraform(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path, tmp_path, tmp_path)
    with pytest.raises(Refused, match="site test was not deployed from here"):
        host.connection_of(fakes.site(), workspace)
    workspace.outputs.write_text(json.dumps(OUTPUTS))
    assert host.connection_of(fakes.site(), workspace)["ansible_host"] == "192.0.2.1"


CLOSED: dict[str, Any] = {"network": {"admin_cidrs": []}}


def test_a_host_whose_ssh_port_is_closed_is_reached_by_its_instance_through_session_manager(tmp_path: Path) -> None:
    reached = host.connection(fakes.site(**CLOSED), infrastructure.outputs_from(OUTPUTS), tmp_path / "known")
    assert reached["ansible_host"] == "i-1"
    options = shlex.split(reached["ansible_ssh_common_args"])
    (proxy,) = [each for each in options if each.startswith("ProxyCommand=")]
    assert proxy.split()[:3] == ["ProxyCommand=aws", "ssm", "start-session"]
    assert "--target %h" in proxy
    assert "--parameters portNumber=%p" in proxy
    assert proxy.endswith("--region eu-central-1")


@pytest.mark.parametrize("present", [set(), {"aws"}, {"session-manager-plugin"}])
def test_session_manager_without_its_programs_is_refused_by_name(present: set[str]) -> None:
    world: Any = fakes.FakeWorld(processes=fakes.FakeProcesses(programs=present))
    with pytest.raises(Refused) as caught:
        host.require_way_in(fakes.site(**CLOSED), world)
    missing = {"aws", "session-manager-plugin"} - present
    assert all(program in caught.value.message for program in missing)
    world.processes.programs = {"aws", "session-manager-plugin"}
    host.require_way_in(fakes.site(**CLOSED), world)


def test_an_operator_whose_address_the_host_does_not_know_yet_may_go_through_session_manager_once(
    tmp_path: Path,
) -> None:
    outputs = infrastructure.outputs_from(OUTPUTS)
    direct = host.connection(fakes.site(), outputs, tmp_path / "known")
    assert (direct["ansible_host"], "ProxyCommand" in direct["ansible_ssh_common_args"]) == ("192.0.2.1", False)
    through = host.connection(fakes.site(), outputs, tmp_path / "known", session_manager=True)
    assert (through["ansible_host"], "ProxyCommand" in through["ansible_ssh_common_args"]) == ("i-1", True)
    world: Any = fakes.FakeWorld()
    with pytest.raises(Refused, match="the way through Session Manager needs aws and session-manager-plugin"):
        host.require_way_in(fakes.site(), world, session_manager=True)


def test_an_open_ssh_port_needs_no_session_manager() -> None:
    world: Any = fakes.FakeWorld()
    host.require_way_in(fakes.site(), world)


@pytest.mark.parametrize("bucket", ["abc", "a" * 63])
def test_the_state_s_bucket_has_a_name_that_s3_takes(bucket: str) -> None:
    name = infrastructure.state_bucket(fakes.site(backup={"bucket": bucket}))
    assert name.endswith("-terraform")
    assert 3 <= len(name) <= 63


def test_what_updates_have_proven_is_read_from_the_bucket_where_there_is_one() -> None:
    world = fakes.FakeWorld()
    site = fakes.site()
    assert host.update_pins(site, world) == {}  # type: ignore[arg-type]
    world.aws.buckets = {site.backup.bucket, infrastructure.state_bucket(site)}
    assert host.update_pins(site, world) == {}  # type: ignore[arg-type]
    known = {"gitea": Pin("gitea/gitea", "28.1.1", "sha256:1")}
    world.aws.write_object(site.backup.bucket, pins.KEY, pins.to_json(known))
    assert host.update_pins(site, world) == known  # type: ignore[arg-type]
