"""The host is rebooted during a secret's rotation and comes back without data loss. Runs after all other end-to-end tests."""

from __future__ import annotations

import json
import secrets

from tests.support.deployed_site import Account, DeployedSite, Ssh, aws_client, head_of, until


def test_a_reboot_in_the_middle_of_a_rotation_brings_everything_back(
    site: DeployedSite, account: Account, ssh: Ssh
) -> None:
    requested = {"name": "kept", "auto_init": True}
    assert account.session.post(f"{site.url}/api/v1/user/repos", json=requested).status_code == 201
    before = head_of(site, account, "kept")
    _apply_a_password_that_never_becomes_current(site, ssh)
    booted, before_it = _started(ssh), _killed(ssh)
    ssh("sudo systemctl reboot")
    until(lambda: _started(ssh) not in {booted, ""}, "the host is back")
    # Idle connections of signed-in users delay the stop of nginx by five seconds, and not by its own time-out. Nothing else is
    # killed.
    killed = _killed(ssh)[len(before_it) :]
    assert [line for line in killed if "within 5s of signal" not in line] == []
    # Waits for the unit first: frequent health checks would slow down the start.
    until(lambda: ssh("systemctl is-active gitea-suite.service").stdout == "active\n", "the stack is started")
    until(lambda: ssh("sudo ops health --json").returncode == 0, "the site is healthy again")
    assert ssh("systemctl list-units --failed --plain --no-legend").stdout == ""
    assert head_of(site, account, "kept") == before


def _apply_a_password_that_never_becomes_current(site: DeployedSite, ssh: Ssh) -> None:
    name = f"{site.document['name']}/database-password"
    requested = {"SecretId": name, "SecretString": secrets.token_hex(20), "VersionStages": ["AWSPENDING"]}
    aws_client(site.document, "secretsmanager").put_secret_value(**requested)
    done = ssh("sudo ops secrets apply --pending database-password --json")
    assert "gitea" in json.loads(done.stdout)["restarted"]


def _started(ssh: Ssh) -> str:
    return ssh("systemctl show --property UserspaceTimestamp --value").stdout.strip()


def _killed(ssh: Ssh) -> list[str]:
    """The engine's log lines about containers that did not end in their time."""
    return ssh("sudo journalctl --unit docker --no-pager --output cat | grep 'using the force'").stdout.splitlines()
