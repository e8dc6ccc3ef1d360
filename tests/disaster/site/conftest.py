"""Fixtures and helpers of the disaster tests on a deployed site."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from collections.abc import Callable, Iterator

import pytest

from tests.support.deployed_site import *  # noqa: F403 - pytest finds fixtures by their names in a conftest
from tests.support.deployed_site import DeployedSite, Ssh, aws_client

BACK_SECONDS = 300
_SITE_FILE = "/etc/gitea-suite/site.json"
SETTINGS = """import json, pathlib, sys
path = pathlib.Path("/etc/gitea-suite/site.json")
document = json.loads(path.read_text())
document[sys.argv[1]] |= json.loads(sys.argv[2])
path.write_text(json.dumps(document))"""
# Resets a site to an older release and deletes its data, and the snapshots for a rollback too.
_RESET = """set -e
cd /opt/gitea-suite/compose
docker pull --quiet {image} >/dev/null
btrfs --quiet subvolume delete $(ls -d /srv/gitea/.update/before/* 2>/dev/null) || true
digest=$(docker image inspect --format '{{{{index .RepoDigests 0}}}}' {image} | cut -d @ -f 2)
{emptied}
sed -i "s#^{variable}=.*#{variable}='{image}@$digest'#" .env
docker compose --progress quiet up --detach --wait gitea
ops accounts ensure-admin
"""
_EMPTY_GITEA = """docker compose --progress quiet stop gitea
docker compose exec -T postgres psql -q -U gitea postgres -c 'DROP DATABASE gitea WITH (FORCE)' -c 'CREATE DATABASE gitea'
find /srv/gitea/gitea -mindepth 1 -delete"""
_EMPTY_GITEA_AND_POSTGRES = """docker compose --progress quiet stop gitea postgres
find /srv/gitea/gitea /srv/gitea/postgresql -mindepth 1 -delete"""


@pytest.fixture
def settings(ssh: Ssh) -> Iterator[None]:
    """Restore the host's site file after the test."""
    assert ssh(f"sudo cp {_SITE_FILE} /root/site.json").returncode == 0
    yield
    assert ssh(f"sudo cp /root/site.json {_SITE_FILE}").returncode == 0


@pytest.fixture
def short_watch(ssh: Ssh, settings: None) -> None:
    """Watch new versions for 25 s and give them one minute to become healthy: the broken test releases fail sooner."""
    change(ssh, "update", watch_seconds=25, healthy_minutes=1)


@pytest.fixture
def older_gitea(ssh: Ssh) -> None:
    """Reset the site to Gitea 28.0.1."""
    reset_site(ssh, script_for_gitea("28.0.1"))


@pytest.fixture
def cut_power(site: DeployedSite) -> Callable[[], None]:
    """Return a function that cuts the host's power and restores it, without any orderly shutdown."""
    if command := os.environ.get("E2E_CUT_POWER"):
        return lambda: _run(command)
    return lambda: _stop_and_start(site)


def change(ssh: Ssh, section: str, **settings: object) -> None:
    """Change a section of the host's site file; the fixture ``settings`` restores it."""
    done = ssh(f"sudo python3 -c {shlex.quote(SETTINGS)} {section} {shlex.quote(json.dumps(settings))}")
    assert done.returncode == 0, done.stderr


def script_for_gitea(tag: str) -> str:
    """Return the script that resets the site to a release of Gitea."""
    return _RESET.format(image=f"gitea/gitea:{tag}", variable="GITEA_IMAGE", emptied=_EMPTY_GITEA)


def script_for_postgres(tag: str) -> str:
    """Return the script that resets the site to a release of PostgreSQL."""
    return _RESET.format(image=f"postgres:{tag}", variable="POSTGRES_IMAGE", emptied=_EMPTY_GITEA_AND_POSTGRES)


def reset_site(ssh: Ssh, script: str) -> None:
    """Run a reset script on the host."""
    done = ssh(f"sudo sh -c {shlex.quote(script)}")
    assert done.returncode == 0, done.stderr


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
