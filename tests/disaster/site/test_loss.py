"""What an operator fears is rehearsed on the running site: a change by hand, the loss of the host, the loss of the account."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
import tomllib
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
import requests
import tomli_w
from botocore.exceptions import ClientError

from tests.support.deployed_site import (
    Account,
    DeployedSite,
    Git,
    Ssh,
    aws_client,
    head_of,
    make_account,
    objects_of,
    ops,
    secret_of,
    session_for,
)


def test_drift_is_named_item_by_item_and_a_deployment_onto_a_new_machine_mends_it_and_finds_everything_again(
    site: DeployedSite, account: Account, ssh: Ssh
) -> None:
    requested = {"name": "kept", "auto_init": True}
    assert account.session.post(f"{site.url}/api/v1/user/repos", json=requested).status_code == 201
    before = head_of(site, account, "kept")
    said = _tamper_with_aws(site)
    ssh("echo '# by hand' | sudo tee -a /etc/ssh/sshd_config.d/10-gitea-suite.conf")
    ssh("echo '# by hand' | sudo tee -a /etc/sysctl.d/60-gitea-suite.conf")
    ssh("sudo systemctl disable --now gitea-suite-health.timer && sudo systemctl stop fail2ban")
    said |= {
        "host  Write changed settings: /etc/ssh/sshd_config.d/10-gitea-suite.conf",
        "host  Write changed settings: /etc/sysctl.d/60-gitea-suite.conf",
        "host  Restart services with changed settings: ssh",
        "host  Restart services with changed settings: systemd-sysctl",
        "host  Start and enable the base services: fail2ban",
        "host  Start and enable the timers: gitea-suite-health.timer",
    }
    checked = _ops("deploy", "--check")
    # These and nothing else: all that was left alone is as the first deployment made it.
    assert set(checked.stdout.splitlines()[:-1]) == said
    assert checked.returncode == 3

    machine = ssh("cat /etc/ssh/ssh_host_ed25519_key.pub").stdout
    replaced = _ops("deploy", "--replace-host", "--yes")
    assert replaced.returncode == 0, replaced.stdout
    assert ssh("cat /etc/ssh/ssh_host_ed25519_key.pub").stdout not in {machine, ""}
    assert head_of(site, account, "kept") == before
    assert _open_ports(site) == {80, 443, site.ssh_port}


def test_a_site_that_burned_down_with_its_disk_comes_back_from_the_bucket(
    site: DeployedSite, account: Account, ssh: Ssh, git: Git, tmp_path: Path
) -> None:
    requested = {"name": "saved", "auto_init": True, "default_branch": "main"}
    assert account.session.post(f"{site.url}/api/v1/user/repos", json=requested).status_code == 201
    before = head_of(site, account, "saved")
    taken = json.loads(ssh("sudo ops backup take --json").stdout)
    _burn_down(site)
    secret_key = _forget_secret_key(site)
    began = time.monotonic()
    deployed = _ops("deploy", "--yes")
    assert deployed.returncode == 0, deployed.stdout
    assert account.session.get(f"{site.url}/api/v1/user").status_code == 401
    # What an empty site would back up is not taken for the newest state of the one that was lost.
    refused = ssh("sudo ops backup take --json")
    assert (refused.returncode, "ops restore" in refused.stdout) == (4, True), refused.stdout
    assert _give_it_the_secret_key_of_its_backup(ssh) == secret_key
    restored = json.loads(ssh("sudo ops restore --yes --json").stdout)
    away = time.monotonic() - began
    print(f"RTO from nothing: {away:.0f} s, {restored['away']} s of it the switch", file=sys.stderr)
    assert restored["identity"] == taken["identity"]
    assert head_of(site, account, "saved") == before
    git("clone", f"https://{account.name}:{account.password}@{site.domain}/{account.name}/saved.git", "copy")
    git("fsck", "--strict", directory=tmp_path / "copy")
    assert git("rev-parse", "HEAD", directory=tmp_path / "copy").stdout.strip() == before
    assert json.loads(ssh("sudo ops backup take --json").stdout)["changed"] is True
    assert ssh("sudo ops health --json").returncode == 0


def test_a_site_whose_account_is_gone_comes_back_in_another_from_its_file_a_copy_of_the_bucket_and_the_password(
    site: DeployedSite, admin: requests.Session, ssh: Ssh, git: Git, tmp_path: Path
) -> None:
    person = make_account(site, admin)
    requested = {"name": "abroad", "auto_init": True, "default_branch": "main"}
    assert person.session.post(f"{site.url}/api/v1/user/repos", json=requested).status_code == 201
    before = head_of(site, person, "abroad")
    taken = ops(ssh, "backup", "take")
    copied, password = _copy_of_the_bucket(site), secret_of(site.document, "restic-password")
    subprocess.run(shlex.split(os.environ["E2E_LOSE_ACCOUNT"]), check=True, timeout=120)
    moved = _moved(site, tmp_path)
    began = time.monotonic()
    assert _ops("deploy", "--yes", file=moved).returncode == 0
    abroad = replace(site, document=tomllib.loads(moved.read_text(encoding="utf-8")))
    # docs/runbooks/restore.md, "The account or the region is gone", line by line.
    assert ssh("sudo systemctl stop gitea-suite-backup.timer gitea-suite-wal").returncode == 0
    _fill_the_bucket(abroad, copied)
    told = _ops("secrets", "set", "restic-password", "--yes", file=moved, given=password)
    assert told.returncode == 0, told.stdout
    _give_it_the_secret_key_of_its_backup(ssh, moved)
    restored = ops(ssh, "restore", "--yes")
    assert ssh("sudo systemctl start gitea-suite-backup.timer gitea-suite-wal").returncode == 0
    print(f"RTO in another account: {time.monotonic() - began:.0f} s", file=sys.stderr)
    assert restored["identity"] == taken["identity"]
    assert head_of(abroad, person, "abroad") == before
    git("clone", f"https://{person.name}:{person.password}@{site.domain}/{person.name}/abroad.git", "copy")
    git("fsck", "--strict", directory=tmp_path / "copy")
    # The administrator has the new account's password, and backups go on where those of the old one ended.
    signed_in = session_for(abroad, site.administrator, secret_of(abroad.document, "admin-password"))
    assert signed_in.get(f"{site.url}/api/v1/user").status_code == 200
    next_one = ops(ssh, "backup", "take")
    assert next_one["changed"] is True
    drilled = ops(ssh, "restore", "--drill")
    assert (drilled["identity"], drilled["findings"]) == (next_one["identity"], [])
    assert ops(ssh, "health")["healthy"] is True


def _give_it_the_secret_key_of_its_backup(ssh: Ssh, file: Path | None = None) -> str:
    """Do as the runbook has it for a site that was made anew, and has another SECRET_KEY; returns the backup's."""
    # The new one is not taken for the one that the backup's columns are encrypted with.
    refused = ops(ssh, "restore", "--yes", code=4)
    assert "another SECRET_KEY" in str(refused["summary"])
    kept = ops(ssh, "restore", "--secret-key")["file"]
    key = ssh(f"sudo cat {shlex.quote(kept)}").stdout
    told = _ops("secrets", "set", "gitea-secret-key", "--yes", file=file, given=key)
    assert told.returncode == 0, told.stdout
    return key


