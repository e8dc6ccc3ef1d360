"""Update policy: which approval a release needs, and when automatic updates start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from enum import Enum
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ops.errors import ConfigError
from ops.images.versions import Release, VersionStep, is_newer, step_between

WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
# How long a window stays open: the timer may be late, or the host may boot.
WINDOW = timedelta(hours=2)
# A reproducible build reports the epoch, or the day of the sources' first commit. Neither is a release date.
_FIRST_CREDIBLE = datetime(2020, 1, 1, tzinfo=UTC)


class Approval(Enum):
    """The approval that a step needs: none, an operator's, a guided procedure, or the end of a hold."""

    AUTOMATIC = "automatic"
    OPERATOR = "operator"
    GUIDED = "guided"
    HELD = "held"


# The largest step that each policy applies without an operator.
_LIMITS = {"operator": VersionStep.NONE, "patch": VersionStep.PATCH, "minor": VersionStep.MINOR}
POLICIES = tuple(_LIMITS)


@dataclass(frozen=True)
class AvailableVersions:
    """The versions of a service that follow the current one: the newest, and the newest that needs no operator.

    ``waiting`` is a version that will need no operator once it is old enough. ``built`` is the build time of its image,
    None if the image does not state it. ``newest_in_major`` is the newest version of the current major version, where
    ``newest`` belongs to another.
    """

    newest: Release | None = None
    automatic: Release | None = None
    waiting: Release | None = None
    built: datetime | None = None
    newest_in_major: Release | None = None


@dataclass(frozen=True)
class Window:
    """When automatic updates start: weekly, on a weekday (Monday is 0) at a time of day in the site's time zone."""

    weekday: int
    at: time
    zone: ZoneInfo


def approval_for(service: str, step: VersionStep, policy: str, *, held: bool = False) -> Approval:
    """Return the approval that a step of a service needs under its policy in the site file."""
    if held:
        return Approval.HELD
    if service == "postgres" and step is VersionStep.MAJOR:
        return Approval.GUIDED
    return Approval.AUTOMATIC if VersionStep.NONE < step <= _LIMITS[policy] else Approval.OPERATOR


def automatic_releases(
    service: str, current: Release, newer: Sequence[Release], *, policy: str, held: bool
) -> tuple[Release, ...]:
    """Return those of the newer releases that need no operator, whatever their age."""
    return tuple(
        each
        for each in newer
        if approval_for(service, step_between(service, current, each), policy, held=held) is Approval.AUTOMATIC
    )


def choose(
    service: str,
    current: Release,
    newer: Sequence[Release],
    *,
    policy: str,
    held: bool,
    build_times: Mapping[str, datetime | None],
    soak: timedelta,
    now: datetime,
) -> AvailableVersions:
    """Return the available versions, from the releases that follow the current one (the newest first).

    ``build_times`` maps a tag to the build time of its image. A release without a credible build time is never old enough.
    """
    newest = newer[0] if newer else None
    allowed = automatic_releases(service, current, newer, policy=policy, held=held)
    automatic = next((each for each in allowed if is_old_enough(build_times.get(each.tag), soak, now)), None)
    waiting = _waiting(service, allowed, automatic)
    newest_in_major = _newest_in_major(service, current, newer)
    return AvailableVersions(
        newest,
        automatic,
        waiting,
        build_times.get(waiting.tag) if waiting else None,
        newest_in_major if newest_in_major != newest else None,
    )


def _newest_in_major(service: str, current: Release, newer: Sequence[Release]) -> Release | None:
    return next((each for each in newer if step_between(service, current, each) < VersionStep.MAJOR), None)


def _waiting(service: str, allowed: Sequence[Release], automatic: Release | None) -> Release | None:
    """Return the newest allowed release that is too young; None where the automatic one is newer."""
    waiting = next((each for each in allowed if each != automatic), None)
    if waiting and automatic and is_newer(service, automatic, waiting):
        return None
    return waiting


def is_old_enough(built: datetime | None, soak: timedelta, now: datetime) -> bool:
    """Tell whether a release has been public for long enough that its faults are known."""
    return built is not None and built >= _FIRST_CREDIBLE and now - built >= soak


def window_from(text: str, zone: str) -> Window:
    """Return the window that a site file states ("Sun 03:15"); raises ConfigError if it is not a time of the week."""
    day, _, clock = text.partition(" ")
    try:
        return Window(WEEKDAYS.index(day), time.fromisoformat(clock), ZoneInfo(zone))
    except (ValueError, ZoneInfoNotFoundError) as error:
        raise ConfigError(
            f'update.window = "{text}" in {zone} is not a time of the week',
            'set update.window in the site file, for example to "Sun 03:15"',
        ) from error


def begun(window: Window, now: datetime) -> datetime:
    """Return when the window last opened, in UTC: once a week, whatever the clocks do.

    If the clocks skip the time of day, the time that they show instead counts. If it occurs twice, the first counts
    (PEP 495).
    """
    today = now.astimezone(window.zone).date()
    for weeks in (0, 1):
        day = today - timedelta(days=(today.weekday() - window.weekday) % 7 + 7 * weeks)
        begin = datetime.combine(day, window.at, tzinfo=window.zone).astimezone(UTC)
        if begin <= now:
            return begin
    raise AssertionError("a week ago is before now")


def next_begin(window: Window, now: datetime) -> datetime:
    """Return when the window opens next, in UTC."""
    begin = begun(window, now + timedelta(days=7))
    return begin if begin > now else begun(window, now + timedelta(days=8))


def is_due(window: Window, last: datetime | None, now: datetime) -> bool:
    """Tell whether automatic updates start now: the window is open, and they have not started since it opened."""
    begin = begun(window, now)
    # A clock that was wrong recorded a time in the future.
    return now - begin < WINDOW and (last is None or last < begin or last > now)
