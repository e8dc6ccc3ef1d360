"""Tell the operator by mail. A notice is sent when something is wrong already, so it never makes anything worse."""

from __future__ import annotations

from pathlib import Path

from ops.config.paths import SECRETS_DIRECTORY
from ops.config.schema import Site
from ops.errors import OpsError
from ops.model import Report
from ops.secrets.store import smtp_credentials
from ops.world import World

# SES takes 10 MiB by default; what an operator reads on a telephone is less.
_LONGEST_TEXT = 100_000


def notify(site: Site, world: World, *, subject: str, text: str, directory: Path = Path(SECRETS_DIRECTORY)) -> Report:
    """Send a mail to the site's contact. Never raises: exit code 3 and the reason as progress when it was not sent.

    The credentials are those in ``directory`` when it is there, as on the host, which can then tell that AWS is away;
    else those in Secrets Manager.
    """
    try:
        credentials = smtp_credentials(site, world, directory=directory)
        world.mail.send(
            credentials,
            sender=site.mail.sender,
            recipient=site.contact,
            subject=subject_from(site.name, subject),
            text=text_from(text),
        )
    except OpsError as error:
        world.tell(f"no mail was sent to {site.contact}: {error.message}")
        return Report("notify", False, f"no mail was sent: {error.message}", {"next": error.hint}, exit_code=3)
    return Report("notify", True, f"a mail was sent to {site.contact}", {"recipient": site.contact})


def subject_from(site_name: str, subject: str) -> str:
    """Return the subject in one line of at most 200 characters, with the site's name before it."""
    return f"[{site_name}] {' '.join(subject.split())}"[:200]


def text_from(text: str) -> str:
    """Return the text, or the end of it where it is longer than anyone would read."""
    return text if len(text) <= _LONGEST_TEXT else f"[...]\n{text[-_LONGEST_TEXT:]}"
