"""The door to the mail server: SMTP, never in clear and never without credentials."""

from __future__ import annotations

import smtplib
import ssl
from email.message import EmailMessage

from ops.errors import OpsError, Unavailable
from ops.model import SmtpCredentials

_TIMEOUT_SECONDS = 15.0


class CredentialsRefused(OpsError):
    """The mail server does not know the credentials, or does not know them yet."""


class MailRefused(OpsError):
    """The mail server knows the credentials, and does not take the mail."""


class Mail:
    """Hands mails to one server. ``extra_ca`` is PEM text trusted beside the public certificate authorities."""

    def __init__(self, host: str, port: int, extra_ca: str = "") -> None:
        self._host, self._port = host, port
        self._tls = ssl.create_default_context()
        if extra_ca.strip():
            self._tls.load_verify_locations(cadata=extra_ca)

    def send(self, credentials: SmtpCredentials, *, sender: str, recipient: str, subject: str, text: str) -> None:
        """Hand over one mail and return when the server has taken it.

        Raises CredentialsRefused or MailRefused with the server's words, and Unavailable when no server answers in
        time, offers no TLS or shows a certificate that is not valid.
        """
        message = EmailMessage()
        message["From"], message["To"], message["Subject"] = sender, recipient, subject
        message.set_content(text)
        where = f"mail server {self._host}:{self._port}"
        try:
            with smtplib.SMTP(self._host, self._port, timeout=_TIMEOUT_SECONDS) as server:
                server.starttls(context=self._tls)
                server.login(credentials.username, credentials.password.reveal())
                server.send_message(message)
        except smtplib.SMTPAuthenticationError as error:
            raise CredentialsRefused(
                f"{where} refuses the credentials of {credentials.username}: {_text(error.smtp_error)}",
                "make new ones: ops secrets rotate-smtp",
            ) from error
        except smtplib.SMTPRecipientsRefused as error:
            said = "; ".join(_text(words) for _, words in error.recipients.values())
            raise _mail_refused(where, said) from error
        except smtplib.SMTPResponseException as error:
            raise _mail_refused(where, _text(error.smtp_error)) from error
        except OSError as error:
            raise Unavailable(
                f"{where} is out of reach: {error}", "check mail.smtp_host and mail.smtp_port, and that port's way out"
            ) from error


def _mail_refused(where: str, said: str) -> MailRefused:
    return MailRefused(f"{where} refuses the mail: {said}", "is the sender's domain verified, SES out of its sandbox?")


def _text(said: bytes | str) -> str:
    return said.decode("utf-8", "replace") if isinstance(said, bytes) else said
