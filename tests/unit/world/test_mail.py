"""The mail server gets any credentials as UTF-8, and any subject as one line."""

from __future__ import annotations

import base64
import smtplib
from email.message import EmailMessage
from typing import Any

import pytest

from ops.model import Secret, SmtpCredentials
from ops.world.mail import CredentialsRefused, Mail

SENT = {"sender": "gitea@example.org", "recipient": "keeper@example.org", "subject": "Grüße", "text": "a body\n"}


class Server(smtplib.SMTP):
    """A mail server that records what a client sends."""

    commands: list[tuple[str, str]]
    taken: list[EmailMessage]
    code = 235

    def __init__(self, *_: object, **__: object) -> None:
        self.esmtp_features, self.does_esmtp, self.ehlo_resp = {"auth": " PLAIN LOGIN"}, True, b"250"

    def starttls(self, *_: object, **__: object) -> tuple[int, bytes]:
        return 220, b""

    def docmd(self, cmd: str, args: str = "") -> tuple[int, bytes]:
        self.commands.append((cmd, args))
        return self.code, b"answer"

    def send_message(self, msg: Any, *_: object, **__: object) -> dict[str, tuple[int, bytes]]:
        msg.as_bytes()
        self.taken.append(msg)
        return {}

    def __exit__(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> type[Server]:
    Server.commands, Server.taken = [], []
    monkeypatch.setattr(smtplib, "SMTP", Server)
    monkeypatch.setattr(Server, "code", 235)
    return Server


def _credentials(password: str) -> SmtpCredentials:
    return SmtpCredentials("AKIAIOSFODNN7EXAMPLE", Secret(password))


@pytest.mark.parametrize("password", ["plain", "mit ä", "数据", "\U0001f511"])
def test_a_password_of_any_letters_is_sent_as_utf_8(password: str, server: type[Server]) -> None:
    Mail("192.0.2.1", 587).send(_credentials(password), **SENT)
    ((command, argument),) = server.commands
    token = argument.removeprefix("PLAIN ")
    assert command == "AUTH"
    assert base64.b64decode(token) == f"\0AKIAIOSFODNN7EXAMPLE\0{password}".encode()
    assert len(server.taken) == 1


def test_a_refused_password_with_an_umlaut_is_reported_as_one_without(
    server: type[Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "code", 535)
    with pytest.raises(CredentialsRefused, match="refuses the credentials of AKIAIOSFODNN7EXAMPLE: answer"):
        Mail("192.0.2.1", 587).send(_credentials("ä"), **SENT)


@pytest.mark.parametrize(
    ("subject", "header"), [("a\nBcc: x@example.com", "a Bcc: x@example.com"), ("unit \udcff failed", "unit ? failed")]
)
def test_a_subject_is_one_line_without_bytes_that_are_not_utf_8(
    subject: str, header: str, server: type[Server]
) -> None:
    Mail("192.0.2.1", 587).send(_credentials("plain"), **SENT | {"subject": subject, "text": "\udcff\n"})
    (message,) = server.taken
    assert message["Subject"] == header
    assert message.get_content() == "?\n"
