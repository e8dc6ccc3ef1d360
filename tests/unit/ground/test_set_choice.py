"""The image set is chosen once a run: the setting decides, or the first process asks, and all others follow it."""

from __future__ import annotations

import json

import pytest

from ground import set_choice
from ground.set_choice import Choice
from ops.errors import ConfigError, OpsError, Unavailable


@pytest.fixture(autouse=True)
def _no_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (set_choice.VARIABLE, set_choice.FOUND, set_choice.REGISTRY):
        # Set first, so that the variables that the choice sets go with the test.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def test_the_hermetic_set_is_forced_without_asking_a_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(set_choice, "answers", lambda *_: pytest.fail("the registry was asked"))
    monkeypatch.setenv(set_choice.VARIABLE, "hermetic")
    assert set_choice.choose() == Choice("hermetic", "IMAGE_SET=hermetic")


def test_an_unknown_set_is_a_configuration_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(set_choice.VARIABLE, "some")
    with pytest.raises(ConfigError, match="IMAGE_SET=some"):
        set_choice.choose()


@pytest.mark.parametrize("named", [None, "", "auto", "upstream"])
def test_a_run_asks_once_and_passes_the_answer_on(named: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []

    def answers(images: tuple[str, ...], seconds: float) -> dict[str, str]:
        asked.append(seconds)
        return {each: f"sha256:{len(asked)}" for each in images}

    monkeypatch.setattr(set_choice, "answers", answers)
    if named is not None:
        monkeypatch.setenv(set_choice.VARIABLE, named)
    first = set_choice.choose()
    assert (first.name, set_choice.choose(), len(asked)) == ("upstream", first, 1)
    # As another process reads it from its environment.
    found = json.loads(first.variables()[set_choice.FOUND])
    assert (found["set"], found["digests"]["gitea/gitea:28.1.0"]) == ("upstream", "sha256:1")


def test_a_registry_without_an_answer_gives_the_hermetic_set_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def answers(*_: object) -> dict[str, str]:
        raise Unavailable("there is no route to Docker Hub")

    monkeypatch.setattr(set_choice, "answers", answers)
    assert set_choice.choose() == Choice("hermetic", "there is no route to Docker Hub")
    # A registry that answers later in the run changes nothing.
    monkeypatch.setattr(set_choice, "answers", lambda *_: pytest.fail("the registry was asked again"))
    assert set_choice.choose().name == "hermetic"


def test_a_forced_upstream_set_does_not_fall_back(monkeypatch: pytest.MonkeyPatch) -> None:
    def answers(*_: object) -> dict[str, str]:
        raise Unavailable("Docker Hub answers 429")

    monkeypatch.setattr(set_choice, "answers", answers)
    monkeypatch.setenv(set_choice.VARIABLE, "upstream")
    with pytest.raises(OpsError, match="429"):
        set_choice.choose()


def test_a_setting_for_another_set_than_the_one_that_was_passed_on_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in Choice("upstream", "Docker Hub has all 16 images", {"a:1": "sha256:0"}).variables().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv(set_choice.VARIABLE, "hermetic")
    assert set_choice.choose().name == "hermetic"
