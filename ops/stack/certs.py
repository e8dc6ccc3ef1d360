"""The site's TLS certificate: issued when missing, renewed when due. nginx is reloaded only when it changed."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from ops.config.paths import COMPOSE_DIRECTORY, DATA_DIRECTORY, PROJECT
from ops.config.schema import Site
from ops.errors import OpsError, Unavailable
from ops.model import Report
from ops.world import World

# The service's own command issues a certificate, renews it when due, and otherwise changes nothing.
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
    """Issue the certificate if it is missing, else have certbot renew it when due; reload nginx when it has an older one.

    A certificate of another issuer than the site's is replaced at once. Raises Unavailable with certbot's output when the
    issuer is out of reach or refuses; the site then keeps its present certificate.
    """
    certificate, loaded = live / site.domain / "fullchain.pem", live.parent / "taken-by-nginx"
    environment = {"CERTBOT_WHEN": "--force-renewal"} if _is_of_another_issuer(live.parent, site) else {}
    finished = world.processes.run(_CERTBOT, directory=compose, environment=environment, tell=world.tell)
    if finished.code:
        raise Unavailable(
            f"certbot failed: {_last_lines(finished.output)}",
            "fix the cause that certbot names, then run ops certs renew",
            left_as="the site keeps its present certificate, if any",
        )
    # Compared with what nginx loaded last, not with the file before this run: a run may have been cut off before its reload.
    found = _fingerprint(certificate)
    changed = found != (loaded.read_text(encoding="utf-8") if loaded.exists() else "")
    if changed:
        _reload_nginx(world)
        loaded.write_text(found, encoding="utf-8")
    return Report(
        "certs", changed, "the certificate changed, nginx was reloaded" if changed else "the certificate is not due yet"
    )


def _reload_nginx(world: World) -> None:
    # nginx starts without TLS while the certificate is missing; the image's own script selects the stage, then nginx checks.
    for command in ([_SELECT_STAGE], ["nginx", "-t"], ["nginx", "-s", "reload"]):
        ran = world.containers.execute(PROJECT, "nginx", command)
        if ran.code:
            raise OpsError(
                f"nginx: {' '.join(command)} failed: {ran.output.strip()}",
                "correct compose/nginx, then run ops deploy",
                left_as="nginx serves with its previous configuration",
            )


def _is_of_another_issuer(letsencrypt: Path, site: Site) -> bool:
    """Return whether another issuer made the certificate. Certbot itself would keep it until it is due."""
    settings = letsencrypt / "renewal" / f"{site.domain}.conf"
    issuer = _SERVER.search(settings.read_text(encoding="utf-8")) if settings.exists() else None
    return issuer is not None and issuer[1] != site.tls.acme_directory


def _fingerprint(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def _last_lines(output: str) -> str:
    return " ".join(line.strip() for line in output.strip().splitlines()[-6:])
