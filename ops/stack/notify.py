"""Mail a notice to the operator. Something has failed already then, so sending never raises."""

from __future__ import annotations

from pathlib import Path

from ops.config.paths import SECRETS_DIRECTORY
from ops.config.schema import Site
from ops.errors import OpsError
from ops.model import Report
from ops.secrets.store import smtp_credentials
from ops.world import World

# In characters. SES takes 10 MiB by default; an operator reads less than that on a telephone.
_LONGEST_TEXT = 100_000


def notify(site: Site, world: World, *, subject: str, text: str, directory: Path = Path(SECRETS_DIRECTORY)) -> Report:
    """Send a mail to the site's contact. Never raises OpsError: a mail that was not sent is reported with exit code 3.

    The credentials come from ``directory`` when it has them, else from Secrets Manager. So the host can send a mail while
    AWS is out of reach.
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
    """Return the subject as one line of at most 200 characters, beginning with the site's name."""
    return f"[{site_name}] {' '.join(subject.split())}"[:200]


def text_from(text: str) -> str:
    """Return the text, or its last 100,000 characters when it is longer."""
    return text if len(text) <= _LONGEST_TEXT else f"[...]\n{text[-_LONGEST_TEXT:]}"
