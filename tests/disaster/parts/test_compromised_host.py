"""A compromised host cannot destroy the backups: the tests do everything that its role permits, and restore the backups.

LocalStack's open core does not enforce IAM, so moto's IAM engine evaluates the policy that Terraform generates from
infra/access.tf. The permitted calls then run on LocalStack against a repository that restic made.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import boto3
import docker
import pytest
from botocore.exceptions import ClientError
from docker.errors import APIError
from moto import mock_aws
from moto.core import set_initial_no_auth_action_count
from moto.iam.access_control import IAMPolicy, PermissionResult

from ground import aws, run_registry
from ground.container import RunContext
from ops.backup import catalogue, manifest, prune, rewind
from ops.backup.manifest import Manifest
from ops.config.load import site_from
from ops.config.schema import Site
from ops.config.workspace import Workspace
from ops.errors import Locked, OpsError, Refused
from ops.images.ops_image import OpsImage
from ops.world import World
from ops.world.restic import Damaged
from ops.world.terraform_mirror import cli_configuration, discover
from ops.world.terraform_program import command
from tests.support import fakes, misbehaving
from tests.support.bucket_attacks import ATTACKS, BUCKET, KEYS, LOCK, WHOLE, permitted
from tests.support.misbehaving import Fault, FaultyProxy
from tests.support.vault import Vault

HOST = "attacked-host"
_STAND_INS = f"""
provider "aws" {{
  region = "{aws.REGION}"
}}
variable "name" {{
  default = "attacked"
}}
variable "region" {{
  default = "{aws.REGION}"
}}
data "aws_partition" "current" {{}}
data "aws_caller_identity" "current" {{}}
resource "aws_secretsmanager_secret" "smtp" {{
  name = "attacked/smtp-credentials"
}}
module "backup" {{
  source = "./backup"
}}
module "secrets" {{
  source = "./secrets"
}}
"""


@pytest.fixture(scope="module")
def policy(aws_endpoint: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The host's policy document from infra/access.tf, as Terraform writes it and AWS reads it."""
    root = tmp_path_factory.mktemp("access")
    shutil.copy(run_registry.REPOSITORY / "infra/access.tf", root)
    (root / "stand_ins.tf").write_text(_STAND_INS)
    secret = f"arn:aws:secretsmanager:{aws.REGION}:000000000000:secret:attacked/restic-password-abcdef"
    for name, output in (("backup", f'"arn:aws:s3:::{BUCKET}"'), ("secrets", f'["{secret}"]')):
        (root / name).mkdir()
        (root / name / "main.tf").write_text(f'output "arn{"s" * (name == "secrets")}" {{\n  value = {output}\n}}\n')
    environment = os.environ | aws.CREDENTIALS | {"AWS_ENDPOINT_URL": aws_endpoint, "TF_CLI_CONFIG_FILE": ""}
    if mirror := discover():
        (root / "terraform.rc").write_text(cli_configuration(mirror))
        environment["TF_CLI_CONFIG_FILE"] = str(root / "terraform.rc")
    for step in (["init"], ["apply", "-auto-approve", "-target=aws_iam_role_policy.host"]):
        done = subprocess.run(
            [*command(), *step, "-no-color", "-input=false"],
            cwd=root, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    found = aws.client(aws_endpoint, "iam").get_role_policy(RoleName=HOST, PolicyName="site")["PolicyDocument"]
    return json.dumps(found)


@pytest.mark.parametrize("key", KEYS)
def test_the_host_may_overwrite_every_object_but_not_delete_or_reconfigure_anything(policy: str, key: str) -> None:
    assert permitted(policy, key) == {"overwrite"}


def test_the_host_may_remove_restic_s_locks_but_none_of_their_versions(policy: str) -> None:
    assert permitted(policy, LOCK) == {"overwrite", "remove"}


@pytest.mark.parametrize("action", ["iam:PutRolePolicy", "iam:AttachRolePolicy", "iam:PassRole", "sts:AssumeRole", "secretsmanager:PutSecretValue", "secretsmanager:DeleteSecret", "s3:*", "*"])  # fmt: skip
def test_the_host_may_not_escalate_its_privileges(policy: str, action: str) -> None:
    for resource in ("*", f"arn:aws:iam::000000000000:role/{HOST}", f"arn:aws:s3:::{BUCKET}/restic/config"):
        assert IAMPolicy(policy).is_action_permitted(action, resource) is not PermissionResult.PERMITTED


def test_calls_with_the_host_s_credentials_are_allowed_or_denied_as_the_policy_evaluates(
    policy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in aws.CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with mock_aws():
        s3, iam = boto3.client("s3", aws.REGION), boto3.client("iam", aws.REGION)
        location = {"LocationConstraint": aws.REGION}
        s3.create_bucket(**WHOLE, CreateBucketConfiguration=location, ObjectLockEnabledForBucket=True)
        versions = {key: s3.put_object(**WHOLE, Key=key, Body=b"good")["VersionId"] for key in (*KEYS, LOCK)}
        trust = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}]}  # fmt: skip
        role = iam.create_role(RoleName=HOST, AssumeRolePolicyDocument=json.dumps(trust))["Role"]["Arn"]
        iam.put_role_policy(RoleName=HOST, PolicyName="site", PolicyDocument=policy)
        session = boto3.client("sts", aws.REGION).assume_role(RoleArn=role, RoleSessionName="attack")["Credentials"]
        host = boto3.client(
            "s3", aws.REGION,
            aws_access_key_id=session["AccessKeyId"], aws_secret_access_key=session["SecretAccessKey"],
            aws_session_token=session["SessionToken"],
        )  # fmt: skip
        for key in (KEYS[0], LOCK):
            expected = permitted(policy, key) & {name for name, attack in ATTACKS.items() if attack.mapped}
            assert _allowed(host, key, versions[key]) == expected
        assert s3.get_object(**WHOLE, Key=KEYS[0], VersionId=versions[KEYS[0]])["Body"].read() == b"good"


