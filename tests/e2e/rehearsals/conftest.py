"""What rehearsals on a running site stand on."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from collections.abc import Callable, Iterator

import pytest

from tests.e2e.conftest import DeployedSite, Ssh, aws_client

BACK_SECONDS = 300
_KEPT = "/etc/gitea-suite/site.json"
SETTINGS = """import json, pathlib, sys
path = pathlib.Path("/etc/gitea-suite/site.json")
known = json.loads(path.read_text())
known[sys.argv[1]] |= json.loads(sys.argv[2])
path.write_text(json.dumps(known))"""


@pytest.fixture
def hurried(ssh: Ssh) -> Iterator[None]:
    """New versions are watched for 25 s and have a minute to come up: the releases here are broken sooner than that."""
    assert ssh(f"sudo cp {_KEPT} /root/site.json").returncode == 0
    change(ssh, "update", watch_seconds=25, healthy_minutes=1)
    yield
    assert ssh(f"sudo cp /root/site.json {_KEPT}").returncode == 0


@pytest.fixture
def cut_power(site: DeployedSite) -> Callable[[], None]:
    """Cuts the host's power and gives it back: nothing on it has a chance to end in good order."""
    if command := os.environ.get("E2E_CUT_POWER"):
        return lambda: _run(command)
    return lambda: _stop_and_start(site)


def change(ssh: Ssh, section: str, **settings: object) -> None:
    """Change a section of the site file as the host has it; ``hurried`` takes it back."""
    done = ssh(f"sudo python3 -c {shlex.quote(SETTINGS)} {section} {shlex.quote(json.dumps(settings))}")
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
