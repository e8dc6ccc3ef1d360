"""The health of a site: probes on the host and from outside, and one verdict over both."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from ops.backup import catalogue
from ops.backup import records as backup_records
from ops.config import monitoring_files
from ops.config.compose_files import logs_command
from ops.config.paths import BACKUP_DIRECTORY, DATA_DIRECTORY, LOCALHOST, PROJECT, SECRETS_DIRECTORY
from ops.config.schema import Site
from ops.errors import OpsError
from ops.model import CLOCK_DRIFT, Probe, Report, UnitRun
from ops.report import line
from ops.stack import gitea_settings, secrets_in_use
from ops.wal import segments
from ops.world import World
from ops.world.containers import FROZEN_SECONDS, NEVER, Service

# certbot renews when a third of a certificate's life is left; half of that third is still left when this probe fails.
CERTIFICATE_LEFT = timedelta(days=10)
# The WAL stream writes its progress to this file.
STREAM = Path(BACKUP_DIRECTORY, "wal/state.json")
# systemd's links from a unit's name to the ID of its present invocation (systemd.exec(5), $INVOCATION_ID).
UNITS = Path("/run/systemd/units")
_SERVED_SECONDS = 10
MIN_FREE_BYTES, MIN_FREE_SHARE = 5 * 2**30, 0.1
DATA, SECRETS = Path(DATA_DIRECTORY, "gitea"), Path(SECRETS_DIRECTORY)
# Their images have no program that could check them; Prometheus sees whether they answer.
_UNCHECKED = frozenset({"nginx-exporter"})
EXPECTED_SERVICES = frozenset({"diun", "docker-socket-proxy", "door", "gitea", "haproxy", "nginx", "postgres"})


@dataclass(frozen=True)
class Records:
    """The records of verifications and drills, oldest first."""

    verifications: tuple[backup_records.Verification, ...] = ()
    drills: tuple[backup_records.Drill, ...] = ()


def health(site: Site, world: World) -> Report:
    """Probe the site on its own host: containers, data disk, free space, WAL stream, units, the site from outside, and backups.

    While the site is frozen for a backup, the probes wait until it runs again. Exit code 3 when a probe fails.
    """
    services = _unpaused_services(world)
    expected = EXPECTED_SERVICES.union(monitoring_files.SERVICES if site.monitoring.enabled else ())
    own = [*check_services(services, expected), *_data_disk(world), *_free_space(world), *_settings(site, world)]
    on_host = [*own, _wal_stream(world), _units(world)]
    return check_site([*on_host, *_outside(site, world, LOCALHOST), *_backups(site, world, services)])


def health_from_outside(site: Site, world: World, *, address: str) -> Report:
    """Probe HTTPS, the certificate and git over ssh at ``address``. Exit code 3 when a probe fails."""
    return check_site(_outside(site, world, address))


def await_healthy(world: World, services: Iterable[str], *, project: str = PROJECT, seconds: int) -> None:
    """Wait until the services are healthy by their own checks; raises OpsError that names the others after ``seconds``."""
    waiting, began = set(services), world.clock.monotonic()
    while waiting:
        found = world.containers.services(project)
        waiting -= {each.name for each in found if (each.state, each.health) == ("running", "healthy")}
        if waiting and world.clock.monotonic() - began > seconds:
            raise OpsError(
                f"{', '.join(sorted(waiting))}: not healthy {seconds} s after the restart",
                f"look at {logs_command(min(waiting), project)}",
            )
        if waiting:
            world.clock.sleep(1)


def await_served(site: Site, world: World) -> None:
    """Wait until nginx passes requests on to Gitea, and report it if it does not within ten seconds, or does not run.

    nginx resolves Gitea's name every two seconds. A Gitea that was stopped is unknown to it for as long after its start, and
    nginx answers 503.
    """
    began = world.clock.monotonic()
    try:
        while (status := world.https.request(site.domain, LOCALHOST, "GET", "/api/healthz").status) != 200:
            if world.clock.monotonic() - began > _SERVED_SECONDS:
                world.tell(f"nginx does not pass requests on to Gitea: it answers {status}")
                return
            world.clock.sleep(0.5)
    except OpsError as error:
        # At a boot, nginx starts later.
        world.tell(f"nginx does not pass requests on to Gitea: {error.message}")


def check_site(probes: Iterable[Probe]) -> Report:
    """Return the report of the probes: healthy when every probe is, and there is at least one."""
    seen = tuple(probes)
    failing = [probe for probe in seen if not probe.healthy]
    healthy = bool(seen) and not failing
    summary = f"healthy: {len(seen)} probes" if healthy else f"{len(failing)} of {len(seen)} probes are failing"
    facts = {"healthy": healthy, "probes": [vars(probe) for probe in seen]}
    return Report("health", False, summary, facts, tuple(line(probe) for probe in seen), 0 if healthy else 3)


def services_of(compose: Path) -> frozenset[str]:
    """Return the services that should run from a Compose folder: an earlier release's compose.yaml lacks some of them."""
    file = compose / "compose.yaml"
    if not file.is_file():
        return EXPECTED_SERVICES
    return EXPECTED_SERVICES.intersection(re.findall(r"^  ([a-z-]+):$", file.read_text(encoding="utf-8"), re.MULTILINE))


