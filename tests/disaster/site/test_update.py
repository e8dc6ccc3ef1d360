"""Updates of a deployed site: through every version numbering, and to broken releases, which are rolled back without a trace.

The releases are those of the image set, and the broken ones that are made from them (ground/derived/gitea/README.md).
"""

from __future__ import annotations

import json
import shlex
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.disaster.site.conftest import change, reset_site, script_for_gitea, script_for_postgres
from tests.disaster.site.test_killed_backup_and_restore import kill_at_step, steps_in
from tests.support.deployed_site import Account, DeployedSite, Git, Ssh, head_of, ops, push, until
from tests.support.updated_site import (
    SlowPush,
    comment,
    container_ids,
    database_version,
    deploy,
    image_in_use,
    issue,
    leftovers_of_an_upgrade,
    migration_in_use,
    pinned_tags,
    stored_comments,
    titles,
    version_of,
    visitors,
)

by_hand_with_short_watch = pytest.mark.usefixtures("by_hand", "short_watch")
Record = Callable[[str, object], None]

_HELPERS = {"docker-socket-proxy": "v0.5.1", "diun": "4.34.0", "certbot": "v5.8.1", "nginx": "1.30.5"}


@by_hand_with_short_watch
def test_a_site_of_1_22_6_is_updated_step_by_step_to_28_1_0_with_its_data_intact(
    site: DeployedSite, ssh: Ssh, git: Git, tmp_path: Path, request: pytest.FixtureRequest, record_property: Record
) -> None:
    reset_site(ssh, script_for_gitea("1.22.6"))
    account: Account = request.getfixturevalue("account")
    remote: str = request.getfixturevalue("repository")
    commits = []
    for tag in ("1.27.3", "28.0.1", "28.1.0"):
        available = {each["service"]: each for each in ops(ssh, "update", "--check")["services"]}
        assert available["gitea"]["to"] == "28.1.0"
        commits.append(push(git, remote, tmp_path / "work", f"before {tag}"))
        issue(site, account, f"before {tag}")
        done = ops(ssh, "update", "gitea", "--to", tag, "--yes")
        print(f"{done['from']} -> {tag}: unavailable for {done['away']} s, {done['durations']}")
        assert (done["outcome"], version_of(site, account)) == ("updated", tag)
        assert head_of(site, account, "kept") == commits[-1]
    record_property("course", json.dumps(done["course"]))
    assert titles(site, account) == {"before 1.27.3", "before 28.0.1", "before 28.1.0"}
    git("clone", remote, "copy")
    git("fsck", "--strict", directory=tmp_path / "copy")
    cloned = git("rev-list", "HEAD", directory=tmp_path / "copy").stdout.split()
    assert set(commits) <= set(cloned)
    assert ops(ssh, "update", "gitea", "--yes")["summary"] == "there is nothing to update"
    entries = ops(ssh, "update", "history")["updates"]
    assert [each["outcome"] for each in entries[-3:]] == ["updated"] * 3


@by_hand_with_short_watch
@pytest.mark.parametrize(
    ("tag", "with_data"),
    [
        ("28.1.1-crash", True),
        ("28.1.1-hang", True),
        ("28.1.1-sour", False),
        # Its pages, its API and its health are well.
        ("28.1.1-sourgit", False),
        ("28.1.1-sourclones", False),
        ("28.1.1-flap", False),
        ("28.1.1-dies", False),
        ("28.1.1-midmigration", True),
        ("28.1.1-broken", True),
        # These two do not change the number in the database, and the image alone would leave every comment empty.
        ("28.1.1-drops", True),
        ("28.1.1-forgets", True),
    ],
)
def test_an_update_to_a_broken_release_is_rolled_back_without_data_loss(
    site: DeployedSite,
    ssh: Ssh,
    account: Account,
    repository: str,
    git: Git,
    tmp_path: Path,
    tag: str,
    with_data: bool,
    record_property: Record,
) -> None:
    before = push(git, repository, tmp_path / "work", "before")
    issue(site, account, "before")
    comment(site, account, "said before")
    image, migration = image_in_use(ssh), migration_in_use(ssh)
    failed = ops(ssh, "update", "gitea", "--to", tag, "--yes", code=5)
    print(f"{tag}: {failed['summary']}")
    assert (image_in_use(ssh), migration_in_use(ssh), version_of(site, account)) == (image, migration, "28.1.0")
    assert head_of(site, account, "kept") == before
    assert titles(site, account) == {"before"}
    assert stored_comments(ssh) == ["said before"]
    after = push(git, repository, tmp_path / "work", "after")
    assert head_of(site, account, "kept") == after
    assert ssh("sudo test -e /srv/gitea/.update/expected.json").returncode == 1
    entry = ops(ssh, "update", "history")["updates"][-1]
    record_property("course", json.dumps(entry["course"]))
    assert (entry["outcome"], entry["with_data"]) == ("rolled back", with_data)
    assert ssh("sudo ops health --json").returncode == 0


