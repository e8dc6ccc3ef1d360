"""The duration of each step of a verb: printed as it begins and ends, and kept."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from ops.errors import OpsError
from ops.world import World


@dataclass
class StepTimer:
    """The durations of the steps so far, in seconds."""

    world: World
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Measure the block. An OpsError in it gets the step's name before its message."""
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
