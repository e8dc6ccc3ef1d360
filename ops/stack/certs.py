"""The site's TLS certificate: issued when missing, renewed when due. nginx is reloaded only when it changed."""

from __future__ import annotations

import hashlib
import re
from datetime import timedelta
from pathlib import Path

from ops.config.paths import COMPOSE_DIRECTORY, DATA_DIRECTORY, PROJECT
from ops.config.schema import Site
from ops.errors import Degraded, OpsError, Unavailable
from ops.model import Report
from ops.stack import certificate_files
from ops.stack.certificate_files import CertificateFiles
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
_KEPT = "the site keeps its present certificate, if any"
_SERVER = re.compile(r"^server\s*=\s*(\S+)$", re.MULTILINE)
# Let's Encrypt issues five certificates a week for the same names (letsencrypt.org/docs/rate-limits).
_REQUEST_AGAIN_AFTER = timedelta(days=7)
_SELECT_STAGE = "/docker-entrypoint.d/40-select-stage.sh"


def renew(
    site: Site,
    world: World,
    *,
    live: Path = Path(DATA_DIRECTORY) / "letsencrypt/live",
    compose: Path = COMPOSE_DIRECTORY,
) -> Report:
    """Issue the certificate if it is missing, else have certbot renew it when due; reload nginx when it has an older one.

    A certificate of another issuer than the site's is replaced at once. Broken files of certbot are repaired first, so that
    it does not request a second certificate. Raises Unavailable with certbot's output when the issuer is out of reach or
    refuses, and Degraded when the files cannot be repaired; the site then keeps its present certificate.
    """
    files = CertificateFiles(live.parent, site.domain)
    repaired = _repair(files, world)
    environment = {"CERTBOT_WHEN": "--force-renewal"} if _is_of_another_issuer(files, site) else {}
    finished = world.processes.run(_CERTBOT, directory=compose, environment=environment, tell=world.tell)
    if finished.code:
        certificate_files.put_back(files)
        raise Unavailable(
            f"certbot failed: {_last_lines(finished.output)}",
            "fix the cause that certbot names, then run ops certs renew",
            left_as=_KEPT,
        )
    repaired = _repair(files, world) or repaired
    if not files.exists():
        raise Degraded(
            f"certbot ended without an error and without a certificate: {_last_lines(finished.output)}",
            f"look at {live.parent}, then run ops certs renew",
            left_as=_KEPT,
        )
    reloaded = _reload_if_changed(files, world)
    return Report("certs", repaired or reloaded, _summary(repaired, reloaded))


def _repair(files: CertificateFiles, world: World) -> bool:
    """Repair certbot's files and return whether they were broken. Raises Degraded rather than request certificates in each run."""
    problems = files.problems()
    if not problems:
        return False
    for problem in problems:
        world.tell(f"certbot's files: {problem}")
    last = certificate_files.last_set_aside(files)
    again = last is not None and timedelta(0) <= world.clock.now() - last < _REQUEST_AGAIN_AFTER
    if again and certificate_files.needs_a_request(files):
        raise Degraded(
            f"certbot's files were broken on {last:%Y-%m-%d %H:%M} UTC and are broken again: {'; '.join(problems)}",
            f"find the program that changes {files.folder}, remove {files.replaced}, then run ops certs renew",
            left_as=_KEPT,
        )
    certificate_files.repair(files, world.clock.now())
    if left := files.problems():
        raise Degraded(
            f"certbot's files cannot be repaired: {'; '.join(left)}",
            f"move {files.live}, {files.archive} and {files.settings} out of {files.folder}, then run ops certs renew",
            left_as=_KEPT,
        )
    return True


def _reload_if_changed(files: CertificateFiles, world: World) -> bool:
    # Compared with what nginx loaded last, not with the file before this run: a run may have been cut off before its reload.
    loaded = files.folder / "taken-by-nginx"
    found = _fingerprint(files.live / "fullchain.pem")
    if found == (loaded.read_text(encoding="utf-8") if loaded.exists() else ""):
        return False
    _reload_nginx(world)
    loaded.write_text(found, encoding="utf-8")
    return True


def _summary(repaired: bool, reloaded: bool) -> str:
    kept = "the certificate changed, nginx was reloaded" if reloaded else "the certificate is not due yet"
    return f"certbot's files were repaired; {kept}" if repaired else kept


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


def _is_of_another_issuer(files: CertificateFiles, site: Site) -> bool:
    """Return whether another issuer made the certificate. Certbot itself would keep it until it is due."""
    issuer = _SERVER.search(files.settings.read_text(encoding="utf-8")) if files.settings.exists() else None
    return issuer is not None and issuer[1] != site.tls.acme_directory


def _fingerprint(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def _last_lines(output: str) -> str:
    return " ".join(line.strip() for line in output.strip().splitlines()[-6:])
