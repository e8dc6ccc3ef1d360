"""Mail is sent with the key in Secrets Manager, and secrets are rotated while the site runs."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import requests
from testinfra.host import Host

from tests.support.deployed_site import Account, DeployedSite, Git, aws_client, secret_of

# The address of the inbox: only the mail server of the test environment has one.
INBOX = os.environ.get("E2E_INBOX", "")
ARRIVAL_SECONDS = 20
_ALARM = re.compile(r"\[(FIRING|RESOLVED)")


def _mails() -> list[dict[str, Any]]:
    return list(requests.get(INBOX, timeout=5).json()) if INBOX else []


def _arrived(before: int, recipient: str) -> list[dict[str, Any]]:
    """Return the new mails to a recipient, but alarms, as soon as there are any; an empty list without a readable inbox."""
    deadline = time.monotonic() + ARRIVAL_SECONDS
    while INBOX and time.monotonic() < deadline:
        if found := [
            mail for mail in _mails()[before:] if mail["to"] == [recipient] and not _ALARM.match(mail["subject"])
        ]:
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


def _database_accepts(host: Host, password: str) -> bool:
    """Tell whether PostgreSQL accepts a password from an address other than the loopback, which needs none.

    ``password`` may be an expression of the container's shell, because sudo logs the command line.
    """
    client = f"PGPASSWORD={password} psql -h $(hostname -i) -U gitea -d gitea -tAc 'SELECT 1'"
    return bool(host.run(f"docker exec gitea-suite-postgres-1 sh -c {shlex.quote(client)}").rc == 0)


def test_a_failed_unit_and_diun_send_mail_to_the_contact_with_the_site_s_key(site: DeployedSite, host: Host) -> None:
    before, contact = len(_mails()), site.document["contact"]
    fails = "systemd-run --quiet --unit drill --property OnFailure=gitea-suite-notify@drill.service.service"
    host.check_output(f"{fails} sh -c 'echo its last words; exit 1'")
    for mail in _arrived(before, contact):
        assert (mail["user"], mail["from"]) == (_key(site), site.document["mail"]["sender"])
        assert f"[{site.document['name']}] drill.service failed on" in mail["subject"]
        assert "its last words" in mail["text"]
    # The mail arrives before its unit has recorded that it was sent.
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


def test_the_database_s_password_is_rotated_while_the_site_runs_and_pushes_still_work(
    site: DeployedSite, host: Host, account: Account, git: Git, tmp_path: Path
) -> None:
    requested = {"name": "through", "auto_init": True}
    assert account.session.post(f"{site.url}/api/v1/user/repos", json=requested).status_code == 201
    remote = f"https://{account.name}:{account.password}@{site.domain}/{account.name}/through.git"
    git("clone", remote, "work")
    old = secret_of(site.document, "database-password")
    _rotate("rotate", "database-password")
    assert secret_of(site.document, "database-password") != old
    assert _database_accepts(host, "$(cat /run/secrets/database-password)")
    assert not _database_accepts(host, old)
    assert json.loads(host.run("ops health --json").stdout)["ok"] is True
    git("commit", "--allow-empty", "--message", "after", directory=tmp_path / "work")
    git("push", "origin", "HEAD", directory=tmp_path / "work")
