"""A rewind of the bucket: which version of each object is brought back, and which objects are hidden."""

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


def versions(*events: tuple[int, str], key: str = "a") -> list[ObjectVersion]:
    """The versions of an object: seconds after AT, and its content, "" for a delete marker."""
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
        # It did not exist at that moment.
        ([(1, "garbage")], [ObjectChange("a")]),
        ([(-5, "good"), (-4, ""), (1, "garbage")], [ObjectChange("a")]),
        ([(-4, "good"), (-4, ""), (1, "garbage")], [ObjectChange("a")]),
        ([(1, "garbage"), (2, "")], []),
        ([(-5, "good"), (-4, "")], []),
    ],
)
def test_each_object_gets_back_its_state_at_the_moment(
    events: list[tuple[int, str]], steps: list[ObjectChange]
) -> None:
    assert list(rewind.plan_rewind(versions(*events), AT)) == steps


def test_locks_of_former_runs_are_hidden() -> None:
    key = "restic/locks/0af3"
    assert rewind.plan_rewind(versions((-5, "lock"), key=key), AT) == (ObjectChange(key),)
    assert rewind.plan_rewind(versions((-5, "lock"), (1, ""), key=key), AT) == ()


def _applied(history: list[ObjectVersion], step: ObjectChange) -> list[ObjectVersion]:
    """The history after a step, a day after AT."""
    when = AT + timedelta(days=1)
    origin = next((each for each in history if (each.key, each.version) == (step.key, step.version)), None)
    marker = ObjectVersion(step.key, "new", when, True, True)
    newest = replace(origin, version="new", modified=when, latest=True) if origin else marker
    return [*(replace(each, latest=False) if each.key == step.key else each for each in history), newest]


def shown_in(history: list[ObjectVersion]) -> dict[str, str]:
    """The content that a bucket shows for each object, "" for a deleted one."""
    return {each.key: "" if each.marker else each.etag for each in history if each.latest}


def last_until_at(events: list[tuple[int, str]]) -> str:
    return next((content for seconds, content in reversed(events) if seconds <= 0), "")


EVENTS = st.lists(st.sampled_from(["", "x", "yy", "zzz"]), min_size=1, max_size=6)


@given(st.dictionaries(st.sampled_from("abc"), EVENTS))
def test_after_a_rewind_the_bucket_shows_its_former_content_and_no_step_is_left(
    objects: dict[str, list[str]],
) -> None:
    # S3 reports whole seconds; within one, a deletion counts as last, so the model has one event a second.
    seconds = {key: range(-len(events), len(events), 2) for key, events in objects.items()}
    spread = {key: list(zip(seconds[key], events, strict=True)) for key, events in objects.items()}
    history = [one for key, events in spread.items() for one in versions(*events, key=key)]
    then = {key: last_until_at(events) for key, events in spread.items()}
    after = history
    for step in rewind.plan_rewind(history, AT):
        after = _applied(after, step)
    assert shown_in(after) == then
    assert rewind.plan_rewind(after, AT) == ()


def test_a_moment_in_the_future_is_refused(tmp_path: Path) -> None:
    world: Any = fakes.FakeWorld()
    workspace = Workspace(tmp_path, tmp_path, tmp_path)
    with pytest.raises(Refused, match="is in the future"):
        rewind.rewind(fakes.site(), world, workspace=workspace, at=AT + timedelta(seconds=1), confirm=lambda *_: None)


def test_the_plan_counts_restored_and_hidden_objects() -> None:
    lines = rewind.describe([ObjectChange("a", "v"), ObjectChange("b")], "the-bucket", AT)
    assert "brought back: 1 objects" in lines[1]
    assert "hidden: 1 objects" in lines[2]
    assert "First end the host or detach its role" in lines[3]


@pytest.mark.parametrize(
    ("error", "kind", "remedy"),
    [
        (Damaged("a pack is damaged"), Degraded, "an earlier moment"),
        (OpsError("the repository does not exist"), Degraded, "give a later moment"),
        (Unavailable("the bucket is unreachable", "wait"), Unavailable, "wait"),
        (Locked("a host takes a backup", "stop it"), Locked, "stop it"),
    ],
)
def test_each_error_of_the_repository_check_has_its_own_remedy(
    error: OpsError, kind: type[OpsError], remedy: str
) -> None:
    class Remote:
        def check(self) -> None:
            raise error

    remote: Any = Remote()
    with pytest.raises(kind, match=error.message) as caught:
        rewind._check(remote, "the bucket is as it was")
    assert remedy in caught.value.hint
    assert caught.value.left_as == ("the bucket is as it was" if kind is Degraded else "")
