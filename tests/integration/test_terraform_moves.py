"""Terraform itself, on resources that need no provider: what the adapter does with a state of an older layout."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ops.errors import Refused
from ops.model import Change
from ops.world.process import Processes
from ops.world.terraform import Terraform, resources_from

ROOT = """
terraform {
  backend "local" {}
}

module "backup" {
  source = "./bucket"
}

resource "terraform_data" "host" {}
"""


@pytest.fixture
def variables(tmp_path: Path) -> Path:
    path = tmp_path / "variables.tfvars.json"
    path.write_text("{}")
    return path


@pytest.fixture
def terraform(tmp_path: Path, variables: Path) -> Terraform:
    """A root with a module whose resource has got an index since it was applied."""
    root = tmp_path / "root"
    (root / "bucket").mkdir(parents=True)
    (root / "main.tf").write_text(ROOT)
    module = root / "bucket/main.tf"
    module.write_text('resource "terraform_data" "this" {}\n')
    told: list[str] = []
    made = Terraform(Processes(), root, tmp_path / "data", {}, told.append)
    made.init({"path": str(tmp_path / "terraform.tfstate")})
    assert made.apply(variables)
    module.write_text('resource "terraform_data" "this" {\n  count = 1\n}\n')
    return made


def test_resources_that_only_moved_are_neither_a_change_nor_drift(terraform: Terraform, variables: Path) -> None:
    assert terraform.changes(variables) == ()
    assert terraform.apply(variables) is False


def test_a_destroy_of_some_resources_records_the_moves_of_the_others_and_leaves_those(
    terraform: Terraform, variables: Path
) -> None:
    before = json.dumps(terraform.state())
    terraform.destroy(variables, "-target=terraform_data.host")
    after = terraform.state()
    assert resources_from(after) == ["module.backup.terraform_data.this[0]"]
    (kept,) = (each for each in after["resources"] if each["name"] == "this")
    assert kept["instances"][0]["attributes"]["id"] in before


def test_exactly_the_plan_that_was_agreed_to_is_applied_and_a_refused_one_changes_nothing(
    terraform: Terraform, variables: Path
) -> None:
    before, options = terraform.state()["resources"], ("-replace=terraform_data.host",)
    asked: list[tuple[Change, ...]] = []

    def refuse(changes: tuple[Change, ...]) -> None:
        asked.append(changes)
        raise Refused("no")

    with pytest.raises(Refused):
        terraform.apply_if_agreed(variables, *options, agree=refuse)
    assert [(each.address, each.action) for each in asked[0]] == [("terraform_data.host", "replace")]
    assert terraform.state()["resources"] == before
    assert terraform.apply_if_agreed(variables, *options, agree=asked.append) is True
    assert terraform.state()["resources"] != before
    assert terraform.apply_if_agreed(variables, agree=asked.append) is False
    assert asked[1:] == [asked[0], ()]
    # The moves of the fixture are recorded, although nothing changed.
    assert resources_from(terraform.state()) == ["terraform_data.host", "module.backup.terraform_data.this[0]"]
