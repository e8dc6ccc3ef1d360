"""Terraform's output and state."""

from __future__ import annotations

from typing import Any

from ops.errors import Locked
from ops.world.terraform import failure_from, unfinished_from


def _resource(kind: str, name: str, *instances: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"mode": "managed", "type": kind, "name": name, "instances": list(instances)} | more


def test_only_resources_that_are_complete_once_created_are_kept_after_an_interrupted_apply() -> None:
    state = {
        "resources": [
            _resource("aws_ebs_volume", "data", {"status": "tainted"}),
            _resource("aws_security_group", "host", {"status": "tainted"}),
            _resource("aws_s3_bucket", "backup", {}),
        ]
    }
    assert unfinished_from(state) == ["aws_ebs_volume.data"]


def test_an_address_has_terraform_s_module_and_key() -> None:
    instances = ({"status": "tainted", "index_key": "admin-password"}, {"status": "tainted", "index_key": 0})
    state = {"resources": [_resource("aws_secretsmanager_secret", "site", *instances, module="module.secrets")]}
    assert unfinished_from(state) == [
        'module.secrets.aws_secretsmanager_secret.site["admin-password"]',
        "module.secrets.aws_secretsmanager_secret.site[0]",
    ]


def test_an_empty_state_has_no_unfinished_resources() -> None:
    assert unfinished_from({}) == []


LOCKED = """
Error: Error acquiring the state lock

Error message: operation error S3: PutObject, https response error
StatusCode: 412, RequestID: 5e81d1c7-df17-4e4d-9dd4-f88d730ebf73, HostID: x,
api error PreconditionFailed: At least one of the pre-conditions you specified did not hold
Lock Info:
  ID:        9db590f1-b6fe-c5f2-2678-8804f089deba
  Path:      bucket/test/terraform.tfstate
"""


def test_the_hint_of_a_held_lock_has_the_lock_s_id_and_not_the_request_s() -> None:
    error = failure_from("apply", LOCKED, "./noxw -s terraform -- -chdir=infra")
    assert isinstance(error, Locked)
    assert error.hint.endswith(
        "run ./noxw -s terraform -- -chdir=infra force-unlock 9db590f1-b6fe-c5f2-2678-8804f089deba"
    )