@by_hand_with_short_watch
@pytest.mark.timeout(1200)
def test_an_update_that_is_killed_at_any_step_is_completed_or_undone(
    site: DeployedSite, ssh: Ssh, account: Account, repository: str, git: Git, tmp_path: Path
) -> None:
    before = push(git, repository, tmp_path / "work", "before")
    issue(site, account, "before")
    image, migration = image_in_use(ssh), migration_in_use(ssh)
    requested = ("update", "gitea", "--to", "28.1.1-broken", "--yes")
    steps = steps_in(ssh(f"sudo ops {shlex.join(requested)}").stderr)
    assert steps[-6:] == ["stop", "picture", "pin", "up", "judge", "back"]
    for number, step in enumerate(steps):
        kill_at_step(ssh, step, *requested)
        # It waits for as long as requests do, and Gitea stays stopped.
        if step in {"picture", "pin"}:
            answer = account.session.get(f"{site.url}/user/login")
            assert (answer.status_code, "Retry-After" in answer.headers) == (503, True), step
            assert "It is being updated to 28.1.1." in answer.text
        interrupted = number >= steps.index("stop")
        undone = ops(ssh, "update", "--resume", code=5 if interrupted else 0)
        assert ("was rolled back to 28.1.0" in str(undone["summary"])) is interrupted, step
        assert account.session.get(f"{site.url}/user/login").status_code == 200, step
        assert (image_in_use(ssh), migration_in_use(ssh), version_of(site, account)) == (image, migration, "28.1.0"), (
            step
        )
        assert head_of(site, account, "kept") == before, step
        assert titles(site, account) == {"before"}, step
        assert ops(ssh, "update", "--resume")["changed"] is False, step


@by_hand_with_short_watch
def test_a_restore_migrates_a_backup_of_an_older_release_and_refuses_one_of_a_newer_release(
    older_gitea: None, site: DeployedSite, ssh: Ssh, account: Account, repository: str, git: Git, tmp_path: Path
) -> None:
    before = push(git, repository, tmp_path / "work", "before")
    issue(site, account, "before")
    old, migration = ops(ssh, "backup", "take")["identity"], migration_in_use(ssh)
    assert ops(ssh, "update", "gitea", "--to", "28.1.0", "--yes")["outcome"] == "updated"
    later = push(git, repository, tmp_path / "work", "later")
    new = ops(ssh, "backup", "take")["identity"]
    # A time between the two: the identity is the second of the backup's moment.
    at = datetime.strptime(old, "%Y%m%dT%H%M%S%z") + timedelta(seconds=2)
    planned = ops(ssh, "restore", "--at", at.isoformat(), "--dry-run")
    assert planned["identity"] == old
    assert "migrated: the database, from Gitea 28.0.1 to 28.1.0, as Gitea starts" in planned["plan"]
    assert ops(ssh, "restore", "--at", at.isoformat(), "--yes")["identity"] == old
    assert (version_of(site, account), head_of(site, account, "kept")) == ("28.1.0", before)
    assert migration_in_use(ssh) != migration
    assert titles(site, account) == {"before"}
    reset_site(ssh, script_for_gitea("28.0.1"))
    refused = ops(ssh, "restore", new, "--yes", code=4)
    assert "the backup is of Gitea 28.1.0, 28.0.1 runs here and refuses a newer database" in str(refused["summary"])
    # As the refusal advises.
    assert ops(ssh, "update", "gitea", "--to", "28.1.0", "--yes")["outcome"] == "updated"
    ops(ssh, "restore", new, "--yes")
    assert (version_of(site, account), head_of(site, account, "kept")) == ("28.1.0", later)
    assert ops(ssh, "health")["healthy"] is True


