"""Drift, the loss of the host with its disk, and the loss of the AWS account, each on a deployed site."""

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


def test_drift_is_reported_item_by_item_and_a_deployment_to_a_new_host_fixes_it_without_data_loss(
    site: DeployedSite, account: Account, ssh: Ssh
) -> None:
    requested = {"name": "kept", "auto_init": True}
    assert account.session.post(f"{site.url}/api/v1/user/repos", json=requested).status_code == 201
    before = head_of(site, account, "kept")
    expected = _tamper_with_aws(site)
    ssh("echo '# by hand' | sudo tee -a /etc/ssh/sshd_config.d/10-gitea-suite.conf")
    ssh("echo '# by hand' | sudo tee -a /etc/sysctl.d/60-gitea-suite.conf")
    ssh("sudo systemctl disable --now gitea-suite-health.timer && sudo systemctl stop fail2ban")
    expected |= {
        "host  Write changed settings: /etc/ssh/sshd_config.d/10-gitea-suite.conf",
        "host  Write changed settings: /etc/sysctl.d/60-gitea-suite.conf",
        "host  Restart services with changed settings: ssh",
        "host  Restart services with changed settings: systemd-sysctl",
        "host  Start and enable the base services: fail2ban",
        "host  Start and enable the timers: gitea-suite-health.timer",
    }
    checked = _ops("deploy", "--check")
    # Only these differences: everything else is as the first deployment made it.
    assert set(checked.stdout.splitlines()[:-1]) == expected
    assert checked.returncode == 3

    old_host_key = ssh("cat /etc/ssh/ssh_host_ed25519_key.pub").stdout
    replaced = _ops("deploy", "--replace-host", "--yes")
    assert replaced.returncode == 0, replaced.stdout
    assert ssh("cat /etc/ssh/ssh_host_ed25519_key.pub").stdout not in {old_host_key, ""}
    assert head_of(site, account, "kept") == before
    assert _open_ports(site) == {80, 443, site.ssh_port}


def test_a_site_that_lost_its_host_and_disk_is_restored_from_the_bucket(
    site: DeployedSite, account: Account, ssh: Ssh, git: Git, tmp_path: Path
) -> None:
    requested = {"name": "saved", "auto_init": True, "default_branch": "main"}
    assert account.session.post(f"{site.url}/api/v1/user/repos", json=requested).status_code == 201
    before = head_of(site, account, "saved")
    taken = json.loads(ssh("sudo ops backup take --json").stdout)
    _destroy_host_and_disk(site)
    secret_key = _replace_secret_key(site)
    began = time.monotonic()
    deployed = _ops("deploy", "--yes")
    assert deployed.returncode == 0, deployed.stdout
    assert account.session.get(f"{site.url}/api/v1/user").status_code == 401
    # A backup of the empty site is refused: it would count as the newest backup of the lost site.
    refused = ssh("sudo ops backup take --json")
    assert (refused.returncode, "ops restore" in refused.stdout) == (4, True), refused.stdout
    assert _set_the_secret_key_of_the_backup(ssh) == secret_key
    restored = json.loads(ssh("sudo ops restore --yes --json").stdout)
    seconds = time.monotonic() - began
    print(f"RTO from nothing: {seconds:.0f} s, {restored['away']} s of it the switch", file=sys.stderr)
    assert restored["identity"] == taken["identity"]
    assert head_of(site, account, "saved") == before
    git("clone", f"https://{account.name}:{account.password}@{site.domain}/{account.name}/saved.git", "copy")
    git("fsck", "--strict", directory=tmp_path / "copy")
    assert git("rev-parse", "HEAD", directory=tmp_path / "copy").stdout.strip() == before
    assert json.loads(ssh("sudo ops backup take --json").stdout)["changed"] is True
    assert ssh("sudo ops health --json").returncode == 0


