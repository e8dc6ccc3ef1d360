"""Mail leaves the site with the key in Secrets Manager, and a secret is rotated while the site runs."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import requests
from testinfra.host import Host

from tests.support.deployed_site import Account, DeployedSite, Git, aws_client, secret_of

# Where the mails can be read: only a mail server of the ground's own shows them.
INBOX = os.environ.get("E2E_INBOX", "")
ARRIVAL_SECONDS = 20


def _mails() -> list[dict[str, Any]]:
    return list(requests.get(INBOX, timeout=5).json()) if INBOX else []


def _arrived(before: int, recipient: str) -> list[dict[str, Any]]:
    """The mails to someone that came since, once there is one; nothing where no inbox can be read."""
    deadline = time.monotonic() + ARRIVAL_SECONDS
    while INBOX and time.monotonic() < deadline:
        if found := [mail for mail in _mails()[before:] if mail["to"] == [recipient]]:
            return found
        time.sleep(0.2)
    assert not INBOX, f"no mail to {recipient} within {ARRIVAL_SECONDS} s"
    return []


def _key(site: DeployedSite) -> str:
    return str(json.loads(secret_of(site.document, "smtp-credentials"))["username"])


def _rotate(*arguments: str) -> dict[str, Any]:
    argv = [sys.executable, "-m", "ops", "secrets", *arguments, "--yes", "--json", "--site", os.environ["E2E_SITE"]]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    document: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == 0, document
    return document


def _database_takes(host: Host, password: str) -> bool:
    """Whether a client from elsewhere gets in: PostgreSQL trusts its own loopback, and no other address.

    The password is a word of the container's shell: sudo logs what it runs.
    """
    client = f"PGPASSWORD={password} psql -h $(hostname -i) -U gitea -d gitea -tAc 'SELECT 1'"
    return bool(host.run(f"docker exec gitea-suite-postgres-1 sh -c {shlex.quote(client)}").rc == 0)


def test_a_unit_that_fails_on_the_host_and_diun_send_mail_to_the_contact_with_the_site_s_key(
    site: DeployedSite, host: Host
) -> None:
    before, contact = len(_mails()), site.document["contact"]
    fails = "systemd-run --quiet --unit drill --property OnFailure=gitea-suite-notify@drill.service.service"
    host.check_output(f"{fails} sh -c 'echo its last words; exit 1'")
    for mail in _arrived(before, contact):
        assert (mail["user"], mail["from"]) == (_key(site), site.document["mail"]["sender"])
        assert f"[{site.document['name']}] drill.service failed on" in mail["subject"]
        assert "its last words" in mail["text"]
    # The mail arrives before the unit that sent it has noted that.
    noted = "/run/gitea-suite/told-of-drill.service"
    host.check_output(f"timeout 20 sh -c 'until rm {noted} 2>/dev/null; do sleep 0.1; done'")
    host.check_output("systemctl reset-failed drill.service")
    before = len(_mails())
    host.run_expect([0], "docker exec gitea-suite-diun-1 diun notif test")
    assert all(mail["user"] == _key(site) for mail in _arrived(before, contact))


def test_gitea_sends_mail_with_a_new_key_and_the_old_one_is_gone(site: DeployedSite, web: requests.Session) -> None:
    old = _key(site)
    document = _rotate("rotate-smtp")
    assert document["key"] == _key(site) != old
    keys = aws_client(site.document, "iam").list_access_keys(UserName=f"{site.document['name']}-mail")
    assert [each["AccessKeyId"] for each in keys["AccessKeyMetadata"]] == [_key(site)]
    before, administrator = len(_mails()), site.document["gitea"]["admin_email"]
    answer = web.post(f"{site.url}/user/forgot_password", data={"email": administrator})
    assert answer.status_code == 200
    assert all(mail["user"] == _key(site) for mail in _arrived(before, administrator))


def test_the_database_s_password_is_rotated_under_a_running_site_and_people_go_on_pushing(
    site: DeployedSite, host: Host, account: Account, git: Git, tmp_path: Path
) -> None:
    requested = {"name": "through", "auto_init": True}
    assert account.session.post(f"{site.url}/api/v1/user/repos", json=requested).status_code == 201
    remote = f"https://{account.name}:{account.password}@{site.domain}/{account.name}/through.git"
    git("clone", remote, "work")
    old = secret_of(site.document, "database-password")
    _rotate("rotate", "database-password")
    assert secret_of(site.document, "database-password") != old
    assert _database_takes(host, "$(cat /run/secrets/database-password)")
    assert not _database_takes(host, old)
    assert json.loads(host.run("ops health --json").stdout)["ok"] is True
    git("commit", "--allow-empty", "--message", "after", directory=tmp_path / "work")
    git("push", "origin", "HEAD", directory=tmp_path / "work")