@by_hand_with_short_watch
def test_a_rollback_restores_the_earlier_data_and_reports_the_lost_writes(
    older_gitea: None, site: DeployedSite, ssh: Ssh, account: Account, repository: str, git: Git, tmp_path: Path
) -> None:
    before = push(git, repository, tmp_path / "work", "before")
    issue(site, account, "before")
    image, migration = image_in_use(ssh), migration_in_use(ssh)
    # Killed when the new version is healthy already: the update is completed, not undone.
    kill_at_step(ssh, "judge", "update", "gitea", "--to", "28.1.0", "--yes")
    assert ops(ssh, "update", "--resume")["outcome"] == "updated"
    after = push(git, repository, tmp_path / "work", "after")
    issue(site, account, "after")
    plan = ops(ssh, "rollback", "--dry-run")["plan"]
    assert any("28.1.0 -> 28.0.1, with the data of that time" in line for line in plan)
    assert any(line.startswith("lost: the data written since") for line in plan)
    assert (head_of(site, account, "kept"), version_of(site, account)) == (after, "28.1.0")
    kill_at_step(ssh, "back", "rollback", "--yes")
    rolled_back = ops(ssh, "update", "--resume")
    print(f"rolled back: {rolled_back['summary']}")
    assert (image_in_use(ssh), migration_in_use(ssh), version_of(site, account)) == (image, migration, "28.0.1")
    assert head_of(site, account, "kept") == before
    assert titles(site, account) == {"before"}
    # The writes since then are set aside and do not block another update.
    set_aside = f"/srv/gitea/.update/undone/gitea/git/repositories/{account.name}/kept.git"
    found = ssh(
        f"sudo git -c safe.directory='*' --git-dir {set_aside} rev-parse refs/heads/main || sudo ls {set_aside}"
    )
    assert after in found.stdout or "refs" in found.stdout, found.stderr
    refused = ops(ssh, "rollback", "--yes", code=4)
    assert "there is no snapshot to roll back to" in str(refused["summary"])
    done = ops(ssh, "update", "gitea", "--yes")
    assert (done["outcome"], version_of(site, account)) == ("updated", "28.1.0")
    issue(site, account, "lost")
    rolled_back = ops(ssh, "rollback", "--yes")
    print(f"rolled back: {rolled_back['summary']}")
    assert (version_of(site, account), titles(site, account)) == ("28.0.1", {"before"})
    assert ssh("sudo ops health --json").returncode == 0


@by_hand_with_short_watch
def test_an_update_completes_a_running_push_and_no_request_fails(
    older_gitea: None, site: DeployedSite, ssh: Ssh, account: Account, repository: str, git: Git, tmp_path: Path
) -> None:
    slow = SlowPush(site, account, git, tmp_path / "work")
    with visitors(site, account) as observed:
        updating = threading.Thread(target=lambda: observed.reports.append(ops(ssh, "update", "gitea", "--yes")))
        updating.start()
        slow.begin()
        draining = "sudo grep --quiet stop /srv/gitea/.update/journal"
        until(lambda: ssh(draining).returncode == 0, "the update waits for the push", 120)
        time.sleep(5)
        # Others are served meanwhile.
        assert account.session.get(f"{site.url}/user/login").status_code == 200
        assert not observed.reports
        slow.finish()
        updating.join(timeout=300)
        time.sleep(1)
    (done,) = observed.reports
    print(f"unavailable for {done['away']} s, {done['durations']}; answers {observed.counted()}; {done['requests']}")
    assert done["outcome"] == "updated"
    assert b"ok refs/heads/main" in slow.answer
    assert head_of(site, account, "kept") == slow.commit
    assert {status for status, _, _ in observed.pages} == {200}
    # A login without a key ends at Gitea's sshd.
    assert all("Permission denied" in output for output in observed.ssh)
    assert (done["requests"]["cut"], done["requests"]["awaited"], done["requests"]["waited"] > 0) == (0, 1, True)


