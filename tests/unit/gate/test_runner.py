"""The verbs of the gate, on a checkout in memory."""

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
    """A checkout."""

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
            raise Refused("git tag failed: who are you?", "git config user.email")
        self.tags[name] = message


Program = Callable[[Sequence[str], Mapping[str, str]], int]


@dataclass
class FakePrograms:
    """What the stages' commands do."""

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
def house(tmp_path: Path) -> GateContext:
    return _house(tmp_path)


def _house(root: Path) -> GateContext:
    told: list[str] = []
    kept = Evidence(root / "reports", root)
    programs = FakePrograms(_writes(PASSED))
    return GateContext(root, FakeGit(), kept, programs, fakes.FakeClock(), told.append, lambda: {"ruff": "0.14"})  # type: ignore[arg-type]


def _run(house: GateContext, *names: str) -> None:
    for name in names:
        assert runner.run(house, stage=name, options=()).exit_code == 0


def test_a_stage_that_passes_is_proven_and_the_next_may_start(house: GateContext) -> None:
    _run(house, "lint", "unit", "integration", "deploy-e2e")
    report = runner.status(house)
    assert report.exit_code == 0
    assert [each["proven"] for each in report.facts["stages"]] == [True] * 4


def test_a_stage_out_of_turn_is_refused_and_its_command_never_runs(house: GateContext) -> None:
    with pytest.raises(Refused, match="stands on lint"):
        _run(house, "unit")
    assert house.processes.ran == []  # type: ignore[attr-defined]


def test_a_stage_runs_its_own_command_and_no_part_of_it(house: GateContext) -> None:
    with pytest.raises(ConfigError, match="lint takes no options"):
        runner.run(house, stage="lint", options=["-k", "one"])
    assert house.processes.ran == []  # type: ignore[attr-defined]
    _run(house, "lint", "unit", "integration")
    runner.run(house, stage="deploy-e2e", options=["--rehearse"])
    assert house.processes.ran[-1] == [sys.executable, *gate_evidence.COMMANDS["deploy-e2e"], "--rehearse"]  # type: ignore[attr-defined]
    assert gate_evidence.facts_of(runner.verdicts(house)[3].statement)["command"][-1] == "--rehearse"


def test_a_stage_that_fails_keeps_its_exit_code_and_takes_its_old_evidence_away(house: GateContext) -> None:
    _run(house, "lint")
    house.processes.program = _writes(PASSED, 1)  # type: ignore[attr-defined]
    assert runner.run(house, stage="lint", options=()).exit_code == 1
    assert runner.status(house).exit_code == 3


def test_a_stage_that_skipped_a_test_proves_nothing_and_says_which(house: GateContext) -> None:
    house.processes.program = _writes(SKIPPED)  # type: ignore[attr-defined]
    with pytest.raises(Refused, match="a::test_b"):
        _run(house, "lint")


def test_a_changed_tree_leaves_no_evidence(house: GateContext) -> None:
    house.git.changed = ("a.py",)  # type: ignore[attr-defined]
    _run(house, "lint")
    house.git.changed = ()  # type: ignore[attr-defined]
    assert runner.status(house).exit_code == 3


def test_a_tree_that_changes_while_the_stage_runs_leaves_no_evidence(house: GateContext) -> None:
    passing = _writes(PASSED)

    def program(argv: Sequence[str], environment: Mapping[str, str]) -> int:
        house.git.committed = "0" * 40  # type: ignore[attr-defined]
        return passing(argv, environment)

    house.processes.program = program  # type: ignore[attr-defined]
    _run(house, "lint")
    assert runner.status(house).exit_code == 3


def test_a_change_that_is_taken_back_while_the_stage_runs_leaves_no_evidence(house: GateContext) -> None:
    passing = _writes(PASSED)

    def program(argv: Sequence[str], environment: Mapping[str, str]) -> int:
        house.git.changed = ()  # type: ignore[attr-defined]
        return passing(argv, environment)

    house.git.changed = ("a.py",)  # type: ignore[attr-defined]
    house.processes.program = program  # type: ignore[attr-defined]
    _run(house, "lint")
    assert runner.status(house).facts["stages"][0]["proven"] is False


