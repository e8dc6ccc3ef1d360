"""What rehearsals on a running site stand on."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from collections.abc import Callable, Iterator

import pytest

from tests.support.deployed_site import (
    DeployedSite,
    account,
    admin,
    by_hand,
    git,
    host,
    repository,
    site,
    sort_interruptions_last,
    ssh,
    ssh_config,
    web,
)

__all__ = [
    "account",
    "admin",
    "by_hand",
    "git",
    "host",
    "repository",
    "site",
    "ssh",
    "ssh_config",
    "web",
]
from tests.support.deployed_site import Ssh, aws_client

BACK_SECONDS = 300
_KEPT = "/etc/gitea-suite/site.json"
SETTINGS = """import json, pathlib, sys
path = pathlib.Path("/etc/gitea-suite/site.json")
known = json.loads(path.read_text())
known[sys.argv[1]] |= json.loads(sys.argv[2])
path.write_text(json.dumps(known))"""
# A site begins anew at an older release: by hand, and as no one does it who has data. Nothing is kept to go back to, either.
_ANEW = """set -e
cd /opt/gitea-suite/compose
docker pull --quiet {image} >/dev/null
btrfs --quiet subvolume delete $(ls -d /srv/gitea/.update/before/* 2>/dev/null) || true
digest=$(docker image inspect --format '{{{{index .RepoDigests 0}}}}' {image} | cut -d @ -f 2)
{emptied}
sed -i "s#^{variable}=.*#{variable}='{image}@$digest'#" .env
docker compose --progress quiet up --detach --wait gitea
ops accounts ensure-admin
"""
_EMPTIED = """docker compose --progress quiet stop gitea
docker compose exec -T postgres psql -q -U gitea postgres -c 'DROP DATABASE gitea WITH (FORCE)' -c 'CREATE DATABASE gitea'
find /srv/gitea/gitea -mindepth 1 -delete"""
_EMPTIED_WITH_ITS_SERVER = """docker compose --progress quiet stop gitea postgres
find /srv/gitea/gitea /srv/gitea/postgresql -mindepth 1 -delete"""


@pytest.fixture
def settings(ssh: Ssh) -> Iterator[None]:
    """What is changed in the site file as the host has it is taken back at the end."""
    assert ssh(f"sudo cp {_KEPT} /root/site.json").returncode == 0
    yield
    assert ssh(f"sudo cp /root/site.json {_KEPT}").returncode == 0


@pytest.fixture
def hurried(ssh: Ssh, settings: None) -> None:
    """New versions are watched for 25 s and have a minute to come up: the releases here are broken sooner than that."""
    change(ssh, "update", watch_seconds=25, healthy_minutes=1)


@pytest.fixture
def older(ssh: Ssh) -> None:
    """The site begins anew at 28.0.1."""
    begin_anew(ssh, anew_at("28.0.1"))


@pytest.fixture
def cut_power(site: DeployedSite) -> Callable[[], None]:
    """Cuts the host's power and gives it back: nothing on it has a chance to end in good order."""
    if command := os.environ.get("E2E_CUT_POWER"):
        return lambda: _run(command)
    return lambda: _stop_and_start(site)


def change(ssh: Ssh, section: str, **settings: object) -> None:
    """Change a section of the site file as the host has it; ``settings`` takes it back."""
    done = ssh(f"sudo python3 -c {shlex.quote(SETTINGS)} {section} {shlex.quote(json.dumps(settings))}")
    assert done.returncode == 0, done.stderr


def anew_at(tag: str) -> str:
    """Return the script with which the site begins anew at a release of Gitea."""
    return _ANEW.format(image=f"gitea/gitea:{tag}", variable="GITEA_IMAGE", emptied=_EMPTIED)


def anew_on(tag: str) -> str:
    """The same on a release of PostgreSQL."""
    return _ANEW.format(image=f"postgres:{tag}", variable="POSTGRES_IMAGE", emptied=_EMPTIED_WITH_ITS_SERVER)


def begin_anew(ssh: Ssh, script: str) -> None:
    """Have the site begin anew by such a script."""
    begun = ssh(f"sudo sh -c {shlex.quote(script)}")
    assert begun.returncode == 0, begun.stderr


def _run(command: str) -> None:
    subprocess.run(shlex.split(command), check=True, timeout=BACK_SECONDS)


def _stop_and_start(site: DeployedSite) -> None:
    compute = aws_client(site.document, "ec2")
    chosen = [
        {"Name": "tag:Name", "Values": [site.document["name"]]},
        {"Name": "instance-state-name", "Values": ["running"]},
    ]
    ((instance,),) = [each["Instances"] for each in compute.describe_instances(Filters=chosen)["Reservations"]]
    one = [instance["InstanceId"]]
    compute.stop_instances(InstanceIds=one, Force=True)
    compute.get_waiter("instance_stopped").wait(InstanceIds=one)
    compute.start_instances(InstanceIds=one)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order the tests: those that interrupt the site come last."""
    sort_interruptions_last(items)
