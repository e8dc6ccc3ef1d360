"""SES's place: an SMTP sink that keeps every mail for the tests to read."""

from __future__ import annotations

from dataclasses import dataclass

import requests

from ground.fixture import Place, create, wait


@dataclass(frozen=True)
class Mailbox:
    """A running sink: the address mail servers are told, and where the mails can be read."""

    smtp_host: str
    smtp_port: int
    inbox: str


def start(place: Place, image: str) -> Mailbox:
    """Start the sink; raises Unavailable with its last words when it does not come up."""
    inbox = f"http://{place.address('mail')}:8025/"
    container = create(place, "mail", image)
    wait(container, lambda: requests.get(inbox, timeout=2).ok, 20)
    return Mailbox(place.address("mail"), 1025, inbox)
