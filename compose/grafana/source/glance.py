"""The site at a glance: is it well, what is slow, what is old, what will be full when."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard, Row

from compose.grafana.source.panels import (
    DAY,
    GOOD_IS_ZERO,
    MINUTE,
    NEUTRAL,
    at_least,
    bars,
    board,
    limits,
    now,
    over_time,
    rows,
    states,
    well,
)

DISKS = 'mountpoint=~"/|/srv/gitea"'
GITEA = 'proxy=~"gitea|transfers"'
_YEAR = 365 * DAY


def glance() -> Dashboard:
    """Return the dashboard that opens first."""
    made = board(
        "gitea-suite-glance", "The site at a glance", "Is it well, what is slow, what is old, what will be full?"
    )
    return _full(_old(_slow(_well(made))))


def _well(made: Dashboard) -> Dashboard:
    made.with_row(Row("Is it well?"))
    made.with_panel(
        well(
            "Answers",
            "Whether the site's page, git over HTTPS and over ssh, and the mail server answer to a request from the host.",
            ("max by (job) (probe_success)", "{{job}}"),
            width=10,
        )
    )
    made.with_panel(
        now(
            "Alerts that ring",
            "short",
            GOOD_IS_ZERO,
            "Alerts of severity page, warn and info that ring now. Those of severity none, which is what always rings, are left out.",
            (
                'count(ALERTS{alertstate="firing"}) - count(ALERTS{alertstate="firing",severity="none"})',
                "alerts",
            ),
        )
    )
    made.with_panel(
        now(
            "Failing checks",
            "short",
            GOOD_IS_ZERO,
            "Checks of ops health that fail, of those that ran last.",
            ("count(gitea_suite_health_check) - sum(gitea_suite_health_check)", "checks"),
        )
    )
    made.with_panel(
        now(
            "What cannot be measured",
            "short",
            GOOD_IS_ZERO,
            "Targets that Prometheus cannot read.",
            ("count(up) - sum(up)", "targets"),
            width=6,
        )
    )
    made.with_panel(
        states("Checks of ops health", "Each check of ops health over time.", ("gitea_suite_health_check", "{{check}}"))
    )
    return made.with_panel(
        rows(
            "Alerts that ring, one by one",
            "short",
            NEUTRAL,
            "Watchdog always rings: without it the watch itself has stopped.",
            'sum by (alertname, severity, area) (ALERTS{alertstate="firing"})',
        )
    )


def _slow(made: Dashboard) -> Dashboard:
    made.with_row(Row("What is slow?"))
    made.with_panel(
        over_time(
            "Requests by answer",
            "reqps",
            NEUTRAL,
            "Requests a second to Gitea, by the class of the answer's code, as HAProxy counts them.",
            (f"sum by (code) (rate(haproxy_backend_http_responses_total{{{GITEA}}}[$__rate_interval]))", "{{code}}"),
        )
    )
    made.with_panel(
        over_time(
            "Time until an answer",
            "s",
            limits(1, 5),
            "The mean of the last 1,024 requests to Gitea, without those that carry repositories; and how long the probes from "
            "the host take. The alert rings at latency_seconds of the site file, 5 by default.",
            ('haproxy_backend_response_time_average_seconds{proxy="gitea"}', "requests"),
            ("max by (job) (probe_duration_seconds)", "{{job}}"),
        )
    )
    made.with_panel(
        over_time(
            "Share of failing requests",
            "percentunit",
            limits(0.01, 0.05),
            "Requests that Gitea answered with a code from 500 to 599. The alert rings at error_percent of the site file, 5 by default.",
            (
                f'sum(rate(haproxy_backend_http_responses_total{{{GITEA},code="5xx"}}[$__rate_interval])) / '
                f"clamp_min(sum(rate(haproxy_backend_http_responses_total{{{GITEA}}}[$__rate_interval])), 0.001)",
                "5xx",
            ),
        )
    )
    return made.with_panel(
        over_time(
            "Under way",
            "short",
            NEUTRAL,
            "Requests that Gitea works on, those that wait in HAProxy, and open connections of nginx.",
            ("sum by (proxy) (haproxy_backend_current_sessions{proxy!~'stats|.*_in'})", "{{proxy}}"),
            ("sum(haproxy_backend_current_queue)", "waiting"),
            ("nginx_connections_active", "connections of nginx"),
        )
    )


def _old(made: Dashboard) -> Dashboard:
    made.with_row(Row("What is old?"))
    for panel in (
        now(
            "Newest backup",
            "percentunit",
            limits(0.8, 1),
            "The age of the newest backup, as a share of backup.rpo_minutes of the site file: at 100 % the promise is broken.",
            (
                "(time() - gitea_suite_backup_last_success_timestamp_seconds) / gitea_suite_backup_rpo_seconds",
                "of the RPO",
            ),
        ),
        now(
            "WAL in the bucket",
            "s",
            limits(5 * MINUTE, 15 * MINUTE),
            "The age of the newest transactions that are in the bucket.",
            ("time() - gitea_suite_wal_last_archived_timestamp_seconds", "WAL"),
        ),
        now(
            "Verified",
            "s",
            limits(1.5 * DAY, 2 * DAY),
            "The time since the last verification of backups that passed.",
            ("time() - gitea_suite_verification_last_success_timestamp_seconds", "verification"),
        ),
        now(
            "Drill",
            "percentunit",
            limits(1, 1.2),
            "The time since the last restore drill that passed, as a share of backup.drill_days of the site file.",
            (
                "(time() - gitea_suite_drill_last_success_timestamp_seconds) / gitea_suite_drill_interval_seconds",
                "of the interval",
            ),
        ),
        now(
            "ops health",
            "s",
            limits(15 * MINUTE, 30 * MINUTE),
            "The time since ops health last ran.",
            ("time() - gitea_suite_health_last_run_timestamp_seconds", "ops health"),
        ),
        now(
            "Certificate",
            "s",
            at_least(10 * DAY, 20 * DAY),
            "How long the certificate is still valid. The alert rings at certificate_days of the site file, 10 by default.",
            ("min(probe_ssl_earliest_cert_expiry) - time()", "certificate"),
        ),
    ):
        made.with_panel(panel)
    return made


def _full(made: Dashboard) -> Dashboard:
    made.with_row(Row("What will be full when?"))
    for panel in (
        bars(
            "Full in",
            "s",
            at_least(DAY, 7 * DAY),
            "How long the free room lasts at the pace of the last six hours; a year means a year or longer.",
            (until_full(), "{{mountpoint}}"),
            most=_YEAR,
        ),
        bars(
            "Used",
            "percentunit",
            limits(0.8, 0.9),
            "The used share of each disk. The alert rings at disk_free_percent of the site file, 10 % free by default.",
            (f"1 - node_filesystem_avail_bytes{{{DISKS}}} / node_filesystem_size_bytes", "{{mountpoint}}"),
            ("1 - node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes", "memory"),
            most=1,
        ),
        bars(
            "What takes the room",
            "bytes",
            NEUTRAL,
            "The database, its write-ahead log, and the metrics.",
            ("sum(pg_database_size_bytes)", "database"),
            ("pg_wal_size_bytes", "WAL on the host"),
            ("prometheus_tsdb_storage_blocks_bytes + prometheus_tsdb_wal_storage_size_bytes", "metrics"),
        ),
    ):
        made.with_panel(panel)
    return made


def until_full() -> str:
    """Return the query for the seconds until a disk is full, at most a year: its room lasts forever if it does not fill."""
    pace = f"clamp_min(-deriv(node_filesystem_avail_bytes{{{DISKS}}}[6h]), 1)"
    return f"clamp_max(node_filesystem_avail_bytes{{{DISKS}}} / {pace}, {_YEAR})"