@by_hand_with_short_watch
def test_other_operations_are_refused_during_an_update_and_do_not_disturb_it(
    site: DeployedSite, ssh: Ssh, account: Account
) -> None:
    image, reports = image_in_use(ssh), []
    requested = ("update", "gitea", "--to", "28.1.1-sour", "--yes")
    updating = threading.Thread(target=lambda: reports.append(ops(ssh, *requested, code=5)))
    updating.start()
    until(lambda: ssh("sudo test -e /srv/gitea/.update/journal").returncode == 0, "the update is in progress", 120)
    for verb in (("backup", "take"), ("update", "nginx", "--yes"), ("rollback", "--yes"), ("restore", "--yes")):
        assert "ops update, process" in str(ops(ssh, *verb, code=8)["summary"])
    # The units of the timers: one that has to wait does not fail, and a certificate renewal does not wait.
    for unit in ("update", "certificates"):
        assert ssh(f"sudo systemctl start gitea-suite-{unit}.service").returncode == 0
    updating.join(timeout=300)
    summary = str(reports[0]["summary"])
    assert " was rolled back to " in summary
    assert ", the site was unavailable for " in summary
    assert image_in_use(ssh) == image
    assert ops(ssh, "backup", "take")["changed"] is True
    assert account.session.get(f"{site.url}/user/login").status_code == 200


@by_hand_with_short_watch
def test_an_update_does_not_depend_on_the_mail_to_the_operator(
    older_gitea: None, site: DeployedSite, ssh: Ssh, account: Account
) -> None:
    change(ssh, "mail", smtp_host="127.0.0.1")
    for tag, code, outcome in (("28.1.0", 0, "updated"), ("28.1.1-crash", 5, "rolled back")):
        done = ssh(f"sudo ops update gitea --to {tag} --yes")
        assert (done.returncode, "no mail was sent to " in done.stderr) == (code, True), done.stderr
        assert ops(ssh, "update", "history")["updates"][-1]["outcome"] == outcome
        assert version_of(site, account) == "28.1.0"
    assert ssh("sudo ops health --json").returncode == 0


@by_hand_with_short_watch
@pytest.mark.parametrize("tag", ["1.30.5-crash", "1.30.5-ends"])
def test_an_update_to_a_broken_nginx_is_rolled_back(
    site: DeployedSite, ssh: Ssh, account: Account, tag: str, record_property: Record
) -> None:
    before = pinned_tags(ssh)
    failed = ops(ssh, "update", "nginx", "--to", tag, "--yes", code=5)
    print(f"nginx {tag}: {failed['summary']}")
    record_property("course", json.dumps(ops(ssh, "update", "history")["updates"][-1]["course"]))
    assert pinned_tags(ssh) == before
    assert account.session.get(f"{site.url}/user/login").status_code == 200
    assert ssh("sudo ops health --json").returncode == 0


@by_hand_with_short_watch
def test_the_automatic_update_in_its_window_updates_only_the_services_without_data(
    site: DeployedSite, ssh: Ssh, account: Account
) -> None:
    before = pinned_tags(ssh)
    ssh("sudo rm -f /srv/gitea/.update/last-automatic")
    now = datetime.now(UTC)
    chosen = {"gitea": "operator", "postgres": "operator", "nginx": "minor", "others": "minor"}
    change(ssh, "update", window=f"{now:%a %H:%M}", soak_hours=0, **chosen)
    with visitors(site, account) as observed:
        done = ops(ssh, "update", "--automatic")
    print(
        f"{done['summary']}: {[(each['service'], each['away']) for each in done['updates']]}; answers {observed.counted()}"
    )
    # No request fails, although nginx is updated.
    assert set(observed.counted()) == {200}
    assert {each["service"]: each["outcome"] for each in done["updates"]} == dict.fromkeys(_HELPERS, "updated")
    after = pinned_tags(ssh)
    assert {service: after[service] for service in _HELPERS} == _HELPERS
    assert {service for service in after if after[service] == before[service]} == {"gitea", "postgres", "door"}
    assert ops(ssh, "update", "--automatic")["summary"] == "no update is due"
    assert account.session.get(f"{site.url}/user/login").status_code == 200
    assert ssh("sudo ops health --json").returncode == 0


@by_hand_with_short_watch
def test_postgresql_is_updated_within_its_major_version(
    site: DeployedSite, ssh: Ssh, account: Account, repository: str, git: Git, tmp_path: Path
) -> None:
    before = push(git, repository, tmp_path / "work", "before")
    issue(site, account, "before")
    done = ops(ssh, "update", "postgres", "--to", "18.7", "--yes")
    print(f"postgres: {done['summary']}, {done['durations']}")
    assert (done["outcome"], pinned_tags(ssh)["postgres"]) == ("updated", "18.7")
    assert head_of(site, account, "kept") == before
    assert titles(site, account) == {"before"}
    # The rollback works as for any other service.
    rolled_back = ops(ssh, "rollback", "--yes")
    print(f"rolled back: {rolled_back['summary']}")
    assert (pinned_tags(ssh)["postgres"], titles(site, account)) == ("18.6", {"before"})


