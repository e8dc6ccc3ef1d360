"""The monthly cost of a site, as an order of magnitude: the fixed charges without traffic."""

from __future__ import annotations

from dataclasses import dataclass

from ops.config.schema import Site

PRICES_OF = "2025-06"
_HOURS = 730  # of a month, in AWS's own estimates


@dataclass(frozen=True)
class Prices:
    """A region's list prices in US dollars: On-Demand Linux per hour, the others per GiB and month."""

    instance_hour: dict[str, float]
    disk_gib: float
    storage_gib: float


# AWS's public price pages (EC2 On-Demand, EBS gp3, S3 Standard), read for the month above.
_PRICES = {
    "us-east-1": Prices(
        {"t3.small": 0.0208, "t3.medium": 0.0416, "t3.large": 0.0832, "t3.xlarge": 0.1664, "m6i.large": 0.096},
        0.08,
        0.023,
    ),
    "eu-central-1": Prices(
        {"t3.small": 0.024, "t3.medium": 0.048, "t3.large": 0.096, "t3.xlarge": 0.192, "m6i.large": 0.115},
        0.0952,
        0.0245,
    ),
    "eu-west-1": Prices(
        {"t3.small": 0.0228, "t3.medium": 0.0456, "t3.large": 0.0912, "t3.xlarge": 0.1824, "m6i.large": 0.107},
        0.088,
        0.023,
    ),
}
_ADDRESS_HOUR, _SECRET_MONTH, _ALARM_MONTH = 0.005, 0.40, 0.10


@dataclass(frozen=True)
class Line:
    """One charge in US dollars a month; None when this module does not have the price."""

    what: str
    dollars: float | None


def monthly(site: Site, *, secrets: int) -> tuple[Line, ...]:
    """Return the fixed charges of a site with this number of ``secrets``, and with backups as large as its data disk."""
    prices = _PRICES.get(site.aws.region)
    hour = prices.instance_hour.get(site.host.instance_type) if prices else None
    disks = site.host.root_gib + site.host.data_gib
    copies = 2 if site.backup.replica_region else 1
    stored = site.host.data_gib * copies
    return (
        Line(f"{site.host.instance_type} in {site.aws.region}", _times(hour, _HOURS)),
        Line(f"{disks} GiB of gp3 disks", _times(prices.disk_gib if prices else None, disks)),
        Line("a public IPv4 address", round(_ADDRESS_HOUR * _HOURS, 2)),
        Line(
            f"{stored} GiB of backups, were they as large as the data disk",
            _times(prices.storage_gib if prices else None, stored),
        ),
        Line(f"{secrets} secrets", round(_SECRET_MONTH * secrets, 2)),
        Line("an alarm", _ALARM_MONTH),
    )


def as_lines(charges: tuple[Line, ...]) -> tuple[str, ...]:
    """Return the charges as lines of text, with their sum and the date of the prices."""
    known = [line.dollars for line in charges if line.dollars is not None]
    unknown = len(charges) - len(known)
    rows = [f"  {_amount(line.dollars):>9}  {line.what}" for line in charges]
    without = f" without {unknown} unknown price(s)" if unknown else ""
    return (
        "a month, in US dollars, without traffic:",
        *rows,
        f"  {sum(known):9.2f}  total{without} (list prices of {PRICES_OF}; an order of magnitude, not an offer)",
    )


def _amount(dollars: float | None) -> str:
    return "?" if dollars is None else f"{dollars:.2f}"


def _times(price: float | None, amount: float) -> float | None:
    return None if price is None else round(price * amount, 2)
