"""The policies and tags of an applied site on LocalStack: the host may only reach its own resources."""

from __future__ import annotations

import json
import re
from typing import Any

from ops.model import Outputs
from tests.support.site_in_aws import Cloud


def test_every_resource_that_supports_tags_has_the_site_s_tags(cloud: Cloud, applied: Outputs) -> None:
    assert applied
    tagged = {
        f"{resource.get('module', '')} {resource['type']}.{resource['name']}": instance["attributes"]["tags_all"]
        for resource in cloud.state()["resources"]
        for instance in resource["instances"]
        if resource["mode"] == "managed" and "tags_all" in instance["attributes"]
    }
    assert {
        " aws_instance.host",
        " aws_ebs_volume.data",
        " aws_iam_role.replication",
        " aws_iam_role.flow_logs",
        " aws_iam_user.mail",
        " aws_cloudwatch_log_group.flow_logs",
        " aws_cloudwatch_metric_alarm.recovery",
        " aws_flow_log.site",
        " aws_network_interface.host",
        " aws_secretsmanager_secret.smtp",
        "module.backup aws_s3_bucket.this",
        "module.replica[0] aws_s3_bucket.this",
        "module.secrets aws_secretsmanager_secret.site",
    } <= set(tagged)
    site = {"Site": "test", "Project": "gitea-suite", "ManagedBy": "terraform"}
    assert [address for address, tags in tagged.items() if not site.items() <= (tags or {}).items()] == []


SESSION_MANAGER = {
    "ssm:UpdateInstanceInformation",
    "ssmmessages:CreateControlChannel",
    "ssmmessages:CreateDataChannel",
    "ssmmessages:OpenControlChannel",
    "ssmmessages:OpenDataChannel",
}


def test_the_host_s_role_is_limited_to_the_site_s_resources_and_cannot_delete_backups(
    cloud: Cloud, applied: Outputs
) -> None:
    access = cloud.client("iam")
    assert access.list_attached_role_policies(RoleName="test-host")["AttachedPolicies"] == []
    assert set(access.list_role_policies(RoleName="test-host")["PolicyNames"]) == {"session-manager", "site"}
    document = access.get_role_policy(RoleName="test-host", PolicyName="session-manager")["PolicyDocument"]
    (statement,) = document["Statement"]
    assert set(statement["Action"]) == SESSION_MANAGER
    statements = access.get_role_policy(RoleName="test-host", PolicyName="site")["PolicyDocument"]["Statement"]
    bound = _all(statements, "Resource")
    secrets = cloud.client("secretsmanager")
    owned = {secrets.describe_secret(SecretId=name)["ARN"] for name in applied.secret_names.values()}
    bucket = f"arn:aws:s3:::{applied.backup_bucket}"
    # Those that the site file's settings of Gitea name.
    (setting_secrets,) = {each for each in bound if each.endswith("*") and ":secret:" in each}
    assert setting_secrets.endswith(":secret:test/setting-*")
    assert bound == {bucket, f"{bucket}/*", f"{bucket}/restic/locks/*", setting_secrets} | owned
    ends = [_as_list(each["Resource"]) for each in statements if "s3:DeleteObject" in _as_list(each["Action"])]
    assert ends == [[f"{bucket}/restic/locks/*"]]
    assert not {
        action
        for action in _all(statements, "Action")
        if re.search(r"\*|DeleteObjectVersion|Bypass|^iam:|PutBucket", action)
    }


def test_no_policy_has_a_wildcard_resource_action_or_principal(cloud: Cloud, applied: Outputs) -> None:
    assert applied
    documents = _policies(cloud.state())
    kinds = {name.split()[-2].partition(".")[0] for name in documents}
    assert kinds >= {"aws_iam_role", "aws_iam_role_policy", "aws_iam_user_policy", "aws_s3_bucket_policy"}
    for name, document in documents.items():
        # Session Manager's channels have no ARN (access.tf).
        bound = [each for each in document["Statement"] if set(_as_list(each["Action"])) != SESSION_MANAGER]
        assert not [each for each in bound if "*" in _as_list(each.get("Resource", []))], name
        granted = [statement for statement in document["Statement"] if statement["Effect"] != "Deny"]
        assert not [action for action in _all(granted, "Action") if "*" in action], name
        assert not [each for each in granted if "*" in str(each.get("Principal", ""))], name


def _policies(state: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The policy documents in Terraform's state by resource and attribute."""
    return {
        f"{resource.get('module', '')} {resource['type']}.{resource['name']} {key}": json.loads(
            instance["attributes"][key]
        )
        for resource in state["resources"]
        for instance in resource["instances"]
        for key in ("policy", "assume_role_policy")
        if resource["mode"] == "managed"
        and str(instance["attributes"].get(key)).startswith("{")
        # It allows everything; network.tf has the reason.
        and resource["type"] != "aws_vpc_endpoint"
    }


def _all(statements: list[dict[str, Any]], key: str) -> set[str]:
    """The values of a key, Resource or Action, in all statements."""
    return {value for statement in statements for value in _as_list(statement[key])}


def _as_list(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value
