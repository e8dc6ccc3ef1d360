"""The stand-in for SES: an SMTP server that requires TLS and credentials, as SES does, and keeps every mail for the tests."""

from __future__ import annotations

from dataclasses import dataclass

import requests

from ground import ca
from ground.container import RunContext, create, wait


@dataclass(frozen=True)
class Mailbox:
    """A running mail sink: its SMTP address, the authority to trust (PEM text), and the URL of the mails it took."""

    smtp_host: str
    smtp_port: int
    authority: str
    inbox: str


def start(run_context: RunContext, image: str) -> Mailbox:
    """Start the mail sink; raises Unavailable with its last log lines when it does not start."""
    inbox = f"http://{run_context.address('mail')}:8025/"
    identity = ca.server_identity(run_context.address("mail"))
    files = {"/etc/mail/server.pem": identity.certificate, "/etc/mail/server.key": identity.key}
    container = create(run_context, "mail", image, files=files)
    wait(container, lambda: requests.get(inbox, timeout=2).ok, 20)
    return Mailbox(run_context.address("mail"), 1025, identity.authority, inbox)
