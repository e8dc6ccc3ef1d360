"""The site file: unknown keys are errors, and all problems are reported together."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
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
def test_the_example_site_files_are_valid(name: str) -> None:
    assert load.load(ROOT / "sites" / name).schema == 1


def test_three_mistakes_are_reported_together_each_with_key_value_and_remedy() -> None:
    document = fakes.site_document(name="Bad Name", contact="nobody") | {"aws": {"region": "mars"}}
    message = _problems(document)
    assert "3 problems" in message
    assert 'name = "Bad Name": give 2 to 21' in message
    assert 'contact = "nobody": give the e-mail' in message
    assert 'aws.region = "mars": give an AWS region' in message


def test_an_unknown_key_is_reported_with_the_most_similar_known_key() -> None:
    document = fakes.site_document(gitea={"admin_emial": "a@example.org", "admin_email": "a@example.org"})
    assert "gitea.admin_emial is not a known key: did you mean gitea.admin_email?" in _problems(document)


def test_a_missing_key_is_reported_with_its_remedy() -> None:
    document = fakes.site_document()
    del document["backup"]
    assert "backup.bucket is missing: give a bucket name" in _problems(document)


def test_a_value_of_the_wrong_type_is_reported() -> None:
    assert 'host.root_gib = "30": give a size in GiB' in _problems(
        fakes.site_document(host={"ssh_key": "k", "root_gib": "30"})
    )
    assert "host.root_gib = true" in _problems(fakes.site_document(host={"ssh_key": "k", "root_gib": True}))


def test_a_section_that_is_not_a_table_is_reported_with_the_right_syntax() -> None:
    assert "write [aws]" in _problems(fakes.site_document(aws="eu-central-1"))


def test_a_domain_outside_its_zone_is_reported() -> None:
    assert 'is not in zone = "example.com"' in _problems(fakes.site_document(zone="example.com"))
    assert "is not in zone" in _problems(fakes.site_document(domain="git.badexample.org"))


def test_a_sender_outside_the_zone_is_reported_because_ses_cannot_verify_it() -> None:
    mail = {"sender": "gitea@example.com", "smtp_host": "mail.example.org"}
    assert 'mail.sender = "gitea@example.com" is not in zone' in _problems(fakes.site_document(mail=mail))


def test_ses_of_another_region_is_reported_because_the_sender_is_not_verified_there() -> None:
    mail = {"sender": "gitea@example.org", "smtp_host": "email-smtp.eu-west-1.amazonaws.com"}
    assert "is SES of another region than aws.region" in _problems(fakes.site_document(mail=mail))


def test_a_replica_in_the_region_of_the_bucket_is_reported() -> None:
    backup = {"bucket": "bucket", "replica_region": "eu-central-1"}
    assert 'backup.replica_region = "eu-central-1" is the region of the bucket' in _problems(
        fakes.site_document(backup=backup)
    )


def test_a_root_disk_too_small_for_the_local_backups_is_reported_with_the_least_size() -> None:
    small = fakes.site_document(host={"ssh_key": "k", "root_gib": 64, "data_gib": 50})
    assert "host.root_gib = 64 is too small for host.data_gib = 50" in _problems(small)
    assert "give 65 or more" in _problems(small)
    small["host"]["root_gib"] = 65
    assert load.site_from(small)


@pytest.mark.parametrize("port", [25, 465, 2465])
def test_an_smtp_port_that_does_not_work_with_ses_from_ec2_is_reported(port: int) -> None:
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
def test_a_value_that_the_host_or_terraform_would_reject_is_reported(section: str, key: str, value: object) -> None:
    document = fakes.site_document()
    (document[section] if section else document)[key] = value
    assert f"{section}.{key}".lstrip(".") in _problems(document)


def test_git_and_the_host_cannot_share_an_ssh_port() -> None:
    document = fakes.site_document()
    document["gitea"] = {**document["gitea"], "ssh_port": 22}
    assert "is the host's own ssh port" in _problems(document)


@pytest.mark.parametrize(("name", "text"), [("a.toml", "schema = "), ("a.json", "{"), ("a.json", "[]")])
def test_a_malformed_file_is_a_configuration_error(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError):
        load.load(tmp_path / name)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read the site file .*nowhere\.toml"):
        load.load(tmp_path / "nowhere.toml")


def test_the_host_reads_the_same_site_from_its_json_document(tmp_path: Path) -> None:
    site = fakes.site()
    path = tmp_path / "site.json"
    path.write_text(json.dumps(host_document(site)))
    assert load.load(path) == site


# A few characters of every kind. For all of Unicode hypothesis first builds a table that takes longer than the test.
_TEXT = st.text("a Z0.:-_/@%\n\0\u00e9\u2603\U0001f600", max_size=8)
_VALUE = st.none() | st.booleans() | st.integers() | _TEXT | st.lists(_TEXT, max_size=2)
_SECTIONS = [section for section in dataclasses.asdict(fakes.site()).values() if isinstance(section, dict)]
_KEY = _TEXT | st.sampled_from(
    sorted({*dataclasses.asdict(fakes.site()), *(key for each in _SECTIONS for key in each)})
)


@given(st.dictionaries(_KEY, _VALUE | st.dictionaries(_KEY, _VALUE, max_size=3), max_size=5))
def test_any_document_either_loads_or_raises_config_error(extra: dict[str, Any]) -> None:
    with contextlib.suppress(ConfigError):
        assert load.site_from(fakes.site_document() | extra).schema == 1


@pytest.mark.parametrize("source", ["2001:db8::/32", "0.0.0.0/1", "203.0.113.7", "203.0.113.7/24"])
def test_an_admin_network_that_terraform_would_reject_is_reported(source: str) -> None:
    assert f'network.admin_cidrs = ["{source}"]' in _problems(fakes.site_document(network={"admin_cidrs": [source]}))


@pytest.mark.parametrize("cidr", ["10.0.0.0/8", "10.40.0.1/16", "10.40.0.0/28", "fd00::/16"])
def test_a_network_that_terraform_would_reject_is_reported(cidr: str) -> None:
    network = {"admin_cidrs": [], "cidr": cidr}
    assert f'network.cidr = "{cidr}"' in _problems(fakes.site_document(network=network))


def test_the_number_of_problems_is_printed() -> None:
    assert _problems(fakes.site_document(name="Bad Name")).startswith("site: 1 problem\n")
    assert _problems(fakes.site_document(name="Bad Name", contact="nobody")).startswith("site: 2 problems\n")


def test_each_problem_is_on_a_line_of_its_own() -> None:
    head, *problems = _problems(fakes.site_document(name="Bad Name", contact="nobody")).splitlines()
    assert head == "site: 2 problems"
    assert [problem.partition(" = ")[0] for problem in problems] == ["  name", "  contact"]


def test_an_unknown_key_without_a_similar_one_lists_the_known_keys() -> None:
    message = _problems(fakes.site_document(aws={"region": "eu-central-1", "xyzxyz": 1}))
    assert "aws.xyzxyz is not a known key: remove it, or use one of endpoint_url, region" in message
    # The similarity has to be at least one half.
    assert "did you mean aws.region?" in _problems(fakes.site_document(aws={"region": "eu-central-1", "regiXYZWVU": 1}))
    assert "use one of" in _problems(fakes.site_document(aws={"region": "eu-central-1", "regXYZWVUT": 1}))


def test_each_contradiction_is_reported_once() -> None:
    document = fakes.site_document(zone="example.com", backup={"bucket": "bucket", "replica_region": "eu-central-1"})
    message = _problems(document)
    assert message.startswith("site: 3 problems\n")
    assert 'domain = "git.example.org" is not in zone = "example.com"' in message
    assert 'mail.sender = "gitea@example.org" is not in zone = "example.com"' in message
    assert "backup.replica_region" in message


def test_the_domain_and_the_sender_may_be_the_zone_itself_or_below_it() -> None:
    assert load.site_from(fakes.site_document(domain="example.org")).domain == "example.org"
    below = {"sender": "gitea@mail.example.org", "smtp_host": "email-smtp.eu-central-1.amazonaws.com"}
    assert load.site_from(fakes.site_document(mail=below)).mail.sender == "gitea@mail.example.org"
    beside = {"sender": "gitea@badexample.org", "smtp_host": "email-smtp.eu-central-1.amazonaws.com"}
    assert "mail.sender" in _problems(fakes.site_document(mail=beside))


def test_only_ses_hosts_are_limited_to_the_ports_of_ses() -> None:
    def mail(host: str, port: int) -> dict[str, Any]:
        return fakes.site_document(mail={"sender": "gitea@example.org", "smtp_host": host, "smtp_port": port})

    for host in ("email-smtp.eu-central-1.amazonaws.com", "email-smtp-fips.eu-central-1.amazonaws.com"):
        assert load.site_from(mail(host, 587)).mail.smtp_host == host
        assert load.site_from(mail(host, 2587)).mail.smtp_host == host
        assert "mail.smtp_port = 588" in _problems(mail(host, 588))
    # A test environment has a mail server of its own.
    local = mail("mail.example.org", 25) | {"aws": {"region": "eu-central-1", "endpoint_url": "http://127.0.0.1:4566"}}
    assert load.site_from(local).mail.smtp_port == 25


def test_backups_are_taken_at_least_as_often_as_the_rpo() -> None:
    equal = {"bucket": "bucket", "rpo_minutes": 20, "every_minutes": 20}
    assert load.site_from(fakes.site_document(backup=equal)).backup.rpo_minutes == 20
    rare = {"bucket": "bucket", "rpo_minutes": 20, "every_minutes": 21}
    assert "backup.rpo_minutes = 20 is less than backup.every_minutes = 21" in _problems(
        fakes.site_document(backup=rare)
    )


def test_another_ssh_port_needs_a_host_address() -> None:
    def host(**values: object) -> dict[str, Any]:
        return fakes.site_document(host={"ssh_key": "k", **values})

    assert "host.ssh_port = 2022 is not open in the firewall of a host that Terraform makes: give 22" in _problems(
        host(ssh_port=2022)
    )
    assert load.site_from(host(ssh_port=2022, address="203.0.113.9")).host.ssh_port == 2022
    assert load.site_from(host(ssh_port=22)).host.ssh_port == 22
    shared = host(ssh_port=2222, address="203.0.113.9")
    assert "gitea.ssh_port = 2222 is the host's own ssh port" in _problems(shared)


def test_without_a_sender_mails_come_from_gitea_at_the_domain_and_the_suite_manages_its_identity() -> None:
    mail = load.site_from(fakes.site_document(mail={"smtp_host": "email-smtp.eu-central-1.amazonaws.com"})).mail
    assert (mail.sender, mail.domain, mail.manage_identity) == ("gitea@git.example.org", "git.example.org", True)


@pytest.mark.parametrize(
    ("host", "uses_ses"), [("mail.example.org", False), ("email-smtp.eu-central-1.amazonaws.com", True)]
)
def test_a_mail_server_is_recognized_as_ses_by_its_name(host: str, uses_ses: bool) -> None:
    aws = {"region": "eu-central-1", "endpoint_url": "http://127.0.0.1:4566"}
    mail = load.site_from(fakes.site_document(aws=aws, mail={"sender": "gitea@example.org", "smtp_host": host})).mail
    assert (mail.domain, mail.uses_ses) == ("example.org", uses_ses)


def test_the_example_names_every_key_of_a_site_file() -> None:
    text = (ROOT / "sites/production.example.toml").read_text()
    site = load.site_from(fakes.site_document())
    sections = [section for section in vars(site).values() if dataclasses.is_dataclass(section)]
    keys = [field.name for section in sections for field in dataclasses.fields(section)]
    assert len(keys) > 40
    assert [key for key in keys if not re.search(rf"^(# )?({key} = |\[\w+\.{key}\.)", text, re.MULTILINE)] == []
