"""A script's output comes from its own pipe, whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ops.errors import OpsError
from ops.world.containers import Containers

LINES = [f"= team/repository-{number}.git" for number in range(13)]


@dataclass
class Engine:
    """An engine with a rotated log, which has only the newest lines; ``cut`` is the number of bytes that a broken stream loses."""

    printed: bytes
    errors: bytes = b""
    code: int = 0
    cut: int = 0
    removed: int = 0
    started: bool = False
    made: dict[str, Any] = field(default_factory=dict)

    @property
    def containers(self) -> Engine:
        return self

    def create(self, image: str, command: list[str], **options: Any) -> Engine:
        self.made = {"image": image, "command": command, **options}
        return self

    def attach(self, **options: Any) -> Iterator[tuple[bytes | None, bytes | None]]:
        assert not self.started, "the first bytes would be lost"
        assert options == {"stdout": True, "stderr": True, "stream": True, "logs": False, "demux": True}
        end = next((each for each in self.made["command"] if len(each) == 32), "")
        whole = self.printed + end.encode()
        whole = whole[: len(whole) - self.cut]
        return iter([(whole[:7], None), (None, self.errors or None), (whole[7:], None)])

    def start(self) -> None:
        self.started = True

    def wait(self) -> dict[str, int]:
        return {"StatusCode": self.code}

    def logs(self, *, stdout: bool, stderr: bool) -> bytes:
        return (self.printed if stdout else self.errors)[-100:]

    def remove(self, **_: Any) -> None:
        self.removed += 1


def run(engine: Engine) -> tuple[int, str]:
    containers = Containers.__new__(Containers)
    containers._docker = engine
    done = containers.run_script("image", "list", folder=Path("/srv"), target="/data", user="1000:1000")
    return done.code, done.output


def test_output_that_the_log_has_rotated_away_is_returned() -> None:
    engine = Engine("\n".join(LINES).encode())
    assert run(engine) == (0, "\n".join(LINES))
    assert engine.made["log_config"] == {"type": "none"}
    assert engine.removed == 1


def test_a_failed_script_returns_its_standard_error() -> None:
    assert run(Engine(b"half a listing", b"fatal: no such folder", code=1)) == (1, "fatal: no such folder")


@pytest.mark.parametrize("cut", [1, 32, 40])
def test_a_stream_that_ends_early_is_an_error(cut: int) -> None:
    engine = Engine("\n".join(LINES).encode(), cut=cut)
    with pytest.raises(OpsError, match="ended early, after") as raised:
        run(engine)
    assert raised.value.hint.startswith("look at journalctl")
    assert engine.removed == 1
