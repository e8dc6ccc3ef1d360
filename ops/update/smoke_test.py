"""Is a new version well? More than that it runs: what a person would try, and how it fares while it is watched."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass

from ops.config.paths import LOCALHOST
from ops.config.schema import Site
from ops.errors import OpsError
from ops.images.versions import Release
from ops.model import Secret
from ops.stack import accounts, health
from ops.world import World
from ops.world.https import Answer

# The administrator's own private repository, made by the first update: it is read and cloned after each.
CANARY = "ops-canary"
_CLONED = 'rm -rf /tmp/canary && git clone -q "$1" /tmp/canary && git -C /tmp/canary rev-parse HEAD; rm -rf /tmp/canary'
# Between two looks while a new version is watched, in seconds.
_BEAT = 5.0
# One look that fails is a hiccup; one in five, or two in a row at the end, is not.
_FAILED_SHARE = 0.2


@dataclass(frozen=True)
class Look:
    """One look at the site: whether it answered as it should, what was seen, and how often the service was restarted."""

    well: bool
    seen: str
    restarts: int


def prepare(site: Site, world: World, token: Secret) -> str:
    """Make sure of the canary repository and return its newest commit; raises OpsError when Gitea refuses it."""
    request = {"name": CANARY, "private": True, "auto_init": True, "default_branch": "main"}
    if _ask(site, world, token, _canary(site)).status == 404:
        answer = _ask(site, world, token, "/api/v1/user/repos", request)
        if answer.status != 201:
            raise OpsError(f"Gitea answers {answer.status} when {CANARY} is made", "read `docker logs` of gitea")
    answer = _ask(site, world, token, f"{_canary(site)}/branches/main")
    if answer.status != 200:
        raise OpsError(
            f"Gitea answers {answer.status} for {CANARY}'s branch", f"remove {CANARY}, it is made anew by itself"
        )
    return str(answer.json()["commit"]["id"])


def use(site: Site, world: World, *, project: str, release: Release, canary: str) -> tuple[str, ...]:
    """Do what a person does and return what went wrong: the sign-in page, signing in by token, reading, cloning.

    ``canary`` is the commit that the canary repository had before. Everything but the clone goes through nginx.
    """
    findings = []
    page = world.https.request(site.domain, LOCALHOST, "GET", "/user/login")
    if page.status != 200:
        findings.append(f"the sign-in page answers {page.status}")
    version = world.https.request(site.domain, LOCALHOST, "GET", "/api/v1/version")
    wanted = ".".join(map(str, release.numbers))
    if version.status != 200 or not str(version.json().get("version", "")).startswith(wanted):
        findings.append(f"/api/v1/version answers {version.status}, and does not say {wanted}")
    if findings:
        return tuple(findings)
    with accounts.token(site, world) as token:
        for path in ("/api/v1/user", "/api/v1/repos/search?limit=1", f"{_canary(site)}/branches/main"):
            answer = _ask(site, world, token, path)
            if answer.status != 200:
                findings.append(f"{path.partition('?')[0]} answers {answer.status} to the administrator")
        if not findings:
            findings += _clone(site, world, project, token, canary)
    return tuple(findings)


def watch(site: Site, world: World, *, project: str, service: str, seconds: int) -> tuple[str, ...]:
    """Look at the site again and again for so long and return what went wrong; sooner when that is clear."""
    began, looks = world.clock.monotonic(), [_look(site, world, project, service)]
    while world.clock.monotonic() - began < seconds and not _is_lost(looks):
        world.clock.sleep(_BEAT)
        looks.append(_look(site, world, project, service))
    return check(looks)


def check(looks: Sequence[Look]) -> tuple[str, ...]:
    """Return what is wrong with a site that was looked at again and again; nothing when it is well."""
    findings = []
    failed = [each.seen for each in looks if not each.well]
    if looks[-1].restarts > looks[0].restarts:
        findings.append(f"it started anew {looks[-1].restarts - looks[0].restarts} times")
    if _is_lost(looks) or len(failed) > _FAILED_SHARE * len(looks):
        findings.append(f"{len(failed)} of {len(looks)} looks failed: {failed[-1] if failed else 'it started anew'}")
    return tuple(findings)


def _is_lost(looks: Sequence[Look]) -> bool:
    return looks[-1].restarts > looks[0].restarts or (len(looks) > 1 and not looks[-1].well and not looks[-2].well)


def _look(site: Site, world: World, project: str, service: str) -> Look:
    found = {each.name: each for each in world.containers.services(project)}
    restarts = found[service].restarts if service in found else 0
    try:
        seen = {path: world.https.request(site.domain, LOCALHOST, "GET", path).status for path in ("/api/healthz", "/")}
    except OpsError as error:
        return Look(False, error.message, restarts)
    # The front page may lead elsewhere; what it may not is fail.
    well = seen["/api/healthz"] == 200 and seen["/"] < 500
    return Look(well, ", ".join(f"{path} answers {status}" for path, status in seen.items()), restarts)


def failing_probes(site: Site, world: World, *, project: str) -> tuple[str, ...]:
    """Return each probe that is red of the containers and of what people see.

    How old the backups are is no property of a version, and one is taken before each update.
    """
    seen = health.health_from_outside(site, world, address=LOCALHOST).facts["probes"]
    probes = [*map(vars, health.check_services(world.containers.services(project))), *seen]
    return tuple(f"{each['name']}: {each['seen']}" for each in probes if not each["healthy"])


def _clone(site: Site, world: World, project: str, token: Secret, canary: str) -> list[str]:
    # In the environment: a password in an address would stand in the process list.
    pair = b64encode(f"{site.gitea.admin_username}:{token.reveal()}".encode()).decode()
    who = {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "http.extraHeader",
        "GIT_CONFIG_VALUE_0": f"Authorization: Basic {pair}",
        "GIT_TERMINAL_PROMPT": "0",
    }
    where = f"http://127.0.0.1:3000/{site.gitea.admin_username}/{CANARY}.git"
    argv = ["sh", "-c", _CLONED, "clone", where]
    cloned = world.containers.execute(project, "gitea", argv, user="git", environment=who)
    if cloned.output.strip() == canary:
        return []
    return [f"{CANARY} cannot be cloned as it was: {cloned.output.strip()[-300:]}"]


def _canary(site: Site) -> str:
    return f"/api/v1/repos/{site.gitea.admin_username}/{CANARY}"


def _ask(site: Site, world: World, token: Secret, path: str, document: object = None) -> Answer:
    method = "GET" if document is None else "POST"
    headers = {"Authorization": f"token {token.reveal()}"}
    return world.https.request(site.domain, LOCALHOST, method, path, headers, document)
