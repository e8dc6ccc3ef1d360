"""Is the site well? Probes from inside the host and from outside, and one judgement over both."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from ops.backup import catalogue
from ops.backup import records as backup_records
from ops.config.paths import BACKUP_DIRECTORY, DATA_DIRECTORY, LOCALHOST, PROJECT
from ops.config.schema import Site
from ops.errors import OpsError
from ops.model import CLOCK_DRIFT, Probe, Report
from ops.report import line
from ops.wal import segments
from ops.world import World
from ops.world.containers import FROZEN_SECONDS, NEVER, Service

# certbot renews when a third of a certificate's life is left; half of that is still unused when this turns red.
CERTIFICATE_LEFT = timedelta(days=10)
# In it the log's stream says how far it is.
STREAM = Path(BACKUP_DIRECTORY, "wal/state.json")
ROOM_LEFT, SHARE_LEFT = 5 * 2**30, 0.1
DATA = Path(DATA_DIRECTORY, "gitea")
EXPECTED_SERVICES = frozenset({"diun", "docker-socket-proxy", "door", "gitea", "nginx", "postgres"})


@dataclass(frozen=True)
class Records:
    """What was proven of backups, oldest first."""

    verifications: tuple[backup_records.Verification, ...] = ()
    drills: tuple[backup_records.Drill, ...] = ()


def health(site: Site, world: World) -> Report:
    """Probe the site from its own host: every container, the data disk, its log's way to the bucket, what its users see, and its backups.

    A site that stands still for a backup is judged when it goes on. Exit code 3 when a probe is red.
    """
    services = _going_on(world)
    seen = [*check_services(services), *_disk(world), *_rooms(world), _log(world), *_outside(site, world, LOCALHOST)]
    return check_site([*seen, *_kept(site, world, services)])


def health_from_outside(site: Site, world: World, *, address: str) -> Report:
    """Probe what a user of the site sees at ``address``. Exit code 3 when a probe is red."""
    return check_site(_outside(site, world, address))


def await_healthy(world: World, services: Iterable[str], *, project: str = PROJECT, seconds: int) -> None:
    """Wait until the services are healthy by their own checks; raises OpsError naming those that are not after so long."""
    waiting, began = set(services), world.clock.monotonic()
    while waiting:
        found = world.containers.services(project)
        waiting -= {each.name for each in found if (each.state, each.health) == ("running", "healthy")}
        if waiting and world.clock.monotonic() - began > seconds:
            raise OpsError(
                f"{', '.join(sorted(waiting))}: not healthy {seconds} s after the restart",
                f"docker compose --project-name {project} logs {min(waiting)}",
            )
        if waiting:
            world.clock.sleep(1)


def check_site(probes: Iterable[Probe]) -> Report:
    """Return the report of the probes: healthy only when there are some and all of them are."""
    seen = tuple(probes)
    red = [probe for probe in seen if not probe.healthy]
    healthy = bool(seen) and not red
    summary = f"healthy: {len(seen)} probes" if healthy else f"{len(red)} of {len(seen)} probes are red"
    facts = {"healthy": healthy, "probes": [vars(probe) for probe in seen]}
    return Report("health", False, summary, facts, tuple(line(probe) for probe in seen), 0 if healthy else 3)


def check_services(services: Iterable[Service]) -> tuple[Probe, ...]:
    """Return a probe for each service that should run: red when missing, stopped, or not healthy by its own check.

    While one nginx takes another's place there are two, and one that is well is enough.
    """
    found = {service.name: service for service in sorted(services, key=_is_well)}
    return tuple(_service_probe(name, found.get(name)) for name in sorted(EXPECTED_SERVICES))


def check_certificate(ends: datetime, now: datetime) -> Probe:
    """Return whether the certificate lives long enough for a renewal that failed to be noticed and mended."""
    left = ends - now
    seen = f"ends {ends:%Y-%m-%d %H:%M} UTC, in {left.days} days"
    return Probe("certificate", left > CERTIFICATE_LEFT, seen, "ops certs renew")


def _going_on(world: World) -> tuple[Service, ...]:
    began = world.clock.monotonic()
    while True:
        services = world.containers.services(PROJECT)
        still = any(each.state == "paused" for each in services)
        if not still or world.clock.monotonic() - began > FROZEN_SECONDS:
            return services
        world.clock.sleep(0.5)


def _service_probe(name: str, service: Service | None) -> Probe:
    remedy = f"docker compose --project-name {PROJECT} logs {name}"
    if service is None:
        return Probe(f"container {name}", False, "there is none", "systemctl restart gitea-suite")
    return Probe(
        f"container {name}", _is_well(service), f"{service.state}, {service.health or 'no health check'}", remedy
    )


def _is_well(service: Service) -> bool:
    return (service.state, service.health) == ("running", "healthy")


def _disk(world: World) -> list[Probe]:
    """Of a disk without btrfs no one knows whether it returns what was written."""
    if not world.btrfs.on_btrfs(DATA):
        return []
    errors = world.btrfs.errors(DATA)
    seen = ", ".join(errors) or "has returned what was written"
    return [Probe("data disk", not errors, seen, 'docs/runbooks/restore.md, "The disk is at fault"')]


def _rooms(world: World) -> list[Probe]:
    disks = {"data disk": DATA, "root disk": Path(BACKUP_DIRECTORY)}
    return [
        check_room(f"room on the {name}", world.btrfs.free(folder), world.btrfs.share_free(folder))
        for name, folder in disks.items()
        if folder.is_dir()
    ]


def check_room(name: str, free: int, share: float) -> Probe:
    """Return whether there is room: of a small disk a tenth, of a large one 5 GiB. Who fills a btrfs can delete nothing any more."""
    seen = f"{free / 2**30:.1f} GiB free, {share:.0%}"
    return Probe(
        name,
        free >= ROOM_LEFT or share >= SHARE_LEFT,
        seen,
        "df --human-readable; larger host.data_gib or root_gib, deploy",
    )


def _log(world: World) -> Probe:
    text = STREAM.read_text(encoding="utf-8") if STREAM.exists() else ""
    return segments.check_stream(segments.state_from_json(text), world.clock.now())


def _outside(site: Site, world: World, address: str) -> list[Probe]:
    return [
        _attempt("https", lambda: _https(site, world, address)),
        _attempt("certificate", lambda: _certificate(site, world, address)),
        _attempt("git over ssh", lambda: _ssh(site, world, address)),
    ]


def check_backups(
    newest: datetime | None, started: datetime, since: datetime | None, records: Records, site: Site, now: datetime
) -> tuple[Probe, ...]:
    """Return whether the newest backup is young enough, and whether verifications and drills are passed and not overdue.

    ``started`` is when Gitea started: a host that was off owes no backup of that time. ``since`` is the oldest backup's moment.
    """
    allowed = timedelta(minutes=site.backup.rpo_minutes)
    seen = f"the newest is of {newest:%Y-%m-%d %H:%M} UTC" if newest else "there is none yet"
    young = -CLOCK_DRIFT <= now - max(newest or started, started) <= allowed
    unverified = backup_records.check_verifications(records.verifications, since, now)
    undrilled = backup_records.check_drills(records.drills, site.backup.drill_days, since, now)
    return (
        Probe("backup", young, f"{seen}; {site.backup.rpo_minutes} min may be lost", "ops backup take"),
        Probe("verification of backups", not unverified, unverified or "passed, or not due yet", "ops backup verify"),
        Probe("drill", not undrilled, undrilled or "passed, or not due yet", "ops restore --drill"),
    )


def _kept(site: Site, world: World, services: Iterable[Service]) -> list[Probe]:
    """The names of backups alone are read, and the newest manifest: this runs every five minutes."""
    try:
        moments, newest = catalogue.moments(site, world), catalogue.newest(site, world)
        records = Records(catalogue.verifications(site, world), catalogue.drills(site, world))
    except OpsError as error:
        return [Probe("backup", False, error.message, error.hint)]
    started = max((each.started for each in services if each.name == "gitea"), default=NEVER)
    since = moments[0] if moments else None
    return list(check_backups(newest.moment if newest else None, started, since, records, site, world.clock.now()))


def _attempt(name: str, probe: Callable[[], Probe]) -> Probe:
    try:
        return probe()
    except OpsError as error:
        return Probe(name, False, error.message, error.hint)


def _https(site: Site, world: World, address: str) -> Probe:
    answer = world.https.request(site.domain, address, "GET", "/api/healthz")
    remedy = f"docker compose --project-name {PROJECT} logs gitea"
    return Probe("https", answer.status == 200, f"/api/healthz answers {answer.status}", remedy)


def _certificate(site: Site, world: World, address: str) -> Probe:
    answer = world.https.request(site.domain, address, "GET", "/api/healthz")
    assert answer.certificate_ends is not None
    return check_certificate(answer.certificate_ends, world.clock.now())


def _ssh(site: Site, world: World, address: str) -> Probe:
    banner = world.https.banner(address, site.gitea.ssh_port)
    return Probe("git over ssh", banner.startswith("SSH-2.0-"), banner or "says nothing", "docker logs of gitea")
