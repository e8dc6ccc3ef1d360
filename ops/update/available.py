"""Available updates: each service's pin, the registry's tags, and the approval that the policy demands."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from ops.config import monitoring_files
from ops.config.compose_files import SETTINGS
from ops.config.paths import COMPOSE_DIRECTORY
from ops.config.schema import Site
from ops.errors import OpsError, Refused, Unavailable
from ops.images import pins, versions
from ops.images.pins import Pin
from ops.images.versions import VersionStep
from ops.model import Report
from ops.update import policy as update_policy
from ops.update.policy import Approval, AvailableVersions
from ops.world import World

# The registry is asked for the build times of at most this many releases, the newest first.
_BUILD_TIME_LOOKUPS = 5
# Helpers first, services with data last: an update of Gitea finds every other service already updated.
_ORDER = (
    *monitoring_files.SERVICES,
    "docker-socket-proxy",
    "diun",
    "certbot",
    "door",
    "haproxy",
    "nginx",
    "postgres",
    "gitea",
)


@dataclass(frozen=True)
class AvailableUpdate:
    """The update available for one service: its current pin, the registry's digest of the same tag, and newer versions.

    ``lookup_error`` says why the registry gave no answer. ``unreachable`` tells whether it may answer later.
    """

    service: str
    current: Pin
    digest: str = ""
    versions: AvailableVersions = field(default_factory=AvailableVersions)
    lookup_error: str = ""
    unreachable: bool = False

    @property
    def rebuilt(self) -> bool:
        """Whether the registry has another image under the current tag, for example after a fix in its base image."""
        return bool(self.digest) and bool(self.current.digest) and self.digest != self.current.digest

    @property
    def newest(self) -> tuple[str, VersionStep]:
        """The newest tag and the size of the step to it; the current tag and no step if there is no newer one."""
        newest = self.versions.newest
        if newest:
            return newest.tag, versions.step_between(self.service, self.current.release, newest)
        return self.current.tag, VersionStep.DIGEST if self.rebuilt else VersionStep.NONE

    @property
    def within_major(self) -> str:
        """The newest tag of the current major version if ``newest`` belongs to another; "" if there is no step to one."""
        if self.newest[1] is not VersionStep.MAJOR:
            return ""
        if self.versions.newest_in_major:
            return self.versions.newest_in_major.tag
        return self.current.tag if self.rebuilt else ""


def check(site: Site, world: World, *, compose: Path = COMPOSE_DIRECTORY) -> Report:
    """Return for each service the available update, the size of the step, the approval that it needs and its blockers.

    Changes nothing. If a registry does not answer, the entry of its service says so. Raises Refused if no site runs here.
    """
    now = world.clock.now()
    found = gather(site, world, current_pins(compose), now)
    documents = [document(each, site, now) for each in found]
    lines = tuple(_line(each) for each in documents)
    several = sum(each["step"] != "none" for each in documents)
    summary = f"{several} of {len(found)} services have an update" if several else "every service is at its newest"
    if unknown := [each.service for each in found if each.lookup_error]:
        summary += f"; no answer for {', '.join(unknown)}"
    return Report("update", False, summary, {"services": documents, "window": _next_window(site, now)}, lines)


def current_pins(compose: Path) -> dict[str, Pin]:
    """Return the pin of each service on this host; raises Refused if no site is deployed here."""
    environment = compose / SETTINGS
    if not environment.is_file():
        raise Refused(
            f"no site runs here: there is no {environment}",
            "run ops update on the site's host",
            left_as="nothing was changed",
        )
    return pins.from_environment(environment.read_text(encoding="utf-8"))


def gather(site: Site, world: World, current: Mapping[str, Pin], now: datetime) -> tuple[AvailableUpdate, ...]:
    """Ask the registries about all services in parallel and return the available updates, in the order of application."""
    with ThreadPoolExecutor(max_workers=len(current) or 1) as pool:
        asked = [pool.submit(_available_update, site, world, service, pin, now) for service, pin in current.items()]
        return in_order(each.result() for each in asked)


def in_order(updates: Iterable[AvailableUpdate]) -> tuple[AvailableUpdate, ...]:
    """Return the updates in the order in which they are applied."""
    return tuple(sorted(updates, key=lambda each: _ORDER.index(each.service) if each.service in _ORDER else -1))


def approval(candidate: AvailableUpdate, step: VersionStep, site: Site) -> Approval:
    """Return the approval that a step of this service needs under the site file's policy and holds."""
    service = candidate.service
    held = service in site.update.hold
    return update_policy.approval_for(service, step, site.update.policy(service), held=held)


