"""Which mutants are generated, and how one is killed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mutation.mutants import Mutant, mutants
from tests.mutation.runner import Module, Suite


def generated(source: str, *skip: str) -> set[tuple[str, str]]:
    return {(each.before, each.after) for each in mutants(source, skip)}


def test_a_bound_moves_by_one_to_both_sides() -> None:
    assert generated("LIMIT = 10\n") == {("LIMIT = 10", "LIMIT = 11"), ("LIMIT = 10", "LIMIT = 9")}
    assert generated("LIMIT = 0\n") == {("LIMIT = 0", "LIMIT = 1")}


def test_a_property_of_a_class_is_mutated_and_named_by_both() -> None:
    source = "class A:\n    @property\n    def due(self) -> bool:\n        return self.a and self.b\n"
    (mutant,) = mutants(source)
    assert mutant.key == ("A.due", "return self.a and self.b", "return self.a or self.b", 1)
    assert mutant.source == source.replace(" and ", " or ")


def test_both_branches_of_a_condition_are_forced() -> None:
    assert generated("def f(a):\n    if a:\n        return []\n") == {
        ("if a:", "if (a) and False:"),
        ("if a:", "if (a) or True:"),
    }
    assert generated("def f(a):\n    return [x for x in a if x]\n") == {
        ("return [x for x in a if x]", "return [x for x in a if (x) and False]"),
        ("return [x for x in a if x]", "return [x for x in a if (x) or True]"),
    }


@pytest.mark.parametrize(
    "source",
    [
        "def f(a: int | None) -> int | str:\n    return a\n",
        '"""Says 1."""\nimport a\n',
        "class A:\n    b: dict[str, int]\n",
        "def f(a):\n    return g('no backup, and 1 of 2 is missing')\n",
        "@cache(1)\ndef f(a):\n    return g(a)\n",
    ],
)
def test_annotations_imports_decorators_and_messages_are_not_mutated(source: str) -> None:
    assert generated(source) == set()


def test_skipped_names_are_not_mutated_and_an_unknown_one_is_an_error() -> None:
    source = "A, B = 1, 2\n\n\ndef f():\n    return 3\n"
    assert generated(source, "A", "f") == set()
    assert len(generated(source, "f")) == 4
    with pytest.raises(ValueError, match="does not define g"):
        mutants(source, ("g",))


def test_mutants_with_the_same_text_are_numbered() -> None:
    found = mutants("def f(a):\n    if a:\n        return True\n    g()\n    return True\n")
    same = [each.key for each in found if each.before == "return True"]
    assert same == [("f", "return True", "return False", 1), ("f", "return True", "return False", 2)]


def test_every_mutant_is_a_different_python_module() -> None:
    source = Path(__file__).with_name("outcome.py").read_text()
    found = mutants(source)
    assert len({each.source for each in found}) == len({each.key for each in found}) == len(found)
    for each in found:
        assert each.source != source
        compile(each.source, "mutant", "exec")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "limits.py").write_text("LIMIT = 10\n\n\ndef allows(number):\n    return number <= LIMIT\n")
    tests = "import limits\n\n\ndef test_the_limit():\n    assert limits.allows(10)\n    assert not limits.allows(11)\n"
    (tmp_path / "test_limits.py").write_text(tests)
    (tmp_path / "pytest.ini").write_text("[pytest]\npythonpath = .\n")
    return tmp_path


def survivors(project: Path, folder: Path) -> list[Mutant]:
    module = Module("limits.py", ("test_limits.py",))
    tests = Suite(module, project, folder)
    return [each for each in mutants((project / "limits.py").read_text()) if not tests.kill(each.source)]


def test_a_mutant_survives_when_no_test_fails_and_the_files_stay_as_they_are(
    project: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    before = (project / "limits.py").read_bytes()
    assert survivors(project, tmp_path_factory.mktemp("run")) == []
    (project / "test_limits.py").write_text("import limits\n\n\ndef test_it():\n    assert limits.allows(9)\n")
    found = survivors(project, tmp_path_factory.mktemp("run"))
    assert [each.after for each in found] == ["LIMIT = 11", "LIMIT = 9", "return number < LIMIT"]
    assert (project / "limits.py").read_bytes() == before


def test_a_mutant_that_does_not_end_is_killed(project: Path, tmp_path: Path) -> None:
    tests = Suite(Module("limits.py", ("test_limits.py",)), project, tmp_path)
    tests._limit = 1
    assert tests.kill("def allows(number):\n    while True:\n        pass\n")


def test_tests_that_fail_without_a_mutant_are_an_error_with_their_output(project: Path, tmp_path: Path) -> None:
    (project / "test_limits.py").write_text("def test_it():\n    assert False\n")
    with pytest.raises(ValueError, match="fail without a mutant"):
        Suite(Module("limits.py", ("test_limits.py",)), project, tmp_path)
