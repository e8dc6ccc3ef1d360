"""What updates there are: each service's pin beside its registry's tags, and what the policy and the way there say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from ops.config.compose_files import SETTINGS
from ops.config.paths import COMPOSE_DIRECTORY
from ops.config.schema import Site
from ops.errors import OpsError, Refused, Unavailable
from ops.images import pins, versions
from ops.images.pins import Pin
from ops.images.versions import VersionStep
from ops.model import Report
from ops.update import policy as update_policy
from ops.update.policy import Choice, Taker
from ops.world import World

# Of so many releases at most a registry is asked when they were made, the newest first.
_ASKED = 5
# The helpers first and what has data last: an update of Gitea finds everything else as it is to be.
_ORDER = ("docker-socket-proxy", "diun", "certbot", "door", "nginx", "postgres", "gitea")


@dataclass(frozen=True)
class Offer:
    """What there is for one service: its pin, the digest that the registry has under the same tag now, and the choice.

    ``unknown`` says why the registry did not tell, ``unreachable`` that it may tell later.
    """

    service: str
    here: Pin
    digest: str = ""
    choice: Choice = field(default_factory=Choice)
    unknown: str = ""
    unreachable: bool = False

    @property
    def rebuilt(self) -> bool:
        """Whether the registry has other bytes under the tag in use: a base image was mended, say."""
        return bool(self.digest) and bool(self.here.digest) and self.digest != self.here.digest

    @property
    def newest(self) -> tuple[str, VersionStep]:
        """The tag that is newest, and how big the step there is; the one in use and no step where nothing follows."""
        there = self.choice.newest
        if there:
            return there.tag, versions.step_between(self.service, self.here.release, there)
        return self.here.tag, VersionStep.DIGEST if self.rebuilt else VersionStep.NONE

    @property
    def within_major(self) -> str:
        """The newest tag of the major version in use where ``newest`` is of another, "" where there is no step to one."""
        if self.newest[1] is not VersionStep.MAJOR:
            return ""
        return self.choice.within.tag if self.choice.within else self.here.tag if self.rebuilt else ""


def check(site: Site, world: World, *, compose: Path = COMPOSE_DIRECTORY) -> Report:
    """Return what there is for each service, how big the step is, who may take it, and what stands in the way.

    Changes nothing. A registry that does not answer is told of where its service stands. Raises Refused where no site runs.
    """
    now = world.clock.now()
    found = gather(site, world, running(compose), now)
    documents = [document(each, site, now) for each in found]
    lines = tuple(_line(each) for each in documents)
    several = sum(each["step"] != "none" for each in documents)
    summary = f"{several} of {len(found)} services have an update" if several else "every service is at its newest"
    if unknown := [each.service for each in found if each.unknown]:
        summary += f"; not known of {', '.join(unknown)}"
    return Report("update", False, summary, {"services": documents, "window": _next_window(site, now)}, lines)


def running(compose: Path) -> dict[str, Pin]:
    """Return the pin of each service of this host; raises Refused where no site is deployed."""
    environment = compose / SETTINGS
    if not environment.is_file():
        raise Refused(f"no site runs here: there is no {environment}", "run ops update on the site's host")
    return pins.from_environment(environment.read_text(encoding="utf-8"))


def gather(site: Site, world: World, here: Mapping[str, Pin], now: datetime) -> tuple[Offer, ...]:
    """Ask the registry about every service at once and return the offers, in the order in which they would be taken."""
    with ThreadPoolExecutor(max_workers=len(here) or 1) as pool:
        asked = [pool.submit(_offer, site, world, service, pin, now) for service, pin in here.items()]
        return in_order(each.result() for each in asked)


def in_order(offers: Iterable[Offer]) -> tuple[Offer, ...]:
    """Return the offers in the order in which they are taken."""
    return tuple(sorted(offers, key=lambda each: _ORDER.index(each.service) if each.service in _ORDER else -1))


def automatic(offer: Offer, site: Site) -> str:
    """Return the tag that may be taken without an operator, "" where there is none."""
    if offer.choice.automatic:
        return offer.choice.automatic.tag
    policy, held = site.update.policy(offer.service), offer.service in site.update.hold
    taken_by = update_policy.taker(offer.service, VersionStep.DIGEST, policy, held=held)
    # Other bytes under a tag in use are a rebuild for security's sake: there is no other release to wait for.
    return offer.here.tag if offer.rebuilt and taken_by is Taker.AUTOMATIC else ""


def document(offer: Offer, site: Site, now: datetime) -> dict[str, Any]:
    """Return an offer as JSON tells it: from, to, step, who may take it, and what stands in the way."""
    tag, step = offer.newest
    policy, held = site.update.policy(offer.service), offer.service in site.update.hold
    by = update_policy.taker(offer.service, step, policy, held=held) if step else None
    return {
        "service": offer.service,
        "image": offer.here.name,
        "from": offer.here.tag,
        "to": tag,
        "within_major": offer.within_major,
        "step": step.name.lower(),
        "policy": "hold" if held else policy,
        "taken_by": by.value if by else "",
        "automatic": automatic(offer, site),
        "rebuilt": offer.rebuilt,
        "in_the_way": obstacles(offer, site, now),
    }


def obstacles(offer: Offer, site: Site, now: datetime) -> list[str]:
    """Return what keeps the newest release from being taken, each with what would remove it."""
    if offer.unknown:
        return [offer.unknown]
    tag, step = offer.newest
    if step is VersionStep.NONE:
        return []
    held = offer.service in site.update.hold
    by = update_policy.taker(offer.service, step, site.update.policy(offer.service), held=held)
    words = [] if by is Taker.AUTOMATIC else [obstacle(offer.service, tag, by)]
    fresh = offer.choice.waiting
    if fresh and fresh.tag == tag:
        words = [*words, _age(offer.choice.since, timedelta(hours=site.update.soak_hours), now)]
    if offer.within_major and not held and not automatic(offer, site):
        near = offer.within_major
        words = [*words, f"{near} is out as well: ops update {offer.service} --to {near}"]
    return words


def obstacle(service: str, tag: str, by: Taker) -> str:
    """Return why a step does not happen of its own, and what would let it."""
    return {
        Taker.NO_ONE: f"update.hold has {service}: take it out of there",
        Taker.GUIDED: "another major version of PostgreSQL gets a copy of the data, and its version is to be named: "
        f"ops update {service} --to {tag} (docs/runbooks/update.md)",
        Taker.OPERATOR: f"an operator takes it: ops update {service} --to {tag}",
        Taker.AUTOMATIC: "",
    }[by]


def _offer(site: Site, world: World, service: str, pin: Pin, now: datetime) -> Offer:
    policy, held = site.update.policy(service), service in site.update.hold
    try:
        found = versions.following(service, pin.release, world.registry.tags(pin.name))
        digest = world.registry.digest(pin.image)
        allowed = [
            each
            for each in found
            if update_policy.taker(service, versions.step_between(service, pin.release, each), policy, held=held)
            is Taker.AUTOMATIC
        ]
        made = {each.tag: world.registry.made(f"{pin.name}:{each.tag}") for each in allowed[:_ASKED]}
    except OpsError as error:
        return Offer(service, pin, unknown=error.message, unreachable=isinstance(error, Unavailable))
    soak = timedelta(hours=site.update.soak_hours)
    choice = update_policy.choose(service, pin.release, found, policy=policy, held=held, made=made, soak=soak, now=now)
    return Offer(service, pin, digest, choice)


def _age(since: datetime | None, soak: timedelta, now: datetime) -> str:
    if since is None:
        return "its image does not say when it was made: an operator may take it"
    until = since + soak
    return f"it is {(now - since) / timedelta(hours=1):.0f} h old and taken from {until:%Y-%m-%d %H:%M} UTC on"


def _next_window(site: Site, now: datetime) -> str:
    return update_policy.next_begin(update_policy.window_from(site.update.window, site.timezone), now).isoformat()


def _line(known: Mapping[str, Any]) -> str:
    if known["step"] == "none":
        return f"{known['service']} {known['from']}" + "".join(f": {each}" for each in known["in_the_way"])
    step = f"{known['service']} {known['from']} -> {known['to']} ({known['step']})"
    automatically = f"; {known['automatic']} is taken in the next window" if known["automatic"] else ""
    return step + automatically + "".join(f"; {each}" for each in known["in_the_way"])