def test_a_run_on_a_changed_tree_keeps_the_evidence_of_the_committed_one(house: GateContext) -> None:
    _run(house, "lint")
    house.git.changed = ("a.py",)  # type: ignore[attr-defined]
    _run(house, "lint")
    house.git.changed = ()  # type: ignore[attr-defined]
    assert runner.status(house).facts["stages"][0]["proven"] is True


def test_a_stage_that_fails_says_which_test_and_not_that_it_never_ran(house: GateContext) -> None:
    house.processes.program = _writes(FAILED, 1)  # type: ignore[attr-defined]
    assert runner.run(house, stage="lint", options=()).exit_code == 1
    assert runner.status(house).facts["stages"][0]["reason"] == "1 of its tests failed: a::test_b"
    assert "1 of its tests failed" in (house.evidence.reports / "index.html").read_text()


def test_a_stage_that_ends_badly_though_its_tests_passed_proves_nothing(house: GateContext) -> None:
    house.processes.program = _writes(PASSED, 2)  # type: ignore[attr-defined]
    assert runner.run(house, stage="lint", options=()).exit_code == 2
    assert runner.status(house).facts["stages"][0]["reason"] == "it has not run for this tree"


@pytest.mark.parametrize("left", [None, "", "<testsuite>", "words"])
@pytest.mark.parametrize("code", [0, 1])
def test_a_stage_that_leaves_no_readable_junit_file_proves_nothing_and_is_no_crash(
    house: GateContext, left: str | None, code: int
) -> None:
    house.processes.program = (lambda argv, environment: code) if left is None else _writes(left, code)  # type: ignore[attr-defined]
    if code:
        assert runner.run(house, stage="lint", options=()).exit_code == 1
    else:
        with pytest.raises(Refused, match="left no JUnit file that can be read"):
            runner.run(house, stage="lint", options=())
    assert runner.status(house).facts["stages"][0]["proven"] is False


def test_a_checkout_may_lie_in_a_folder_with_a_space(tmp_path: Path) -> None:
    house = _house(tmp_path / "my work")
    (tmp_path / "my work").mkdir()
    _run(house, "lint")
    assert runner.status(house).facts["stages"][0]["proven"] is True


