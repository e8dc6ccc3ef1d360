"""The text that `./noxw -s up` prints at its end: how to reach the local site."""

from __future__ import annotations

from pathlib import Path

from ground.image_set import ImageSet
from ground.set_choice import HERMETIC
from ops.config.schema import Site
from ops.model import Secret
from ops.secrets.store import secret_name

_STAND_IN = "a stand-in, not Gitea"


def directions(
    site: Site, *, site_file: Path, authorities: Path, inbox: str, images: ImageSet, password: Secret | None
) -> str:
    """Return the directions for a running local site.

    ``authorities`` is the PEM file of the certificate authorities to trust. With hermetic images the title and the last words
    say that the site runs a stand-in for Gitea, and why. With ``password`` the text contains the administrator's password,
    otherwise the command that reads it. Print such a text for the local site only, and only to the person who asked for it.
    """
    stand_in = images.name == HERMETIC
    address, domain = site.host.address, site.domain
    return f"""
  {site.gitea.title}{f" ({_STAND_IN})" if stand_in else ""} runs until `./noxw -s down`.

  address        https://{domain}/ at {address}
                 echo '{address} {domain}' | sudo tee -a /etc/hosts
  user           {site.gitea.admin_username}
  password       {password.reveal() if password else _reading(site)}
  trust          curl --cacert {authorities} --resolve {domain}:443:{address} https://{domain}/
                 git -c http.sslCAInfo={authorities} clone https://{domain}/OWNER/NAME.git
                 in a browser: import {authorities}
  host           ssh -i {site.host.ssh_key} {site.host.ssh_user}@{address}
  mails          {inbox}
  ops            OPS_SITE={site_file} ./noxw -s ops -- health --address {address}
{_last_words(images.reason) if stand_in else ""}"""


def _last_words(reason: str) -> str:
    return f"""
  Upstream's images are not in use: {reason}.
  Where a registry has them, ./noxw -s up runs Gitea. The program behind this address is {_STAND_IN}.
"""


def _reading(site: Site) -> str:
    """The command that reads the password from the run's LocalStack; any credentials are valid there."""
    return f"""in the Secrets Manager of this test environment:
                 AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test AWS_ENDPOINT_URL={site.aws.endpoint_url} AWS_REGION={site.aws.region} \\
                 aws secretsmanager get-secret-value --secret-id {secret_name(site, "admin-password")}"""