def check_services(services: Iterable[Service], expected: Collection[str] | None = None) -> tuple[Probe, ...]:
    """Return a probe for each service that should run, those ``expected`` (None: all).

    It fails when the service is missing, stopped, or unhealthy by its own check. During a handover two nginx containers run,
    and one healthy one is enough.
    """
    found = {service.name: service for service in sorted(services, key=_is_healthy)}
    return tuple(
        _service_probe(name, found.get(name)) for name in sorted(EXPECTED_SERVICES if expected is None else expected)
    )


def check_certificate(ends: datetime, now: datetime) -> Probe:
    """Return whether the certificate is valid long enough to notice and fix a failed renewal."""
    left = ends - now
    seen = f"ends {ends:%Y-%m-%d %H:%M} UTC, in {left.days} days"
    return Probe("certificate", left > CERTIFICATE_LEFT, seen, "run ops certs renew")


def _unpaused_services(world: World) -> tuple[Service, ...]:
    began = world.clock.monotonic()
    while True:
        services = world.containers.services(PROJECT)
        paused = any(each.state == "paused" for each in services)
        if not paused or world.clock.monotonic() - began > FROZEN_SECONDS:
            return services
        world.clock.sleep(0.5)


def _service_probe(name: str, service: Service | None) -> Probe:
    if service is None:
        return Probe(f"container {name}", False, "missing", "run systemctl restart gitea-suite")
    seen = f"{service.state}, {service.health or 'no health check'}"
    return Probe(f"container {name}", _is_healthy(service), seen, f"look at {logs_command(name)}")


def _is_healthy(service: Service) -> bool:
    healthy = "healthy" if service.name not in _UNCHECKED else service.health
    return (service.state, service.health) == ("running", healthy)


def _data_disk(world: World) -> list[Probe]:
    """Return the probe of the data disk's checksums; without btrfs there are none, and no probe."""
    if not world.btrfs.on_btrfs(DATA):
        return []
    errors = world.btrfs.errors(DATA)
    seen = ", ".join(errors) or "no errors counted by btrfs"
    return [Probe("data disk", not errors, seen, 'follow docs/runbooks/restore.md, "The disk is at fault"')]


def _free_space(world: World) -> list[Probe]:
    disks = {"data disk": DATA, "root disk": Path(BACKUP_DIRECTORY)}
    return [
        check_free_space(f"room on the {name}", world.btrfs.free(folder), world.btrfs.share_free(folder))
        for name, folder in disks.items()
        if folder.is_dir()
    ]


def check_free_space(name: str, free: int, share: float) -> Probe:
    """Return whether a tenth of a disk or 5 GiB is free. Nothing can be deleted from a btrfs that is full."""
    seen = f"{free / 2**30:.1f} GiB free, {share:.0%}"
    return Probe(
        name,
        free >= MIN_FREE_BYTES or share >= MIN_FREE_SHARE,
        seen,
        "free space, or enlarge host.data_gib or host.root_gib in the site file and run ops deploy",
    )


def _settings(site: Site, world: World) -> list[Probe]:
    """Return the probes of Gitea's secrets and settings; none before Gitea's first start."""
    if not (DATA / secrets_in_use.INI).is_file():
        return []
    return [_secrets(site), _attempt("settings of Gitea", lambda: _other_settings(site, world))]


