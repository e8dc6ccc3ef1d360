"""The configuration files of Prometheus, Alertmanager and the blackbox exporter, derived from the site file.

They are JSON, which is YAML, too: a value of the site file cannot end the string that it stands in. The first line is a
comment: Ansible would take a text that begins with a brace for a dictionary.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from ops.config.schema import Site

COMPOSE_FILE = "monitoring.yaml"
SERVICES = (
    "prometheus",
    "alertmanager",
    "node-exporter",
    "postgres-exporter",
    "nginx-exporter",
    "blackbox-exporter",
    "grafana",
)
# An estimate: 5,500 series once a minute, at one to two bytes a sample (Prometheus, "Storage"), are 8 to 15 MiB a day.
METRICS_MIB_PER_DAY = 12
# Metrics may take this part of the data disk; Prometheus removes the oldest beyond it.
METRICS_SHARE = 20
RULES = Path("prometheus/rules")
# The path of Grafana at nginx, and through the tunnel of `ops dashboards`.
GRAFANA_PATH = "/-/grafana/"
GRAFANA_PORT = 3000
# Each scrape of Gitea counts rows in its database (go-gitea/gitea 14724).
_GITEA_SECONDS = 60
_USUAL_INTERVAL = 60
_TRUST_STORE = "/etc/ssl/certs/ca-certificates.crt"
# The times of ``for``, of ranges and of offsets.
_TIME = re.compile(r"(^\s+for: |\[|\boffset )(\d+)([smhd])(?=]|\s|$)", re.MULTILINE)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_THRESHOLD = re.compile(r"<<([a-z_]+)>>")
_MOST_TOLD = "4h"
_DAILY = "24h"


def metrics_mib(days: int) -> int:
    """Return the room that so many days of metrics need, in MiB."""
    return days * METRICS_MIB_PER_DAY


def files(site: Site, compose: Path) -> dict[str, str]:
    """Return the text of each generated file by its path in the stack's folder; {} for a site without monitoring.

    ``compose`` is the suite's Compose folder, with the alerting rules.
    """
    if not site.monitoring.enabled:
        return {}
    rules = {
        f"{RULES}/{each.name}": rules_for(site, each.read_text(encoding="utf-8"))
        for each in sorted((compose / RULES).glob("*.yaml"))
    }
    return {
        "prometheus/prometheus.yml": _text(prometheus(site)),
        "alertmanager/alertmanager.yml": _text(alertmanager(site)),
        "blackbox-exporter/blackbox.yml": _text(blackbox(site)),
        **rules,
    }


def compose_variables(site: Site) -> dict[str, str]:
    """Return the variables of compose/monitoring.yaml."""
    size = site.host.data_gib * 1024 // METRICS_SHARE
    public = serves_grafana(site)
    return {
        "METRICS_DAYS": str(site.monitoring.retention_days),
        "METRICS_MIB": str(size),
        "METRICS_SECONDS": str(site.monitoring.interval_seconds),
        "GRAFANA_URL": f"https://{site.domain}{GRAFANA_PATH}"
        if public
        else f"http://localhost:{GRAFANA_PORT}{GRAFANA_PATH}",
        "GRAFANA_COOKIE_SECURE": str(public).lower(),
        "GRAFANA_NETWORK": grafana_network(site),
    }


def serves_grafana(site: Site) -> bool:
    """Whether nginx serves Grafana at GRAFANA_PATH."""
    return site.monitoring.enabled and site.monitoring.grafana_path


def grafana_network(site: Site) -> str:
    """Return the network of Grafana: that of nginx where nginx serves it."""
    return "web" if serves_grafana(site) else "monitoring"


def rules_for(site: Site, text: str) -> str:
    """Return a file of rules with the site's thresholds.

    The times of ``for``, ranges and offsets are in proportion to the interval if it is shorter than a minute, so that a range
    has as many samples. Other times are facts of the site, such as the greatest age of a backup.
    """
    known = vars(site.monitoring)
    thresholds = _THRESHOLD.sub(lambda found: str(known[found[1]]), text)
    return _TIME.sub(lambda found: f"{found[1]}{_scaled(site, int(found[2]) * _SECONDS[found[3]])}s", thresholds)


def _scaled(site: Site, seconds: int) -> int:
    """Return a time for the site's interval: a rehearsal has a shorter one than a site in production."""
    return seconds * min(site.monitoring.interval_seconds, _USUAL_INTERVAL) // _USUAL_INTERVAL


