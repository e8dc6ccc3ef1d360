"""Write docs/reference/metrics.md from the table: ``python -m ops.cli.metrics_reference``."""

from __future__ import annotations

import os

from ops.metrics import METRICS, PREFIX

_HEAD = """# The metrics that ops writes

Generated from `ops/metrics.py` by `python -m ops.cli.metrics_reference`. Do not edit.

All are gauges; times are in seconds since 1970. A metric whose source cannot be read is absent.
What the exporters tell (disks, the certificate, the database, requests) is not repeated here.

| metric | labels | meaning |
|---|---|---|
"""


def markdown() -> str:
    """Return the table of the metrics."""
    rows = (
        f"| `{PREFIX}{name}` | {', '.join(f'`{each}`' for each in labels)} | {meaning} |\n"
        for name, (meaning, labels) in METRICS.items()
    )
    return _HEAD + "".join(rows)


if __name__ == "__main__":
    os.write(1, markdown().encode())
