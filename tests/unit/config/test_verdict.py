"""`ops site` refuses each value that Terraform, nginx, Compose, certbot, sshd, SES or Gitea would refuse, with its remedy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ops.config import checks, load
from ops.deploy import infrastructure
from ops.errors import ConfigError
from tests.support import fakes

LONG = "a" * 63
STAND_IN = {"region": "eu-central-1", "endpoint_url": "http://192.0.2.5:4566"}


def document_with(key: str, value: object, **changes: Any) -> dict[str, Any]:
    """Return the small valid document with another value for one key, such as ``mail.sender``."""
    document = fakes.site_document(**changes)
    section, _, name = key.rpartition(".")
    if section:
        document[section] = {**document.get(section, {}), name: value}
    else:
        document[name] = value
    return document


def problems(document: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        load.site_from(document)
    assert caught.value.exit_code == 2
    return caught.value.message


def test_the_small_document_is_valid() -> None:
    assert load.site_from(fakes.site_document()).name == "test"


@pytest.mark.parametrize(
    ("key", "value", "remedy"),
    [
        ("domain", "203.0.113.7", "an IP address is not a domain"),
        ("domain", "Git.Example.org", 'write it in lower case: "git.example.org"'),
        ("domain", "gït.example.org", 'write it in punycode: "xn--gt-tja.example.org"'),
        ("domain", "git.example.1", "give the full domain"),
        ("domain", "ab--cd.example.org", "give the full domain"),
        ("domain", "xn--99999999z.example.org", "give the full domain"),
        ("domain", f"{LONG}.{LONG}.{LONG}.{LONG}.example.org", "230 characters"),
        ("domain", "a.b.c.d.e.f.g.h.i.example.org", "10 labels"),
        ("zone", "203.0.113.7", "an IP address is not a domain"),
        ("name", "prod-", "ending with a letter or digit"),
        ("name", "sg-prod", "sg-"),
        ("contact", "keeper@Example.org", 'write it in lower case: "keeper@example.org"'),
        ("contact", "o'brien@example.org", "certbot refuses '"),
        ("contact", ".a@example.org", "e-mail address"),
        ("contact", "a..b@example.org", "e-mail address"),
        ("contact", "a.@example.org", "e-mail address"),
        ("contact", "-a@example.org", "e-mail address"),
        ("contact", f"{'a' * 65}@example.org", "e-mail address"),
        ("contact", "a@203.0.113.7", "e-mail address"),
        ("contact", "ä@example.org", "certbot refuses ä"),
        ("timezone", "leapseconds", "Europe/Berlin"),
        ("timezone", "localtime", "Europe/Berlin"),
        ("timezone", "posix/Europe/Berlin", "Europe/Berlin"),
        ("timezone", "Factory", "Europe/Berlin"),
        ("timezone", "US/Eastern", "Europe/Berlin"),
        ("aws.endpoint_url", "http://[", "http or https URL"),
        ("aws.endpoint_url", "http://a b", "http or https URL"),
        ("aws.endpoint_url", "http://a:99999", "http or https URL"),
        ("aws.endpoint_url", "http://user@a", "http or https URL"),
        ("aws.endpoint_url", "http://a\n", "http or https URL"),
        ("network.cidr", "10.40.0.0/255.255.0.0", "first address"),
        ("network.cidr", "10.40.0.0/016", "first address"),
        ("network.admin_cidrs", ["203.0.113.7/255.255.255.255"], "first address"),
        ("network.admin_cidrs", [f"203.0.113.{each}/32" for each in range(51)], "50"),
        ("host.address", "0.0.0.0", "IPv4 address"),
        ("host.address", "224.0.0.1", "IPv4 address"),
        ("host.ssh_key", "a\0b", "path"),
        ("host.ssh_key", "%d/key", "path"),
        ("host.ssh_key", 'a"b', "path"),
        ("host.data_device", "/dev/disk/by-id/a+b", "/dev/disk/by-id/"),
        ("host.data_gib", 16384, "16369"),
        ("host.registry_mirrors", ["https://mirror.example.org/path"], "without a path"),
        ("host.registry_mirrors", ["https://mirror.example.org?x"], "without a path"),
        ("host.registry_mirrors", [1], "without a path"),
        ("host.registry_mirrors", ["https://a:b@mirror.example.org"], "without a path"),
        ("host.instance_type", "t4g.medium", "host.ami"),
        ("gitea.title", "", "title"),
        ("gitea.title", " Gitea", "space"),
        ("gitea.title", "a\nb", "line"),
        ("gitea.title", "a\u2028GITEA_IMAGE='x'", "line"),
        ("gitea.title", "a\x85b", "line"),
        ("gitea.title", '"Gitea"', "quotation marks"),
        ("gitea.title", "'Gitea'", "quotation marks"),
        ("gitea.title", '"""Gitea', "quotation marks"),
        ("gitea.title", "%(DOMAIN)s", "%("),
        ("gitea.title", "x" * 256, "255"),
        ("gitea.admin_username", "a--b", "login name"),
        ("gitea.admin_username", "repo-avatars", "login name"),
        ("gitea.admin_username", "gitea-actions", "login name"),
        ("gitea.ssh_port", 22, "22"),
        ("gitea.ssh_port", 53, "53"),
        ("tls.acme_directory", "https://", "https URL"),
        ("tls.acme_directory", "https://a/'", "https URL"),
        ("tls.acme_ca", "a\0b", "path"),
        ("mail.smtp_host", "smtp.example.com", "email-smtp.eu-central-1.amazonaws.com"),
        ("mail.smtp_host", "a b", "mail server"),
        ("mail.smtp_host", "http://a", "mail server"),
        ("backup.bucket", "example-s3alias", "reserves"),
        ("backup.bucket", "example--ol-s3", "reserves"),
        ("backup.bucket", "example--x-s3", "reserves"),
        ("backup.bucket", "xn--example", "reserves"),
        ("backup.bucket", "sthree-example", "reserves"),
        ("backup.bucket", f"{'a' * 49}-terraform", "Terraform's state"),
        ("backup.bucket", f"{'a' * 55}-replica", "replica"),
    ],
)
def test_a_value_that_a_tool_would_refuse_is_refused_with_its_key_and_the_remedy(
    key: str, value: object, remedy: str
) -> None:
    message = problems(document_with(key, value))
    assert f"{key} = " in message
    assert remedy in message


