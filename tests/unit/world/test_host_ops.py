"""The host's own ops is asked over ssh, and its answers become values and errors here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ops.deploy import host
from ops.errors import OpsError, Unavailable
from ops.model import Outputs
from ops.world.host_ops import HostOps, document_from
from ops.world.process import Finished
from tests.support import fakes

SITE = fakes.site(host={"ssh_key": "keys/test", "address": "192.0.2.9", "ssh_user": "admin", "ssh_port": 2200})


def test_a_verb_is_run_as_root_by_the_key_and_the_known_host_that_ansible_uses() -> None:
    processes = fakes.FakeProcesses(lambda _: Finished(0, '{"changed": true}'))
    remote = HostOps(host.connection(SITE, Outputs("", "", "", "", {}), Path("/state/known_hosts")), processes)  # type: ignore[arg-type]
    assert remote.ops("secrets", "apply", "--pending", "a b") == {"changed": True}
    (argv,) = processes.ran
    assert argv[0] == "ssh"
    assert argv[-2:] == ["admin@192.0.2.9", "sudo -n ops secrets apply --pending 'a b' --json"]
    assert {"UserKnownHostsFile=/state/known_hosts", "BatchMode=yes", str(Path("keys/test").absolute()), "2200"} <= set(
        argv
    )


def test_a_host_that_does_not_answer_is_unavailable() -> None:
    with pytest.raises(Unavailable, match="does not answer over ssh"):
        document_from(255, "", "health")


def test_a_verb_that_failed_there_fails_here_in_its_own_words() -> None:
    said = json.dumps({"summary": "gitea: not healthy", "next": "docker compose logs gitea"})
    with pytest.raises(OpsError, match="ops secrets apply on the host: gitea: not healthy") as failed:
        document_from(1, said, "secrets apply")
    assert failed.value.hint == "docker compose logs gitea"


def test_a_host_without_ops_is_told_to_be_deployed_first() -> None:
    with pytest.raises(OpsError, match="said no JSON: sudo: ops: command not found") as failed:
        document_from(1, "sudo: ops: command not found", "secrets apply")
    assert failed.value.hint == "deploy the site first"
