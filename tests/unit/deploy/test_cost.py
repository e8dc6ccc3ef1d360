"""The monthly cost of a site."""

from __future__ import annotations

from typing import Any

import pytest

from ops.deploy import cost
from tests.support import fakes


def _dollars(what: str, **changes: Any) -> float | None:
    (line,) = [each for each in cost.monthly(fakes.site(**changes), secrets=7) if what in each.what]
    return line.dollars


def test_the_instance_costs_its_hourly_price_for_730_hours() -> None:
    assert _dollars("t3.medium") == pytest.approx(0.048 * 730, abs=0.01)
    assert _dollars("t3.large", host={"ssh_key": "k", "instance_type": "t3.large"}) == pytest.approx(
        0.096 * 730, abs=0.01
    )


def test_disks_and_backups_cost_by_their_size() -> None:
    assert _dollars("gp3") == pytest.approx(120 * 0.0952, abs=0.01)
    assert _dollars("of backups") == pytest.approx(50 * 0.0245, abs=0.01)
    twice = {"bucket": "example-org-gitea-backup", "replica_region": "eu-west-1"}
    assert _dollars("of backups", backup=twice) == pytest.approx(100 * 0.0245, abs=0.01)


@pytest.mark.parametrize(
    "changes",
    [{"aws": {"region": "ap-southeast-2"}}, {"host": {"ssh_key": "k", "instance_type": "z9.huge"}}],
)
def test_an_unknown_price_is_reported_and_does_not_count_as_zero(changes: dict[str, Any]) -> None:
    charges = cost.monthly(fakes.site(**changes), secrets=7)
    assert charges[0].dollars is None
    last = cost.as_lines(charges)[-1]
    assert "total without " in last
    assert "unknown price(s)" in last


def test_the_sum_is_reported_with_the_date_of_its_prices() -> None:
    charges = cost.monthly(fakes.site(), secrets=7)
    last = cost.as_lines(charges)[-1]
    assert f"{sum(line.dollars or 0 for line in charges):.2f}  total (list prices of {cost.PRICES_OF}" in last