def prometheus(site: Site) -> dict[str, Any]:
    """Return prometheus.yml."""
    interval = site.monitoring.interval_seconds
    own = {
        "prometheus": "localhost:9090",
        "alertmanager": "alertmanager:9093",
        "node": "node-exporter:9100",
        "postgres": "postgres-exporter:9187",
        "nginx": "nginx-exporter:9113",
        "blackbox": "blackbox-exporter:9115",
        "haproxy": "door:8405",
    }
    probes = {
        "blackbox-https": ("https", "https://door/api/healthz"),
        "blackbox-certificate": ("certificate", "https://door/api/healthz"),
        "blackbox-git": ("git", "https://door/gitea-suite/probe.git/info/refs?service=git-upload-pack"),
        "blackbox-ssh": ("ssh", "door:2222"),
        "blackbox-smtp": ("smtp", f"{site.mail.smtp_host}:{site.mail.smtp_port}"),
    }
    return {
        "global": {
            "scrape_interval": f"{interval}s",
            "scrape_timeout": f"{min(interval, 10)}s",
            "evaluation_interval": f"{min(interval, 15)}s",
            "external_labels": {"site": site.name},
        },
        "rule_files": ["/etc/prometheus/rules/*.yaml"],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": ["alertmanager:9093"]}]}]},
        "scrape_configs": [
            *({"job_name": job, "static_configs": [{"targets": [target]}]} for job, target in own.items()),
            _gitea_job(interval),
            *(_probe_job(site, job, *probe) for job, probe in probes.items()),
        ],
    }


def _gitea_job(interval: int) -> dict[str, Any]:
    return {
        "job_name": "gitea",
        "scrape_interval": f"{max(interval, _GITEA_SECONDS)}s",
        "authorization": {"credentials_file": "/run/secrets/metrics-token"},
        "static_configs": [{"targets": ["gitea:3000"]}],
    }


def _probe_job(site: Site, job: str, module: str, target: str) -> dict[str, Any]:
    return {
        "job_name": job,
        "metrics_path": "/probe",
        "params": {"module": [module], **({"hostname": [site.domain]} if target.startswith("https:") else {})},
        "static_configs": [{"targets": [target]}],
        "relabel_configs": [
            {"source_labels": ["__address__"], "target_label": "__param_target"},
            {"target_label": "instance", "replacement": site.mail.smtp_host if module == "smtp" else site.domain},
            {"target_label": "__address__", "replacement": "blackbox-exporter:9115"},
        ],
    }


def blackbox(site: Site) -> dict[str, Any]:
    """Return blackbox.yml. The probes go to the service with the site's ports, under the site's name."""
    tls = {"ca_file": _TRUST_STORE, "server_name": site.domain}
    untrusting = {"insecure_skip_verify": True, "server_name": site.domain}
    https = {"preferred_ip_protocol": "ip4", "follow_redirects": False, "tls_config": tls, "fail_if_not_ssl": True}

    def banner(pattern: str) -> dict[str, Any]:
        return {
            "prober": "tcp",
            "timeout": "5s",
            "tcp": {"preferred_ip_protocol": "ip4", "query_response": [{"expect": pattern}]},
        }

    return {
        "modules": {
            # While Gitea is stopped on purpose a request waits.
            "https": {"prober": "http", "timeout": "9s", "http": https},
            # Whatever the certificate is, and whatever the answer: it reads the certificate's end.
            "certificate": {
                "prober": "http",
                "timeout": "9s",
                "http": {**https, "tls_config": untrusting, "valid_status_codes": [200, 424, 500, 502, 503, 504]},
            },
            # Gitea asks for a password before it says whether the repository exists.
            "git": {"prober": "http", "timeout": "9s", "http": {**https, "valid_status_codes": [200, 401, 404]}},
            "ssh": banner("^SSH-2.0-"),
            "smtp": banner("^220 "),
        }
    }