def _moved(site: DeployedSite, folder: Path) -> Path:
    """Write the site file as the runbook has it changed for another account: with another bucket, whose names are the world's."""
    backup = site.document["backup"]
    path = folder / "moved.toml"
    document = site.document | {"backup": backup | {"bucket": f"{backup['bucket']}-abroad"}}
    path.write_text(tomli_w.dumps(document), encoding="utf-8")
    return path


def _copy_of_the_bucket(site: DeployedSite) -> dict[str, bytes]:
    """What a replica, or any other copy of one's own, has."""
    storage, bucket = aws_client(site.document, "s3"), site.document["backup"]["bucket"]
    return {key: storage.get_object(Bucket=bucket, Key=key)["Body"].read() for key in objects_of(site)}


def _fill_the_bucket(site: DeployedSite, copied: dict[str, bytes]) -> None:
    """Do as `aws s3 sync --delete` does."""
    storage, bucket = aws_client(site.document, "s3"), site.document["backup"]["bucket"]
    for key in objects_of(site) - copied.keys():
        storage.delete_object(Bucket=bucket, Key=key)
    for key, content in copied.items():
        storage.put_object(Bucket=bucket, Key=key, Body=content, ChecksumAlgorithm="SHA256")


def _burn_down(site: DeployedSite) -> None:
    """Do away with the host and its disk, as no one wants to see it."""
    compute, name = aws_client(site.document, "ec2"), site.document["name"]
    (instance,) = [
        one["InstanceId"]
        for each in compute.describe_instances(Filters=[{"Name": "tag:Name", "Values": [name]}])["Reservations"]
        for one in each["Instances"]
        if one["State"]["Name"] == "running"
    ]
    (disk,) = compute.describe_volumes(Filters=[{"Name": "tag:Name", "Values": [f"{name}-data"]}])["Volumes"]
    compute.modify_instance_attribute(InstanceId=instance, DisableApiTermination={"Value": False})
    compute.terminate_instances(InstanceIds=[instance])
    with suppress(ClientError):  # ended instances let go of their disks sooner or later
        compute.detach_volume(VolumeId=disk["VolumeId"], Force=True)
    compute.delete_volume(VolumeId=disk["VolumeId"])


