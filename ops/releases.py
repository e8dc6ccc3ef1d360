"""Releases: what a tag says, which of two is newer, how big the step between them is, and who may take it, and when."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from enum import Enum, IntEnum
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ops.errors import ConfigError, Refused

WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
# So long after its begin a window is open: for a timer that is late, or a host that boots.
WINDOW = timedelta(hours=2)
# Other builds of the same version, which keep their data elsewhere or otherwise: never a step, whoever asks for it.
_KINDS = ("rootless", "alpine", "slim", "perl", "otel", "bookworm", "trixie")
# A build that is made to be reproducible says the epoch, or the day of the sources' first commit: that is no release date.
_FIRST_CREDIBLE = datetime(2020, 1, 1, tzinfo=UTC)
_TAG = re.compile(r"(v?)(\d+(?:\.\d+)*)(?:-([A-Za-z0-9_.-]+))?")


class Step(IntEnum):
    """How big a step is: to other bytes under the same tag, or to another version."""

    NONE = 0
    DIGEST = 1
    PATCH = 2
    MINOR = 3
    MAJOR = 4


class Taker(Enum):
    """Who may take a step."""

    AUTOMATIC = "automatic"
    OPERATOR = "operator"
    GUIDED = "guided"
    NO_ONE = "held"


# Up to which step a policy lets an update happen of its own.
_LIMITS = {"operator": Step.NONE, "patch": Step.PATCH, "minor": Step.MINOR}
POLICIES = tuple(_LIMITS)


@dataclass(frozen=True)
class Release:
    """What a tag says: its numbers, with what stands before them ("v") and what is put behind ("rootless", "rc1")."""

    tag: str
    prefix: str
    numbers: tuple[int, ...]
    suffix: str

    @property
    def kind(self) -> str:
        """Which build of the version it is; "" for the plain one, or one on the way to a release."""
        return next((kind for kind in _KINDS if kind in self.suffix.split("-")), "")


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


def release_from(tag: str) -> Release | None:
    """Return what a tag says; None for one that names no version ("latest", a commit)."""
    found = _TAG.fullmatch(tag)
    if not found:
        return None
    numbers = tuple(int(part) for part in found[2].split("."))
    return Release(tag, found[1], numbers, found[3] or "")


def position(service: str, release: Release) -> tuple[int, int, int]:
    """Return a version as (major, minor, patch), whatever way its project counts.

    Gitea's quarterly releases were 1.26, 1.27 and are 28, 29 (go-gitea/gitea: docs/release-management.md): each is a major
    one, with a migration and changes that break. PostgreSQL has two numbers, and a second one never changes its data.
    """
    first, second, third = (*release.numbers, 0, 0, 0)[:3]
    if service == "gitea" and first == 1:
        return (second, 0, third)
    return (first, second, third)


def is_newer(service: str, there: Release, here: Release) -> bool:
    """Tell whether a release follows another. What leads to a release (28.1.0-rc1) comes before it."""
    return _order(service, there) > _order(service, here)


def step_between(service: str, here: Release, there: Release) -> Step:
    """Return how big the step from one release to a newer one is; NONE when it is not newer."""
    if not is_newer(service, there, here):
        return Step.NONE
    before, after = position(service, here), position(service, there)
    if before[0] != after[0]:
        return Step.MAJOR
    return Step.MINOR if before[1] != after[1] else Step.PATCH


def following(service: str, here: Release, tags: Iterable[str]) -> tuple[Release, ...]:
    """Return the releases of a registry that follow, the newest first: as plain as the one in use, and as stable.

    nginx's stable branches have an even second number (nginx.org, "download").
    """
    found = [each for each in map(release_from, tags) if each and _alike(service, here, each)]
    newer = [each for each in found if is_newer(service, each, here)]
    return tuple(sorted(newer, key=lambda each: _order(service, each), reverse=True))


def taker(service: str, step: Step, policy: str, *, held: bool = False) -> Taker:
    """Return who may take a step of a service under its policy of the site file."""
    if held:
        return Taker.NO_ONE
    if service == "postgres" and step is Step.MAJOR:
        return Taker.GUIDED
    return Taker.AUTOMATIC if Step.NONE < step <= _LIMITS[policy] else Taker.OPERATOR


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
    within = next((each for each in found if step_between(service, here, each) < Step.MAJOR), None)
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


def require_kin(service: str, here: Release, wanted: str) -> Release:
    """Return the release that an operator names; raises Refused for one that is no step forward of the same image."""
    there = release_from(wanted)
    if there is None:
        raise Refused(f"{wanted} names no version", f"ops update --check names those of {service}")
    if there.kind != here.kind:
        raise Refused(
            f"{wanted} is another kind of image than {here.tag}, which keeps its data otherwise",
            "a site does not change between them by an update",
        )
    if (there.prefix, len(there.numbers)) != (here.prefix, len(here.numbers)):
        raise Refused(
            f"{wanted} is not written as {here.tag} is: a tag that moves names no version",
            f"give all of its numbers; ops update --check names those of {service}",
        )
    if not is_newer(service, there, here) and there != here:
        raise Refused(
            f"{wanted} is older than {here.tag}, and cannot read what {here.tag} has written",
            "ops rollback goes back, with the data of then",
        )
    return there


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


def _order(service: str, release: Release) -> tuple[tuple[int, int, int], tuple[int, ...], bool, str]:
    plain = not release.suffix or bool(release.kind)
    return (position(service, release), release.numbers, plain, release.suffix)


def _alike(service: str, here: Release, there: Release) -> bool:
    same = (here.prefix, here.suffix, len(here.numbers)) == (there.prefix, there.suffix, len(there.numbers))
    stable = service != "nginx" or len(here.numbers) < 2 or here.numbers[1] % 2 or not there.numbers[1] % 2
    return same and bool(stable)
