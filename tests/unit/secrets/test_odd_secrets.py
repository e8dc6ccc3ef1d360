"""Secrets of any content end in an exit code with a message, and another server's credentials are neither used nor lost."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from ops.errors import Refused
from ops.model import Secret
from ops.secrets import rotate, store
from ops.stack import notify
from tests.support import fakes
from tests.support.moto_site import SITE, Cloud, site_on_moto

MALFORMED = [
    "", "{", "[]", "null", '"text"', "password", "[" * 50_000, "{}", '{"username": "a"}', '{"username": "a", "password": ""}',
    '{"username": "a", "password": 1}', '{"username": null, "password": "b"}', '{"username": "a", "password": "b\\nc"}',
    '{"username": "a", "password": "\\ud800"}', '{"username": "a", "password": "b\\u0000"}',
]  # fmt: skip
FOREIGN = json.dumps({"username": "apikey", "password": "of another provider"})


@pytest.fixture
def cloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    with site_on_moto(tmp_path, monkeypatch) as made:
        yield made


@pytest.mark.parametrize("value", MALFORMED, ids=range(len(MALFORMED)))
def test_malformed_smtp_credentials_are_refused_at_boot_and_in_a_notice(
    value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fakes.own_secrets(monkeypatch)
    values = {f"test/{short}": "value" for short in store.PERMISSIONS} | {"test/smtp-credentials": value}
    world = fakes.FakeWorld(aws=fakes.FakeAws(values))
    with pytest.raises(Refused, match="the secret smtp-credentials is not a JSON document") as caught:
        store.fetch(fakes.site(), world, directory=tmp_path)  # type: ignore[arg-type]
    assert value not in caught.value.message or len(value) < 10
    assert list(tmp_path.iterdir()) == []
    report = notify.notify(fakes.site(), world, subject="s", text="t", directory=tmp_path)  # type: ignore[arg-type]
    assert report.exit_code == 3


def test_a_folder_in_place_of_a_secret_s_file_is_refused_with_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fakes.own_secrets(monkeypatch)
    values = {f"test/{short}": "value" for short in store.PERMISSIONS}
    values["test/smtp-credentials"] = json.dumps({"username": "a", "password": "b"})
    (tmp_path / "metrics-token").mkdir()
    with pytest.raises(Refused, match="metrics-token"):
        store.fetch(fakes.site(), fakes.FakeWorld(aws=fakes.FakeAws(values)), directory=tmp_path)  # type: ignore[arg-type]


def test_credentials_in_a_file_that_is_not_utf_8_are_refused(tmp_path: Path) -> None:
    (tmp_path / "smtp-username").write_text("a")
    (tmp_path / "smtp-password").write_bytes(b"\xff")
    with pytest.raises(Refused, match="cannot read the credentials"):
        store.smtp_credentials(fakes.site(), fakes.FakeWorld(), directory=tmp_path)  # type: ignore[arg-type]


def test_a_deployment_keeps_the_credentials_of_another_provider(cloud: Cloud) -> None:
    _store(cloud, FOREIGN)
    keys = cloud.key_names()
    with pytest.raises(Refused, match="has the credentials of apikey") as caught:
        rotate.ensure_smtp(SITE, cloud.world)
    assert "of another provider" not in f"{caught.value.message} {caught.value.hint}"
    assert cloud.value("smtp-credentials") == FOREIGN
    assert cloud.key_names() == keys
    assert cloud.letters == []


def test_a_rotation_replaces_the_credentials_of_another_provider_after_the_operator_asked_for_it(cloud: Cloud) -> None:
    _store(cloud, FOREIGN)
    cloud.rotate("smtp-credentials")
    (key,) = cloud.key_names()
    assert json.loads(cloud.value("smtp-credentials"))["username"] == key


@pytest.mark.parametrize("value", ["{", "password", '{"username": 1}'])
def test_a_deployment_replaces_malformed_credentials(cloud: Cloud, value: str) -> None:
    _store(cloud, value)
    report = rotate.ensure_smtp(SITE, cloud.world)
    assert report.changed
    (key,) = cloud.key_names()
    assert json.loads(cloud.value("smtp-credentials"))["username"] == key


def _store(cloud: Cloud, value: str) -> None:
    name = store.secret_name(SITE, store.SMTP)
    cloud.aws.promote_secret(name, cloud.aws.put_pending_secret(name, Secret(value)))


def test_a_binary_secret_is_refused(cloud: Cloud) -> None:
    client = cloud.aws._client("secretsmanager")
    client.put_secret_value(SecretId=store.secret_name(SITE, "metrics-token"), SecretBinary=b"\xff")
    with pytest.raises(Refused, match="binary"):
        cloud.aws.secret(store.secret_name(SITE, "metrics-token"))