def _secrets(site: Site) -> Probe:
    missing = secrets_in_use.not_in_use(DATA, SECRETS, site.gitea.settings)
    seen = f"Gitea does not use {', '.join(missing)}" if missing else "in use"
    return Probe("secrets of Gitea", not missing, seen, secrets_in_use.REMEDY)


def _other_settings(site: Site, world: World) -> Probe:
    differing = gitea_settings.differences(site, gitea_settings.environment(world, PROJECT), DATA)
    seen = f"app.ini differs from the site file: {', '.join(differing)}" if differing else "as in the site file"
    return Probe("settings of Gitea", not differing, seen, gitea_settings.REMEDY)


def _wal_stream(world: World) -> Probe:
    text = STREAM.read_text(encoding="utf-8") if STREAM.exists() else ""
    return segments.check_stream(segments.state_from_json(text), world.clock.now())


def _units(world: World) -> Probe:
    return check_units(world.containers.unit_runs(), UNITS)


def check_units(runs: Iterable[UnitRun], units: Path) -> Probe:
    """Return whether each run of ``ops`` that a unit started belongs to that unit's present invocation.

    A run that outlived its client, as when the engine restarts, goes on unseen by systemd. The unit's next run ends it or
    waits for it.
    """
    orphans = [each for each in runs if each.invocation != _invocation(units, each.unit)]
    seen = ", ".join(f"{each.name} outlived its client" for each in orphans) or "no run outlived its client"
    return Probe("units", not orphans, seen, f"run systemctl restart {orphans[0].unit if orphans else 'UNIT'}")


def _invocation(units: Path, unit: str) -> str:
    try:
        return (units / f"invocation:{unit}.service").readlink().name
    except OSError:
        return ""


def _outside(site: Site, world: World, address: str) -> list[Probe]:
    return [
        _attempt("https", lambda: _https(site, world, address)),
        _attempt("certificate", lambda: _certificate(site, world, address)),
        _attempt("git over ssh", lambda: _ssh(site, world, address)),
    ]


def check_backups(
    newest: datetime | None, started: datetime, since: datetime | None, records: Records, site: Site, now: datetime
) -> tuple[Probe, ...]:
    """Return the probes of the newest backup's age, and of verifications and drills: passed, and not overdue.

    ``started`` is Gitea's start: for the time before it no backup is due. ``since`` is the moment of the oldest backup.
    """
    allowed = timedelta(minutes=site.backup.rpo_minutes)
    seen = f"the newest is from {newest:%Y-%m-%d %H:%M} UTC" if newest else "no backup yet"
    is_recent = -CLOCK_DRIFT <= now - max(newest or started, started) <= allowed
    unverified = backup_records.check_verifications(records.verifications, since, now)
    drill_overdue = backup_records.check_drills(records.drills, site.backup.drill_days, since, now)
    return (
        Probe("backup", is_recent, f"{seen}; {site.backup.rpo_minutes} min may be lost", "run ops backup take"),
        Probe(
            "verification of backups", not unverified, unverified or "passed, or not due yet", "run ops backup verify"
        ),
        Probe(
            "drill",
            not drill_overdue,
            drill_overdue or "passed, or not due yet",
            f"run {backup_records.drill_remedy(records.drills, now)}",
        ),
    )


def _backups(site: Site, world: World, services: Iterable[Service]) -> list[Probe]:
    """Return the probes of backups. Only names and the newest manifest are read, since this runs every five minutes."""
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
    return Probe(
        "https", answer.status == 200, f"/api/healthz answers {answer.status}", f"look at {logs_command('gitea')}"
    )


def _certificate(site: Site, world: World, address: str) -> Probe:
    answer = world.https.request(site.domain, address, "GET", "/api/healthz")
    assert answer.certificate_ends is not None
    return check_certificate(answer.certificate_ends, world.clock.now())


def _ssh(site: Site, world: World, address: str) -> Probe:
    banner = world.https.banner(address, site.gitea.ssh_port)
    return Probe(
        "git over ssh", banner.startswith("SSH-2.0-"), banner or "no banner", f"look at {logs_command('gitea')}"
    )
