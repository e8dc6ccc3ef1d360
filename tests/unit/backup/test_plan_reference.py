"""The plans for pruning, for a rewind and for choosing a backup, compared with references that decide item by item."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from ops.backup import catalogue, prune_local, repositories, retention, rewind
from ops.backup.manifest import PARTS, Backup, identity_of
from ops.backup.retention import Candidate
from ops.config.schema import Backup as Policy
from ops.errors import Refused
from ops.model import ObjectVersion
from ops.world.restic import Snapshot
from tests.support import fakes

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
POLICIES = st.builds(
    lambda last, daily, weekly, monthly: Policy(
        bucket="some", keep_last=last, keep_daily=daily, keep_weekly=weekly, keep_monthly=monthly
    ),
    st.integers(1, 4),
    *[st.integers(0, 3)] * 3,
)
IDENTITIES = [identity_of(NOW - timedelta(hours=7 * number)) for number in range(6)]


# The tags of a snapshot beside its backup's name: parts of a backup, other snapshots, and tags that no backup has.
KINDS = (("database",), ("data",), ("configuration",), ("first-pass",), ("base",), ("data", "database"), (), ("base",))


def _snapshot(drawn: tuple[int, int, int]) -> Snapshot:
    """One snapshot of one of six backups or of none (6), of one of the KINDS, with a reused snapshot of data below 6."""
    backup, kind, reused = drawn
    tags = (*IDENTITIES[backup : backup + 1], *KINDS[kind])
    if reused < 6 and kind in (0, 2):
        tags = (*tags, prune_local.reuse_tag(f"{reused}-1"))
    return Snapshot(f"{backup}-{kind}", f"{backup}-{kind}", tags)


# Mostly whole backups, so that the policy has something to decide.
SNAPSHOTS = st.tuples(
    st.lists(st.tuples(st.integers(0, 6), st.integers(0, 7), st.integers(0, 17)).map(_snapshot), max_size=14),
    st.sets(st.integers(0, 5), max_size=5),
).map(
    lambda drawn: list(
        {
            each.identity: each
            for each in [
                *(
                    Snapshot(f"{n}-{k}", f"{n}-{k}", (IDENTITIES[n], PARTS[k]))
                    for n in sorted(drawn[1])
                    for k in range(3)
                ),
                *drawn[0],
            ]
        }.values()
    )
)


def _is_whole(identity: str, snapshots: list[Snapshot]) -> bool:
    own = [each for each in snapshots if prune_local.backup_of(each) == identity]
    available = {each.identity for each in snapshots}
    reused = any(prune_local.reused_data(each) in available for each in own)
    tags = {tag for each in own for tag in each.tags}
    return all(part in tags or (part == "data" and reused) for part in PARTS)


def _reference_kept(snapshots: list[Snapshot], policy: Policy, verified: set[str]) -> set[str]:
    """Return the names of the kept backups."""
    candidates = []
    for number, identity in enumerate(IDENTITIES):
        if any(prune_local.backup_of(each) == identity for each in snapshots):
            whole = _is_whole(identity, snapshots)
            moment = NOW - timedelta(hours=7 * number)
            candidates.append(Candidate(identity, moment, whole, whole and identity in verified, lost=not whole))
    return {each.identity for each in retention.plan_retention(candidates, policy) if each.kept}


def _reasons_to_delete(each: Snapshot, snapshots: list[Snapshot], kept: set[str]) -> int:
    """Return how many rules delete a snapshot: its backup's, and that of each other tag."""
    identity = prune_local.backup_of(each)
    others = [one for one in snapshots if prune_local.backup_of(one) in {"", *kept}]
    is_shared = any(prune_local.reused_data(one) == each.identity for one in others)
    newer = [tag for one in snapshots[snapshots.index(each) + 1 :] for tag in one.tags]
    return sum(
        [
            bool(identity) and identity not in kept and not is_shared,
            "first-pass" in each.tags and "first-pass" in newer,
            "base" in each.tags and newer.count("base") >= 2,
        ]
    )