def automatic_tag(candidate: AvailableUpdate, site: Site) -> str:
    """Return the tag that may be applied without an operator, "" if there is none."""
    if candidate.versions.automatic:
        return candidate.versions.automatic.tag
    # A new image under the current tag is a security rebuild: there is no release to wait for.
    automatic = approval(candidate, VersionStep.DIGEST, site) is Approval.AUTOMATIC
    return candidate.current.tag if candidate.rebuilt and automatic else ""


def document(candidate: AvailableUpdate, site: Site, now: datetime) -> dict[str, Any]:
    """Return an available update as in the JSON output: from, to, step, the approval that it needs, and its blockers."""
    tag, step = candidate.newest
    held = candidate.service in site.update.hold
    return {
        "service": candidate.service,
        "image": candidate.current.name,
        "from": candidate.current.tag,
        "to": tag,
        "within_major": candidate.within_major,
        "step": step.name.lower(),
        "policy": "hold" if held else site.update.policy(candidate.service),
        "taken_by": approval(candidate, step, site).value if step else "",
        "automatic": automatic_tag(candidate, site),
        "rebuilt": candidate.rebuilt,
        "in_the_way": blockers(candidate, site, now),
    }


def blockers(candidate: AvailableUpdate, site: Site, now: datetime) -> list[str]:
    """Return the reasons why the newest release is not applied, each with its remedy."""
    if candidate.lookup_error:
        return [candidate.lookup_error]
    tag, step = candidate.newest
    if step is VersionStep.NONE:
        return []
    needed = approval(candidate, step, site)
    reasons = [] if needed is Approval.AUTOMATIC else [approval_blocker(candidate.service, tag, needed)]
    waiting = candidate.versions.waiting
    if waiting and waiting.tag == tag:
        reasons.append(_soak_note(candidate.versions.built, timedelta(hours=site.update.soak_hours), now))
    return reasons + _hint_within_major(candidate, site)


def approval_blocker(service: str, tag: str, needed: Approval) -> str:
    """Return why a step is not applied automatically, and how an operator applies it."""
    return {
        Approval.HELD: f"update.hold has {service}: remove it from there",
        Approval.GUIDED: "another major version of PostgreSQL needs a copy of the database, so name the version: "
        f"ops update {service} --to {tag} (docs/runbooks/update.md)",
        Approval.OPERATOR: f"an operator applies it: ops update {service} --to {tag}",
        Approval.AUTOMATIC: "",
    }[needed]


def _hint_within_major(candidate: AvailableUpdate, site: Site) -> list[str]:
    tag, held = candidate.within_major, candidate.service in site.update.hold
    if not tag or held or automatic_tag(candidate, site):
        return []
    return [f"{tag} is available as well: ops update {candidate.service} --to {tag}"]


def _available_update(site: Site, world: World, service: str, pin: Pin, now: datetime) -> AvailableUpdate:
    policy, held = site.update.policy(service), service in site.update.hold
    try:
        newer = versions.newer_releases(service, pin.release, world.registry.tags(pin.name))
        digest = world.registry.digest(pin.image)
        allowed = update_policy.automatic_releases(service, pin.release, newer, policy=policy, held=held)
        build_times = {
            each.tag: world.registry.made(f"{pin.name}:{each.tag}") for each in allowed[:_BUILD_TIME_LOOKUPS]
        }
    except OpsError as error:
        return AvailableUpdate(service, pin, lookup_error=error.message, unreachable=isinstance(error, Unavailable))
    soak = timedelta(hours=site.update.soak_hours)
    available = update_policy.choose(
        service, pin.release, newer, policy=policy, held=held, build_times=build_times, soak=soak, now=now
    )
    return AvailableUpdate(service, pin, digest, available)


def _soak_note(built: datetime | None, soak: timedelta, now: datetime) -> str:
    if built is None:
        return "its image has no build time: an operator may apply it"
    until = built + soak
    return f"it is {(now - built) / timedelta(hours=1):.0f} h old and is applied from {until:%Y-%m-%d %H:%M} UTC on"


def _next_window(site: Site, now: datetime) -> str:
    return update_policy.next_begin(update_policy.window_from(site.update.window, site.timezone), now).isoformat()


def _line(entry: Mapping[str, Any]) -> str:
    if entry["step"] == "none":
        return f"{entry['service']} {entry['from']}" + "".join(f": {each}" for each in entry["in_the_way"])
    step = f"{entry['service']} {entry['from']} -> {entry['to']} ({entry['step']})"
    automatically = f"; {entry['automatic']} is applied in the next window" if entry["automatic"] else ""
    return step + automatically + "".join(f"; {each}" for each in entry["in_the_way"])
