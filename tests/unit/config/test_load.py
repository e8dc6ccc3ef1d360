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

from ops.config import checks, load
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


def test_by_default_gitea_and_postgres_wait_for_the_operator_and_others_update_within_their_major_version() -> None:
    update = fakes.site().update
    assert {update.policy(service) for service in ("gitea", "postgres")} == {"operator"}
    assert {update.policy(service) for service in ("nginx", "certbot", "diun", "docker-socket-proxy")} == {"minor"}


def with_value(section: str, key: str, value: object) -> dict[str, Any]:
    """The small valid site with one other value; related values are set so that they do not contradict it."""
    document = fakes.site_document()
    if not section:
        return document | {key: value}
    document[section] = {**document.get(section, {}), key: value}
    if section == "host" and key == "ssh_port":
        document["host"]["address"] = "203.0.113.9"
    if key == "data_gib":
        document["host"]["root_gib"] = 16384
    if key == "root_gib":
        document["host"]["data_gib"] = 8
    if key == "every_minutes":
        document["backup"]["rpo_minutes"] = 10080
    if key == "rpo_minutes":
        document["backup"]["every_minutes"] = 5
    return document


def accepts(section: str, key: str, value: object) -> bool:
    """Whether the check of the key accepts the value; other problems are ignored."""
    try:
        load.site_from(with_value(section, key, value))
    except ConfigError as error:
        name = f"{section}.{key}".lstrip(".")
        return f"\n  {name} = {json.dumps(value)}: " not in error.message
    return True


@pytest.mark.parametrize(
    ("section", "key", "low", "high"),
    [
        ("host", "ssh_port", 1, 65535),
        ("host", "root_gib", 16, 16384),
        ("host", "data_gib", 8, 16369),
        ("gitea", "ssh_port", 1, 65535),
        ("gitea", "upload_limit_mib", 1, 4096),
        ("mail", "smtp_port", 1, 65535),
        ("backup", "lock_days", 1, 365),
        ("backup", "every_minutes", 5, 1440),
        ("backup", "keep_last", 1, 1000),
        ("backup", "keep_daily", 0, 1000),
        ("backup", "keep_weekly", 0, 1000),
        ("backup", "keep_monthly", 0, 1000),
        ("backup", "rpo_minutes", 5, 10080),
        ("backup", "rto_minutes", 5, 10080),
        ("backup", "drill_days", 1, 90),
        ("update", "soak_hours", 0, 8760),
        ("update", "watch_seconds", 10, 3600),
        ("update", "healthy_minutes", 1, 240),
        ("update", "keep_days", 1, 30),
        ("gitea", "transfer_limit_mib", 0, 1_048_576),
        ("limits", "monthly_budget_usd", 0, 1_000_000),
        ("limits", "ssh_logins", 10, 1000),
        ("limits", "ssh_logins_per_address", 0, 1000),
    ],
)
def test_a_number_is_accepted_from_its_lower_to_its_upper_bound(section: str, key: str, low: int, high: int) -> None:
    found = [accepts(section, key, value) for value in (low - 1, low, high, high + 1)]
    assert found == [False, True, True, False]


