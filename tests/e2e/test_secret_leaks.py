"""No secret value leaks: not on the host, into Terraform's state or onto the operator's machine."""

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
    """Every secret value of the site by name; the fields of a JSON document one by one."""
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
    # A user name is not a secret and may appear in logs.
    return {f"{name}.{key}": part for key, part in json.loads(value).items() if key != "username"}


@dataclass(frozen=True)
class Search:
    """Searches the host for the values. They are sent by standard input and kept in memory, so that no command line has them."""

    host: Host

    def files(self, paths: str) -> list[str]:
        """Return the files below the paths that contain a value."""
        done = self.host.run(f"grep -r -l -a -F -f {PATTERNS} --devices=skip {paths}")
        # grep exits with 2 when it cannot read a file: a process that has ended, a socket.
        assert done.rc in (0, 1, 2)
        return str(done.stdout).splitlines()

    def lines(self, command: str) -> int:
        """Return how many lines of a command's output contain a value; raises AssertionError when the command fails."""
        pipe = f"{{ {command}; }} | grep -c -a -F -f {PATTERNS}; exit ${{PIPESTATUS[0]}}"
        return int(self.host.check_output("bash -c %s", pipe))


@pytest.fixture(scope="module")
def search(site: DeployedSite, ssh_config: Path, host: Host, values: dict[str, str]) -> Iterator[Search]:
    argv = ["ssh", "-F", str(ssh_config), site.address, f"sudo install -m 0600 /dev/stdin {PATTERNS}"]
    subprocess.run(argv, input="\n".join(values.values()), text=True, check=True)
    yield Search(host)
    host.run_expect([0], f"rm {PATTERNS}")


def test_the_site_has_secret_values_and_the_search_finds_them_where_they_belong(
    search: Search, values: dict[str, str]
) -> None:
    assert len(values) >= 6
    assert all(len(value) >= 32 for value in values.values())
    assert "/run/gitea-suite/secrets/database-password" in search.files("/run/gitea-suite/secrets")
    assert search.lines("cat /run/gitea-suite/secrets/database-password && echo") == 1


def test_no_file_on_the_host_contains_a_secret(search: Search) -> None:
    paths = "/etc /opt /root /home /tmp /usr/local /var/log /var/tmp /var/spool /var/lib/docker/containers"
    assert search.files(paths) == []


def test_no_process_except_the_database_has_a_secret_in_its_arguments_or_environment(search: Search) -> None:
    # The official image's entry point reads the password's file into the environment of the database server itself.
    database = search.host.check_output("docker inspect --format '{{.State.Pid}}' gitea-suite-postgres-1")
    found = search.files("/proc/[0-9]*/cmdline /proc/[0-9]*/environ")
    assert [path for path in found if path != f"/proc/{database}/environ"] == []


def test_the_systemd_journal_contains_no_secret(search: Search) -> None:
    assert search.lines("journalctl --no-pager --output export") == 0


def test_no_container_and_no_image_has_a_secret_in_its_settings(search: Search) -> None:
    assert search.lines("docker inspect $(docker ps --all --quiet) $(docker image ls --quiet)") == 0
    assert search.lines("docker image ls --quiet | xargs -n 1 docker history --no-trunc") == 0


def test_no_layer_of_the_ops_image_contains_a_secret(search: Search) -> None:
    # zcat -f passes uncompressed data through: the engine's two image stores differ in compression.
    unpacked = "tar --extract --to-command 'zcat -f'"
    assert search.lines(f"docker save $(docker image ls --quiet gitea-suite/ops) | {unpacked}") == 0


def test_no_version_of_terraform_s_state_contains_a_secret(site: DeployedSite, values: dict[str, str]) -> None:
    storage = aws_client(site.document, "s3")
    bucket = f"{site.document['backup']['bucket'][:49]}-terraform"
    pages = storage.get_paginator("list_object_versions").paginate(Bucket=bucket)
    kept = [(each["Key"], each["VersionId"]) for page in pages for each in page.get("Versions", [])]
    assert any(key.endswith("terraform.tfstate") for key, _ in kept)
    states = [storage.get_object(Bucket=bucket, Key=key, VersionId=version)["Body"].read() for key, version in kept]
    assert [name for name, value in values.items() if any(value.encode() in state for state in states)] == []


def test_no_file_of_a_deployment_on_the_operator_s_machine_contains_a_secret(values: dict[str, str]) -> None:
    site_file = Path(os.environ["E2E_SITE"]).resolve()
    left = [path for path in (site_file.parent / ".state").rglob("*") if path.is_file()]
    assert any(path.name == "stdout" for path in left), "Ansible's output is missing from the searched files"
    leaks = [
        (str(path.relative_to(site_file.parent)), name)
        for path in left
        for content in [path.read_bytes()]
        for name, value in values.items()
        if value.encode() in content
    ]
    assert leaks == []
