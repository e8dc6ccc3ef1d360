"""An SMTP sink with an inbox: takes every mail on :1025, shows them as a JSON list on http://:8025/, newest last."""

from __future__ import annotations

import json
from email import message_from_bytes
from email.policy import default
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from aiosmtpd.controller import Controller

INBOX: list[dict[str, Any]] = []


class Sink:
    """Takes each mail as a relay would."""

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        """Keep the mail and say so."""
        message = message_from_bytes(envelope.content, policy=default)
        body = message.get_body(("plain", "html"))
        INBOX.append(
            {
                "from": envelope.mail_from,
                "to": envelope.rcpt_tos,
                "subject": str(message["subject"] or ""),
                "text": body.get_content() if body else "",
            }
        )
        return "250 OK"


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


if __name__ == "__main__":
    Controller(Sink(), hostname="0.0.0.0", port=1025).start()
    ThreadingHTTPServer(("0.0.0.0", 8025), Inbox).serve_forever()
