"""Measure the steps of a verb: each step prints a line at its start and end, and its seconds are kept."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from ops.errors import OpsError
from ops.world import World


@dataclass
class StepTimer:
    """The steps so far, in seconds by name."""

    world: World
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Measure the block. The message of an OpsError from it gets the step's name as a prefix."""
        self.world.tell(f"== {name}")
        began = self.world.clock.monotonic()
        try:
            yield
        except OpsError as error:
            error.message = f"{name}: {error.message}"
            self.seconds[name] = round(self.world.clock.monotonic() - began, 2)
            raise
        self.seconds[name] = round(self.world.clock.monotonic() - began, 2)
        self.world.tell(f"== {name}: {self.seconds[name]:.1f} s")
