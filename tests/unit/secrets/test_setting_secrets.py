"""The secrets of settings of Gitea: an operator stores them, before the first deployment or later."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ops.config.schema import Site
from ops.errors import ConfigError, OpsError, Refused, RolledBack, Unavailable
from ops.model import Report, Secret
from ops.secrets import rotate, setting_secrets
from tests.support import fakes, moto_site
from tests.support.moto_site import Cloud, site_on_moto

SITE = fakes.site_with_settings({"email.incoming": {"PASSWORD": "secret:imap", "USERNAME": "gitea"}})
NAME = "setting-imap"


@pytest.fixture
def cloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    with site_on_moto(tmp_path, monkeypatch) as made:
        # The host has the site file with the setting.
        monkeypatch.setattr(moto_site, "SITE", SITE)
        yield made


def store(cloud: Cloud, value: str, *, host: bool = True, name: str = NAME, site: Site = SITE) -> Report:
    lock = cloud.directory.parent / "lock"
    on: Any = cloud.host if host else None
    return setting_secrets.set_value(site, cloud.world, on, name=name, value=Secret(value), lock=lock)


def test_a_value_before_the_first_deployment_is_stored_and_makes_its_secret(cloud: Cloud) -> None:
    with pytest.raises(Refused, match=f"secrets that have none: {NAME}") as refused:
        setting_secrets.require(SITE, cloud.world)
    assert refused.value.hint == f"run ops secrets set {NAME} with the value on standard input, then run ops deploy"
    assert refused.value.left_as == "nothing was changed"
    done = store(cloud, "first value", host=False)
    assert (done.changed, done.summary) == (True, f"{NAME} is stored; ops deploy gives it to Gitea")
    assert cloud.value(NAME) == "first value"
    setting_secrets.require(SITE, cloud.world)


def test_a_first_value_on_a_deployed_site_is_stored_alone(cloud: Cloud) -> None:
    store(cloud, "first value")
    assert [call for call in cloud.cut.calls if call.startswith("host")] == []


def test_another_value_is_applied_on_the_host_and_the_old_one_is_kept(cloud: Cloud) -> None:
    store(cloud, "first value", host=False)
    assert store(cloud, "second value").summary == f"{NAME} has the given value, which is in use"
    assert cloud.value(NAME) == cloud.in_use(NAME) == "second value"
    assert cloud.value(NAME, "AWSPREVIOUS") == "first value"
    assert store(cloud, "second value").changed is False


def test_a_host_that_is_unhealthy_with_the_new_value_goes_back_to_the_old_one(cloud: Cloud) -> None:
    store(cloud, "first value", host=False)
    cloud.broken = NAME
    with pytest.raises(RolledBack) as failed:
        store(cloud, "second value")
    assert cloud.value(NAME) == cloud.in_use(NAME) == "first value"
    assert "second value" not in f"{failed.value.message}{failed.value.hint}"


@pytest.mark.parametrize(("name", "site"), [("setting-ldap", SITE), (NAME, fakes.site())])
def test_a_secret_that_no_setting_names_is_refused(cloud: Cloud, name: str, site: Site) -> None:
    with pytest.raises(ConfigError, match=f"no setting in .* takes its value from {name}") as refused:
        store(cloud, "value", name=name, site=site)
    assert f'set a key to "secret:{name.removeprefix("setting-")}"' in refused.value.hint
    assert cloud.cut.calls == []


@pytest.mark.parametrize(("value", "error"), [("", ConfigError), ("bell\a", Refused)])
def test_an_unusable_value_is_refused_and_not_shown(cloud: Cloud, value: str, error: type[OpsError]) -> None:
    with pytest.raises(error) as refused:
        store(cloud, value)
    assert "bell" not in f"{refused.value.message}{refused.value.hint}"
    assert cloud.cut.calls == []


def test_a_setting_s_secret_cannot_be_rotated_and_the_hint_names_the_command(cloud: Cloud) -> None:
    with pytest.raises(Refused, match="which another system has, too") as refused:
        cloud.rotate(NAME)
    assert refused.value.hint == f"run ops secrets set {NAME} with the new value on standard input"
    assert cloud.cut.calls == []
    assert NAME not in rotate.CONSEQUENCES


def test_a_site_without_secrets_in_its_settings_asks_aws_nothing(cloud: Cloud) -> None:
    setting_secrets.require(fakes.site(), cloud.world)
    assert cloud.cut.calls == []


def test_aws_out_of_reach_is_not_taken_for_a_missing_secret(cloud: Cloud) -> None:
    cloud.cut.number, cloud.cut.kind = 0, "from"
    with pytest.raises(Unavailable):
        setting_secrets.require(SITE, cloud.world)
