"""The values of the site's secrets, looked for everywhere they must not be: on the host, in Terraform's state, on the operator's machine."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from testinfra.host import Host

from tests.support.deployed_site import DeployedSite, aws_client

PATTERNS = "/run/secret-hunt"


@pytest.fixture(scope="module")
def values(site: DeployedSite) -> dict[str, str]:
    """Every secret value of the site by what it is for; the parts of a JSON document one by one."""
    client = aws_client(site.document, "secretsmanager")
    prefix = f"{site.document['name']}/"
    pages = client.get_paginator("list_secrets").paginate(Filters=[{"Key": "name", "Values": [prefix]}])
    names = [each["Name"] for page in pages for each in page["SecretList"] if each["Name"].startswith(prefix)]
    found: dict[str, str] = {}
    for name in names:
        value = client.get_secret_value(SecretId=name)["SecretString"]
        found |= _parts(name.removeprefix(prefix), value)
    return found


def _parts(name: str, value: str) -> dict[str, str]:
    if not value.startswith("{"):
        return {name: value}
    # A user's name is no secret, and stands in logs by right.
    return {f"{name}.{key}": part for key, part in json.loads(value).items() if key != "username"}


@dataclass(frozen=True)
class Hunter:
    """Looks for the values on the host. They travel there by standard input and lie in memory, so that no argv holds them."""

    host: Host

    def files(self, paths: str) -> list[str]:
        """The files below the places that hold a value."""
        done = self.host.run(f"grep -r -l -a -F -f {PATTERNS} --devices=skip {paths}")
        # 2 is "some file could not be read": a process that ended meanwhile, a socket.
        assert done.rc in (0, 1, 2)
        return str(done.stdout).splitlines()

    def lines(self, command: str) -> int:
        """How many lines of a command's output hold a value; the command has to end well."""
        pipe = f"{{ {command}; }} | grep -c -a -F -f {PATTERNS}; exit ${{PIPESTATUS[0]}}"
        return int(self.host.check_output("bash -c %s", pipe))


@pytest.fixture(scope="module")
def hunter(site: DeployedSite, ssh_config: Path, host: Host, values: dict[str, str]) -> Iterator[Hunter]:
    argv = ["ssh", "-F", str(ssh_config), site.address, f"sudo install -m 0600 /dev/stdin {PATTERNS}"]
    subprocess.run(argv, input="\n".join(values.values()), text=True, check=True)
    yield Hunter(host)
    host.run_expect([0], f"rm {PATTERNS}")


def test_there_is_something_to_hunt_and_the_hunter_finds_it_where_it_belongs(
    hunter: Hunter, values: dict[str, str]
) -> None:
    assert len(values) >= 6
    assert all(len(value) >= 32 for value in values.values())
    assert "/run/gitea-suite/secrets/database-password" in hunter.files("/run/gitea-suite/secrets")
    assert hunter.lines("cat /run/gitea-suite/secrets/database-password && echo") == 1


def test_no_file_of_the_host_holds_a_secret(hunter: Hunter) -> None:
    paths = "/etc /opt /root /home /tmp /usr/local /var/log /var/tmp /var/spool /var/lib/docker/containers"
    assert hunter.files(paths) == []


def test_no_process_but_the_database_itself_was_given_a_secret_as_argument_or_environment(hunter: Hunter) -> None:
    # The official image's entry point reads the password's file into the environment of the database server itself.
    database = hunter.host.check_output("docker inspect --format '{{.State.Pid}}' gitea-suite-postgres-1")
    found = hunter.files("/proc/[0-9]*/cmdline /proc/[0-9]*/environ")
    assert [path for path in found if path != f"/proc/{database}/environ"] == []


def test_the_journal_speaks_of_no_secret(hunter: Hunter) -> None:
    assert hunter.lines("journalctl --no-pager --output export") == 0


def test_no_container_and_no_image_carries_a_secret_in_its_settings(hunter: Hunter) -> None:
    assert hunter.lines("docker inspect $(docker ps --all --quiet) $(docker image ls --quiet)") == 0
    assert hunter.lines("docker image ls --quiet | xargs -n 1 docker history --no-trunc") == 0


def test_no_layer_of_the_operator_s_image_holds_a_secret(hunter: Hunter) -> None:
    # zcat -f hands on what is not compressed: the engine's two image stores differ in that.
    unpacked = "tar --extract --to-command 'zcat -f'"
    assert hunter.lines(f"docker save $(docker image ls --quiet gitea-suite/ops) | {unpacked}") == 0


def test_no_version_of_terraform_s_state_holds_a_secret(site: DeployedSite, values: dict[str, str]) -> None:
    storage = aws_client(site.document, "s3")
    bucket = f"{site.document['backup']['bucket'][:49]}-terraform"
    pages = storage.get_paginator("list_object_versions").paginate(Bucket=bucket)
    kept = [(each["Key"], each["VersionId"]) for page in pages for each in page.get("Versions", [])]
    assert any(key.endswith("terraform.tfstate") for key, _ in kept)
    states = [storage.get_object(Bucket=bucket, Key=key, VersionId=version)["Body"].read() for key, version in kept]
    assert [name for name, value in values.items() if any(value.encode() in state for state in states)] == []


def test_nothing_that_a_deployment_leaves_with_the_operator_holds_a_secret(values: dict[str, str]) -> None:
    site_file = Path(os.environ["E2E_SITE"]).resolve()
    left = [path for path in (site_file.parent / ".state").rglob("*") if path.is_file()]
    assert any(path.name == "stdout" for path in left), "Ansible's output is among what is looked through"
    guilty = [
        (str(path.relative_to(site_file.parent)), name)
        for path in left
        for content in [path.read_bytes()]
        for name, value in values.items()
        if value.encode() in content
    ]
    assert guilty == []