def test_git_s_ssh_port_is_22_on_no_site_because_terraform_refuses_it() -> None:
    document = document_with("gitea.ssh_port", 22)
    document["host"] = {**document["host"], "address": "192.0.2.1", "ssh_port": 2022}
    assert "gitea.ssh_port = 22" in problems(document)


def test_the_derived_buckets_have_the_names_that_a_deployment_gives_them() -> None:
    site = fakes.site(backup={"bucket": "b" * 60})
    assert checks.state_bucket(site.backup.bucket) == infrastructure.state_bucket(site)
    assert checks.replica_bucket(site.backup.bucket) == infrastructure.replica_bucket(site)


@pytest.mark.parametrize("port", [80, 443])
def test_the_host_s_ssh_port_is_not_a_port_of_nginx(port: int) -> None:
    document = fakes.site_document(host={"ssh_key": "k", "address": "192.0.2.1", "ssh_port": port})
    assert f"host.ssh_port = {port}" in problems(document)


def test_the_remedy_for_a_large_data_disk_is_a_size_that_is_valid() -> None:
    document = fakes.site_document(host={"ssh_key": "k", "data_gib": 16369, "root_gib": 16384})
    assert load.site_from(document).host.root_gib == 16384


def test_a_message_prints_umlauts_as_themselves_and_control_characters_escaped() -> None:
    assert 'name = "Büro\\u0007"' in problems(document_with("name", "Büro\x07"))
    assert 'name = "\\ud800"' in problems(document_with("name", "\ud800"))


def test_a_value_is_printed_up_to_its_three_hundredth_character() -> None:
    # The quotation marks count.
    assert f'name = "{"A" * 298}": ' in problems(document_with("name", "A" * 298))
    assert f'name = "{"A" * 299}...: ' in problems(document_with("name", "A" * 299))


def test_a_number_too_long_to_print_is_refused() -> None:
    assert "host.root_gib = " in problems(document_with("host.root_gib", 1 << 20000))


@pytest.mark.parametrize("port", [465, 2465])
def test_a_mail_port_that_begins_with_tls_is_refused_for_a_stand_in_too(port: int) -> None:
    mail = {"sender": "gitea@example.org", "smtp_host": "192.0.2.5", "smtp_port": port}
    message = problems(fakes.site_document(aws=STAND_IN, mail=mail))
    assert f"mail.smtp_port = {port}" in message
    assert message.endswith("give the server's port for STARTTLS")


