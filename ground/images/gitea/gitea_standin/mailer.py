"""Mail to users, through the SMTP server in app.ini."""

from __future__ import annotations

import smtplib
import ssl
from email.message import EmailMessage

from . import log
from .settings import MailSettings

_SECONDS = 20


def send(settings: MailSettings, recipient: str, subject: str, text: str) -> None:
    """Sends one mail; a failure is only logged, as by Gitea's background queue."""
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = settings.sender, recipient, subject
    message.set_content(text)
    try:
        with smtplib.SMTP(settings.host, settings.port, timeout=_SECONDS) as server:
            if settings.starttls:
                server.starttls(context=ssl.create_default_context())
            if settings.user:
                server.login(settings.user, settings.password)
            server.send_message(message)
    except OSError as error:
        log.error("services/mailer/mailer.go:send()", f"Failed to send emails {recipient}: {error}")
