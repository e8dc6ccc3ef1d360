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
    return Acme(
        f"https://{base}:14000/dir",
        authority.decode() + _issuing_root(base, authority),
        f"http://{place.address('dns')}:8055",
    )


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
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, where)])
    named = x509.SubjectAlternativeName([x509.IPAddress(ip_address(where))])
    authority = _certificate(issuer, issuer, authority_key, authority_key, is_authority=True)
    server = _certificate(subject, issuer, server_key, authority_key, is_authority=False)
    signed = server.add_extension(named, critical=False).sign(authority_key, hashes.SHA256())
    key = server_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    root = authority.sign(authority_key, hashes.SHA256())
    return root.public_bytes(Encoding.PEM), signed.public_bytes(Encoding.PEM), key


def _certificate(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    issuer_key: ec.EllipticCurvePrivateKey,
    *,
    is_authority: bool,
) -> x509.CertificateBuilder:
    """The extensions are those that Python 3.13 and newer demand (RFC 5280, section 4.2.1)."""
    now = datetime.now(UTC)
    by = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=30))
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(by, critical=False)
        .add_extension(_usage(is_authority), critical=True)
    )


def _usage(is_authority: bool) -> x509.KeyUsage:
    unused = dict.fromkeys(
        (
            "content_commitment",
            "key_encipherment",
            "data_encipherment",
            "key_agreement",
            "encipher_only",
            "decipher_only",
        ),
        False,
    )
    return x509.KeyUsage(digital_signature=True, key_cert_sign=is_authority, crl_sign=is_authority, **unused)
