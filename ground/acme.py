"""The stand-in for Let's Encrypt: Pebble, with its own DNS server that resolves the site's domain only."""

from __future__ import annotations

import ssl
import urllib.request
from dataclasses import dataclass

import requests

from ground import ca
from ground.container import RunContext, create, wait

_READY_SECONDS = 30
# By default Pebble refuses 5 % of good nonces and reuses half of its authorisations. Tests must be repeatable.
_DNS_ONLY = ("-http01=", "-https01=", "-tlsalpn01=", "-doh=", "-defaultIPv4=", "-defaultIPv6=")
_STEADY = {"PEBBLE_VA_NOSLEEP": "1", "PEBBLE_WFE_NONCEREJECT": "0", "PEBBLE_AUTHZREUSE": "0"}


@dataclass(frozen=True)
class Acme:
    """A running issuer. ``authorities`` is PEM text: the certificate authority of its API, then its issuing root."""

    directory: str
    authorities: str
    dns_management: str


def start(run_context: RunContext, image: str) -> Acme:
    """Start Pebble and its DNS server; raises Unavailable with their last log lines when they do not start."""
    create(run_context, "dns", image, command=["pebble-challtestsrv", *_DNS_ONLY])
    identity = ca.server_identity(run_context.address("acme"))
    files = {"/etc/pebble/server.pem": identity.certificate, "/etc/pebble/server.key": identity.key}
    command = ["pebble", "-config", "/etc/pebble/pebble.json", "-dnsserver", f"{run_context.address('dns')}:8053"]
    pebble = create(run_context, "acme", image, command=command, files=files, environment=_STEADY)
    base = run_context.address("acme")
    wait(pebble, lambda: bool(_issuing_root(base, identity.authority)), _READY_SECONDS)
    return Acme(
        f"https://{base}:14000/dir",
        identity.authority + _issuing_root(base, identity.authority),
        f"http://{run_context.address('dns')}:8055",
    )


def add_record(acme: Acme, domain: str, host_address: str) -> None:
    """Add the domain's A record to the issuer's DNS server, which resolves no other name."""
    record = {"host": f"{domain}.", "addresses": [host_address]}
    requests.post(f"{acme.dns_management}/add-a", json=record, timeout=5).raise_for_status()


def _issuing_root(base: str, api_authority: str) -> str:
    trusting = ssl.create_default_context(cadata=api_authority)
    with urllib.request.urlopen(f"https://{base}:15000/roots/0", context=trusting, timeout=5) as answer:
        return str(answer.read().decode())
