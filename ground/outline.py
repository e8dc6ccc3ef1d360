"""What `./noxw -s up` does, part by part, with the time that each part takes, and the progress through them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Part:
    """A part of `up`: its content, and its seconds on two idle cores where nothing of it exists yet."""

    name: str
    content: str
    seconds: int


PARTS = (
    Part("prerequisites", "Docker Engine, Compose and what makes Debian images, with apt-get", 60),
    Part("images", "LocalStack, the host, PostgreSQL, nginx and the others", 240),
    Part("environment", "start LocalStack, the host, a registry, Pebble and an inbox", 30),
    Part("site", "ops deploy: Terraform, then Ansible on the host, then health", 240),
)


class Outline:
    """Tells the parts at the start, and for each part its number when it begins and its time when it ends."""

    def __init__(self, tell: Tell, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._tell, self._monotonic = tell, monotonic
        self._began = monotonic()

    @classmethod
    def silent(cls) -> Outline:
        """Return an outline that tells nothing, for commands other than `up`."""
        return cls(lambda _: None)

    def begin(self) -> None:
        """Tell what is going to happen and about how long it takes."""
        self._began = self._monotonic()
        total = round(sum(part.seconds for part in PARTS) / 60)
        self._tell(f"up deploys a local site in about {total} minutes on two idle cores, sooner where parts exist:")
        for number, part in enumerate(PARTS, 1):
            self._tell(f"  {number}. {part.name:14}{_about(part.seconds):12}  {part.content}")

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Tell that the part of that name begins, and after the block how long it took."""
        number, part = next((number, part) for number, part in enumerate(PARTS, 1) if part.name == name)
        place = f"[{number}/{len(PARTS)}] {name}"
        self._tell(f"{place}: {part.content}, {_about(part.seconds)}")
        began = self._monotonic()
        yield
        self._tell(f"{place}: took {_took(self._monotonic() - began)}")

    def end(self) -> None:
        """Tell how long everything took since the beginning."""
        self._tell(f"up took {_took(self._monotonic() - self._began)}")


def _about(seconds: int) -> str:
    return f"about {seconds} s" if seconds < 60 else f"about {round(seconds / 60)} min"


def _took(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
