"""The site file is read strictly, and everything wrong with it is said at once."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.config import load
from ops.config.tool_variables import host_document
from ops.errors import ConfigError
from tests.support import fakes

ROOT = Path(__file__).parents[3]


def _problems(document: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        load.site_from(document)
    assert caught.value.exit_code == 2
    return caught.value.message


@pytest.mark.parametrize("name", ["local.toml", "production.example.toml"])
def test_the_site_files_that_ship_are_valid(name: str) -> None:
    assert load.load(ROOT / "sites" / name).schema == 1


def test_three_mistakes_are_reported_together_each_with_key_value_and_remedy() -> None:
    document = fakes.site_document(name="Bad Name", contact="nobody") | {"aws": {"region": "mars"}}
    message = _problems(document)
    assert "3 problems" in message
    assert 'name = "Bad Name": give 2 to 21' in message
    assert 'contact = "nobody": give the e-mail' in message
    assert 'aws.region = "mars": give an AWS region' in message


def test_an_unknown_key_names_the_nearest_known_one() -> None:
    document = fakes.site_document(gitea={"admin_emial": "a@example.org", "admin_email": "a@example.org"})
    assert "gitea.admin_emial is not a known key: did you mean gitea.admin_email?" in _problems(document)


def test_a_missing_key_is_named_with_what_to_write() -> None:
    document = fakes.site_document()
    del document["backup"]
    assert "backup.bucket is missing: give a bucket name" in _problems(document)


def test_a_value_of_another_type_is_no_value() -> None:
    assert 'host.root_gib = "30": give a size in GiB' in _problems(
        fakes.site_document(host={"ssh_key": "k", "root_gib": "30"})
    )
    assert "host.root_gib = true" in _problems(fakes.site_document(host={"ssh_key": "k", "root_gib": True}))


def test_a_section_that_is_no_table_says_how_to_write_one() -> None:
    assert "write [aws]" in _problems(fakes.site_document(aws="eu-central-1"))


def test_a_domain_outside_its_zone_is_a_contradiction() -> None:
    assert 'does not lie in zone "example.com"' in _problems(fakes.site_document(zone="example.com"))
    assert "does not lie in zone" in _problems(fakes.site_document(domain="git.badexample.org"))


def test_a_sender_outside_the_zone_cannot_be_proven_to_ses() -> None:
    mail = {"sender": "gitea@example.com", "smtp_host": "mail.example.org"}
    assert 'mail.sender = "gitea@example.com" does not lie in zone' in _problems(fakes.site_document(mail=mail))


def test_ses_of_another_region_has_not_verified_the_sender() -> None:
    mail = {"sender": "gitea@example.org", "smtp_host": "email-smtp.eu-west-1.amazonaws.com"}
    assert "is SES of another region than aws.region" in _problems(fakes.site_document(mail=mail))


def test_a_replica_in_the_same_region_would_be_lost_with_it() -> None:
    backup = {"bucket": "bucket", "replica_region": "eu-central-1"}
    assert 'backup.replica_region = "eu-central-1" is the region of the bucket' in _problems(
        fakes.site_document(backup=backup)
    )


def test_the_host_s_own_copy_of_the_backups_needs_a_root_disk_that_holds_it() -> None:
    small = fakes.site_document(host={"ssh_key": "k", "root_gib": 64, "data_gib": 50})
    assert "host.root_gib = 64 is too small beside host.data_gib = 50" in _problems(small)
    assert "give 65 or more" in _problems(small)
    small["host"]["root_gib"] = 65
    assert load.site_from(small)


@pytest.mark.parametrize("port", [25, 465, 2465])
def test_a_port_at_which_ses_takes_no_starttls_would_never_send_a_mail(port: int) -> None:
    mail = {"sender": "gitea@example.org", "smtp_host": "email-smtp.eu-central-1.amazonaws.com", "smtp_port": port}
    assert "give 587 or 2587" in _problems(fakes.site_document(mail=mail))


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("host", "address", "2001:db8::1"),
        ("host", "data_device", "/dev/sdf"),
        ("host", "ssh_port", 2022),
        ("gitea", "admin_username", "org"),
        ("gitea", "admin_username", "keeper-"),
        ("", "timezone", "Europe/Berln"),
    ],
)
def test_what_would_fail_on_the_host_or_in_terraform_is_refused_at_once(section: str, key: str, value: object) -> None:
    document = fakes.site_document()
    (document[section] if section else document)[key] = value
    assert f"{section}.{key}".lstrip(".") in _problems(document)


def test_git_and_the_host_cannot_share_an_ssh_port() -> None:
    document = fakes.site_document()
    document["gitea"] = {**document["gitea"], "ssh_port": 22}
    assert "is the host's own ssh port" in _problems(document)


@pytest.mark.parametrize(("name", "text"), [("a.toml", "schema = "), ("a.json", "{"), ("a.json", "[]")])
def test_a_file_that_is_not_well_formed_is_a_configuration_error(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError):
        load.load(tmp_path / name)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read the site file .*nowhere\.toml"):
        load.load(tmp_path / "nowhere.toml")


def test_the_host_reads_back_the_site_it_was_given(tmp_path: Path) -> None:
    site = fakes.site()
    path = tmp_path / "site.json"
    path.write_text(json.dumps(host_document(site)))
    assert load.load(path) == site


# A few letters of every kind: to choose among all of Unicode, hypothesis first makes a table of it that takes longer than the test.
_TEXT = st.text("a Z0.:-_/@%\n\0\u00e9\u2603\U0001f600", max_size=8)
_VALUE = st.none() | st.booleans() | st.integers() | _TEXT | st.lists(_TEXT, max_size=2)
_SECTIONS = [section for section in dataclasses.asdict(fakes.site()).values() if isinstance(section, dict)]
_KEY = _TEXT | st.sampled_from(
    sorted({*dataclasses.asdict(fakes.site()), *(key for each in _SECTIONS for key in each)})
)


@given(st.dictionaries(_KEY, _VALUE | st.dictionaries(_KEY, _VALUE, max_size=3), max_size=5))
def test_no_document_does_anything_but_load_or_explain(extra: dict[str, Any]) -> None:
    with contextlib.suppress(ConfigError):
        assert load.site_from(fakes.site_document() | extra).schema == 1


@pytest.mark.parametrize("source", ["2001:db8::/32", "0.0.0.0/1", "203.0.113.7", "203.0.113.7/24"])
def test_an_administrator_s_address_that_terraform_would_refuse_is_refused_at_once(source: str) -> None:
    assert f'network.admin_cidrs = ["{source}"]' in _problems(fakes.site_document(network={"admin_cidrs": [source]}))


@pytest.mark.parametrize("cidr", ["10.0.0.0/8", "10.40.0.1/16", "10.40.0.0/28", "fd00::/16"])
def test_a_network_that_terraform_would_refuse_is_refused_at_once(cidr: str) -> None:
    network = {"admin_cidrs": [], "cidr": cidr}
    assert f'network.cidr = "{cidr}"' in _problems(fakes.site_document(network=network))


def test_what_has_data_waits_for_an_operator_and_all_else_is_updated_within_its_major_version() -> None:
    update = fakes.site().update
    assert {update.policy(service) for service in ("gitea", "postgres")} == {"operator"}
    assert {update.policy(service) for service in ("nginx", "certbot", "diun", "docker-socket-proxy")} == {"minor"}
