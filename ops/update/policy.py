"""Update policy: who may apply a release, and when."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from enum import Enum
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ops.errors import ConfigError
from ops.images.versions import Release, VersionStep, is_newer, step_between

WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
# So long after its begin a window is open: for a timer that is late, or a host that boots.
WINDOW = timedelta(hours=2)
# A build that is made to be reproducible says the epoch, or the day of the sources' first commit: that is no release date.
_FIRST_CREDIBLE = datetime(2020, 1, 1, tzinfo=UTC)


class Taker(Enum):
    """Who may take a step."""

    AUTOMATIC = "automatic"
    OPERATOR = "operator"
    GUIDED = "guided"
    NO_ONE = "held"


# Up to which step a policy lets an update happen of its own.
_LIMITS = {"operator": VersionStep.NONE, "patch": VersionStep.PATCH, "minor": VersionStep.MINOR}
POLICIES = tuple(_LIMITS)


@dataclass(frozen=True)
class Choice:
    """What there is for a service: the newest release at all, and the newest that may be taken without an operator.

    ``waiting`` is one that may be as soon as it is old enough, and ``since`` when it was made, None where it does not say.
    ``within`` is the newest of the major version in use, where ``newest`` is of another.
    """

    newest: Release | None = None
    automatic: Release | None = None
    waiting: Release | None = None
    since: datetime | None = None
    within: Release | None = None


@dataclass(frozen=True)
class Window:
    """When automatic updates begin: weekly, on a weekday (Monday is 0) at a time of day in the site's zone."""

    weekday: int
    at: time
    zone: ZoneInfo


def taker(service: str, step: VersionStep, policy: str, *, held: bool = False) -> Taker:
    """Return who may take a step of a service under its policy of the site file."""
    if held:
        return Taker.NO_ONE
    if service == "postgres" and step is VersionStep.MAJOR:
        return Taker.GUIDED
    return Taker.AUTOMATIC if VersionStep.NONE < step <= _LIMITS[policy] else Taker.OPERATOR


def choose(
    service: str,
    here: Release,
    found: Iterable[Release],
    *,
    policy: str,
    held: bool,
    made: Mapping[str, datetime | None],
    soak: timedelta,
    now: datetime,
) -> Choice:
    """Return what there is and what may be taken, from the releases that follow (the newest first).

    ``made`` says when each tag's image was made. One that does not say so credibly is never old enough.
    """
    newest = next(iter(found), None)
    within = next((each for each in found if step_between(service, here, each) < VersionStep.MAJOR), None)
    allowed = [
        each
        for each in found
        if taker(service, step_between(service, here, each), policy, held=held) is Taker.AUTOMATIC
    ]
    old = next((each for each in allowed if is_old_enough(made.get(each.tag), soak, now)), None)
    waiting = next((each for each in allowed if each != old), None)
    if waiting and old and is_newer(service, old, waiting):
        waiting = None
    since = made.get(waiting.tag) if waiting else None
    return Choice(newest, old, waiting, since, within if within != newest else None)


def is_old_enough(made: datetime | None, soak: timedelta, now: datetime) -> bool:
    """Tell whether others have had the time to find what is wrong with a release."""
    return made is not None and made >= _FIRST_CREDIBLE and now - made >= soak


def window_from(text: str, zone: str) -> Window:
    """Return the window that a site file describes ("Sun 03:15"); raises ConfigError for one it does not."""
    day, _, clock = text.partition(" ")
    try:
        return Window(WEEKDAYS.index(day), time.fromisoformat(clock), ZoneInfo(zone))
    except (ValueError, ZoneInfoNotFoundError) as error:
        raise ConfigError(
            f'update.window = "{text}" in {zone} is no time of the week', 'for example "Sun 03:15"'
        ) from error


def begun(window: Window, now: datetime) -> datetime:
    """Return when the window last began, in UTC: once a week, whatever the clocks do.

    A time of day that the clocks skip is the one they show instead, and of one that comes twice the first counts (PEP 495).
    """
    today = now.astimezone(window.zone).date()
    for weeks in (0, 1):
        day = today - timedelta(days=(today.weekday() - window.weekday) % 7 + 7 * weeks)
        begin = datetime.combine(day, window.at, tzinfo=window.zone).astimezone(UTC)
        if begin <= now:
            return begin
    raise AssertionError("a week ago is before now")


def next_begin(window: Window, now: datetime) -> datetime:
    """Return when the window begins next, in UTC."""
    begin = begun(window, now + timedelta(days=7))
    return begin if begin > now else begun(window, now + timedelta(days=8))


def is_due(window: Window, last: datetime | None, now: datetime) -> bool:
    """Tell whether automatic updates are to begin now: the window is open, and since it began there were none."""
    begin = begun(window, now)
    # A time that is yet to come was noted by a clock that was wrong.
    return now - begin < WINDOW and (last is None or last < begin or last > now)
