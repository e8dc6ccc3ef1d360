"""The database, and what Gitea keeps in it."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard, Row

from compose.grafana.source.panels import (
    HOUR,
    MINUTE,
    NEUTRAL,
    at_least,
    bars,
    board,
    limits,
    now,
    over_time,
    well,
)

_GITEA = 'datname="gitea"'
_GIB = 2**30


def database() -> Dashboard:
    """Return the dashboard of PostgreSQL."""
    made = board("gitea-suite-database", "Database", "PostgreSQL, and what Gitea keeps in it.")
    return _contents(_work(_state(made)))


def _state(made: Dashboard) -> Dashboard:
    made.with_row(Row("State"))
    for panel in (
        well("Up", "Whether the exporter can ask PostgreSQL.", ("pg_up", "PostgreSQL")),
        now(
            "Connections",
            "percentunit",
            limits(0.6, 0.8),
            "Open connections, as a share of what PostgreSQL permits. The alert rings at 80 %.",
            ("sum(pg_stat_activity_count) / max(pg_settings_max_connections)", "connections"),
        ),
        now(
            "Found in memory",
            "percentunit",
            at_least(0.9, 0.98),
            "The share of reads of the last hour that needed no disk.",
            (
                f"rate(pg_stat_database_blks_hit{{{_GITEA}}}[1h]) / clamp_min(rate(pg_stat_database_blks_hit{{{_GITEA}}}[1h]) "
                f"+ rate(pg_stat_database_blks_read{{{_GITEA}}}[1h]), 0.001)",
                "hits",
            ),
        ),
        now(
            "Longest transaction",
            "s",
            limits(5 * MINUTE, HOUR),
            "How long the longest transaction has been open. The alert rings at an hour.",
            (f"max(pg_stat_activity_max_tx_duration{{{_GITEA}}})", "transaction"),
        ),
        now(
            "WAL that waits for the bucket",
            "bytes",
            limits(_GIB // 4, _GIB),
            "What the replication slot of ops backup stream holds. The alert rings at 1 GiB; at 4 GiB PostgreSQL drops it.",
            ("max by (slot_name) (pg_replication_slots_pg_wal_lsn_diff)", "{{slot_name}}"),
        ),
        now(
            "Size",
            "bytes",
            NEUTRAL,
            "The size of Gitea's database.",
            (f"pg_database_size_bytes{{{_GITEA}}}", "gitea"),
        ),
    ):
        made.with_panel(panel)
    return made


def _work(made: Dashboard) -> Dashboard:
    made.with_row(Row("Work"))
    for panel in (
        over_time(
            "Transactions",
            "ops",
            NEUTRAL,
            "Transactions a second that were committed, and those that were rolled back.",
            (f"rate(pg_stat_database_xact_commit{{{_GITEA}}}[$__rate_interval])", "committed"),
            (f"rate(pg_stat_database_xact_rollback{{{_GITEA}}}[$__rate_interval])", "rolled back"),
        ),
        over_time(
            "Connections by state",
            "short",
            NEUTRAL,
            "Connections to Gitea's database. Many that are idle in transaction point to a slow disk or a hanging Gitea.",
            (f"sum by (state) (pg_stat_activity_count{{{_GITEA}}})", "{{state}}"),
        ),
        over_time(
            "Rows",
            "wps",
            NEUTRAL,
            "Rows a second that were read by an index or a scan, and those that were written.",
            (f"rate(pg_stat_database_tup_fetched{{{_GITEA}}}[$__rate_interval])", "fetched"),
            (f"rate(pg_stat_database_tup_inserted{{{_GITEA}}}[$__rate_interval])", "inserted"),
            (f"rate(pg_stat_database_tup_updated{{{_GITEA}}}[$__rate_interval])", "updated"),
            (f"rate(pg_stat_database_tup_deleted{{{_GITEA}}}[$__rate_interval])", "deleted"),
        ),
        over_time(
            "Deadlocks and temporary files",
            "short",
            limits(1, 5),
            "Within ten minutes: transactions that PostgreSQL ended because they waited for each other, and MiB of sorts that did "
            "not fit into memory. The alert rings at 5 deadlocks.",
            (f"increase(pg_stat_database_deadlocks{{{_GITEA}}}[10m])", "deadlocks"),
            (f"increase(pg_stat_database_temp_bytes{{{_GITEA}}}[10m]) / 1048576", "MiB of temporary files"),
        ),
    ):
        made.with_panel(panel)
    return made


def _contents(made: Dashboard) -> Dashboard:
    made.with_row(Row("Contents"))
    for panel in (
        bars(
            "Dead rows",
            "short",
            limits(100_000, 1_000_000),
            "The ten tables with the most rows that autovacuum has yet to clear.",
            ("topk(10, max by (relname) (pg_stat_user_tables_n_dead_tup))", "{{relname}}"),
            width=12,
        ),
        bars(
            "What Gitea holds",
            "short",
            NEUTRAL,
            "Gitea's own counts.",
            ("gitea_repositories", "repositories"),
            ("sum(gitea_users)", "users"),
            ("gitea_issues", "issues and pull requests"),
            ("gitea_releases", "releases"),
            ("gitea_attachments", "attachments"),
            ("gitea_webhooks", "web hooks"),
            width=12,
        ),
    ):
        made.with_panel(panel)
    return made
