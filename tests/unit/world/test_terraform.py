"""What Terraform's own words and state say."""

from __future__ import annotations

from typing import Any

from ops.world.terraform import unfinished_from


def _resource(kind: str, name: str, *instances: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"mode": "managed", "type": kind, "name": name, "instances": list(instances)} | more


def test_only_what_is_whole_once_made_is_kept_when_its_making_was_broken_off() -> None:
    state = {
        "resources": [
            _resource("aws_ebs_volume", "data", {"status": "tainted"}),
            _resource("aws_security_group", "host", {"status": "tainted"}),
            _resource("aws_s3_bucket", "backup", {}),
        ]
    }
    assert unfinished_from(state) == ["aws_ebs_volume.data"]


def test_an_address_names_module_and_key_as_terraform_does() -> None:
    instances = ({"status": "tainted", "index_key": "admin-password"}, {"status": "tainted", "index_key": 0})
    state = {"resources": [_resource("aws_secretsmanager_secret", "site", *instances, module="module.secrets")]}
    assert unfinished_from(state) == [
        'module.secrets.aws_secretsmanager_secret.site["admin-password"]',
        "module.secrets.aws_secretsmanager_secret.site[0]",
    ]


def test_a_state_that_is_not_there_yet_has_nothing_unfinished() -> None:
    assert unfinished_from({}) == []