@by_hand_with_short_watch
@pytest.mark.timeout(900)
def test_postgresql_is_upgraded_to_another_major_version_next_to_the_old_one_and_rolled_back(
    site: DeployedSite, ssh: Ssh, git: Git, tmp_path: Path, request: pytest.FixtureRequest, record_property: Record
) -> None:
    reset_site(ssh, script_for_postgres("17.11"))
    account: Account = request.getfixturevalue("account")
    remote: str = request.getfixturevalue("repository")
    before = push(git, remote, tmp_path / "work", "before")
    issue(site, account, "before")
    refused = ops(ssh, "update", "postgres", "--yes", code=4)
    assert "ops update postgres --to 18.7" in str(refused["summary"])
    requested = ("update", "postgres", "--to", "18.6", "--yes")
    for step in ("convert", "switch"):
        kill_at_step(ssh, step, *requested)
        undone = ops(ssh, "update", "--resume", code=5)
        assert "was rolled back to 17.11" in str(undone["summary"]), step
        assert (database_version(ssh), head_of(site, account, "kept")) == ("17 of 17", before), step
        assert titles(site, account) == {"before"}, step
        assert leftovers_of_an_upgrade(ssh) == "", step
    # The host boots after the folders were exchanged, and the pinned image cannot read the new folder.
    environment = "/opt/gitea-suite/compose/.env"
    assert ssh(f"sudo cp {environment} /root/before").returncode == 0
    kill_at_step(ssh, "pin", *requested)
    booted = ssh(f"sudo mv /root/before {environment} && sudo systemctl restart gitea-suite")
    assert booted.returncode == 0, ssh("sudo journalctl --no-pager --unit gitea-suite --lines 40").stdout
    assert (database_version(ssh), head_of(site, account, "kept")) == ("17 of 17", before)
    assert ops(ssh, "update", "history")["updates"][-1]["outcome"] == "rolled back"
    done = ops(ssh, *requested)
    print(f"postgres: {done['summary']}, {done['durations']}")
    record_property("course", json.dumps(done["course"]))
    assert (done["outcome"], pinned_tags(ssh)["postgres"], database_version(ssh)) == ("updated", "18.6", "18 of 18")
    assert head_of(site, account, "kept") == before
    assert leftovers_of_an_upgrade(ssh) == ""
    push(git, remote, tmp_path / "work", "after")
    issue(site, account, "after")
    assert titles(site, account) == {"before", "after"}
    # A backup of the new version works as before: its WAL begins with its own base backup.
    ops(ssh, "backup", "take")
    assert ssh("sudo ops health --json").returncode == 0
    rolled_back = ops(ssh, "rollback", "--yes")
    print(f"rolled back: {rolled_back['summary']}")
    assert (pinned_tags(ssh)["postgres"], database_version(ssh), titles(site, account)) == (
        "17.11",
        "17 of 17",
        {"before"},
    )
    assert ops(ssh, *requested)["outcome"] == "updated"
    assert head_of(site, account, "kept") == before


@pytest.mark.usefixtures("by_hand")
def test_after_an_update_docker_compose_up_recreates_no_container(ssh: Ssh) -> None:
    ids = container_ids(ssh)
    assert ssh("cd /opt/gitea-suite/compose && sudo docker compose --progress quiet up --detach").returncode == 0
    assert container_ids(ssh) == ids


def test_a_deployment_changes_nothing_and_keeps_the_versions_of_the_updates(ssh: Ssh) -> None:
    ids, pins = container_ids(ssh), pinned_tags(ssh)
    assert pins["nginx"] == _HELPERS["nginx"]
    checked = deploy("--check")
    assert (checked.returncode, checked.stdout.count("host  ")) == (0, 0), checked.stdout
    deployed = deploy("--yes")
    assert deployed.returncode == 0, deployed.stdout
    assert "nothing was changed" in deployed.stdout
    assert (container_ids(ssh), pinned_tags(ssh)) == (ids, pins)