def test_the_evidence_names_the_images_and_the_site_that_the_stage_noted(
    house: GateContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    passing = _writes(PASSED)

    def program(argv: Sequence[str], environment: Mapping[str, str]) -> int:
        monkeypatch.setenv(evidence.NOTE_VARIABLE, environment[evidence.NOTE_VARIABLE])
        evidence.note(image_set="upstream", images={"a:1": "sha256:" + "1" * 64})
        evidence.note(images={"b:1": "sha256:" + "2" * 64}, sites={"local": "sha256:" + "3" * 64})
        return passing(argv, environment)

    house.processes.program = program  # type: ignore[attr-defined]
    _run(house, "lint")
    statement = runner.verdicts(house)[0].statement
    assert gate_evidence.facts_of(statement)["image_set"] == "upstream"
    assert gate_evidence.images_of(statement) == {"a:1": "sha256:" + "1" * 64, "b:1": "sha256:" + "2" * 64}
    assert gate_evidence.sites_of(statement) == {"local": "sha256:" + "3" * 64}


def test_the_page_shows_what_the_benchmarks_wrote(house: GateContext) -> None:
    figure = Figure("a second backup", "1.2 s", "backup.sh", 0.05, "at most 0.1", met=True)
    bench = Bench("backup", "f" * 40, datetime(2026, 11, 23, tzinfo=UTC), (figure,))
    house.evidence.write("bench.json", with_benchmark(None, bench).decode())
    runner.status(house)
    page = (house.evidence.reports / "index.html").read_text()
    assert "a second backup" in page
    assert "of this tree" in page


def test_what_runs_outside_of_a_gate_notes_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(evidence.NOTE_VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)
    evidence.note(image_set="upstream")
    assert list(tmp_path.iterdir()) == []


def test_another_stage_that_starts_meanwhile_takes_no_images_from_the_evidence(
    house: GateContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    _run(house, "lint", "unit")
    passing = _writes(PASSED)

    def program(argv: Sequence[str], environment: Mapping[str, str]) -> int:
        monkeypatch.setenv(evidence.NOTE_VARIABLE, environment[evidence.NOTE_VARIABLE])
        evidence.note(image_set="hermetic")
        house.processes.program = passing  # type: ignore[attr-defined]
        house.git.changed = ("a.py",)  # type: ignore[attr-defined]
        _run(house, "unit")
        house.git.changed = ()  # type: ignore[attr-defined]
        return passing(argv, environment)

    house.processes.program = program  # type: ignore[attr-defined]
    _run(house, "integration")
    assert gate_evidence.facts_of(runner.verdicts(house)[2].statement)["image_set"] == "hermetic"


def test_the_evidence_names_the_tools(house: GateContext) -> None:
    _run(house, "lint")
    assert gate_evidence.tools_of(runner.verdicts(house)[0].statement) == {"ruff": "0.14"}


def test_a_promotion_that_git_cannot_tag_leaves_no_manifest(house: GateContext) -> None:
    _run(house, "lint", "unit", "integration", "deploy-e2e")
    house.git.nameless = True  # type: ignore[attr-defined]
    with pytest.raises(Refused, match="who are you"):
        runner.promote(house, version="1.0.0")
    assert list(house.evidence.reports.glob("release-*")) == []


def test_a_deployment_runs_what_is_not_yet_proven_first(house: GateContext) -> None:
    _run(house, "lint")
    passing = _writes(PASSED)

    def program(argv: Sequence[str], environment: Mapping[str, str]) -> int:
        if "noxw" in argv[0]:
            _run(house, "unit", "integration")
            return 0
        return passing(argv, environment)

    house.processes.program = program  # type: ignore[attr-defined]
    _run(house, "deploy-e2e")
    assert [str(house.root / "noxw"), "-s", "unit", "integration"] in house.processes.ran  # type: ignore[attr-defined]


def test_a_deployment_does_not_start_when_a_stage_before_it_fails(house: GateContext) -> None:
    house.processes.program = lambda argv, environment: 7  # type: ignore[attr-defined]
    with pytest.raises(OpsError) as caught:
        _run(house, "deploy-e2e")
    assert caught.value.exit_code == 7
    assert len(house.processes.ran) == 1  # type: ignore[attr-defined]


def test_promotion_writes_the_manifest_and_an_annotated_tag_once(house: GateContext) -> None:
    with pytest.raises(Refused, match="lint is not proven"):
        runner.promote(house, version="1.0.0")
    _run(house, "lint", "unit", "integration", "deploy-e2e")
    runner.promote(house, version="1.0.0")
    written = json.loads((house.evidence.reports / "release-v1.0.0.json").read_text())
    assert set(written["evidence"]) == {"lint", "unit", "integration", "deploy-e2e"}
    assert json.loads(house.git.tags["v1.0.0"]) == written  # type: ignore[attr-defined]
    with pytest.raises(Refused, match=r"v1\.0\.0 is taken"):
        runner.promote(house, version="1.0.0")


def test_a_changed_tree_is_not_promoted(house: GateContext) -> None:
    _run(house, "lint", "unit", "integration", "deploy-e2e")
    house.git.changed = ("a.py",)  # type: ignore[attr-defined]
    with pytest.raises(Refused, match="changed"):
        runner.promote(house, version="1.0.0")


def test_the_key_is_made_once_and_is_the_owner_s_alone(house: GateContext, tmp_path: Path) -> None:
    assert house.evidence.key() == house.evidence.key()
    assert (tmp_path / "gitea-suite-gate.key").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("value", ["words", "00ff"])
def test_a_key_that_is_none_is_a_configuration_error(
    house: GateContext, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("GATE_KEY", value)
    with pytest.raises(OpsError, match="GATE_KEY is no key"):
        house.evidence.key()
