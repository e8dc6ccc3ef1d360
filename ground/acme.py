"""Let's Encrypt's place: Pebble, with a DNS of its own that knows the site's domain and no other."""

from __future__ import annotations

import ssl
import urllib.request
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from ground.fixture import Place, create, wait

_READY_SECONDS = 30
# Pebble refuses 5 % of good nonces and reuses half of its authorisations unless told not to: a test wants neither.
_DNS_ONLY = ("-http01=", "-https01=", "-tlsalpn01=", "-doh=", "-defaultIPv4=", "-defaultIPv6=")
_STEADY = {"PEBBLE_VA_NOSLEEP": "1", "PEBBLE_WFE_NONCEREJECT": "0", "PEBBLE_AUTHZREUSE": "0"}


@dataclass(frozen=True)
class Acme:
    """A running issuer. ``authorities`` is PEM text: its API's certificate authority, then its issuing root."""

    directory: str
    authorities: str
    dns_management: str


def start(place: Place, image: str) -> Acme:
    """Start Pebble and its DNS; raises Unavailable with their last words when they do not come up."""
    create(place, "dns", image, command=["pebble-challtestsrv", *_DNS_ONLY])
    authority, certificate, key = _server_identity(place.address("acme"))
    files = {"/etc/pebble/server.pem": certificate, "/etc/pebble/server.key": key}
    command = ["pebble", "-config", "/etc/pebble/pebble.json", "-dnsserver", f"{place.address('dns')}:8053"]
    pebble = create(place, "acme", image, command=command, files=files, environment=_STEADY)
    base = place.address("acme")
    wait(pebble, lambda: bool(_issuing_root(base, authority)), _READY_SECONDS)
    return Acme(f"https://{base}:14000/dir", authority.decode() + _issuing_root(base, authority), f"http://{place.address('dns')}:8055")


def know(acme: Acme, domain: str, host_address: str) -> None:
    """Give the issuer's DNS the A record of the domain; every other name stays unknown to it."""
    record = {"host": f"{domain}.", "addresses": [host_address]}
    requests.post(f"{acme.dns_management}/add-a", json=record, timeout=5).raise_for_status()


def _issuing_root(base: str, authority: bytes) -> str:
    trusting = ssl.create_default_context(cadata=authority.decode())
    with urllib.request.urlopen(f"https://{base}:15000/roots/0", context=trusting, timeout=5) as answer:
        return str(answer.read().decode())


def _server_identity(where: str) -> tuple[bytes, bytes, bytes]:
    authority_key, server_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ground's authority for the ACME server")])
    authority = _certificate(issuer, issuer, authority_key.public_key(), is_authority=True).sign(authority_key, hashes.SHA256())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, where)])
    server = _certificate(subject, issuer, server_key.public_key(), is_authority=False).add_extension(
        x509.SubjectAlternativeName([x509.IPAddress(ip_address(where))]), critical=False
    )
    signed = server.sign(authority_key, hashes.SHA256())
    key = server_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return authority.public_bytes(Encoding.PEM), signed.public_bytes(Encoding.PEM), key


def _certificate(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, *, is_authority: bool
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=30))
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
    )