def test_a_mail_server_other_than_ses_is_accepted_with_a_stand_in_of_aws_only() -> None:
    mail = {"sender": "gitea@example.org", "smtp_host": "smtp.example.com"}
    message = problems(fakes.site_document(mail=mail))
    assert "is not SES" in message
    assert "credentials" in message
    assert message.endswith("give email-smtp.eu-central-1.amazonaws.com")
    assert load.site_from(fakes.site_document(aws=STAND_IN, mail=mail)).mail.smtp_host == "smtp.example.com"


def test_ses_in_china_is_accepted() -> None:
    mail = {"sender": "gitea@example.org", "smtp_host": "email-smtp.cn-north-1.amazonaws.com.cn"}
    assert load.site_from(fakes.site_document(aws={"region": "cn-north-1"}, mail=mail)).aws.region == "cn-north-1"


def test_the_remedy_for_another_mail_server_in_china_is_the_name_of_ses_there() -> None:
    mail = {"sender": "gitea@example.org", "smtp_host": "smtp.example.com"}
    message = problems(fakes.site_document(aws={"region": "cn-north-1"}, mail=mail))
    assert message.endswith("give email-smtp.cn-north-1.amazonaws.com.cn")


@pytest.mark.parametrize(("length", "is_refused"), [(200, False), (201, True)])
def test_a_mail_domain_has_at_most_two_hundred_characters(length: int, is_refused: bool) -> None:
    zone = f"{LONG}.{LONG}.{LONG}.{'a' * (length - 3 * 64 - 4)}.org"
    assert len(zone) == length
    document = document_with("mail.sender", f"g@{zone}", domain=f"git.{zone}", zone=zone)
    if is_refused:
        assert "mail.sender" in problems(document)
    else:
        assert load.site_from(document)


def test_a_mail_domain_too_long_for_its_dkim_records_is_refused() -> None:
    zone = f"{LONG}.{LONG}.{LONG}.{'a' * 15}.org"
    document = fakes.site_document(domain=f"git.{zone}", zone=zone)
    document["mail"] = {**document["mail"], "sender": f"g@{zone}"}
    assert "mail.sender" in problems(document)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("domain", f"{LONG}.{LONG}.{LONG}.example.org"),
        ("domain", "xn--strae-oqa.example.org"),
        ("contact", "first.last+alarm_1@mail.example.org"),
        ("timezone", "UTC"),
        ("timezone", "America/Argentina/Buenos_Aires"),
        ("gitea.title", "Team \\o/ \\"),
        ("gitea.title", '{{ 7*7 }} $HOME 100% O\'Brien 数据 #1 \U0001f469\u200d\U0001f4bb `x` "y"'),
        (
            "host.registry_mirrors",
            ["http://192.0.2.7:5000/", "https://mirror.example.org", "http://[2001:db8::1]:5000"],
        ),
        ("gitea.ssh_port", 2222),
        ("network.admin_cidrs", [f"203.0.113.{each}/32" for each in range(50)]),
        ("backup.bucket", "a" * 63),
    ],
)
def test_a_value_that_every_tool_takes_is_accepted(key: str, value: object) -> None:
    assert load.site_from(document_with(key, value))


FILES = [
    ("a.toml", 'schema = 1\nname = "Büro"\n'.encode("latin-1"), "UTF-8"),
    ("a.toml", "schema = 1\n".encode("utf-16"), "UTF-8"),
    ("a.toml", "schema = 1\n".encode("utf-8-sig"), "byte order mark"),
    ("a.toml", b"", "is missing"),
    ("a.toml", b"a = " + b"[" * 100_000, "nested"),
    ("a.toml", b"#" * (1 << 20) + b"\n", "1 MiB"),
    ("a.toml", b"schema = 1\0", "well formed"),
    ("a.json", b"[" * 100_000, "nested"),
    ("a.json", b"\xff", "UTF-8"),
]


@pytest.mark.parametrize(("name", "content", "named"), FILES, ids=range(len(FILES)))
def test_an_odd_site_file_is_refused_with_the_fault(tmp_path: Path, name: str, content: bytes, named: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load.load(tmp_path / name)
    assert named in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize("path", ["folder", "/dev/null", "/dev/zero"])
def test_a_site_file_that_is_no_regular_file_is_refused(tmp_path: Path, path: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(ConfigError, match="not a regular file"):
        load.load(tmp_path / path)
