"""Backups and updates: ages against the RPO, drills, pauses, how long Gitea was away."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard, Row

from compose.grafana.source.panels import (
    DAY,
    GOOD_IS_ZERO,
    MINUTE,
    NEUTRAL,
    bars,
    board,
    limits,
    now,
    over_time,
    well,
)


def backups() -> Dashboard:
    """Return the dashboard of backups and updates."""
    text = "Ages of backups against the RPO, restore drills, pauses, and updates with the time that Gitea was away."
    return _updates(_drills(_ages(board("gitea-suite-backups", "Backups and updates", text))))


def _ages(made: Dashboard) -> Dashboard:
    made.with_row(Row("Backups"))
    for panel in (
        over_time(
            "Age of the newest backup",
            "s",
            NEUTRAL,
            "What a loss of the host would lose of repositories, and the RPO of the site file, which it must stay below.",
            ("time() - gitea_suite_backup_last_success_timestamp_seconds", "age"),
            ("gitea_suite_backup_rpo_seconds", "RPO"),
        ),
        over_time(
            "Age of the WAL in the bucket",
            "s",
            limits(5 * MINUTE, 15 * MINUTE),
            "What a loss of the host would lose of the database. The alert rings at 15 minutes.",
            ("time() - gitea_suite_wal_last_archived_timestamp_seconds", "age"),
        ),
        over_time(
            "Duration and pause of the newest backup",
            "s",
            NEUTRAL,
            "How long the backup took, and how long it paused writes. The alert rings at a pause of 10 s.",
            ("gitea_suite_backup_duration_seconds", "duration"),
            ("gitea_suite_backup_pause_seconds", "pause"),
        ),
        over_time(
            "Added by the newest backup",
            "bytes",
            NEUTRAL,
            "What the newest backup added to the repositories of backups.",
            ("gitea_suite_backup_size_bytes", "added"),
        ),
    ):
        made.with_panel(panel)
    return made


def _drills(made: Dashboard) -> Dashboard:
    made.with_row(Row("Can they be restored?"))
    for panel in (
        well("Verification passed", "The last verification of backups.", ("gitea_suite_verification_passed", "passed")),
        now(
            "Last that passed",
            "s",
            limits(1.5 * DAY, 2 * DAY),
            "The time since the last verification that passed. The alert rings at two days.",
            ("time() - gitea_suite_verification_last_success_timestamp_seconds", "verification"),
        ),
        well("Drill passed", "The last restore drill.", ("gitea_suite_drill_passed", "passed")),
        now(
            "Last drill that passed",
            "percentunit",
            limits(1, 1.2),
            "The time since then, as a share of backup.drill_days of the site file.",
            (
                "(time() - gitea_suite_drill_last_success_timestamp_seconds) / gitea_suite_drill_interval_seconds",
                "of the interval",
            ),
        ),
        now(
            "Recovery point and time",
            "s",
            NEUTRAL,
            "Of the last drill: the age of what it restored, and how long it took until the restored site was healthy.",
            ("gitea_suite_drill_recovery_point_seconds", "recovery point"),
            ("gitea_suite_drill_recovery_time_seconds", "recovery time"),
        ),
        now(
            "Pruned",
            "s",
            limits(14 * DAY, 30 * DAY),
            "The time since the last complete prune. The bucket grows without it; the alert rings at 30 days.",
            ("time() - gitea_suite_prune_last_success_timestamp_seconds", "prune"),
        ),
    ):
        made.with_panel(panel)
    return made


def _updates(made: Dashboard) -> Dashboard:
    made.with_row(Row("Updates"))
    for panel in (
        bars(
            "Failed",
            "short",
            GOOD_IS_ZERO,
            "1 for a service whose last update did not stay: it is at the version of before.",
            ("gitea_suite_update_failed", "{{service}}"),
            width=6,
            most=1,
        ),
        bars(
            "Age of the last update",
            "s",
            NEUTRAL,
            "The time since the last update of each service ended.",
            ("time() - gitea_suite_update_last_run_timestamp_seconds", "{{service}}"),
            width=6,
        ),
        bars(
            "Gitea was away",
            "s",
            limits(30, 120),
            "How long the last update of each service kept Gitea away. Requests wait for hold_seconds of the site file.",
            ("gitea_suite_update_away_seconds", "{{service}}"),
            width=6,
        ),
        now(
            "Held",
            "short",
            NEUTRAL,
            "Services that update.hold of the site file keeps at their version.",
            ("count(gitea_suite_health_check) * 0 + (sum(gitea_suite_update_held) or vector(0))", "services"),
            width=6,
        ),
    ):
        made.with_panel(panel)
    return made
