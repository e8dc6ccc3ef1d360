"""The JSON documents of the dashboards."""

from __future__ import annotations

import json
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from compose.grafana.source.backups import backups
from compose.grafana.source.database import database
from compose.grafana.source.glance import glance
from compose.grafana.source.host import host

FOLDER = Path(__file__).parents[1] / "dashboards"


def texts() -> dict[str, str]:
    """Return the text of each file of ``FOLDER``."""
    made = {"glance": glance(), "host": host(), "database": database(), "backups": backups()}
    return {
        f"{name}.json": json.dumps(each.build(), cls=JSONEncoder, sort_keys=True, indent=1) + "\n"
        for name, each in made.items()
    }


def write() -> None:
    """Write the files."""
    FOLDER.mkdir(exist_ok=True)
    for name, text in texts().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
