"""A bucket as it was: which version of each object is brought back, and what is hidden."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.backup import rewind
from ops.backup.rewind import ObjectChange
from ops.config.workspace import Workspace
from ops.errors import Degraded, Locked, OpsError, Refused, Unavailable
from ops.model import ObjectVersion
from ops.world.restic import Damaged
from tests.support import fakes

AT = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def told(*events: tuple[int, str], key: str = "a") -> list[ObjectVersion]:
    """The versions of an object: seconds after AT, and its content then, "" where it was taken away."""
    last = len(events) - 1
    return [
        ObjectVersion(key, f"v{number}", AT + timedelta(seconds=seconds), number == last, not content, content, len(content))
        for number, (seconds, content) in enumerate(events)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("events", "steps"),
    [
        ([(-5, "good")], []),
        ([(0, "good")], []),
        ([(-5, "good"), (1, "garbage")], [ObjectChange("a", "v0")]),
        ([(-9, "old"), (-5, "good"), (1, "garbage"), (2, "more garbage")], [ObjectChange("a", "v1")]),
        ([(-5, "good"), (1, "")], [ObjectChange("a", "v0")]),
        ([(-5, "good"), (1, "garbage"), (2, "")], [ObjectChange("a", "v0")]),
        # Brought back already, by this or an earlier run.
        ([(-5, "good"), (1, "garbage"), (9, "good")], []),
        # It was not there then.
        ([(1, "garbage")], [ObjectChange("a")]),
        ([(-5, "good"), (-4, ""), (1, "garbage")], [ObjectChange("a")]),
        ([(-4, "good"), (-4, ""), (1, "garbage")], [ObjectChange("a")]),
        ([(1, "garbage"), (2, "")], []),
        ([(-5, "good"), (-4, "")], []),
    ],
)
def test_each_object_becomes_what_it_was(events: list[tuple[int, str]], steps: list[ObjectChange]) -> None:
    assert list(rewind.plan_rewind(told(*events), AT)) == steps


def test_locks_of_runs_that_are_over_are_hidden() -> None:
    key = "restic/locks/0af3"
    assert rewind.plan_rewind(told((-5, "lock"), key=key), AT) == (ObjectChange(key),)
    assert rewind.plan_rewind(told((-5, "lock"), (1, ""), key=key), AT) == ()


EVENTS = st.lists(st.sampled_from(["", "x", "yy", "zzz"]), min_size=1, max_size=6)


@given(st.dictionaries(st.sampled_from("abc"), EVENTS))
def test_after_its_steps_a_bucket_shows_what_it_showed_then_and_needs_no_more(
    objects: dict[str, list[str]],
) -> None:
    # S3 tells whole seconds; within one, what was taken away counts as last, so the model has one event a second.
    spread = {
        key: [(2 * number - len(events), content) for number, content in enumerate(events)]
        for key, events in objects.items()
    }
    history = [one for key, events in spread.items() for one in told(*events, key=key)]
    then = {
        key: [content for seconds, content in events if seconds <= 0][-1:] or [""] for key, events in spread.items()
    }
    after = list(history)
    for step in rewind.plan_rewind(history, AT):
        origin = next((each for each in history if (each.key, each.version) == (step.key, step.version)), None)
        after = [replace(each, latest=False) if each.key == step.key else each for each in after]
        when = AT + timedelta(days=1)
        after.append(
            replace(origin, version="new", modified=when, latest=True)
            if origin
            else ObjectVersion(step.key, "new", when, True, True)
        )
    shows = {each.key: "" if each.marker else each.etag for each in after if each.latest}
    assert shows == {key: content[0] for key, content in then.items()}
    assert rewind.plan_rewind(after, AT) == ()


def test_a_moment_that_is_yet_to_come_is_refused(tmp_path: Path) -> None:
    world: Any = fakes.FakeWorld()
    workspace = Workspace(tmp_path, tmp_path, tmp_path)
    with pytest.raises(Refused, match="is yet to come"):
        rewind.rewind(fakes.site(), world, workspace=workspace, at=AT + timedelta(seconds=1), confirm=lambda *_: None)


def test_whoever_agrees_has_read_how_much_is_brought_back_and_what_is_hidden() -> None:
    lines = rewind.describe([ObjectChange("a", "v"), ObjectChange("b")], "the-bucket", AT)
    assert "brought back: 1 objects" in lines[1]
    assert "hidden: 1 objects" in lines[2]
    assert "end the host, or take its role away, first" in lines[3]


@pytest.mark.parametrize(
    ("said", "kind", "remedy"),
    [
        (Damaged("a pack is damaged"), Degraded, "an earlier moment"),
        (OpsError("the repository does not exist"), Degraded, "Give a later moment"),
        (Unavailable("the bucket is away", "try again"), Unavailable, "try again"),
        (Locked("a host still backs up", "end it"), Locked, "end it"),
    ],
)
def test_what_a_check_of_the_repository_of_then_says_has_its_own_remedy(
    said: OpsError, kind: type[OpsError], remedy: str
) -> None:
    class Remote:
        def check(self) -> None:
            raise said

    remote: Any = Remote()
    with pytest.raises(kind, match=said.message) as caught:
        rewind._check(remote, "it is as it was")
    assert remedy in caught.value.hint
