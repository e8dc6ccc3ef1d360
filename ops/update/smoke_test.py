"""The smoke test of a new version: the requests of a user, then repeated checks while it is watched."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from ops.config.paths import LOCALHOST
from ops.config.schema import Site
from ops.errors import OpsError
from ops.images.versions import Release
from ops.model import Secret
from ops.stack import accounts, health
from ops.update.canary import NAME as CANARY
from ops.world import World
from ops.world.https import Answer

_CLONED = 'rm -rf /tmp/canary && git clone -q "$1" /tmp/canary && git -C /tmp/canary rev-parse HEAD; rm -rf /tmp/canary'
# Between two checks while a new version is watched, in seconds.
_INTERVAL = 5.0
# A single failed check is tolerated. More than one in five, or two in a row at the end, is a failure.
_FAILED_SHARE = 0.2


@dataclass(frozen=True)
class SiteCheck:
    """One check of the site: whether it answered correctly, what was seen, and the service's number of restarts."""

    healthy: bool
    seen: str
    restarts: int


def use(site: Site, world: World, *, project: str, release: Release, canary: str) -> tuple[str, ...]:
    """Use the site as a person does and return each finding: the sign-in page, a token, reading, cloning.

    ``canary`` is the canary repository's commit from before the update; without one, nothing is cloned. All requests but the
    clone go through nginx.
    """
    findings = _look(site, world, release)
    if findings:
        return tuple(findings)
    with accounts.token(site, world) as token:
        branch = [f"{_canary(site)}/branches/main"] if canary else []
        for path in ("/api/v1/user", "/api/v1/repos/search?limit=1", *branch):
            answer = _ask(site, world, token, path)
            if answer.status == 401 and not accounts.database_answers(site, world):
                findings.append(f"{path.partition('?')[0]} answers 401, because Gitea's database does not answer")
            elif answer.status != 200:
                findings.append(f"{path.partition('?')[0]} answers {answer.status} to the administrator")
        if canary and not findings:
            findings += _clone(site, world, project, token, canary)
    return tuple(findings)


def _look(site: Site, world: World, release: Release) -> list[str]:
    """Read what every visitor may read, and return each finding."""
    findings = []
    page = world.https.request(site.domain, LOCALHOST, "GET", "/user/login")
    if page.status != 200:
        findings.append(f"the sign-in page answers {page.status}")
    version = world.https.request(site.domain, LOCALHOST, "GET", "/api/v1/version")
    expected = ".".join(map(str, release.numbers))
    if version.status != 200 or not str(version.json().get("version", "")).startswith(expected):
        findings.append(f"/api/v1/version answers {version.status} without version {expected}")
    return findings


def watch(site: Site, world: World, *, project: str, service: str, seconds: int) -> tuple[str, ...]:
    """Check the site repeatedly for ``seconds`` and return each finding; stops early once the site is failing."""
    began, checks = world.clock.monotonic(), [_check_site(site, world, project, service)]
    while world.clock.monotonic() - began < seconds and not _is_failing(checks):
        world.clock.sleep(_INTERVAL)
        checks.append(_check_site(site, world, project, service))
    return findings_of(checks)


def findings_of(checks: Sequence[SiteCheck]) -> tuple[str, ...]:
    """Return the findings of repeated checks; none if the site is healthy."""
    findings = []
    failed = [each.seen for each in checks if not each.healthy]
    restarts = checks[-1].restarts - checks[0].restarts
    if restarts > 0:
        findings.append(f"it restarted {restarts} times")
    if _is_failing(checks) or len(failed) > _FAILED_SHARE * len(checks):
        findings.append(f"{len(failed)} of {len(checks)} checks failed: {failed[-1] if failed else 'it restarted'}")
    return tuple(findings)


def _is_failing(checks: Sequence[SiteCheck]) -> bool:
    restarted = checks[-1].restarts > checks[0].restarts
    return restarted or (len(checks) > 1 and not any(each.healthy for each in checks[-2:]))


def _check_site(site: Site, world: World, project: str, service: str) -> SiteCheck:
    found = {each.name: each for each in world.containers.services(project)}
    restarts = found[service].restarts if service in found else 0
    try:
        seen = {path: world.https.request(site.domain, LOCALHOST, "GET", path).status for path in ("/api/healthz", "/")}
    except OpsError as error:
        return SiteCheck(False, error.message, restarts)
    # The front page may redirect, but it must not fail.
    healthy = seen["/api/healthz"] == 200 and seen["/"] < 500
    return SiteCheck(healthy, ", ".join(f"{path} answers {status}" for path, status in seen.items()), restarts)


def failing_probes(
    site: Site, world: World, *, project: str, services: Collection[str] | None = None
) -> tuple[str, ...]:
    """Return each failing probe of the containers of ``services`` (None: all) and of the site as its users see it.

    The probe of the backups' age is left out: it says nothing about a version, and each update takes a backup first.
    """
    seen = health.health_from_outside(site, world, address=LOCALHOST).facts["probes"]
    probes = [*map(vars, health.check_services(world.containers.services(project), services)), *seen]
    return tuple(f"{each['name']}: {each['seen']}" for each in probes if not each["healthy"])


def _clone(site: Site, world: World, project: str, token: Secret, canary: str) -> list[str]:
    # In the environment: the process list would show a password in a URL.
    pair = b64encode(f"{site.gitea.admin_username}:{token.reveal()}".encode()).decode()
    environment = {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "http.extraHeader",
        "GIT_CONFIG_VALUE_0": f"Authorization: Basic {pair}",
        "GIT_TERMINAL_PROMPT": "0",
    }
    url = f"http://127.0.0.1:3000/{site.gitea.admin_username}/{CANARY}.git"
    argv = ["sh", "-c", _CLONED, "clone", url]
    cloned = world.containers.execute(project, "gitea", argv, user="git", environment=environment)
    if cloned.output.strip() == canary:
        return []
    return [f"{CANARY} cannot be cloned with its commit from before: {cloned.output.strip()[-300:]}"]


def _canary(site: Site) -> str:
    return f"/api/v1/repos/{site.gitea.admin_username}/{CANARY}"


def _ask(site: Site, world: World, token: Secret, path: str) -> Answer:
    return world.https.request(site.domain, LOCALHOST, "GET", path, {"Authorization": f"token {token.reveal()}"})
