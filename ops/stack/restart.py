"""Restart Gitea, recreate its container, or stop it, without cutting a request that can end: requests wait meanwhile."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from ops.config.paths import PROJECT
from ops.config.schema import Site
from ops.errors import OpsError
from ops.model import Report
from ops.stack import handover
from ops.stack.handover import HAPROXY, NETWORK_OWNER, REPLACEABLE, HandoverStack
from ops.stack.health import await_healthy
from ops.stack.maintenance import GITEA, MaintenanceMode, maintenance_mode
from ops.world import World

POSTGRES = "postgres"
# Without these, requests to Gitea fail. The database first: Gitea starts after it.
_SERVICES = (POSTGRES, GITEA)


def restart_gitea(site: Site, world: World, reason: str, *, seconds: int, project: str = PROJECT) -> MaintenanceMode:
    """Restart Gitea's container and wait until it is healthy; raises OpsError when it is not within ``seconds``."""
    with maintenance_mode(site, world, reason, project=project) as mode:
        mode.stop()
        mode.start()
        await_healthy(world, [GITEA], project=project, seconds=seconds)
    return mode


def recreate(site: Site, world: World, services: Collection[str], *, stack: HandoverStack | None = None) -> Report:
    """Recreate the containers of these services, as far as they run, without a cut request.

    Requests wait while Gitea or PostgreSQL is recreated by Compose; nginx and HAProxy are replaced by a second container,
    unless the service that holds their ports is to be recreated. All else is left to Compose, and so is everything while Gitea
    does not run, or HAProxy: on the site of an earlier release the new nginx would not find it. Raises OpsError when Compose
    fails or a service does not become healthy in time.
    """
    stack = stack or HandoverStack()
    running = _running(world, stack, services)
    replaced = [each for each in REPLACEABLE if each in running and NETWORK_OWNER not in services]
    for each in replaced:
        handover.replace(site, world, stack=dataclasses.replace(stack, service=each))
    recreated = [each for each in _SERVICES if each in running]
    names = [*replaced, *recreated]
    facts: dict[str, Any] = {"recreated": names}
    summary = f"recreated {' and '.join(names) or 'nothing'}"
    if recreated:
        facts |= _recreate(site, world, stack, recreated)
        summary += f"; Gitea was away for {facts['away']:.1f} s: {requests_line(facts)}"
    return Report("stack", bool(names), summary, facts)


def _running(world: World, stack: HandoverStack, services: Collection[str]) -> set[str]:
    """Return those of the services that run; none of them while Gitea does not run, or on a site that is still without HAProxy."""
    running = {each.name for each in world.containers.services(stack.project) if each.state == "running"}
    return running.intersection(services) if {GITEA, HAPROXY} <= running else set()


def _recreate(site: Site, world: World, stack: HandoverStack, services: Sequence[str]) -> dict[str, Any]:
    settings = stack.settings.read_text(encoding="utf-8")
    for each in services:
        # Not while requests wait.
        if not world.containers.image_id(handover.image_from(settings, each)):
            _run(world, stack, "pull", "--quiet", each)
    with maintenance_mode(site, world, "Its settings are being changed.", project=stack.project) as mode:
        began = world.clock.monotonic()
        mode.stop()
        for each in services:
            if each != GITEA:
                world.containers.stop(stack.project, each)
            _run(world, stack, "create", "--pull", "never", "--force-recreate", each)
        for each in dict.fromkeys([*services, GITEA]):
            world.containers.start(stack.project, each)
            await_healthy(world, [each], project=stack.project, seconds=60 * site.update.healthy_minutes)
        away = round(world.clock.monotonic() - began, 1)
    return {"away": away} | requests_facts([mode])


def stop(site: Site, world: World, *, project: str = PROJECT) -> Report:
    """Stop Gitea once what is under way has ended, within ``web.drain_seconds``: before a reboot, or with the whole stack."""
    with maintenance_mode(site, world, "The host is being restarted.", project=project) as mode:
        mode.stop()
    facts = requests_facts([mode])
    return Report("stack", True, f"Gitea is stopped: {requests_line(facts)}", facts)


def requests_facts(modes: Iterable[MaintenanceMode]) -> dict[str, Any]:
    """Return what maintenance meant for requests.

    How many transfers were waited for and how many were cut off, how many requests waited, how many too many were refused, and
    the longest wait in seconds.
    """
    found = list(modes)
    return {
        "awaited": sum(each.awaited for each in found),
        "cut": sum(each.cut for each in found),
        "waited": sum(each.waited.requests for each in found),
        "refused": sum(each.waited.refused for each in found),
        "longest_wait": max((each.waited.longest for each in found), default=0.0),
    }


def requests_line(facts: Mapping[str, Any]) -> str:
    """Return these facts as a line of a report."""
    waited = f"{facts['waited']} requests waited for it, the longest for {facts['longest_wait']:.1f} s"
    refused = f", {facts['refused']} too many got the page" if facts["refused"] else ""
    return f"{waited}{refused}; {facts['awaited']} transfers were waited for, {facts['cut']} requests were cut off"


def _run(world: World, stack: HandoverStack, *arguments: str) -> None:
    done = world.processes.run([*stack.compose(stack.project), *arguments], directory=stack.directory)
    if done.code:
        raise OpsError(
            f"Compose failed: {' '.join(done.output.split())[-400:]}",
            f"look at docker compose --project-name {stack.project} ps",
        )
