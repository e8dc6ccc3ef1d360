"""The verbs of the gate, with a fake checkout."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ops.errors import ConfigError, OpsError, Refused
from ops.gate import evidence as gate_evidence
from ops.gate import runner
from ops.gate.benchmarks import Bench, Figure, with_benchmark
from ops.gate.runner import GateContext
from ops.world import evidence
from ops.world.evidence import Evidence
from tests.support import fakes

PASSED = '<testsuite><testcase classname="tests.disaster.site.test_drill" name="test_a_drill_b" time="1"/></testsuite>'
FAILED = '<testsuite><testcase classname="a" name="test_b" time="1"><failure/></testcase></testsuite>'
SKIPPED = '<testsuite><testcase classname="a" name="test_b" time="1"><skipped/></testcase></testsuite>'


@dataclass
class FakeGit:
    """A fake checkout."""

    changed: tuple[str, ...] = ()
    tags: dict[str, str] = field(default_factory=dict)
    committed: str = "f" * 40
    nameless: bool = False

    def tree(self) -> str:
        return self.committed

    def commit(self) -> str:
        return "c" * 40

    def changed_files(self) -> tuple[str, ...]:
        return self.changed

    def tag_exists(self, name: str) -> bool:
        return name in self.tags

    def tag(self, name: str, message: str) -> None:
        if self.nameless:
            raise Refused("git tag failed: who are you?", "set git config user.email")
        self.tags[name] = message


Program = Callable[[Sequence[str], Mapping[str, str]], int]


@dataclass
class FakePrograms:
    """Fake commands of the stages."""

    program: Program
    ran: list[Sequence[str]] = field(default_factory=list)

    def passthrough(self, argv: Sequence[str], environment: Mapping[str, str] | None = None) -> int:
        self.ran.append(argv)
        return self.program(argv, environment or {})


def _writes(junit: str, code: int = 0) -> Program:
    def program(argv: Sequence[str], environment: Mapping[str, str]) -> int:
        (option,) = shlex.split(environment["PYTEST_ADDOPTS"])
        Path(option.removeprefix("--junitxml=")).write_text(junit)
        return code

    return program


@pytest.fixture
def context(tmp_path: Path) -> GateContext:
    return _context(tmp_path)


def _context(root: Path) -> GateContext:
    progress: list[str] = []
    kept = Evidence(root / "reports", root)
    programs = FakePrograms(_writes(PASSED))
    return GateContext(root, FakeGit(), kept, programs, fakes.FakeClock(), progress.append, lambda: {"ruff": "0.14"})  # type: ignore[arg-type]


def _run(context: GateContext, *names: str) -> None:
    for name in names:
        assert runner.run(context, stage=name, options=()).exit_code == 0


def test_a_stage_that_passes_is_proven_and_the_next_may_start(context: GateContext) -> None:
    _run(context, "lint", "unit", "integration", "deploy-e2e")
    report = runner.status(context)
    assert report.exit_code == 0
    assert [each["proven"] for each in report.facts["stages"]] == [True] * 4


def test_a_stage_after_an_unproven_one_is_refused_and_its_command_does_not_run(context: GateContext) -> None:
    with pytest.raises(Refused, match="unit needs lint"):
        _run(context, "unit")
    assert context.processes.ran == []  # type: ignore[attr-defined]


def test_a_stage_runs_only_its_complete_command(context: GateContext) -> None:
    with pytest.raises(ConfigError, match="lint takes no options"):
        runner.run(context, stage="lint", options=["-k", "one"])
    assert context.processes.ran == []  # type: ignore[attr-defined]
    _run(context, "lint", "unit", "integration")
    runner.run(context, stage="deploy-e2e", options=["--rehearse"])
    assert context.processes.ran[-1] == [sys.executable, *gate_evidence.COMMANDS["deploy-e2e"], "--rehearse"]  # type: ignore[attr-defined]
    assert gate_evidence.facts_of(runner.verdicts(context)[3].statement)["command"][-1] == "--rehearse"


@pytest.mark.parametrize("stage", gate_evidence.STAGES)
def test_a_narrowed_selection_of_tests_runs_nothing_and_proves_nothing(context: GateContext, stage: str) -> None:
    for options in (["pytest", "-k", "one"], ["-k", "one"], ["--foo"]):
        with pytest.raises(ConfigError, match=f"takes no options|{stage} has no option") as caught:
            runner.run(context, stage=stage, options=options)
        assert caught.value.exit_code == 2
    assert context.processes.ran == []  # type: ignore[attr-defined]
    assert runner.status(context).facts["stages"][0]["proven"] is False


def test_a_failed_stage_keeps_its_exit_code_and_deletes_its_old_evidence(context: GateContext) -> None:
    _run(context, "lint")
    context.processes.program = _writes(PASSED, 1)  # type: ignore[attr-defined]
    assert runner.run(context, stage="lint", options=()).exit_code == 1
    assert runner.status(context).exit_code == 3


def test_a_stage_with_a_skipped_test_proves_nothing_and_names_the_test(context: GateContext) -> None:
    context.processes.program = _writes(SKIPPED)  # type: ignore[attr-defined]
    with pytest.raises(Refused, match="a::test_b"):
        _run(context, "lint")


def test_a_changed_tree_leaves_no_evidence(context: GateContext) -> None:
    context.git.changed = ("a.py",)  # type: ignore[attr-defined]
    _run(context, "lint")
    context.git.changed = ()  # type: ignore[attr-defined]
    assert runner.status(context).exit_code == 3


def test_a_tree_that_changes_while_the_stage_runs_leaves_no_evidence(context: GateContext) -> None:
    passing = _writes(PASSED)

    def program(argv: Sequence[str], environment: Mapping[str, str]) -> int:
        context.git.committed = "0" * 40  # type: ignore[attr-defined]
        return passing(argv, environment)

    context.processes.program = program  # type: ignore[attr-defined]
    _run(context, "lint")
    assert runner.status(context).exit_code == 3


def test_a_change_that_is_undone_while_the_stage_runs_leaves_no_evidence(context: GateContext) -> None:
    passing = _writes(PASSED)

    def program(argv: Sequence[str], environment: Mapping[str, str]) -> int:
        context.git.changed = ()  # type: ignore[attr-defined]
        return passing(argv, environment)

    context.git.changed = ("a.py",)  # type: ignore[attr-defined]
    context.processes.program = program  # type: ignore[attr-defined]
    _run(context, "lint")
    assert runner.status(context).facts["stages"][0]["proven"] is False


def test_a_run_on_a_changed_tree_keeps_the_evidence_of_the_committed_one(context: GateContext) -> None:
    _run(context, "lint")
    context.git.changed = ("a.py",)  # type: ignore[attr-defined]
    _run(context, "lint")
    context.git.changed = ()  # type: ignore[attr-defined]
    assert runner.status(context).facts["stages"][0]["proven"] is True


def test_a_failed_stage_names_the_failed_test(context: GateContext) -> None:
    context.processes.program = _writes(FAILED, 1)  # type: ignore[attr-defined]
    assert runner.run(context, stage="lint", options=()).exit_code == 1
    assert runner.status(context).facts["stages"][0]["reason"] == "1 of its tests failed: a::test_b"
    assert "1 of its tests failed" in (context.evidence.reports / "index.html").read_text()


def test_a_stage_with_an_error_code_proves_nothing_even_if_its_tests_passed(context: GateContext) -> None:
    context.processes.program = _writes(PASSED, 2)  # type: ignore[attr-defined]
    assert runner.run(context, stage="lint", options=()).exit_code == 2
    assert runner.status(context).facts["stages"][0]["reason"] == "it has not run for this tree"


@pytest.mark.parametrize("left", [None, "", "<testsuite>", "words"])
@pytest.mark.parametrize("code", [0, 1])
def test_a_stage_without_a_readable_junit_file_proves_nothing(
    context: GateContext, left: str | None, code: int
) -> None:
    context.processes.program = (lambda argv, environment: code) if left is None else _writes(left, code)  # type: ignore[attr-defined]
    if code:
        assert runner.run(context, stage="lint", options=()).exit_code == 1
    else:
        with pytest.raises(Refused, match="left no readable JUnit file"):
            runner.run(context, stage="lint", options=())
    assert runner.status(context).facts["stages"][0]["proven"] is False


def test_a_checkout_may_be_in_a_folder_with_a_space(tmp_path: Path) -> None:
    context = _context(tmp_path / "my work")
    (tmp_path / "my work").mkdir()
    _run(context, "lint")
    assert runner.status(context).facts["stages"][0]["proven"] is True


def test_the_evidence_has_the_images_and_sites_from_the_stage_s_note(
    context: GateContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    passing = _writes(PASSED)

    def program(argv: Sequence[str], environment: Mapping[str, str]) -> int:
        monkeypatch.setenv(evidence.NOTE_VARIABLE, environment[evidence.NOTE_VARIABLE])
        evidence.note(image_set="upstream", images={"a:1": "sha256:" + "1" * 64})
        evidence.note(images={"b:1": "sha256:" + "2" * 64}, sites={"local": "sha256:" + "3" * 64})
        return passing(argv, environment)

    context.processes.program = program  # type: ignore[attr-defined]
    _run(context, "lint")
    statement = runner.verdicts(context)[0].statement
    assert gate_evidence.facts_of(statement)["image_set"] == "upstream"
    assert gate_evidence.images_of(statement) == {"a:1": "sha256:" + "1" * 64, "b:1": "sha256:" + "2" * 64}
    assert gate_evidence.sites_of(statement) == {"local": "sha256:" + "3" * 64}


def test_the_page_shows_the_benchmarks_file(context: GateContext) -> None:
    figure = Figure("a second backup", "1.2 s", "backup.sh", 0.05, "at most 0.1", met=True)
    bench = Bench("backup", "f" * 40, datetime(2026, 11, 23, tzinfo=UTC), (figure,))
    context.evidence.write("bench.json", with_benchmark(None, bench).decode())
    runner.status(context)
    page = (context.evidence.reports / "index.html").read_text()
    assert "a second backup" in page
    assert "on this tree" in page


def test_a_note_outside_the_gate_writes_no_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(evidence.NOTE_VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)
    evidence.note(image_set="upstream")
    assert list(tmp_path.iterdir()) == []


def test_a_stage_that_runs_at_the_same_time_does_not_change_the_note(
    context: GateContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    _run(context, "lint", "unit")
    passing = _writes(PASSED)

    def program(argv: Sequence[str], environment: Mapping[str, str]) -> int:
        monkeypatch.setenv(evidence.NOTE_VARIABLE, environment[evidence.NOTE_VARIABLE])
        evidence.note(image_set="hermetic")
        context.processes.program = passing  # type: ignore[attr-defined]
        context.git.changed = ("a.py",)  # type: ignore[attr-defined]
        _run(context, "unit")
        context.git.changed = ()  # type: ignore[attr-defined]
        return passing(argv, environment)

    context.processes.program = program  # type: ignore[attr-defined]
    _run(context, "integration")
    assert gate_evidence.facts_of(runner.verdicts(context)[2].statement)["image_set"] == "hermetic"


def test_the_evidence_has_the_tools_versions(context: GateContext) -> None:
    _run(context, "lint")
    assert gate_evidence.tools_of(runner.verdicts(context)[0].statement) == {"ruff": "0.14"}


def test_a_promotion_without_a_tag_leaves_no_manifest(context: GateContext) -> None:
    _run(context, "lint", "unit", "integration", "deploy-e2e")
    context.git.nameless = True  # type: ignore[attr-defined]
    with pytest.raises(Refused, match="who are you"):
        runner.promote(context, version="1.0.0")
    assert list(context.evidence.reports.glob("release-*")) == []


def test_a_deployment_runs_unproven_stages_first(context: GateContext) -> None:
    _run(context, "lint")
    passing = _writes(PASSED)

    def program(argv: Sequence[str], environment: Mapping[str, str]) -> int:
        if "noxw" in argv[0]:
            _run(context, "unit", "integration")
            return 0
        return passing(argv, environment)

    context.processes.program = program  # type: ignore[attr-defined]
    _run(context, "deploy-e2e")
    assert [str(context.root / "noxw"), "-s", "unit", "integration"] in context.processes.ran  # type: ignore[attr-defined]


def test_a_deployment_does_not_start_when_a_stage_before_it_fails(context: GateContext) -> None:
    context.processes.program = lambda argv, environment: 7  # type: ignore[attr-defined]
    with pytest.raises(OpsError) as caught:
        _run(context, "deploy-e2e")
    assert caught.value.exit_code == 7
    assert len(context.processes.ran) == 1  # type: ignore[attr-defined]


def test_promotion_writes_the_manifest_and_an_annotated_tag_once(context: GateContext) -> None:
    with pytest.raises(Refused, match="lint is not proven"):
        runner.promote(context, version="1.0.0")
    _run(context, "lint", "unit", "integration", "deploy-e2e")
    runner.promote(context, version="1.0.0")
    written = json.loads((context.evidence.reports / "release-v1.0.0.json").read_text())
    assert set(written["evidence"]) == {"lint", "unit", "integration", "deploy-e2e"}
    assert json.loads(context.git.tags["v1.0.0"]) == written  # type: ignore[attr-defined]
    with pytest.raises(Refused, match=r"v1\.0\.0 already exists"):
        runner.promote(context, version="1.0.0")


def test_a_changed_tree_is_not_promoted(context: GateContext) -> None:
    _run(context, "lint", "unit", "integration", "deploy-e2e")
    context.git.changed = ("a.py",)  # type: ignore[attr-defined]
    with pytest.raises(Refused, match="changed"):
        runner.promote(context, version="1.0.0")


def test_the_key_is_made_once_and_only_its_owner_can_read_it(context: GateContext, tmp_path: Path) -> None:
    assert context.evidence.key() == context.evidence.key()
    assert (tmp_path / "gitea-suite-gate.key").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("value", ["words", "00ff"])
def test_an_invalid_key_is_a_configuration_error(
    context: GateContext, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("GATE_KEY", value)
    with pytest.raises(OpsError, match="GATE_KEY is not a key"):
        context.evidence.key()
