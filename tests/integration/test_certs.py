"""certbot and an issuer: broken files are repaired without another certificate, and certbot accepts what the repair made."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from ground import run_registry
from ground.acme import Acme
from ground.container import RunContext, create
from ground.image_set import ImageSet
from ops.model import Report
from ops.stack import certificate_files, certs
from ops.stack.certificate_files import CertificateFiles
from ops.world.containers import Ran
from ops.world.process import Processes
from tests.support import fakes
from tests.support.compose_stack import DOMAIN, Stack, lay_out, run

_COMPOSE = run_registry.REPOSITORY / "compose"


@dataclass(frozen=True)
class Bench:
    """The Compose folder of a host, certbot's folder, and the issuer."""

    stack: Stack
    issuer: Acme

    @property
    def files(self) -> CertificateFiles:
        """certbot's files of the site's certificate."""
        return CertificateFiles(self.stack.folder / "data/letsencrypt", DOMAIN)

    def renew(self) -> Report:
        """Run `ops certs renew` with the real certbot and without nginx."""
        usual = fakes.site()
        site = replace(usual, domain=DOMAIN, tls=replace(usual.tls, acme_directory=self.issuer.directory))
        nginx = fakes.FakeContainers(answers={"nginx": lambda _: Ran(0, "")})
        world: Any = fakes.FakeWorld(processes=Processes(), containers=nginx)  # type: ignore[arg-type]
        return certs.renew(site, world, live=self.files.live.parent, compose=self.stack.folder / "compose")

    def certbot(self, when: str) -> None:
        """Run the service's own command, as `ops certs renew` does."""
        run(*certs._CERTBOT, cwd=self.stack.folder / "compose", env={"CERTBOT_WHEN": when, "PATH": "/usr/bin:/bin"})

    def served(self) -> bytes:
        """The certificate that nginx reads."""
        return (self.files.live / "cert.pem").read_bytes()


@pytest.fixture
def bench(
    run_context: RunContext, built: ImageSet, images: Mapping[str, str], issuer: Acme, tmp_path: Path
) -> Iterator[Bench]:
    """A host's Compose folder whose certbot reaches the issuer, and a server of the ACME challenges."""
    stack = lay_out(run_context.run, "certs", tmp_path / "host", images)
    (stack.folder / "ca.pem").write_text(issuer.authorities)
    shutil.copytree(_COMPOSE, stack.folder / "compose")
    trust = f"{stack.folder}/ca.pem:/etc/ssl/certs/ca-certificates.crt:ro"
    override = (
        f"services: {{certbot: {{volumes: ['{trust}'], labels: {{gitea-suite.run: {run_context.run}}}}}}}\n"
        f"networks: {{outside: !override {{external: true, name: {run_context.network}}}}}\n"
    )
    (stack.folder / "compose/override.yaml").write_text(override)
    settings = (stack.folder / ".env").read_text().replace("https://acme.gitea.test/dir", issuer.directory)
    names = f"COMPOSE_FILE=compose.yaml:override.yaml\nCOMPOSE_PROJECT_NAME={stack.project}\n"
    (stack.folder / "compose/.env").write_text(settings + names)
    serve = ["python3", "-m", "http.server", "80", "--directory", "/www"]
    webroot = {f"{stack.folder}/data/acme": {"bind": "/www", "mode": "ro"}}
    server = create(run_context, "host", built.local("mail"), command=serve, volumes=webroot, user="0")
    try:
        yield Bench(stack, issuer)
    finally:
        server.remove(force=True)
        stack.remove()


def test_files_instead_of_links_cost_no_certificate_and_the_newest_is_served_and_renewed(bench: Bench) -> None:
    assert bench.renew().changed is True
    first = bench.served()
    for link in bench.files.live.glob("*.pem"):
        content = link.read_bytes()
        link.unlink()
        link.write_bytes(content)
    # certbot alone requests a certificate each time, and nginx never reads it.
    for number in (1, 2):
        bench.certbot("--keep-until-expiring")
        assert [each.name for each in bench.files.duplicates()][-1] == f"{DOMAIN}-000{number}"
    assert bench.served() == first
    newest = (bench.files.folder / "archive" / f"{DOMAIN}-0002/cert1.pem").read_bytes()
    # Repaired, and from then on left alone.
    for changed in (True, False, False):
        assert bench.renew().changed is changed
        assert bench.served() == newest
        assert bench.files.problems() == []
    assert sorted(path.name for path in bench.files.archive.glob("cert*.pem")) == ["cert1.pem", "cert2.pem"]
    # certbot renews the repaired certificate under its own name.
    bench.certbot("--force-renewal")
    assert bench.files.problems() == []
    assert (bench.files.live / "cert.pem").resolve() == bench.files.issue("cert", 3).resolve()
    assert (bench.files.folder / certificate_files.REPLACED / DOMAIN / "cert.pem").read_bytes() == first
