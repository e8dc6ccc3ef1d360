"""Each secret is readable by its readers only."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from ops.config import app_ini
from ops.errors import OpsError, Refused
from ops.model import Secret
from ops.secrets import store
from ops.world.aws import Aws
from tests.support import fakes


@pytest.fixture(autouse=True)
def owners(monkeypatch: pytest.MonkeyPatch) -> None:
    fakes.own_secrets(monkeypatch)


def _world(value: str = "value") -> fakes.FakeWorld:
    values = {f"test/{short}": f"{value} of {short}" for short in store.PERMISSIONS if not short.startswith("smtp-")}
    values["test/smtp-credentials"] = json.dumps({"username": "AKIA", "password": f"{value} of smtp-password"})
    return fakes.FakeWorld(aws=fakes.FakeAws(values))


def _fetch(world: fakes.FakeWorld, directory: Path) -> bool:
    return store.fetch(fakes.site(), world, directory=directory).changed  # type: ignore[arg-type]


def test_each_secret_is_a_file_that_only_its_reader_may_read(tmp_path: Path) -> None:
    assert _fetch(_world(), tmp_path) is True
    assert {file.name for file in tmp_path.iterdir()} == set(store.PERMISSIONS)
    assert (tmp_path / "metrics-token").read_text() == "value of metrics-token"
    assert all(file.stat().st_mode & 0o7777 == store.PERMISSIONS[file.name].mode for file in tmp_path.iterdir())


def test_the_mail_server_s_credentials_are_one_secret_and_two_files(tmp_path: Path) -> None:
    _fetch(_world(), tmp_path)
    assert (tmp_path / "smtp-username").read_text() == "AKIA"
    assert (tmp_path / "smtp-password").read_text() == "value of smtp-password"


def test_the_administrator_s_password_is_not_written_to_a_file(tmp_path: Path) -> None:
    _fetch(_world(), tmp_path)
    assert not (tmp_path / "admin-password").exists()


def test_a_second_fetch_changes_nothing_and_a_new_value_keeps_the_mounted_file(tmp_path: Path) -> None:
    _fetch(_world(), tmp_path)
    file = (tmp_path / "metrics-token").stat().st_ino
    assert _fetch(_world(), tmp_path) is False
    (tmp_path / "metrics-token").chmod(0o600)
    assert _fetch(_world("another"), tmp_path) is True
    assert (tmp_path / "metrics-token").stat().st_ino == file


IMAP = {"email.incoming": {"PASSWORD": "secret:imap"}}


def test_the_secret_of_a_setting_is_a_file_with_the_text_that_gitea_s_start_needs(tmp_path: Path) -> None:
    world: Any = _world()
    world.aws.secrets["test/setting-imap"] = '"in marks"'
    store.fetch(fakes.site_with_settings(IMAP), world, directory=tmp_path)
    file = tmp_path / "setting-imap"
    assert app_ini.kept(file.read_text()) == '"in marks"'
    assert file.stat().st_mode & 0o7777 == store.PERMISSIONS["gitea-jwt-secret"].mode
    assert not (tmp_path / "imap").exists()


def test_a_secret_that_comes_with_the_next_deployment_may_be_missing_until_then(tmp_path: Path) -> None:
    world: Any = _world()
    del world.aws.secrets["test/monitoring-password"]
    written = store.fetch(fakes.site(), world, directory=tmp_path).facts["written"]
    assert "monitoring-password" not in written
    assert "restic-password" in written
    assert world.progress == [
        "monitoring-password is missing until the next ops deploy: secret test/monitoring-password: AWS says ResourceNotFoundException"
    ]


@pytest.mark.parametrize("value", [None, "bell\a"])
def test_a_missing_or_unusable_secret_of_a_setting_is_named_with_its_remedy(tmp_path: Path, value: str | None) -> None:
    world: Any = _world()
    if value:
        world.aws.secrets["test/setting-imap"] = value
    with pytest.raises(Refused, match="setting-imap") as refused:
        store.fetch(fakes.site_with_settings(IMAP), world, directory=tmp_path)
    assert "run ops secrets set setting-imap" in refused.value.hint
    assert refused.value.left_as == "no secret file was changed"
    assert "bell" not in f"{refused.value}{refused.value.hint}"
    assert list(tmp_path.iterdir()) == []


def test_a_secret_that_cannot_be_read_leaves_all_old_files_in_place(tmp_path: Path) -> None:
    _fetch(_world(), tmp_path)
    world = _world("another")
    del world.aws.secrets["test/metrics-token"]
    with pytest.raises(OpsError, match="metrics-token"):
        _fetch(world, tmp_path)
    assert (tmp_path / "database-password").read_text() == "value of database-password"


def test_a_secret_is_not_shown_by_str_repr_format_or_json() -> None:
    secret = Secret("hunter2")
    shown = f"{secret} {secret!r} {[secret]} {json.dumps({'a': secret}, default=str)}"
    assert "hunter2" not in shown
    assert secret.reveal() == "hunter2"


@mock_aws
def test_a_secret_is_read_from_secrets_manager(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    boto3.client("secretsmanager", region_name="eu-central-1").create_secret(Name="test/a", SecretString="b")
    aws = Aws("eu-central-1")
    assert aws.secret("test/a").reveal() == "b"
    with pytest.raises(OpsError, match="test/nothing: AWS says ResourceNotFoundException"):
        aws.secret("test/nothing")


@mock_aws
def test_an_existing_bucket_is_distinguished_from_a_missing_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    location = {"LocationConstraint": "eu-central-1"}
    boto3.client("s3", region_name="eu-central-1").create_bucket(Bucket="ours", CreateBucketConfiguration=location)
    aws = Aws("eu-central-1")
    assert aws.bucket_exists("ours") is True
    assert aws.bucket_exists("missing") is False
