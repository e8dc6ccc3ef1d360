"""The decisions of a deployment before its first change."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from ops.config.workspace import Workspace
from ops.deploy import deploy, host, infrastructure
from ops.errors import OpsError, Refused
from ops.images import pins
from ops.images.ops_image import OpsImage
from ops.images.pins import Pin
from ops.model import Outputs
from ops.world.playbook_watch import REMOTE_SECONDS
from tests.support import fakes

OUTPUTS = {
    "public_address": "192.0.2.1",
    "instance_id": "i-1",
    "data_volume_id": "vol-1",
    "backup_bucket": "b",
    "secret_names": {"a": "test/a"},
}


def test_the_outputs_are_read_from_terraform_s_values_and_others_are_ignored() -> None:
    assert infrastructure.outputs_from(OUTPUTS | {"more": 1}) == Outputs(
        "192.0.2.1", "i-1", "vol-1", "b", {"a": "test/a"}
    )


@pytest.mark.parametrize("present", [(), ("key",), ("key.pub",)])
def test_an_incomplete_key_pair_is_refused_with_the_command_that_makes_one(
    tmp_path: Path, present: tuple[str, ...]
) -> None:
    for name in present:
        (tmp_path / name).write_text("content")
    with pytest.raises(Refused) as caught:
        infrastructure.public_key(tmp_path / "key")
    assert caught.value.hint == f"run ssh-keygen -t ed25519 -f {tmp_path / 'key'}"


def test_a_silent_task_may_last_as_long_as_the_drain_of_transfers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    played: dict[str, Any] = {}
    monkeypatch.setattr(host, "play", lambda *_, **more: played.update(more))
    site = fakes.site(web={"drain_seconds": 3600})
    images = {f"{name}_IMAGE": f"{name.lower()}:1" for name in ("GITEA", "POSTGRES")}
    material = host.Material(images, OpsImage("ops:1", "sha256:1", tmp_path / "ops.tar.gz"))
    outputs, folders = infrastructure.outputs_from(OUTPUTS), Workspace(tmp_path, tmp_path / "state", tmp_path / "cache")
    host.host(site, fakes.FakeWorld(), folders, outputs, material)  # type: ignore[arg-type] # a world in memory
    # The drain, then Gitea's start and its watch.
    assert played["silence_seconds"] == 3600 + REMOTE_SECONDS


def test_the_address_in_the_site_file_takes_precedence_over_the_elastic_ip(tmp_path: Path) -> None:
    outputs = infrastructure.outputs_from(OUTPUTS)
    assert host.connection(fakes.site(), outputs, tmp_path)["ansible_host"] == "192.0.2.1"
    with_address = fakes.site(host={"ssh_key": "k", "address": "192.0.2.9"})
    assert host.connection(with_address, outputs, tmp_path)["ansible_host"] == "192.0.2.9"


def test_the_host_s_key_is_stored_at_the_first_connection(tmp_path: Path) -> None:
    arguments = host.connection(fakes.site(), infrastructure.outputs_from(OUTPUTS), tmp_path / "known")[
        "ansible_ssh_common_args"
    ]
    assert f"UserKnownHostsFile={tmp_path}/known" in arguments
    assert "StrictHostKeyChecking=accept-new" in arguments


def test_the_connection_to_a_deployed_host_is_read_from_the_stored_outputs(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path, tmp_path, tmp_path)
    with pytest.raises(Refused, match="site test was not deployed from this machine"):
        host.connection_of(fakes.site(), workspace)
    workspace.outputs.write_text(json.dumps(OUTPUTS))
    assert host.connection_of(fakes.site(), workspace)["ansible_host"] == "192.0.2.1"


CLOSED: dict[str, Any] = {"network": {"admin_cidrs": []}}


def test_a_host_with_a_closed_ssh_port_is_reached_by_instance_id_through_session_manager(tmp_path: Path) -> None:
    variables = host.connection(fakes.site(**CLOSED), infrastructure.outputs_from(OUTPUTS), tmp_path / "known")
    assert variables["ansible_host"] == "i-1"
    options = shlex.split(variables["ansible_ssh_common_args"])
    (proxy,) = [each for each in options if each.startswith("ProxyCommand=")]
    assert proxy.split()[:3] == ["ProxyCommand=aws", "ssm", "start-session"]
    assert "--target %h" in proxy
    assert "--parameters portNumber=%p" in proxy
    assert proxy.endswith("--region eu-central-1")


@pytest.mark.parametrize("present", [set(), {"aws"}, {"session-manager-plugin"}])
def test_missing_programs_of_session_manager_are_refused_by_name(present: set[str]) -> None:
    world: Any = fakes.FakeWorld(processes=fakes.FakeProcesses(programs=present))
    with pytest.raises(Refused) as caught:
        host.require_session_manager(fakes.site(**CLOSED), world)
    missing = {"aws", "session-manager-plugin"} - present
    assert all(program in caught.value.message for program in missing)
    world.processes.programs = {"aws", "session-manager-plugin"}
    host.require_session_manager(fakes.site(**CLOSED), world)


def test_an_operator_with_a_new_address_can_connect_through_session_manager(
    tmp_path: Path,
) -> None:
    outputs = infrastructure.outputs_from(OUTPUTS)
    direct = host.connection(fakes.site(), outputs, tmp_path / "known")
    assert (direct["ansible_host"], "ProxyCommand" in direct["ansible_ssh_common_args"]) == ("192.0.2.1", False)
    through = host.connection(fakes.site(), outputs, tmp_path / "known", session_manager=True)
    assert (through["ansible_host"], "ProxyCommand" in through["ansible_ssh_common_args"]) == ("i-1", True)
    world: Any = fakes.FakeWorld()
    with pytest.raises(Refused, match="the connection through Session Manager needs aws and session-manager-plugin"):
        host.require_session_manager(fakes.site(), world, session_manager=True)


def test_an_open_ssh_port_without_session_manager_s_programs_raises_nothing() -> None:
    world: Any = fakes.FakeWorld()
    host.require_session_manager(fakes.site(), world)


@pytest.mark.parametrize("tag", ["1.22.6", "28.1.0", "latest"])
def test_a_deployment_warns_of_settings_that_its_gitea_does_not_document(tag: str) -> None:
    site = fakes.site_with_settings({"ui": {"EXPLORE_PAGNG_NUM": 5}, "service": {"DISABLE_REGISTRATION": True}})
    (line,) = deploy._unknown_settings(site, {"GITEA_IMAGE": f"gitea/gitea:{tag}@sha256:1"})
    version = "1.22" if tag == "1.22.6" else "1.27"
    assert line.startswith(f"warning: gitea.settings.ui.EXPLORE_PAGNG_NUM: Gitea {version} does not document it")


def test_a_deployment_without_a_setting_s_secret_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = fakes.site_with_settings({"email.incoming": {"PASSWORD": "secret:imap"}})
    world: Any = fakes.FakeWorld()
    monkeypatch.setattr(deploy, "public_key", lambda _: "ssh-ed25519 AAAA")
    monkeypatch.setattr(world.aws, "secret_stages", mock.Mock(side_effect=OpsError("no such secret")), raising=False)
    with pytest.raises(Refused, match="secrets that have none: setting-imap") as refused:
        deploy.deploy(site, world, workspace=Workspace(tmp_path, tmp_path, tmp_path), confirm=mock.Mock())
    assert refused.value.left_as == "nothing was changed"


@pytest.mark.parametrize("bucket", ["abc", "a" * 63])
def test_the_name_of_the_state_bucket_is_valid_in_s3(bucket: str) -> None:
    name = infrastructure.state_bucket(fakes.site(backup={"bucket": bucket}))
    assert name.endswith("-terraform")
    assert 3 <= len(name) <= 63


def test_the_pins_of_updates_are_read_from_the_bucket_when_it_exists() -> None:
    world = fakes.FakeWorld()
    site = fakes.site()
    assert host.update_pins(site, world) == {}  # type: ignore[arg-type]
    world.aws.buckets = {site.backup.bucket, infrastructure.state_bucket(site)}
    assert host.update_pins(site, world) == {}  # type: ignore[arg-type]
    recorded = {"gitea": Pin("gitea/gitea", "28.1.1", "sha256:1")}
    world.aws.write_object(site.backup.bucket, pins.KEY, pins.to_json(recorded))
    assert host.update_pins(site, world) == recorded  # type: ignore[arg-type]


@pytest.mark.parametrize(("endpoint", "attempts"), [("http://127.0.0.1:4566", "4"), ("", None)])
def test_terraform_s_retries_are_cut_only_for_an_endpoint_of_its_own(
    tmp_path: Path, endpoint: str, attempts: str | None
) -> None:
    world: Any = fakes.FakeWorld()
    site = fakes.site(aws={"region": "eu-central-1", "endpoint_url": endpoint})
    environment = infrastructure.terraform_of(site, world, Workspace(tmp_path, tmp_path, tmp_path)).environment
    assert environment.get("AWS_MAX_ATTEMPTS") == attempts