def alertmanager(site: Site) -> dict[str, Any]:
    """Return alertmanager.yml; its start puts the mail server's user name in place of USERNAME."""
    watch = site.monitoring
    people = {"name": "people", "email_configs": [_mail(each) for each in watch.contacts or (site.contact,)]}
    people |= _webhook(site)
    daily = {**people, "name": "daily"}
    routes: list[dict[str, Any]] = []
    receivers = [people, daily, {"name": "nobody"}]
    heartbeat = "nobody"
    if watch.heartbeat_url:
        heartbeat = "heartbeat"
        receivers.append({"name": heartbeat, "webhook_configs": [{"url": watch.heartbeat_url, "send_resolved": False}]})
    every = f"{watch.interval_seconds}s"
    routes.append(
        {
            "receiver": heartbeat,
            "matchers": ["alertname=Watchdog"],
            "group_wait": "0s",
            "group_interval": every,
            "repeat_interval": every,
        }
    )
    # Maintenance, which only silences others.
    routes.append({"receiver": "nobody", "matchers": ["severity=none"]})
    routes.append(
        {"receiver": "daily", "matchers": ["severity=info"], "group_by": ["severity"], "repeat_interval": _DAILY}
    )
    return {
        "global": {
            "smtp_smarthost": f"{site.mail.smtp_host}:{site.mail.smtp_port}",
            "smtp_from": site.mail.sender,
            "smtp_hello": site.domain,
            "smtp_auth_username": "USERNAME",
            "smtp_auth_password_file": "/run/secrets/smtp-password",
            "resolve_timeout": "5m",
        },
        "route": {
            "receiver": "people",
            "group_by": ["area"],
            "group_wait": f"{watch.group_wait_seconds}s",
            "group_interval": f"{max(watch.group_wait_seconds, 2)}s",
            "repeat_interval": _MOST_TOLD,
            "routes": routes,
        },
        "inhibit_rules": _inhibitions(),
        "receivers": receivers,
    }


def _mail(contact: str) -> dict[str, Any]:
    what = "{{ range .Alerts }}{{ .Annotations.summary }} {{ end }}"
    subject = f"[{{{{ .Status | toUpper }}}}] {{{{ .CommonLabels.site }}}}: {what}"
    return {"to": contact, "send_resolved": True, "headers": {"Subject": subject}}


def _webhook(site: Site) -> dict[str, Any]:
    watch = site.monitoring
    if not watch.webhook_url:
        return {}
    if watch.webhook_format == "slack":
        text = "{{ range .Alerts }}{{ .Annotations.summary }}\n{{ end }}"
        return {"slack_configs": [{"api_url": watch.webhook_url, "send_resolved": True, "text": text}]}
    return {"webhook_configs": [{"url": watch.webhook_url, "send_resolved": True}]}


def _inhibitions() -> list[dict[str, Any]]:
    """Return what silences what: a cause silences what follows from it, and work on purpose what it causes.

    The label ``needs`` of a rule names the nearest cause. A cause farther away silences it, too.
    """

    def silence(cause: str, *consequences: str) -> dict[str, Any]:
        return {"source_matchers": [f"alertname={cause}"], "target_matchers": list(consequences)}

    return [
        silence("Maintenance", "during_maintenance=expected"),
        silence("NodeExporterGone", "needs=node"),
        silence("PostgresDown", "needs=~postgres|database|gitea|web"),
        silence("DatabaseHangs", "needs=~database|gitea|web"),
        silence("GiteaDown", "needs=~gitea|web"),
        silence("SiteUnreachable", "needs=web"),
        silence("CertificateRefused", "alertname=~SiteUnreachable|GitOverHttpsFails"),
        silence("DatabaseHangs", "alertname=ExporterGone", "job=postgres"),
        silence("GiteaDown", "alertname=ExporterGone", "job=gitea"),
        silence("SiteUnreachable", "alertname=ExporterGone", "job=~haproxy|nginx"),
    ]


def _text(document: dict[str, Any]) -> str:
    return f"# Made by ops from the site file.\n{json.dumps(document, indent=1, ensure_ascii=False)}\n"
