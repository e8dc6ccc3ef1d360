"""What `./noxw -s up` prints at its end: how to reach the local site, and whether Gitea itself runs on it."""

from __future__ import annotations

from pathlib import Path

import pytest

from ground import directions
from ground.image_set import ImageSet
from ops.config.schema import Site
from ops.model import Secret
from tests.support import fakes

PASSWORD = "correct horse battery staple"


@pytest.fixture
def site() -> Site:
    """The local site, as a run's site file describes it."""
    return fakes.site(
        domain="git.gitea.test",
        zone="gitea.test",
        aws={"region": "eu-central-1", "endpoint_url": "http://10.200.1.11:4566"},
        host={"ssh_key": "/run/ssh_key", "ssh_user": "admin", "address": "10.200.1.20"},
        mail={"sender": "gitea@gitea.test", "smtp_host": "10.200.1.15"},
    )


HERMETIC = ImageSet("hermetic", {}, "there is no route to Docker Hub")


def _printed(site: Site, images: ImageSet = HERMETIC, password: Secret | None = None) -> str:
    return directions.directions(
        site,
        site_file=Path("/run/site.toml"),
        authorities=Path("/run/authorities.pem"),
        inbox="http://10.200.1.15:8025/",
        images=images,
        password=password,
    )


@pytest.mark.parametrize(
    "words",
    [
        "https://git.gitea.test/",
        "echo '10.200.1.20 git.gitea.test' | sudo tee -a /etc/hosts",
        "curl --cacert /run/authorities.pem --resolve git.gitea.test:443:10.200.1.20 https://git.gitea.test/",
        "git -c http.sslCAInfo=/run/authorities.pem clone https://git.gitea.test/OWNER/NAME.git",
        "ssh -i /run/ssh_key admin@10.200.1.20",
        "http://10.200.1.15:8025/",
        "OPS_SITE=/run/site.toml ./noxw -s ops -- health --address 10.200.1.20",
        "./noxw -s down",
    ],
)
def test_the_directions_say_how_to_reach_and_trust_and_remove_the_site(site: Site, words: str) -> None:
    assert words in _printed(site)


def test_the_directions_give_the_administrator_s_name_and_password(site: Site) -> None:
    lines = _printed(site, password=Secret(PASSWORD)).splitlines()
    assert f"  user           {site.gitea.admin_username}" in lines
    assert f"  password       {PASSWORD}" in lines


def test_without_a_password_the_directions_give_the_command_that_reads_it(site: Site) -> None:
    printed = _printed(site)
    assert "get-secret-value --secret-id test/admin-password" in printed
    assert "AWS_ENDPOINT_URL=http://10.200.1.11:4566" in printed


def test_with_hermetic_images_the_first_and_the_last_line_say_that_it_is_a_stand_in(site: Site) -> None:
    lines = _printed(site).strip().splitlines()
    assert "a stand-in, not Gitea" in lines[0]
    assert "a stand-in, not Gitea" in lines[-1]
    assert "Upstream's images are not in use: there is no route to Docker Hub." in lines[-2]


def test_with_upstream_images_nothing_says_that_it_is_a_stand_in(site: Site) -> None:
    assert "stand-in" not in _printed(site, ImageSet("upstream", {}, "Docker Hub has all 16 images"))
