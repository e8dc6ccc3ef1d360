"""Terraform's output and state."""

from __future__ import annotations

from typing import Any

from ops.world.terraform import unfinished_from


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
