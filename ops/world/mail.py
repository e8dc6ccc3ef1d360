"""The adapter for the mail server: SMTP, always with TLS and credentials."""

from __future__ import annotations

import base64
import smtplib
import ssl
from email.message import EmailMessage

from ops.errors import OpsError, Unavailable
from ops.model import SmtpCredentials

_TIMEOUT_SECONDS = 15.0
_AUTHENTICATED = 235


class CredentialsRefused(OpsError):
    """The mail server does not accept the credentials, or does not accept them yet."""


class MailRefused(OpsError):
    """The mail server accepts the credentials, but not the mail."""


class Mail:
    """Sends mails through one server. ``extra_ca`` is PEM text, trusted in addition to the public certificate authorities."""

    def __init__(self, host: str, port: int, extra_ca: str = "") -> None:
        self._host, self._port = host, port
        self._tls = ssl.create_default_context()
        if extra_ca.strip():
            self._tls.load_verify_locations(cadata=extra_ca)

    def send(self, credentials: SmtpCredentials, *, sender: str, recipient: str, subject: str, text: str) -> None:
        """Send one mail and return when the server has accepted it.

        Raises CredentialsRefused or MailRefused with the server's message, and Unavailable when no server answers in
        time, or when it offers no TLS or an invalid certificate.
        """
        message = EmailMessage()
        message["From"], message["To"], message["Subject"] = sender, recipient, _one_line(subject)
        message.set_content(text.encode("utf-8", "replace").decode("utf-8"))
        where = f"mail server {self._host}:{self._port}"
        try:
            with smtplib.SMTP(self._host, self._port, timeout=_TIMEOUT_SECONDS) as server:
                server.starttls(context=self._tls)
                _log_in(server, credentials)
                server.send_message(message)
        except smtplib.SMTPAuthenticationError as error:
            raise CredentialsRefused(
                f"{where} refuses the credentials of {credentials.username}: {_text(error.smtp_error)}",
                "run ops secrets rotate-smtp to make new ones",
            ) from error
        except smtplib.SMTPRecipientsRefused as error:
            answers = "; ".join(_text(answer) for _, answer in error.recipients.values())
            raise _mail_refused(where, answers) from error
        except smtplib.SMTPResponseException as error:
            raise _mail_refused(where, _text(error.smtp_error)) from error
        except OSError as error:
            raise Unavailable(
                f"{where} is out of reach: {error}",
                "check mail.smtp_host and mail.smtp_port, and whether the firewall lets that port out",
            ) from error


def _log_in(server: smtplib.SMTP, credentials: SmtpCredentials) -> None:
    """Log in; smtplib takes ASCII only, and AUTH PLAIN is UTF-8 (RFC 4616)."""
    parts = (credentials.username, credentials.password.reveal())
    if all(part.isascii() for part in parts):
        server.login(*parts)
        return
    server.ehlo_or_helo_if_needed()
    token = base64.b64encode("\0".join(["", *parts]).encode("utf-8", "replace")).decode("ascii")
    code, answer = server.docmd("AUTH", f"PLAIN {token}")
    if code != _AUTHENTICATED:
        raise smtplib.SMTPAuthenticationError(code, answer)


def _one_line(text: str) -> str:
    """The text as a header: without line breaks, and with ? for bytes that are not UTF-8."""
    return " ".join(text.split()).encode("utf-8", "replace").decode("utf-8")


def _mail_refused(where: str, answer: str) -> MailRefused:
    return MailRefused(
        f"{where} refuses the mail: {answer}",
        "check in SES that the sender's domain is verified and that the account is out of the sandbox",
    )


def _text(answer: bytes | str) -> str:
    return answer.decode("utf-8", "replace") if isinstance(answer, bytes) else answer