@given(SNAPSHOTS, POLICIES, st.sets(st.sampled_from(IDENTITIES), max_size=2))
def test_the_local_prune_plan_equals_a_decision_made_for_each_snapshot_on_its_own(
    snapshots: list[Snapshot], policy: Policy, verified: set[str]
) -> None:
    planned = prune_local.plan_prune_local(snapshots, policy, verified)
    kept = _reference_kept(snapshots, policy, verified)
    assert {each.identity: planned.count(each.identity) for each in snapshots} == {
        each.identity: _reasons_to_delete(each, snapshots, kept) for each in snapshots
    }


def _history(drawn: list[tuple[str, int, str]], *, has_newest: bool) -> list[ObjectVersion]:
    """Versions of objects: key, seconds after NOW, content ("" for a marker). Without a newest version nothing is shown."""
    versions = [
        ObjectVersion(key, f"v{number}", NOW + timedelta(seconds=seconds), False, not content, content, len(content))
        for number, (key, seconds, content) in enumerate(drawn)
    ]
    newest = {each.key: each.version for each in sorted(versions, key=lambda each: (each.modified, each.marker))}
    return [replace(each, latest=has_newest and newest[each.key] == each.version) for each in versions]


HISTORIES = st.builds(
    _history,
    st.lists(
        st.tuples(
            st.sampled_from(["a", "b", f"{repositories.LOCKS}one"]),
            st.integers(-2, 2),
            st.sampled_from(["", "x", "yy"]),
        ),
        max_size=9,
    ),
    has_newest=st.integers(0, 9).map(bool),
)


def _shown_then(history: list[ObjectVersion], key: str) -> ObjectVersion | None:
    past = [each for each in history if each.key == key and each.modified <= NOW]
    then = max(past, key=lambda each: (each.modified, each.marker, history.index(each)), default=None)
    return None if then is None or then.marker or key.startswith(repositories.LOCKS) else then


def _reference_rewind(history: list[ObjectVersion], key: str) -> str | None:
    """Return the version to bring back, "" to hide the object, None to leave it alone."""
    then = _shown_then(history, key)
    shown = next((each for each in history if each.key == key and each.latest and not each.marker), None)
    if then is None:
        return "" if shown else None
    is_same = shown and ((shown.etag, shown.size) == (then.etag, then.size) or shown.version == then.version)
    return None if is_same else then.version


@given(HISTORIES)
def test_the_rewind_plan_equals_a_decision_made_for_each_object_on_its_own(history: list[ObjectVersion]) -> None:
    decided = {key: _reference_rewind(history, key) for key in sorted({each.key for each in history})}
    expected = [(key, version) for key, version in decided.items() if version is not None]
    assert [(each.key, each.version) for each in rewind.plan_rewind(history, NOW)] == expected


BACKUPS = st.dictionaries(st.integers(0, 9), st.booleans(), max_size=6).map(
    lambda drawn: [
        Backup(identity_of(moment), fakes.made(moment) if whole else None, "" if whole else "cut off")
        for moment, whole in ((NOW - timedelta(hours=number), whole) for number, whole in drawn.items())
    ]
)


def _chosen(backups: list[Backup], identity: str, at: datetime | None) -> str:
    try:
        return catalogue.choose(backups, identity, at).identity
    except Refused:
        return ""


@given(BACKUPS, st.none() | st.integers(-1, 10))
def test_the_chosen_backup_is_the_newest_whole_one_at_the_moment(backups: list[Backup], hours: int | None) -> None:
    at = None if hours is None else NOW - timedelta(hours=hours)
    names = [each.identity for each in backups if each.manifest and (at is None or each.identity <= identity_of(at))]
    assert _chosen(backups, "", at) == max(names, default="")


@given(BACKUPS, st.integers(0, 10), st.none() | st.integers(-1, 10))
def test_a_named_backup_is_chosen_if_it_is_whole_whatever_the_moment(
    backups: list[Backup], named: int, hours: int | None
) -> None:
    identity = identity_of(NOW - timedelta(hours=named))
    is_whole = any(each.identity == identity and each.manifest for each in backups)
    at = None if hours is None else NOW - timedelta(hours=hours)
    assert _chosen(backups, identity, at) == (identity if is_whole else "")
