"""The samples of output in the documents are what the code prints.

A comment `<!-- sample: NAME -->` stands before each. A line `...` leaves out any number of lines, and a duration may differ.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ops import report
from ops.config import load
from ops.deploy import deploy, preflight
from ops.model import Change, Report
from ops.stack import accounts
from ops.update import available, plan, update
from ops.world.containers import Service
from tests.support import fakes
from tests.support.fake_host import FakeHost
from tests.support.moto_site import site_on_moto

ROOT = Path(__file__).parents[2]
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
_FENCE = re.compile(r"(?:^<!-- sample: ([a-z-]+) -->\n)?^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# Kinds of fenced blocks that contain no output.
_SOURCE = {"sh", "toml", "yaml", "hcl", "text", "python", "sql", "nginx", "ini", "json"}


def update_of_gitea(folder: Path, patch: pytest.MonkeyPatch) -> str:
    """What `ops update gitea` prints."""
    del patch
    host = FakeHost(directory=folder)

    def confirm(_: str, lines: Sequence[str]) -> None:
        host.progress.extend(lines)

    request = plan.UpdateRequest("gitea")
    world: Any = host
    done = update.update(host.site(), world, request=request, confirm=confirm, paths=host.paths, compose=host.compose)
    return "\n".join([*host.progress, report.as_text(done)])


def check_for_updates(folder: Path, patch: pytest.MonkeyPatch) -> str:
    """What `ops update --check` prints."""
    del patch
    host: Any = FakeHost(directory=folder)
    return report.as_text(available.check(host.site(), host, compose=host.compose))


def rotation(folder: Path, patch: pytest.MonkeyPatch) -> str:
    """What `ops secrets rotate database-password` prints, with the lines that the host sends."""
    patch.setattr(accounts, "ensure_admin", lambda *_, **__: Report("accounts", False, ""))
    with site_on_moto(folder, patch) as cloud:
        cloud.services += (Service("gitea", "image", "running", "healthy", 0, started=datetime.now(UTC)),)
        cloud.progress.clear()
        done = cloud.rotate("database-password")
        return "\n".join([*cloud.progress, report.as_text(done)])


def dry_run_of_a_deployment(folder: Path, patch: pytest.MonkeyPatch) -> str:
    """What `ops deploy --dry-run` prints for the example, with the resources that the sample names."""
    patch.setattr(deploy, "write_variables", lambda *_: {})
    patch.setattr(deploy, "public_key", lambda _: "")
    patch.setattr(preflight, "require", lambda *_, **__: ())
    sources = "".join(path.read_text() for path in sorted((ROOT / "infra").glob("*.tf")))
    resources = re.findall(r'^resource "(\w+)" "(\w+)"', sources, re.MULTILINE)
    changes = [Change(f"{kind}.{name}", kind, "create") for kind, name in sorted(resources)]
    patch.setattr(deploy, "first_changes", lambda *_: changes)
    world: Any = fakes.FakeWorld()
    workspace: Any = SimpleNamespace(repository=ROOT, state=folder, cache=folder)
    site = load.load(ROOT / "sites/production.example.toml")
    return report.as_text(deploy.dry_run(site, world, workspace=workspace))


PRINTED: dict[str, Callable[[Path, pytest.MonkeyPatch], str]] = {
    "update": update_of_gitea,
    "update-check": check_for_updates,
    "rotate": rotation,
    "deploy-dry-run": dry_run_of_a_deployment,
}


def samples() -> dict[str, str]:
    """The text of each sample by its name."""
    found = (each for path in DOCUMENTS for each in _FENCE.finditer(path.read_text()))
    return {each[1]: each[3] for each in found if each[1]}


def shows(sample: str, printed: str) -> bool:
    """Whether a sample is what was printed, apart from left out lines and durations."""
    wanted = [line for line in sample.splitlines() if not line.startswith("$ ")]
    parts = ["(?:.*\n)*?" if line == "..." else f"{re.escape(_steady(line))}\n" for line in wanted]
    return re.fullmatch("".join(parts), f"{_steady(printed)}\n") is not None


def _steady(text: str) -> str:
    return re.sub(r"\d+\.\d s\b", "0.0 s", text)


@pytest.mark.parametrize("name", PRINTED)
def test_a_sample_is_what_the_code_prints(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    printed = PRINTED[name](tmp_path, monkeypatch)
    sample = samples()[name]
    assert shows(sample, printed), f"the document has\n{sample}\nand the code prints\n{printed}"


def test_every_block_of_output_in_a_document_is_a_sample() -> None:
    blocks = [(path.name, each) for path in DOCUMENTS for each in _FENCE.finditer(path.read_text())]
    assert len(blocks) > 30
    assert [(name, each[3]) for name, each in blocks if each[2] not in _SOURCE and not each[1]] == []
    assert sorted(each[1] for _, each in blocks if each[1]) == sorted(PRINTED)


@pytest.mark.parametrize(
    ("sample", "printed", "same"),
    [
        ("$ ops x\na\nb\n", "a\nb", True),
        ("a\n...\nb took 3.1 s\n", "a\nx\ny\nb took 0.0 s", True),
        ("a\n...\n", "a\nb\nc", True),
        ("a\nb\n", "a\nb\nc", False),
        ("a\nb\n", "a\nx\nb", False),
        ("b\na\n", "a\nb", False),
        ("a 3.1 h\n", "a 3.2 h", False),
        ("a.c\n", "abc", False),
    ],
)
def test_a_sample_leaves_out_lines_only_where_it_says_so(sample: str, printed: str, same: bool) -> None:
    assert shows(sample, printed) is same
