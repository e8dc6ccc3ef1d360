"""[monitoring] of the site file: what cannot work is refused with its remedy, and where alarms go follows from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ops.config import load, monitoring_files
from ops.errors import ConfigError
from tests.support import fakes


def _problem(**monitoring: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        load.site_from(fakes.site_document(monitoring=monitoring))
    assert "1 problem\n" in caught.value.message
    return caught.value.message


@pytest.mark.parametrize(
    ("monitoring", "named"),
    [
        ({"contacts": ["operator"]}, 'monitoring.contacts = ["operator"]: give at most 10 e-mail addresses'),
        ({"contacts": "operator@example.org"}, 'monitoring.contacts = "operator@example.org": give at most 10'),
        (
            {"webhook_url": "hooks.example.org"},
            'monitoring.webhook_url = "hooks.example.org": give an http or https URL',
        ),
        ({"webhook_format": "teams"}, 'monitoring.webhook_format = "teams": give "alertmanager" or "slack"'),
        ({"heartbeat_url": "ftp://example.org/x"}, "monitoring.heartbeat_url"),
        ({"interval_seconds": 0}, "monitoring.interval_seconds = 0: give a number of seconds from 1 to 300"),
        ({"disk_free_percent": 0}, "monitoring.disk_free_percent = 0: give a percentage from 1 to 50"),
        (
            {"disc_free_percent": 5},
            "monitoring.disc_free_percent is not a known key: did you mean monitoring.disk_free",
        ),
        ({"enabled": "no"}, 'monitoring.enabled = "no": give true or false'),
    ],
)
def test_a_value_that_cannot_work_is_refused_with_its_remedy(monitoring: dict[str, Any], named: str) -> None:
    assert named in _problem(**monitoring)


def test_a_retention_beyond_the_data_disk_is_refused_with_the_longest_that_fits() -> None:
    host = {"ssh_key": "k", "data_gib": 8, "root_gib": 30}

    def site(days: int) -> Any:
        return load.site_from(fakes.site_document(host=host, monitoring={"retention_days": days}))

    longest = 8 * 1024 // monitoring_files.METRICS_SHARE // monitoring_files.METRICS_MIB_PER_DAY
    assert site(longest).monitoring.retention_days == longest
    with pytest.raises(ConfigError, match=f"monitoring.retention_days = {longest + 1} .* give {longest} or less"):
        site(longest + 1)


def test_alarms_go_to_the_contact_unless_the_site_names_others() -> None:
    def receivers(**monitoring: Any) -> list[str]:
        people = monitoring_files.alertmanager(fakes.site(monitoring=monitoring))["receivers"][0]
        return [each["to"] for each in people["email_configs"]]

    assert receivers() == [fakes.site().contact]
    assert receivers(contacts=["a@example.org", "b@example.org"]) == ["a@example.org", "b@example.org"]


def test_a_site_without_monitoring_has_no_file_and_no_variable_of_it() -> None:
    site = fakes.site(monitoring={"enabled": False})
    assert monitoring_files.files(site, Path("compose")) == {}


@pytest.mark.parametrize("interval", [1, 60, 61, 300])
def test_gitea_is_read_at_most_once_a_minute(interval: int) -> None:
    jobs = monitoring_files.prometheus(fakes.site(monitoring={"interval_seconds": interval}))["scrape_configs"]
    (gitea,) = (each for each in jobs if each["job_name"] == "gitea")
    assert gitea["scrape_interval"] == f"{max(60, interval)}s"
