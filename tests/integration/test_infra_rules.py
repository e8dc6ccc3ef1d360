"""The rules that Terraform's root must keep, by `terraform test` on a mocked provider."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from ground import run
from ops.world.terraform_mirror import cli_configuration, discover


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of infra/ whose secrets module makes no values, for mocked providers know no ephemeral resources."""
    infra = tmp_path_factory.mktemp("rules") / "infra"
    shutil.copytree(run.REPOSITORY / "infra", infra)
    shutil.rmtree(infra / "secrets")
    (infra / "tests/without_values").rename(infra / "secrets")
    prepared = _terraform(infra, "init", "-backend=false", "-input=false")
    assert prepared.returncode == 0, prepared.stderr
    return infra


def _terraform(infra: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    # A provider lives for one plan: what it would spend a fifth of its time on, collecting garbage, is not worth it.
    environment = os.environ | {"TF_DATA_DIR": str(infra.parent / "data"), "TF_CLI_CONFIG_FILE": "", "GOGC": "400"}
    if mirror := discover():
        configuration = infra.parent / "terraform.rc"
        configuration.write_text(cli_configuration(mirror))
        environment["TF_CLI_CONFIG_FILE"] = str(configuration)
    argv = ["terraform", *arguments, "-no-color"]
    return subprocess.run(argv, cwd=infra, env=environment, capture_output=True, text=True, check=False)


def test_every_rule_of_the_infrastructure_holds(copy: Path) -> None:
    done = _terraform(copy, "test")
    written = len(re.findall(r'^run "', (copy / "tests/rules.tftest.hcl").read_text(), re.MULTILINE))
    assert f"{written} passed, 0 failed" in done.stdout, done.stdout + done.stderr


def test_a_rule_that_is_broken_is_found(copy: Path) -> None:
    network = copy / "network.tf"
    kept = network.read_text()
    network.write_text(kept.replace("{ http = 80,", "{ database = 5432, http = 80,"))
    # What stands before the first rule, and that rule.
    rules = (copy / "tests/rules.tftest.hcl").read_text().split('\nrun "')
    (copy / "tests/one.tftest.hcl").write_text('\nrun "'.join(rules[:2]))
    done = _terraform(copy, "test", "-filter=tests/one.tftest.hcl")
    network.write_text(kept)
    assert done.returncode != 0
    assert "another port is open to the world" in done.stdout + done.stderr