@pytest.mark.parametrize(
    ("section", "key", "good", "bad"),
    [
        ("", "schema", [1], [0, 2]),
        ("", "name", ["ab", "a1-b", "a" * 21], ["a", "1b", "a" * 22, "Ab", ""]),
        ("", "contact", ["a.b+c@example.org"], ["a@b", "@example.org", "a b@example.org", ""]),
        (
            "",
            "domain",
            ["git.example.org", "git." + "a" * 63 + ".example.org"],
            ["git", "git..org", "-a.org", "a-.org"],
        ),
        ("aws", "region", ["eu-central-1", "us-gov-west-1"], ["eu-central", "EU-central-1", "eu-central-11", ""]),
        ("aws", "endpoint_url", ["", "http://127.0.0.1:4566", "https://aws"], ["ftp://a", "http://", "127.0.0.1"]),
        ("network", "cidr", ["10.40.0.0/16", "10.40.1.0/24"], ["10.40.0.0/15", "10.40.0.0/25", "10.40.0.0"]),
        (
            "network",
            "admin_cidrs",
            [[], ["10.0.0.0/8", "203.0.113.7/32"]],
            [["10.0.0.0/7"], ["10.0.0.0/8", "x"], "10.0.0.0/8"],
        ),
        ("host", "address", ["", "203.0.113.9"], ["203.0.113", "host.example.org"]),
        ("host", "ssh_user", ["ubuntu", "_a-1", "a" * 32], ["1a", "a" * 33, "A", ""]),
        ("host", "ssh_key", ["keys/test"], [""]),
        ("host", "instance_type", ["t3.medium", "u-6tb1.metal"], ["t3", "T3.medium", ".medium", ""]),
        ("host", "ami", ["", "ami-0123abcdef"], ["ami-", "ami-xyz", "0123"]),
        (
            "host",
            "data_device",
            ["", "/dev/disk/by-id/nvme-Amazon_1"],
            ["/dev/sdf", "/dev/disk/by-id/", "/dev/disk/by-id/a b"],
        ),
        (
            "host",
            "registry_mirrors",
            [[], ["https://mirror.example.org", "http://127.0.0.1:5000"]],
            [["mirror"], ["https://a", ""]],
        ),
        ("host", "reboot_time", ["00:00", "19:59", "23:59"], ["24:00", "4:30", "04:60", ""]),
        ("gitea", "title", ["Some title"], [""]),
        ("gitea", "admin_username", ["keeper", "a-b_c"], ["-a", "a_", "_a", "a-", "A", "admin"]),
        ("gitea", "admin_email", ["a@example.org"], ["a"]),
        ("gitea", "ssh_port", [79, 81, 442, 444], [80, 443]),
        ("tls", "acme_directory", ["https://ca.example.org/directory"], ["http://ca.example.org", "https://", ""]),
        ("mail", "sender", ["", "gitea@example.org"], ["gitea", "@example.org"]),
        ("mail", "smtp_host", ["mail.example.org"], [""]),
        ("backup", "bucket", ["abc", "a" * 63, "a-b"], ["ab", "a" * 64, "-ab", "ab-", "A.b"]),
        ("backup", "replica_region", ["", "eu-west-1"], ["west"]),
        ("update", "window", ["Mon 00:00", "Sun 23:59"], ["Sun", "Sun 24:00", "sun 03:15", "Mo 03:15", ""]),
        ("update", "gitea", ["operator", "patch", "minor"], ["major", ""]),
        ("update", "postgres", ["operator", "patch", "minor"], ["major", ""]),
        ("update", "nginx", ["operator", "patch", "minor"], ["major", ""]),
        ("update", "others", ["operator", "patch", "minor"], ["major", ""]),
        ("update", "hold", [[], ["gitea", "a" * 41]], [["a" * 42], ["1a"], ["gitea", ""]]),
    ],
)
def test_each_key_accepts_and_refuses_these_values(
    section: str, key: str, good: list[object], bad: list[object]
) -> None:
    assert [value for value in good if not accepts(section, key, value)] == []
    assert [value for value in bad if accepts(section, key, value)] == []


