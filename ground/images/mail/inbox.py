"""An SMTP sink with an inbox: takes mail on :1025 as SES does, shows it as a JSON list on http://:8025/, newest last.

As SES does: nothing before STARTTLS, nothing without credentials, and a password is one that was derived from an IAM
key. Which key that was the sink cannot know; it notes the user's name with each mail.
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
    """Takes each mail as a relay would."""

    async def handle_DATA(self, _server: Any, session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        """Keep the mail and say so; refuse it as SES's sandbox does when it is for someone unverified."""
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


def admit(_server: Any, _session: Any, _envelope: Any, _mechanism: str, given: Any) -> AuthResult:
    """Admit whoever has a key's name and a password that may have been derived from a key."""
    known = re.fullmatch(rb"[A-Z0-9]{16,128}", given.login) is not None and derived(given.password)
    return AuthResult(success=known, handled=False, auth_data=given)


def derived(password: bytes) -> bool:
    """Return whether the password has the form of a derived one."""
    try:
        content = base64.b64decode(password, validate=True)
    except binascii.Error:
        return False
    return len(content) == LENGTH and content[0] == VERSION


class Inbox(BaseHTTPRequestHandler):
    """Shows what came."""

    def do_GET(self) -> None:
        """Answer with every mail."""
        content = json.dumps(INBOX).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Stay silent; a health check asks every second."""


def main() -> None:
    """Serve both ports until stopped."""
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain("/etc/mail/server.pem", "/etc/mail/server.key")
    wishes = {"tls_context": tls, "require_starttls": True, "auth_required": True, "authenticator": admit}
    Controller(Sink(), hostname="0.0.0.0", port=1025, **wishes).start()
    ThreadingHTTPServer(("0.0.0.0", 8025), Inbox).serve_forever()


if __name__ == "__main__":
    main()
