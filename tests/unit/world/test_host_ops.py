"""ops on the host runs over ssh; its JSON documents become values and errors."""

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


def test_a_verb_runs_as_root_with_ansible_s_key_and_known_hosts() -> None:
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


def test_a_verb_that_failed_on_the_host_raises_its_own_message_hint_and_state() -> None:
    document = {
        "summary": "gitea: not healthy",
        "next": "look at docker compose logs gitea",
        "left_as": "gitea is down",
    }
    with pytest.raises(OpsError, match="ops secrets apply on the host: gitea: not healthy") as failed:
        document_from(1, json.dumps(document), "secrets apply")
    assert (failed.value.hint, failed.value.left_as) == ("look at docker compose logs gitea", "gitea is down")


def test_a_host_without_ops_needs_a_deployment_first() -> None:
    with pytest.raises(OpsError, match="printed no JSON: sudo: ops: command not found") as failed:
        document_from(1, "sudo: ops: command not found", "secrets apply")
    assert failed.value.hint == "run ops deploy first"
