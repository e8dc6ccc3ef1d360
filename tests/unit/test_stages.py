"""The verbs of the gate, on a checkout in memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ops import stages
from ops.errors import OpsError, Refused
from ops.stages import Gatehouse
from ops.world.evidence import Evidence
from tests import fakes

PASSED = '<testsuite><testcase classname="a" name="test_b" time="1"/></testsuite>'
SKIPPED = '<testsuite><testcase classname="a" name="test_b" time="1"><skipped/></testcase></testsuite>'


@dataclass
class FakeGit:
    """A checkout."""

    changed: tuple[str, ...] = ()
    tags: dict[str, str] = field(default_factory=dict)
    committed: str = "f" * 40

    def tree(self) -> str:
        return self.committed

    def commit(self) -> str:
        return "c" * 40

    def changed_files(self) -> tuple[str, ...]:
        return self.changed

    def tag_exists(self, name: str) -> bool:
        return name in self.tags

    def tag(self, name: str, message: str) -> None:
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
        Path(environment["PYTEST_ADDOPTS"].removeprefix("--junitxml=")).write_text(junit)
        return code

    return program


@pytest.fixture
def house(tmp_path: Path) -> Gatehouse:
    told: list[str] = []
    evidence = Evidence(tmp_path / "reports", tmp_path)
    return Gatehouse(tmp_path, FakeGit(), evidence, FakePrograms(_writes(PASSED)), fakes.FakeClock(), told.append)  # type: ignore[arg-type]


def _run(house: Gatehouse, *names: str) -> None:
    for name in names:
        assert stages.run(house, stage=name, command=["-m", "x"]).exit_code == 0


def test_a_stage_that_passes_is_proven_and_the_next_may_start(house: Gatehouse) -> None:
    _run(house, "lint", "unit", "integration", "deploy-e2e")
    report = stages.status(house)
    assert report.exit_code == 0
    assert [each["proven"] for each in report.facts["stages"]] == [True] * 4


def test_a_stage_out_of_turn_is_refused_and_its_command_never_runs(house: Gatehouse) -> None:
    with pytest.raises(Refused, match="stands on lint"):
        _run(house, "unit")
    assert house.processes.ran == []  # type: ignore[attr-defined]


def test_a_stage_that_fails_keeps_its_exit_code_and_takes_its_old_evidence_away(house: Gatehouse) -> None:
    _run(house, "lint")
    house.processes.program = _writes(PASSED, 1)  # type: ignore[attr-defined]
    assert stages.run(house, stage="lint", command=["x"]).exit_code == 1
    assert stages.status(house).exit_code == 3


def test_a_stage_that_skipped_a_test_proves_nothing_and_says_which(house: Gatehouse) -> None:
    house.processes.program = _writes(SKIPPED)  # type: ignore[attr-defined]
    with pytest.raises(Refused, match="a::test_b"):
        _run(house, "lint")


def test_a_changed_tree_leaves_no_evidence(house: Gatehouse) -> None:
    house.git.changed = ("a.py",)  # type: ignore[attr-defined]
    _run(house, "lint")
    house.git.changed = ()  # type: ignore[attr-defined]
    assert stages.status(house).exit_code == 3


def test_a_tree_that_changes_while_the_stage_runs_leaves_no_evidence(house: Gatehouse) -> None:
    passing = _writes(PASSED)

    def program(argv: Sequence[str], environment: Mapping[str, str]) -> int:
        house.git.committed = "0" * 40  # type: ignore[attr-defined]
        return passing(argv, environment)

    house.processes.program = program  # type: ignore[attr-defined]
    _run(house, "lint")
    assert stages.status(house).exit_code == 3


def test_a_deployment_runs_what_is_not_yet_proven_first(house: Gatehouse) -> None:
    _run(house, "lint")
    passing = _writes(PASSED)

    def program(argv: Sequence[str], environment: Mapping[str, str]) -> int:
        if "noxw" in argv[0]:
            _run(house, "unit", "integration")
            return 0
        return passing(argv, environment)

    house.processes.program = program  # type: ignore[attr-defined]
    _run(house, "deploy-e2e")
    assert [str(house.root / "noxw"), "-s", "unit", "-s", "integration"] in house.processes.ran  # type: ignore[attr-defined]


def test_a_deployment_does_not_start_when_a_stage_before_it_fails(house: Gatehouse) -> None:
    house.processes.program = lambda argv, environment: 7  # type: ignore[attr-defined]
    with pytest.raises(OpsError) as caught:
        _run(house, "deploy-e2e")
    assert caught.value.exit_code == 7
    assert len(house.processes.ran) == 1  # type: ignore[attr-defined]


def test_promotion_writes_the_manifest_and_an_annotated_tag_once(house: Gatehouse) -> None:
    with pytest.raises(Refused, match="lint is not proven"):
        stages.promote(house, version="1.0.0")
    _run(house, "lint", "unit", "integration", "deploy-e2e")
    stages.promote(house, version="1.0.0")
    written = json.loads((house.evidence.reports / "release-v1.0.0.json").read_text())
    assert set(written["evidence"]) == {"lint", "unit", "integration", "deploy-e2e"}
    assert json.loads(house.git.tags["v1.0.0"]) == written  # type: ignore[attr-defined]
    with pytest.raises(Refused, match=r"v1\.0\.0 is taken"):
        stages.promote(house, version="1.0.0")


def test_a_changed_tree_is_not_promoted(house: Gatehouse) -> None:
    _run(house, "lint", "unit", "integration", "deploy-e2e")
    house.git.changed = ("a.py",)  # type: ignore[attr-defined]
    with pytest.raises(Refused, match="changed"):
        stages.promote(house, version="1.0.0")


def test_the_key_is_made_once_and_is_the_owner_s_alone(house: Gatehouse, tmp_path: Path) -> None:
    assert house.evidence.key() == house.evidence.key()
    assert (tmp_path / "gitea-suite-gate.key").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("value", ["words", "00ff"])
def test_a_key_that_is_none_is_a_configuration_error(
    house: Gatehouse, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("GATE_KEY", value)
    with pytest.raises(OpsError, match="GATE_KEY is no key"):
        house.evidence.key()
