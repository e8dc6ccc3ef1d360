"""How often restic runs: each opening of a repository takes half a second."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from ops.errors import OpsError
from ops.world.process import Finished, Processes
from ops.world.restic import Restic, Snapshot

_NO_REPOSITORY = 10


class Asked(Processes):
    """Gives every command the same answer, and records the commands."""

    def __init__(self, code: int = 0, output: str = "") -> None:
        self.done, self.verbs = Finished(code, output), list[str]()

    def run_watched(
        self, argv: Sequence[str], *, environment: Mapping[str, str], on_line: Callable[[str], bool]
    ) -> tuple[Finished, str]:
        self.verbs.append(argv[3])
        return self.done, self.done.output


def repository(folder: Path, asked: Asked) -> Restic:
    return Restic(asked, str(folder), folder / "password", folder / "cache")


@pytest.mark.parametrize(
    ("files", "verbs"),
    [(["config"], []), (["config", "locks/0af3"], ["unlock"]), (["locks/0af3"], ["unlock"]), ([], ["unlock"])],
    ids=["at rest", "locked", "a lock and no repository", "nothing"],
)
def test_removing_all_locks_opens_a_repository_in_a_folder_only_when_it_has_a_lock(
    tmp_path: Path, files: list[str], verbs: list[str]
) -> None:
    (tmp_path / "locks").mkdir()
    for each in files:
        (tmp_path / each).touch()
    asked = Asked()
    assert repository(tmp_path, asked).remove_all_locks()
    assert asked.verbs == verbs


def test_one_command_lists_snapshots_or_finds_that_the_repository_does_not_exist(tmp_path: Path) -> None:
    asked = Asked(0, json.dumps([{"id": "b", "original": "a", "tags": ["data"], "paths": ["/data"]}, {"id": "c"}]))
    found = repository(tmp_path, asked).snapshots_or_none()
    assert found == (Snapshot("b", "a", ("data",), ("/data",)), Snapshot("c", "c"))
    assert asked.verbs == ["snapshots"]
    assert repository(tmp_path, Asked(_NO_REPOSITORY)).snapshots_or_none() is None
    with pytest.raises(OpsError, match="restic fails"):
        repository(tmp_path, Asked(1)).snapshots_or_none()


# One backup a quarter of an hour, three parts each, for 100 days: more than Linux takes in one argument list.
MANY = [f"{number:064x}" for number in range(28_800)]


@pytest.mark.parametrize("verb", ["forget", "copy"])
def test_any_number_of_snapshots_fits_the_argument_lists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    program = tmp_path / "bin/restic"
    program.parent.mkdir()
    program.write_text(
        f"#!/bin/sh\nfor id; do case $id in 0000*) echo $id;; esac; done >>{tmp_path}/ids; echo >>{tmp_path}/runs\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    real = Restic(Processes(), str(tmp_path / "repository"), tmp_path / "password", tmp_path / "cache")
    if verb == "forget":
        real.forget(MANY)
    else:
        real.copy(MANY, real)
    assert (tmp_path / "ids").read_text().split() == MANY
    assert len((tmp_path / "runs").read_text()) == 29