def test_a_site_is_restored_in_another_account_from_its_site_file_a_copy_of_the_bucket_and_the_password(
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
    new_site = replace(site, document=tomllib.loads(moved.read_text(encoding="utf-8")))
    # The steps of docs/runbooks/restore.md, "The account or the region is gone".
    assert ssh("sudo systemctl stop gitea-suite-backup.timer gitea-suite-wal").returncode == 0
    _fill_the_bucket(new_site, copied)
    stored = _ops("secrets", "set", "restic-password", "--yes", file=moved, given=password)
    assert stored.returncode == 0, stored.stdout
    _set_the_secret_key_of_the_backup(ssh, moved)
    restored = ops(ssh, "restore", "--yes")
    assert ssh("sudo systemctl start gitea-suite-backup.timer gitea-suite-wal").returncode == 0
    print(f"RTO in another account: {time.monotonic() - began:.0f} s", file=sys.stderr)
    assert restored["identity"] == taken["identity"]
    assert head_of(new_site, person, "abroad") == before
    git("clone", f"https://{person.name}:{person.password}@{site.domain}/{person.name}/abroad.git", "copy")
    git("fsck", "--strict", directory=tmp_path / "copy")
    # The administrator has the new account's password, and the backups continue those of the old account.
    signed_in = session_for(new_site, site.administrator, secret_of(new_site.document, "admin-password"))
    assert signed_in.get(f"{site.url}/api/v1/user").status_code == 200
    next_one = ops(ssh, "backup", "take")
    assert next_one["changed"] is True
    drilled = ops(ssh, "restore", "--drill")
    assert (drilled["identity"], drilled["findings"]) == (next_one["identity"], [])
    assert ops(ssh, "health")["healthy"] is True


def _set_the_secret_key_of_the_backup(ssh: Ssh, file: Path | None = None) -> str:
    """Follow the runbook for a new site with another SECRET_KEY than the backup's; returns the backup's."""
    # The restore refuses: the new SECRET_KEY cannot decrypt the backup's encrypted columns.
    refused = ops(ssh, "restore", "--yes", code=4)
    assert "another SECRET_KEY" in str(refused["summary"])
    kept = ops(ssh, "restore", "--export-secret-key")["file"]
    key = ssh(f"sudo cat {shlex.quote(kept)}").stdout
    done = _ops("secrets", "set", "gitea-secret-key", "--yes", file=file, given=key)
    assert done.returncode == 0, done.stdout
    return key


def _moved(site: DeployedSite, folder: Path) -> Path:
    """Write the site file for another account as in the runbook: with another bucket, since bucket names are globally unique."""
    backup = site.document["backup"]
    path = folder / "moved.toml"
    document = site.document | {"backup": backup | {"bucket": f"{backup['bucket']}-abroad"}}
    path.write_text(tomli_w.dumps(document), encoding="utf-8")
    return path


def _copy_of_the_bucket(site: DeployedSite) -> dict[str, bytes]:
    """Return the content of a replica, or of another copy of the bucket."""
    storage, bucket = aws_client(site.document, "s3"), site.document["backup"]["bucket"]
    return {key: storage.get_object(Bucket=bucket, Key=key)["Body"].read() for key in objects_of(site)}


def _fill_the_bucket(site: DeployedSite, copied: dict[str, bytes]) -> None:
    """Fill the new bucket with the copy, as `aws s3 sync --delete` does."""
    storage, bucket = aws_client(site.document, "s3"), site.document["backup"]["bucket"]
    for key in objects_of(site) - copied.keys():
        storage.delete_object(Bucket=bucket, Key=key)
    for key, content in copied.items():
        storage.put_object(Bucket=bucket, Key=key, Body=content, ChecksumAlgorithm="SHA256")


def _destroy_host_and_disk(site: DeployedSite) -> None:
    """Destroy the host and its data disk."""
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
    with suppress(ClientError):  # a terminated instance may have detached its disk already
        compute.detach_volume(VolumeId=disk["VolumeId"], Force=True)
    compute.delete_volume(VolumeId=disk["VolumeId"])


def _replace_secret_key(site: DeployedSite) -> str:
    """Give the site another SECRET_KEY, as a new site in another account has; returns the old one."""
    vault, name = aws_client(site.document, "secretsmanager"), f"{site.document['name']}/gitea-secret-key"
    found = vault.get_secret_value(SecretId=name)
    old, version = str(found["SecretString"]), found["VersionId"]
    if "FIRST" not in found["VersionStages"]:
        # AWS deletes versions without a label, and this version is the one that Terraform made.
        vault.update_secret_version_stage(SecretId=name, VersionStage="FIRST", MoveToVersionId=version)
    vault.put_secret_value(SecretId=name, SecretString="of-another-account-" * 3)
    return old


def _ops(*arguments: str, given: str = "", file: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run ops on this machine; its progress goes to the tests' own standard error."""
    argv = [sys.executable, "-m", "ops", *arguments, "--site", str(file or os.environ["E2E_SITE"])]
    return subprocess.run(argv, stdout=subprocess.PIPE, input=given, text=True, check=False)


def _tamper_with_aws(site: DeployedSite) -> set[str]:
    """Change AWS resources by hand; returns the expected lines of the drift report."""
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
