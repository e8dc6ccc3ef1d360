"""A pause that fails in passing is tried again; the engine's late events cannot be brought about at will."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from docker.errors import APIError

from ops.world import pauses


@dataclass
class Engine:
    """An engine that refuses to pause a container with these explanations, one after the other, and then pauses it."""

    refusals: list[str]
    paused: list[str] = field(default_factory=list)

    @property
    def api(self) -> Engine:
        return self

    def pause(self, container: str) -> None:
        if self.refusals:
            raise APIError("refused", explanation=self.refusals.pop(0))
        self.paused.append(container)


@pytest.fixture(autouse=True)
def _no_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pauses, "_BETWEEN_TRIES_SECONDS", 0.0)


@pytest.mark.parametrize("refusal", ["Container c is already paused", "runc: unable to freeze"])
def test_a_refusal_that_passes_is_waited_for(refusal: str) -> None:
    engine: Any = Engine([refusal] * 3)
    pauses.pause(engine, "c")
    assert engine.paused == ["c"]


def test_a_container_that_stays_paused_is_refused() -> None:
    engine: Any = Engine(["Container c is already paused"] * 100)
    with pytest.raises(APIError, match="already paused"):
        pauses.pause(engine, "c")
    assert engine.paused == []


def test_another_refusal_is_not_tried_again() -> None:
    engine: Any = Engine(["No such container: c"] * 100)
    with pytest.raises(APIError, match="No such container"):
        pauses.pause(engine, "c")
    assert len(engine.refusals) == 99
