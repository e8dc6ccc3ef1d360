"""Each key of a site file takes the values within its bounds, and the keys that are left out have defaults."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from ops.config import checks, load
from ops.errors import ConfigError
from tests.support import fakes


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


def test_a_list_takes_only_strings() -> None:
    assert not accepts("network", "admin_cidrs", "203.0.113.7/32")
    assert not accepts("network", "admin_cidrs", [7])
    assert load.site_from(with_value("network", "admin_cidrs", ["10.0.0.0/8"])).network.admin_cidrs == ("10.0.0.0/8",)