@pytest.mark.parametrize("day", ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"])
def test_the_update_window_may_be_on_each_day_of_the_week(day: str) -> None:
    assert accepts("update", "window", f"{day} 03:15")


@pytest.mark.parametrize(
    "name",
    [
        "admin", "api", "assets", "attachments", "avatar", "avatars", "captcha", "commits", "debug", "devtest",
        "error", "explore", "favicon", "ghost", "issues", "login", "metrics", "milestones", "new", "notifications",
        "org", "pulls", "raw", "repo", "search", "ssh_info", "stars", "swagger", "user", "v2",
    ],
)  # fmt: skip
def test_a_reserved_name_of_gitea_is_refused(name: str) -> None:
    assert not accepts("gitea", "admin_username", name)


@pytest.mark.parametrize(
    ("zone", "known", "accepted"),
    [
        ("Europe/Berlin", {"Europe/Berlin", "Etc/UTC"}, True),
        ("Europe/Berln", {"Europe/Berlin", "Etc/UTC"}, False),
        # A machine without the time zone database accepts any well-formed name.
        ("Europe/Berln", set(), True),
        ("Europe Berlin", set(), False),
        ("../Berlin", {"../Berlin", "Etc/UTC"}, False),
    ],
)
def test_a_time_zone_has_to_be_known_to_this_machine(
    zone: str, known: set[str], accepted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "_is_known_zone", known.__contains__)
    assert accepts("", "timezone", zone) is accepted


def test_the_defaults_of_a_site_file() -> None:
    site = load.site_from(fakes.site_document())
    assert (site.timezone, site.aws.endpoint_url) == ("Etc/UTC", "")
    assert dataclasses.asdict(site.network) == {
        "cidr": "10.40.0.0/16",
        "admin_cidrs": ("203.0.113.7/32",),
        "ipv6": False,
        "flow_logs": False,
    }
    assert dataclasses.asdict(site.host) == {
        "address": "",
        "ssh_user": "ubuntu",
        "ssh_port": 22,
        "ssh_key": "keys/test",
        "instance_type": "t3.medium",
        "ami": "",
        "root_gib": 70,
        "data_device": "",
        "data_gib": 50,
        "registry_mirrors": (),
        "reboot_time": "04:30",
    }
    assert (site.gitea.title, site.gitea.ssh_port, site.gitea.upload_limit_mib) == ("Gitea", 2222, 512)
    document = fakes.site_document()
    del document["gitea"]["admin_username"]
    assert load.site_from(document).gitea.admin_username == "operator"
    assert dataclasses.asdict(site.tls) == {
        "acme_directory": "https://acme-v02.api.letsencrypt.org/directory",
        "acme_ca": "",
    }
    assert site.mail.smtp_port == 587
    assert dataclasses.asdict(site.backup) == {
        "bucket": "example-org-gitea-backup",
        "lock_days": 30,
        "replica_region": "",
        "every_minutes": 15,
        "keep_last": 96,
        "keep_daily": 14,
        "keep_weekly": 8,
        "keep_monthly": 12,
        "rpo_minutes": 30,
        "rto_minutes": 60,
        "drill_days": 7,
    }
    assert dataclasses.asdict(site.update) == {
        "window": "Sun 03:15",
        "soak_hours": 72,
        "watch_seconds": 60,
        "healthy_minutes": 15,
        "keep_days": 7,
        "gitea": "operator",
        "postgres": "operator",
        "nginx": "minor",
        "others": "minor",
        "hold": (),
    }
    assert site.gitea.transfer_limit_mib == 0
    assert dataclasses.asdict(site.limits) == {
        "monthly_budget_usd": 0,
        "ssh_logins": 200,
        "ssh_logins_per_address": 0,
        "ssh_penalties": False,
    }


def test_gitea_postgres_and_nginx_have_their_own_policy_and_other_services_share_one() -> None:
    update = fakes.site(update={"gitea": "patch", "postgres": "minor", "nginx": "operator", "others": "patch"}).update
    services = ("gitea", "postgres", "nginx", "diun")
    assert [update.policy(service) for service in services] == ["patch", "minor", "operator", "patch"]


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


def test_a_list_takes_only_strings() -> None:
    assert not accepts("network", "admin_cidrs", "203.0.113.7/32")
    assert not accepts("network", "admin_cidrs", [7])
    assert load.site_from(with_value("network", "admin_cidrs", ["10.0.0.0/8"])).network.admin_cidrs == ("10.0.0.0/8",)


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