def _allowed(host: Any, key: str, version: str) -> set[str]:
    allowed = set()
    for name, attack in ATTACKS.items():
        if attack.mapped:
            by_its_role = set_initial_no_auth_action_count(0)(attack.call)
            if _answer(lambda: by_its_role(host, key, version)) != "AccessDenied":  # noqa: B023 - called at once
                allowed.add(name)
    return allowed


def _answer(call: Callable[[], Any]) -> str:
    try:
        call()
    except ClientError as error:
        return str(error.response["Error"]["Code"])
    return "done"


@pytest.fixture(scope="module")
def vault(aws_endpoint: str, ops_image: OpsImage, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vault]:
    os.environ.update(aws.CREDENTIALS)
    folder = tmp_path_factory.mktemp("vault")
    (folder / "source").mkdir()
    for number in range(4):
        (folder / "source" / str(number)).write_bytes(os.urandom(300_000))
    backup = {"bucket": BUCKET, "keep_last": 1, "keep_daily": 0, "keep_weekly": 0, "keep_monthly": 0}
    site = site_from(
        fakes.site_document(name="attacked", backup=backup, aws={"region": aws.REGION, "endpoint_url": aws_endpoint})
    )
    client = aws.client(aws_endpoint, "s3")
    client.create_bucket(
        Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": aws.REGION}, ObjectLockEnabledForBucket=True
    )
    rule = {"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 1}}}
    client.put_object_lock_configuration(Bucket=BUCKET, ObjectLockConfiguration=rule)
    aws.client(aws_endpoint, "secretsmanager").create_secret(Name="attacked/restic-password", SecretString="hunter2")
    workspace = Workspace(run_registry.REPOSITORY, folder / "state", run_registry.CACHE)
    vault = Vault(site, World(site, tell=print), workspace, ops_image, folder, [])
    now = datetime.now(UTC).replace(microsecond=0)
    with vault.opened() as remote:
        remote.make()
        for hours in (3, 2, 1):
            vault.take(remote, now - timedelta(hours=hours))
    yield vault
    shutil.rmtree(run_registry.CACHE / "restic/attacked", ignore_errors=True)


def test_the_credentials_of_an_opened_repository_stay_private_and_are_removed_afterwards(vault: Vault) -> None:
    with vault.opened() as remote:
        files = [remote.password_file, Path(remote.environment["AWS_SHARED_CREDENTIALS_FILE"])]
        assert [each.stat().st_mode & 0o777 for each in files] == [0o400, 0o400]
        assert files[0].parent.stat().st_mode & 0o777 == 0o700
        shown = " ".join(
            [*remote.processes._around(["restic"], remote._environment()), *remote._environment().values()]
        )
        assert not [secret for secret in ("hunter2", aws.CREDENTIALS["AWS_SESSION_TOKEN"]) if f" {secret} " in shown]
        with pytest.raises(Locked, match="already running"), vault.opened():
            pass
    assert not any(each.exists() for each in files)


def _confirm(name: str, lines: Sequence[str]) -> None:
    assert name == "attacked"
    assert lines


def _versions(vault: Vault) -> set[tuple[str, str]]:
    return {(each.key, each.version) for each in vault.world.aws_account.history(BUCKET) if not each.marker}


def test_the_backups_survive_everything_that_the_host_s_role_permits(vault: Vault, policy: str, tmp_path: Path) -> None:
    before = vault.whole()
    assert before == [each.identity for each in vault.made]
    time.sleep(1.1)  # S3 reports whole seconds
    before_attack = datetime.now(UTC)
    time.sleep(1.1)
    latest = {
        each.key: each.version for each in vault.world.aws_account.history(BUCKET) if each.latest and not each.marker
    }
    kept = _versions(vault)
    for key, version in latest.items():
        for name in sorted(permitted(policy, key)):
            ATTACKS[name].call(vault.client(), key, version)
    # It may also write new objects: a false manifest newer than every backup, and a false lock.
    vault.client().put_object(**WHOLE, Key="manifests/20991231T000000Z.json", Body=b"{}")
    vault.client().put_object(**WHOLE, Key="restic/locks/" + "0" * 64, Body=b"garbage")
    with pytest.raises(OpsError):
        vault.whole()
    assert kept <= _versions(vault)

    rewound = functools.partial(rewind.rewind, vault.site, vault.world, workspace=vault.workspace, at=before_attack)
    assert not rewound(confirm=_confirm, dry_run=True).changed
    with pytest.raises(Refused):
        rewound(confirm=_never)
    # The first rewind is killed in the middle, the second completes.
    steps = rewind.plan_rewind(vault.world.aws_account.history(BUCKET), before_attack)
    for step in steps[: len(steps) // 2]:
        rewind._apply(vault.site, vault.world, step)
    done = rewound(confirm=_confirm)
    assert (done.exit_code, done.changed) == (0, True)
    assert done.facts["steps"] == len(steps) - len(steps) // 2
    assert vault.whole() == before
    _restored(vault, vault.made[-1], tmp_path)
    assert not rewound(confirm=_never).changed


def _never(name: str, lines: Sequence[str]) -> None:
    raise Refused("not confirmed")


def _restored(vault: Vault, made: Manifest, target: Path) -> None:
    """Read every byte of the repository, and assert that a restored backup equals its source."""
    with vault.opened() as remote:
        remote.check("1/1")
        seeing = dataclasses.replace(vault, folder=target).seeing(remote)
        part = made.parts["data"]
        seeing.restore(part.remote, target, include=str(vault.source))
        for file in vault.source.iterdir():
            assert (target / file.name).read_bytes() == file.read_bytes()
        assert remote.size(part.remote) == part.size


def test_a_prune_removes_the_backups_outside_the_policy_and_the_others_can_be_restored(
    vault: Vault, tmp_path: Path
) -> None:
    present = vault.whole()
    assert len(present) == 3
    dry_run = prune.prune(vault.site, vault.world, workspace=vault.workspace, confirm=_never, dry_run=True)
    assert dry_run.facts["removed"] == tuple(reversed(present[:2]))
    assert vault.whole() == present
    with pytest.raises(Refused):
        prune.prune(vault.site, vault.world, workspace=vault.workspace, confirm=_never)
    # A killed prune has hidden the manifest, and its lock is still in the repository.
    vault.world.aws.hide_object(BUCKET, manifest.key_of(present[0]))
    _die_with_a_lock(vault)
    done = prune.prune(vault.site, vault.world, workspace=vault.workspace, confirm=_confirm)
    assert (done.facts["removed"], done.facts["orphans"], done.facts["kept"]) == ((present[1],), 1, 1)
    assert catalogue.identities(vault.site, vault.world) == (present[2],)
    assert vault.whole() == [present[2]]
    _restored(vault, vault.made[-1], tmp_path)
    again = prune.prune(vault.site, vault.world, workspace=vault.workspace, confirm=_never)
    assert not again.changed


def _die_with_a_lock(vault: Vault) -> None:
    with vault.opened() as remote:
        programs = remote.processes
        argv = programs._around(
            ["restic", "backup", "--stdin-from-command", "--", "sleep", "300"], remote._environment()
        )
        process = subprocess.Popen(argv, env=os.environ | remote._environment())
        while not remote.locks():
            assert process.poll() is None
            time.sleep(0.2)
        assert programs.is_running()
        _kill_errands(programs.name)
        process.wait()
        assert {each.host for each in remote.locks().values()} == {programs.name}
        assert not programs.is_running()


def test_wherever_a_prune_is_killed_all_listed_backups_are_intact_and_the_next_prune_completes(
    vault: Vault, run_context: RunContext, aws_endpoint: str, tmp_path: Path
) -> None:
    gateway = str(next(ip_network(run_context.subnet).hosts()))
    began = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=30)
    with misbehaving.faulty_proxy(aws_endpoint, gateway) as proxy:
        site = dataclasses.replace(vault.site, aws=dataclasses.replace(vault.site.aws, endpoint_url=proxy.url))
        with vault.opened() as remote:
            vault.take(remote, began)
        for number in itertools.count():
            killed = _prune_killed_before(site, vault.workspace, proxy, number)
            with vault.opened() as remote:
                listed = catalogue.list_backups_in(vault.site, vault.world, remote)
                assert [each.identity for each in listed if each.broken or not each.manifest] == []
                remote.check("1/1")
                if not killed:
                    break
                # The next prune needs something to remove, too.
                vault.take(remote, began + timedelta(seconds=1 + number))
    print(f"killed before each of {number} changes")
    # A manifest, snapshots, an index, packs: each is removed by its own request.
    assert number > 5
    assert vault.whole() == [vault.made[-1].identity]
    _restored(vault, vault.made[-1], tmp_path)


def _prune_killed_before(site: Site, workspace: Workspace, proxy: FaultyProxy, number: int) -> bool:
    """Prune, and kill the prune with its restic at the change of the bucket that follows ``number`` others.

    Returns whether it was killed: False when the prune ended before that.
    """
    pruning = multiprocessing.get_context("spawn").Process(target=_prune, args=(site, workspace))
    before, lock = itertools.count(), threading.Lock()
    blocked: list[str] = []
    # Objects are hidden by a request to the bucket itself.
    prefixes = (f"/{BUCKET}/", f"/{BUCKET}?delete")

    def fault_for(method: str, path: str) -> Fault:
        changes = method in {"PUT", "POST", "DELETE"} and path.startswith(prefixes) and "/locks/" not in path
        with lock:
            if not blocked and not (changes and next(before) == number):
                return misbehaving.NO_FAULT
            blocked.append(path)
            if len(blocked) == 1:
                pruning.kill()
        return misbehaving.CONNECTION_CUT

    proxy.fault_for = fault_for
    pruning.start()
    pruning.join(120)
    _kill_errands(f"operator-{site.name}")
    assert pruning.exitcode == (-signal.SIGKILL if blocked else 0)
    return bool(blocked)


def _prune(site: Site, workspace: Workspace) -> None:
    os.environ.update(aws.CREDENTIALS)
    prune.prune(site, World(site, tell=print), workspace=workspace, confirm=_confirm)


def _kill_errands(name: str) -> None:
    """Kill the containers with that label, including one that is just starting, and return when they are gone."""
    engine = docker.from_env().containers
    while running := engine.list(ignore_removed=True, filters={"label": f"gitea-suite.errand={name}"}):
        for container in running:
            with contextlib.suppress(APIError):
                container.kill()
        time.sleep(0.1)


def test_a_pack_with_a_flipped_bit_is_found_by_the_share_that_reads_it(vault: Vault) -> None:
    with vault.opened() as remote:
        remote.check("1/1")
        # The largest pack holds file contents: an unreadable tree is found at once, whichever share is read.
        packs = (each for each in vault.world.aws_account.history(BUCKET) if each.latest and "/data/" in each.key)
        pack = max(packs, key=lambda each: each.size).key
        content = bytearray(vault.world.aws.read_object(BUCKET, pack))
        content[len(content) // 2] ^= 1
        vault.world.aws.write_object(BUCKET, pack, bytes(content))
        found = []
        for share in range(1, 8):
            try:
                remote.check(f"{share}/7", alone=False)
            except Damaged as damaged:
                found.append((share, damaged.exit_code))
        assert [code for _, code in found] == [3]
