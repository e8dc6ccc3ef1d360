"""The rules for Terraform's root, checked by `terraform test` on a mocked provider."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from ground import run_registry
from ops.world.terraform_mirror import cli_configuration, discover
from ops.world.terraform_program import command


@dataclass(frozen=True)
class Root:
    """A Terraform root, and the running provider for all of its plans."""

    folder: Path
    provider: str

    def test(self, *options: str) -> subprocess.CompletedProcess[str]:
        return _terraform(self.folder, "test", *options, TF_REATTACH_PROVIDERS=self.provider)


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Root]:
    """A copy of infra/ whose secrets module makes no values: mocked providers do not support ephemeral resources."""
    infra = tmp_path_factory.mktemp("rules") / "infra"
    shutil.copytree(run_registry.REPOSITORY / "infra", infra)
    shutil.rmtree(infra / "secrets")
    (infra / "tests/without_values").rename(infra / "secrets")
    prepared = _terraform(infra, "init", "-backend=false", "-input=false")
    assert prepared.returncode == 0, prepared.stderr
    with _running_provider(infra.parent / "data") as provider:
        yield Root(infra, provider)


@contextmanager
def _running_provider(data: Path) -> Iterator[str]:
    """Run the provider that init installed, and yield the value of TF_REATTACH_PROVIDERS for it.

    Terraform asks a mocked provider only for its schema, but would start it three times per rule, which takes longer than the
    rule itself.
    """
    (binary,) = data.glob("providers/*/hashicorp/aws/*/*/terraform-provider-aws_*")
    with subprocess.Popen([binary, "-debug"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            found = (re.search(r"TF_REATTACH_PROVIDERS='(.+)'", line) for line in process.stdout)
            yield next(each[1] for each in found if each)
        finally:
            process.terminate()


def _terraform(infra: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    # A provider lives for one plan. Garbage collection would take a fifth of its time.
    environment = (
        os.environ | variables | {"TF_DATA_DIR": str(infra.parent / "data"), "TF_CLI_CONFIG_FILE": "", "GOGC": "400"}
    )
    if mirror := discover():
        configuration = infra.parent / "terraform.rc"
        configuration.write_text(cli_configuration(mirror))
        environment["TF_CLI_CONFIG_FILE"] = str(configuration)
    argv = [*command(), *arguments, "-no-color"]
    return subprocess.run(argv, cwd=infra, env=environment, capture_output=True, text=True, check=False)


def test_the_infrastructure_follows_every_rule(copy: Root) -> None:
    done = copy.test()
    rules = len(re.findall(r'^run "', (copy.folder / "tests/rules.tftest.hcl").read_text(), re.MULTILINE))
    assert f"{rules} passed, 0 failed" in done.stdout, done.stdout + done.stderr


def test_a_violated_rule_is_reported(copy: Root) -> None:
    network = copy.folder / "network.tf"
    kept = network.read_text()
    network.write_text(kept.replace("{ http = 80,", "{ database = 5432, http = 80,"))
    # The head of the file and the first rule.
    rules = (copy.folder / "tests/rules.tftest.hcl").read_text().split('\nrun "')
    (copy.folder / "tests/one.tftest.hcl").write_text('\nrun "'.join(rules[:2]))
    done = copy.test("-filter=tests/one.tftest.hcl")
    network.write_text(kept)
    assert done.returncode != 0
    assert "another port is open to the world" in done.stdout + done.stderr
