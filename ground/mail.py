"""SES's place: an SMTP sink that, like SES, wants TLS and credentials, and that keeps every mail for the tests to read."""

from __future__ import annotations

from dataclasses import dataclass

import requests

from ground import ca
from ground.container import RunContext, create, wait


@dataclass(frozen=True)
class Mailbox:
    """A running sink: the address mail servers are told, whom they have to trust (PEM text), and where the mails can be read."""

    smtp_host: str
    smtp_port: int
    authority: str
    inbox: str


def start(run_context: RunContext, image: str) -> Mailbox:
    """Start the sink; raises Unavailable with its last words when it does not come up."""
    inbox = f"http://{run_context.address('mail')}:8025/"
    identity = ca.server_identity(run_context.address("mail"))
    files = {"/etc/mail/server.pem": identity.certificate, "/etc/mail/server.key": identity.key}
    container = create(run_context, "mail", image, files=files)
    wait(container, lambda: requests.get(inbox, timeout=2).ok, 20)
    return Mailbox(run_context.address("mail"), 1025, identity.authority, inbox)
