"""Write the dashboards that Grafana reads: ``./noxw -s dashboards``, which runs ``python -m compose.grafana.source``."""

from __future__ import annotations

from compose.grafana.source import documents

if __name__ == "__main__":
    documents.write()
