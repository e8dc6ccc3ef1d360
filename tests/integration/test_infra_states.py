"""Terraform's states on LocalStack: those of the old layout, and that of a bootstrap that was cut off."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ground import run_registry
from ops.deploy import infrastructure
from ops.errors import OpsError
from ops.model import Outputs
from ops.world.terraform import Terraform, with_override
from tests.support.site_in_aws import Cloud, cloud_at

# As `ops deploy` wrote it before infra/bootstrap used the module infra/bucket, then refreshed once.
OLD_BOOTSTRAP_STATE = run_registry.REPOSITORY / "tests/data/before-layout/bootstrap-state.json"


def test_a_bootstrap_state_of_the_old_layout_plans_moves_and_no_changes(
    cloud: Cloud, applied: Outputs, tmp_path: Path
) -> None:
    assert applied
    root, variables = (
        run_registry.REPOSITORY / "infra/bootstrap",
        cloud.workspace.state / "bootstrap/terraform.tfvars.json",
    )
    planned = _planned(cloud, root, variables, json.loads(OLD_BOOTSTRAP_STATE.read_text()), tmp_path)
    # Today's code made the bucket: a setting that the old code had set otherwise would be drift.
    assert planned.get("resource_drift", []) == []
    assert _moves(planned) == {
        f"aws_s3_bucket{setting}.state": f"module.state.aws_s3_bucket{setting}.{name}"
        for setting, name in (
            ("", "permanent[0]"),
            ("_policy", "this"),
            ("_public_access_block", "this"),
            ("_server_side_encryption_configuration", "this"),
            ("_versioning", "this"),
        )
    }


MAIL_IDENTITY = ("aws_ses_domain_dkim", "aws_ses_domain_identity", "aws_ses_domain_mail_from")


def test_a_site_s_state_of_the_old_layout_plans_moves_and_no_changes(
    cloud: Cloud, applied: Outputs, tmp_path: Path
) -> None:
    assert applied
    state = cloud.state()
    buckets = ("module.backup", "module.replica[0]")
    for resource in state["resources"]:
        if resource["mode"] == "managed" and (resource.get("module") in buckets or resource["type"] in MAIL_IDENTITY):
            for instance in resource["instances"]:
                instance.pop("index_key", None)
    with with_override(run_registry.REPOSITORY / "infra", 'terraform {\n  backend "local" {}\n}\n') as root:
        planned = _planned(cloud, root, cloud.variables(), state, tmp_path, "-refresh=false")
    assert _moves(planned) == {f"{kind}.site": f"{kind}.site[0]" for kind in MAIL_IDENTITY} | {
        f"{module}.{kind}.this": f"{module}.{kind}.this[0]"
        for module in buckets
        for kind in (
            "aws_s3_bucket",
            "aws_s3_bucket_lifecycle_configuration",
            "aws_s3_bucket_object_lock_configuration",
        )
    }


def test_a_plan_that_would_destroy_the_state_bucket_is_refused(cloud: Cloud, applied: Outputs, tmp_path: Path) -> None:
    assert applied
    root, variables = (
        run_registry.REPOSITORY / "infra/bootstrap",
        cloud.workspace.state / "bootstrap/terraform.tfvars.json",
    )
    with pytest.raises(OpsError, match="Instance cannot be destroyed"):
        _planned(cloud, root, variables, json.loads(OLD_BOOTSTRAP_STATE.read_text()), tmp_path, "-destroy")


def _planned(
    cloud: Cloud, root: Path, variables: Path, state: dict[str, Any], folder: Path, *options: str
) -> dict[str, Any]:
    """The plan of a root for a given state, as Terraform's own document; leaves the site's own state alone."""
    kept = folder / "terraform.tfstate"
    kept.write_text(json.dumps(state))
    terraform = Terraform(cloud.world.processes, root, folder, cloud.terraform().environment, cloud.progress.append)
    terraform.init({"path": str(kept)})
    terraform.plan(variables, f"-out={folder / 'plan'}", *options)
    return cloud.show(folder / "plan")


def _moves(planned: dict[str, Any]) -> dict[str, str]:
    """The old and new address of each resource that moves; fails when a resource changes."""
    resources = [each for each in planned["resource_changes"] if each["mode"] == "managed"]
    assert {
        each["address"]: each["change"]["actions"] for each in resources if each["change"]["actions"] != ["no-op"]
    } == {}
    return {each["previous_address"]: each["address"] for each in resources if "previous_address" in each}


def test_a_bootstrap_that_was_cut_off_is_applied_again_with_and_without_its_state(
    aws_endpoint: str, tmp_path: Path
) -> None:
    cloud = cloud_at(aws_endpoint, tmp_path)
    site = replace(cloud.site, backup=replace(cloud.site.backup, bucket="cut-off-gitea-backup"))
    bucket, storage = infrastructure.state_bucket(site), cloud.client("s3")
    storage.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    storage.put_object(Bucket=bucket, Key="test/terraform.tfstate", Body=b"precious")
    lacking = cloud.world.aws_account.missing_settings(bucket)
    assert {"versioning", "TLS-only policy"} <= set(lacking)
    infrastructure.ensure_state_bucket(site, cloud.world, cloud.workspace)
    assert cloud.world.aws_account.missing_settings(bucket) == ()
    assert cloud.progress[0] == f"{bucket}: {', '.join(lacking)} off: applied again"
    storage.delete_bucket_policy(Bucket=bucket)
    infrastructure.ensure_state_bucket(site, cloud.world, cloud.workspace)
    assert cloud.world.aws_account.missing_settings(bucket) == ()
    assert storage.get_object(Bucket=bucket, Key="test/terraform.tfstate")["Body"].read() == b"precious"
