"""A mail sink: accepts mail on :1025 as SES does, and returns it as a JSON list on http://:8025/, newest last.

Like SES it requires STARTTLS, credentials, and a password derived from an IAM key. It cannot know which key, so it
records the user's name with each mail.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import ssl
from email import message_from_bytes
from email.policy import default
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult

INBOX: list[dict[str, Any]] = []
# SES developer guide, "Obtaining your Amazon SES SMTP credentials": a version byte and an HMAC-SHA256, in base64.
VERSION, LENGTH = 4, 33
UNVERIFIED = "@unverified.test"


class Sink:
    """Accepts each mail as a relay does."""

    async def handle_DATA(self, _server: Any, session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        """Keep the mail; reject mail to an unverified address, as SES's sandbox does."""
        if any(address.endswith(UNVERIFIED) for address in envelope.rcpt_tos):
            return "554 Message rejected: Email address is not verified."
        message = message_from_bytes(envelope.content, policy=default)
        body = message.get_body(("plain", "html"))
        INBOX.append(
            {
                "user": session.auth_data.login.decode(),
                "from": envelope.mail_from,
                "to": envelope.rcpt_tos,
                "subject": str(message["subject"] or ""),
                "text": body.get_content() if body else "",
            }
        )
        return "250 OK"


def authenticate(_server: Any, _session: Any, _envelope: Any, _mechanism: str, credentials: Any) -> AuthResult:
    """Accept an access key's id with a password of the form that SES derives from a secret key."""
    accepted = re.fullmatch(rb"[A-Z0-9]{16,128}", credentials.login) is not None and is_derived(credentials.password)
    return AuthResult(success=accepted, handled=False, auth_data=credentials)


def is_derived(password: bytes) -> bool:
    """Return whether the password has the form of a derived password."""
    try:
        content = base64.b64decode(password, validate=True)
    except binascii.Error:
        return False
    return len(content) == LENGTH and content[0] == VERSION


class Inbox(BaseHTTPRequestHandler):
    """Serves the mails."""

    def do_GET(self) -> None:
        """Return all mails."""
        content = json.dumps(INBOX).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Log nothing; a health check asks every second."""


def main() -> None:
    """Serve both ports until stopped."""
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain("/etc/mail/server.pem", "/etc/mail/server.key")
    options = {"tls_context": tls, "require_starttls": True, "auth_required": True, "authenticator": authenticate}
    # SES offers PLAIN first. The library would offer LOGIN first, and asks for the name in words that Alertmanager refuses.
    options["auth_exclude_mechanism"] = ["LOGIN"]
    Controller(Sink(), hostname="0.0.0.0", port=1025, **options).start()
    ThreadingHTTPServer(("0.0.0.0", 8025), Inbox).serve_forever()


if __name__ == "__main__":
    main()