def _forget_secret_key(site: DeployedSite) -> str:
    """Give the site another SECRET_KEY, as one that is made anew in another account has; returns the one it had."""
    vault, name = aws_client(site.document, "secretsmanager"), f"{site.document['name']}/gitea-secret-key"
    found = vault.get_secret_value(SecretId=name)
    had, version = str(found["SecretString"]), found["VersionId"]
    if "FIRST" not in found["VersionStages"]:
        # AWS forgets versions without a label, and this is the one that Terraform made.
        vault.update_secret_version_stage(SecretId=name, VersionStage="FIRST", MoveToVersionId=version)
    vault.put_secret_value(SecretId=name, SecretString="of-another-account-" * 3)
    return had


def _ops(*arguments: str, given: str = "", file: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the operator's program; its progress goes where the tests' own does."""
    argv = [sys.executable, "-m", "ops", *arguments, "--site", str(file or os.environ["E2E_SITE"])]
    return subprocess.run(argv, stdout=subprocess.PIPE, input=given, text=True, check=False)


def _tamper_with_aws(site: DeployedSite) -> set[str]:
    """Do by hand what no one should; returns what has to be said of it."""
    storage = aws_client(site.document, "s3")
    backups, state = site.document["backup"]["bucket"], f"{site.document['backup']['bucket'][:49]}-terraform"
    with pytest.raises(ClientError, match="InvalidBucketState"):
        storage.put_bucket_versioning(Bucket=backups, VersioningConfiguration={"Status": "Suspended"})
    storage.put_bucket_versioning(Bucket=state, VersioningConfiguration={"Status": "Suspended"})
    storage.delete_public_access_block(Bucket=backups)
    compute, group = aws_client(site.document, "ec2"), _group(site)
    anyone = {"FromPort": 8080, "ToPort": 8080, "IpProtocol": "tcp", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
    compute.authorize_security_group_ingress(GroupId=group, IpPermissions=[anyone])
    return {
        f"AWS   {group}: a rule that is not ours: ingress tcp 8080 from 0.0.0.0/0",
        f"AWS   bucket {state}: versioning is off",
        "AWS   create module.backup.aws_s3_bucket_public_access_block.this",
    }


def _group(site: DeployedSite) -> str:
    chosen = [{"Name": "group-name", "Values": [f"{site.document['name']}-host"]}]
    (group,) = aws_client(site.document, "ec2").describe_security_groups(Filters=chosen)["SecurityGroups"]
    return str(group["GroupId"])


def _open_ports(site: DeployedSite) -> set[int]:
    chosen = [{"Name": "group-id", "Values": [_group(site)]}]
    rules = aws_client(site.document, "ec2").describe_security_group_rules(Filters=chosen)["SecurityGroupRules"]
    return {rule["FromPort"] for rule in rules if not rule["IsEgress"] and rule.get("CidrIpv4") == "0.0.0.0/0"}
