"""The names of backups sort by the order in which they were taken, whatever the clock says."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from ops.backup import manifest

NOON = datetime(2026, 11, 23, 12, 0, 0, 500_000, tzinfo=UTC)
EARLIER, NOW, LATER = "20261123T115959Z", "20261123T120000Z", "20261123T130000Z"


@pytest.mark.parametrize(
    ("taken", "moment", "behind"),
    [
        ((), NOON, timedelta()),
        (("foreign",), NOON, timedelta()),
        ((EARLIER,), NOON, timedelta()),
        ((NOW, EARLIER), datetime(2026, 11, 23, 12, 0, 1, tzinfo=UTC), timedelta()),
        ((LATER, EARLIER), datetime(2026, 11, 23, 13, 0, 1, tzinfo=UTC), timedelta(minutes=59, seconds=59.5)),
    ],
)
def test_a_backup_is_newer_than_all_earlier_ones(taken: tuple[str, ...], moment: datetime, behind: timedelta) -> None:
    assert manifest.moment_after(NOON, taken) == moment
    assert manifest.behind(NOON, taken) == behind
    assert all(manifest.identity_of(moment) > each for each in taken if each[0] == "2")


def test_a_backup_name_contains_its_moment() -> None:
    assert manifest.identity_of(manifest.moment_of(LATER)) == LATER
    with pytest.raises(manifest.Unreadable, match="not the name of a backup"):
        manifest.moment_of("20261123")
