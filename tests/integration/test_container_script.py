"""A script's output is complete, however small the engine keeps its log."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from docker.models.containers import ContainerCollection
from docker.types import LogConfig

from ops.world.containers import Containers

# 6.9 MB of output, of which a log of this size keeps less than 200 KB.
LAST = 1_000_000
ROTATED = LogConfig(type="json-file", config={"max-size": "100k", "max-file": "2"})


def test_megabytes_of_output_are_complete_whatever_the_log_keeps(
    images: Mapping[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = ContainerCollection.create

    def with_rotation(self: ContainerCollection, *words: Any, **options: Any) -> Any:
        return create(self, *words, **(options | {"log_config": ROTATED}))

    monkeypatch.setattr(ContainerCollection, "create", with_rotation)
    done = Containers().run_script(
        images["POSTGRES_IMAGE"], f"seq {LAST}", folder=tmp_path, target="/data", user="1000:1000"
    )
    complete = done.output == "".join(f"{number}\n" for number in range(1, LAST + 1))
    assert (done.code, complete) == (0, True), f"{len(done.output)} bytes, from {done.output[:20]!r}"
