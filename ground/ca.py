"""Certificates for the TLS servers of the test environment, each from an authority made for that server alone."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID


@dataclass(frozen=True)
class Identity:
    """A TLS server's certificate and key (PEM), and the authority that its clients must trust (PEM text)."""

    certificate: bytes
    key: bytes
    authority: str


def server_identity(address: str) -> Identity:
    """Make an authority, and a certificate signed by it for the server at the IP address ``address``."""
    authority_key, server_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"test authority for {address}")])
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, address)])
    named = x509.SubjectAlternativeName([x509.IPAddress(ip_address(address))])
    authority = _certificate(issuer, issuer, authority_key, authority_key, is_authority=True)
    server = _certificate(subject, issuer, server_key, authority_key, is_authority=False)
    signed = server.add_extension(named, critical=False).sign(authority_key, hashes.SHA256())
    key = server_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    root = authority.sign(authority_key, hashes.SHA256())
    return Identity(signed.public_bytes(Encoding.PEM), key, root.public_bytes(Encoding.PEM).decode())


def _certificate(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    issuer_key: ec.EllipticCurvePrivateKey,
    *,
    is_authority: bool,
) -> x509.CertificateBuilder:
    """A certificate with the extensions that Python 3.13 and newer require (RFC 5280, section 4.2.1)."""
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
