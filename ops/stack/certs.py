"""The site's TLS certificate: issued when there is none, renewed when due, and nginx told only when it changed."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from ops.config.paths import COMPOSE_DIRECTORY, DATA_DIRECTORY, PROJECT
from ops.config.schema import Site
from ops.errors import OpsError, Unavailable
from ops.model import Report
from ops.world import World

# The service's own command issues, renews when due, and otherwise leaves things as they are.
_CERTBOT = (
    "docker",
    "compose",
    "--progress",
    "quiet",
    "--profile",
    "tools",
    "run",
    "--rm",
    "--no-deps",
    "--no-TTY",
    "certbot",
)
_SERVER = re.compile(r"^server\s*=\s*(\S+)$", re.MULTILINE)
_SELECT_STAGE = "/docker-entrypoint.d/40-select-stage.sh"


def renew(
    site: Site,
    world: World,
    *,
    live: Path = Path(DATA_DIRECTORY) / "letsencrypt/live",
    compose: Path = COMPOSE_DIRECTORY,
) -> Report:
    """Issue the certificate if there is none, else let certbot renew it when due; reload nginx if it has not this one yet.

    One that another issuer than the site's has made is replaced at once. Raises Unavailable when the issuer cannot be
    reached or refuses, with certbot's own words; the site then goes on with what it has.
    """
    certificate, taken = live / site.domain / "fullchain.pem", live.parent / "taken-by-nginx"
    anew = {"CERTBOT_WHEN": "--force-renewal"} if _is_another_s(live.parent, site) else {}
    finished = world.processes.run(_CERTBOT, directory=compose, environment=anew, tell=world.tell)
    if finished.code:
        raise Unavailable(
            f"certbot failed: {_last_words(finished.output)}", "mend what certbot names, then: ops certs renew"
        )
    # Not what was there before this run: one that was cut off before its reload left that to the next.
    found = _fingerprint(certificate)
    changed = found != (taken.read_text(encoding="utf-8") if taken.exists() else "")
    if changed:
        _reload_nginx(world)
        taken.write_text(found, encoding="utf-8")
    return Report("certs", changed, "certificate changed, nginx reloaded" if changed else "certificate not yet due")


def _reload_nginx(world: World) -> None:
    # nginx begins without TLS while there is no certificate; the image's own script selects the stage, then nginx checks.
    for command in ([_SELECT_STAGE], ["nginx", "-t"], ["nginx", "-s", "reload"]):
        ran = world.containers.execute(PROJECT, "nginx", command)
        if ran.code:
            raise OpsError(
                f"nginx: {' '.join(command)} failed: {ran.output.strip()}", "mend compose/nginx, then deploy"
            )


def _is_another_s(letsencrypt: Path, site: Site) -> bool:
    """Certbot keeps a certificate until it ends, whoever made it: it asks the issuer that it is told of only then."""
    settings = letsencrypt / "renewal" / f"{site.domain}.conf"
    made_by = _SERVER.search(settings.read_text(encoding="utf-8")) if settings.exists() else None
    return made_by is not None and made_by[1] != site.tls.acme_directory


def _fingerprint(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def _last_words(output: str) -> str:
    return " ".join(line.strip() for line in output.strip().splitlines()[-6:])
