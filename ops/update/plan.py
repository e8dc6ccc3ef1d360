"""Moves: which service is to be taken from which image to which, whether that may begin, and what it means."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ops.config.schema import Site
from ops.errors import Refused, Unavailable
from ops.images import versions
from ops.images.pins import WITH_DATA, Pin
from ops.images.versions import VersionStep
from ops.model import in_bytes
from ops.update import available, policy
from ops.update.available import Offer
from ops.update.policy import Taker

# Room that an image needs beside those that are there, and what a migration may write beside the database's own size.
_ROOM = 1 << 30


@dataclass(frozen=True)
class UpdateRequest:
    """What is to be updated: a service (else all that an operator need not name), to a tag (else the newest).

    ``automatic`` takes what the policy allows, when the window is open. ``dry_run`` only tells the plan. ``without_drill`` is an
    operator's word that backups will do which were not restored for practice lately.
    """

    service: str = ""
    to: str = ""
    automatic: bool = False
    dry_run: bool = False
    without_drill: bool = False


@dataclass(frozen=True)
class PlannedUpdate:
    """One step of one service, from a pin to another."""

    service: str
    here: Pin
    there: Pin
    step: VersionStep

    @property
    def with_data(self) -> bool:
        """Whether the new version may change data, so that the way back needs a picture of it."""
        return self.service in WITH_DATA

    @property
    def anew(self) -> bool:
        """Whether the new version cannot read the database's files, and gets a copy of it."""
        return self.service == "postgres" and self.step is VersionStep.MAJOR

    def __str__(self) -> str:
        return f"{self.service} {self.here.tag} -> {self.there.tag} ({self.step.name.lower()})"


@dataclass(frozen=True)
class UpdatePreconditions:
    """What there is before an update: probes that are red, free bytes, the database's size.

    ``photographs`` is whether the file system takes pictures of the data; ``undrilled`` says why the backups are not to be relied on;
    ``strangers`` are databases and roles beside Gitea's.
    """

    red: tuple[str, ...]
    free_data: int
    free_images: int
    database: int
    photographs: bool
    undrilled: str
    strangers: tuple[str, ...] = ()


def plan_updates(found: Iterable[Offer], request: UpdateRequest, site: Site) -> tuple[PlannedUpdate, ...]:
    """Return the moves that are wished for, in their order; raises Refused for one that no one may take so.

    Without a service an operator takes all but major steps, which are to be named, and what is held; another major version hides
    no release of the one in use. What has a path of its own is to be named with its version.
    """
    known = {each.service: each for each in available.in_order(found)}
    if request.service and request.service not in known:
        raise Refused(f"there is no service {request.service}", f"one of: {', '.join(sorted(known))}")
    wanted = [known[request.service]] if request.service else list(known.values())
    moves = [_move(each, request, site) for each in wanted]
    return tuple(each for each in moves if each and each.step)


def blockers(moves: Sequence[PlannedUpdate], facts: UpdatePreconditions, request: UpdateRequest) -> tuple[str, ...]:
    """Return each reason not to begin, with what would remove it."""
    problems = [f"the site is not well: {each}" for each in facts.red]
    if facts.free_images < _ROOM * len(moves):
        problems.append(
            f"{in_bytes(facts.free_images)} are free for images, {in_bytes(_ROOM * len(moves))} are needed: "
            "docker image prune --all"
        )
    if any(each.with_data for each in moves):
        if not facts.photographs:
            problems.append("Gitea's data and database lie on no btrfs: there would be no way back (host.data_device)")
        anew = any(each.anew for each in moves)
        what, needed = (
            ("a copy of the database", 2 * facts.database + _ROOM)
            if anew
            else ("a migration", facts.database + _ROOM // 4)
        )
        if facts.free_data < needed:
            problems.append(
                f"{in_bytes(facts.free_data)} are free on the data disk, {what} may need {in_bytes(needed)}: "
                "enlarge host.data_gib and deploy"
            )
        if anew and facts.strangers:
            problems.append(
                f"PostgreSQL has more than Gitea's, which the new version would be without: {', '.join(facts.strangers)}: "
                "move it to another server"
            )
        if facts.undrilled and not request.without_drill:
            urgent = "" if request.automatic else "; where the update cannot wait for that: --without-drill"
            problems.append(f"{facts.undrilled}: ops restore --drill{urgent}")
    return tuple(problems)


def consequences(moves: Sequence[PlannedUpdate], facts: UpdatePreconditions, site: Site) -> tuple[str, ...]:
    """Return what a person has to know before agreeing."""
    lines = []
    if any(each.with_data for each in moves):
        lines.append("before: a backup of this moment; if the new version is not well, image and data go back together")
        lines.append("away: Gitea, from its stop until the new version answers; a migration takes its time")
        lines += [
            f"anew: the database of {in_bytes(facts.database)} is copied to {each.there.tag} beside {each.here.tag}, compared to "
            "the last row, and only then put in its place; Gitea is away for all of that"
            for each in moves
            if each.anew
        ]
        if facts.undrilled:
            lines.append(f"beware: {facts.undrilled} (ops restore --drill)")
    lines.append(f"watched: for {site.update.watch_seconds} s each, before the new version is the one to stay")
    return tuple(lines)


def documents(moves: Iterable[PlannedUpdate]) -> dict[str, Any]:
    """Return moves as JSON tells them."""
    return {
        "moves": [
            {"service": each.service, "from": str(each.here), "to": str(each.there), "step": each.step.name.lower()}
            for each in moves
        ]
    }


def names(moves: Iterable[PlannedUpdate]) -> str:
    """Return the services that are moved, in words."""
    return ", ".join(each.service for each in moves)


def _move(offer: Offer, request: UpdateRequest, site: Site) -> PlannedUpdate | None:
    if request.automatic:
        tag = available.automatic(offer, site)
        return _move_to(offer, tag) if tag else None
    if offer.unknown:
        if request.service and offer.unreachable:
            raise Unavailable(offer.unknown, "nothing was changed; try again later")
        if request.service:
            raise Refused(offer.unknown, "nothing was changed")
        return None
    tag = _wanted(offer, request, site)
    move = _move_to(offer, tag)
    held = offer.service in site.update.hold
    by = policy.taker(offer.service, move.step, site.update.policy(offer.service), held=held)
    if by is Taker.NO_ONE or (by is Taker.GUIDED and not request.to):
        if request.service:
            raise Refused(available.obstacle(offer.service, tag, by), "nothing was changed")
        return None
    return move if request.service or move.step < VersionStep.MAJOR else None


def _wanted(offer: Offer, request: UpdateRequest, site: Site) -> str:
    if request.to:
        versions.require_kin(offer.service, offer.here.release, request.to)
        return request.to
    tag, step = offer.newest
    named = request.service and policy.taker(offer.service, step, site.update.policy(offer.service)) is not Taker.GUIDED
    return tag if named else offer.within_major or tag


def _move_to(offer: Offer, tag: str) -> PlannedUpdate:
    there = versions.release_from(tag)
    assert there
    step = versions.step_between(offer.service, offer.here.release, there)
    if step is VersionStep.NONE and offer.rebuilt:
        step = VersionStep.DIGEST
    return PlannedUpdate(
        offer.service, offer.here, Pin(offer.here.name, tag, offer.digest if tag == offer.here.tag else ""), step
    )
