"""The host: processors, memory, disks, clock."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard, Row

from compose.grafana.source.glance import DISKS, until_full
from compose.grafana.source.panels import DAY, GOOD_IS_ZERO, NEUTRAL, at_least, bars, board, limits, now, over_time


def host() -> Dashboard:
    """Return the dashboard of the host."""
    made = board("gitea-suite-host", "Host", "Processors, memory, disks and clock of the host.")
    return _disks(_memory(_processors(made)))


def _processors(made: Dashboard) -> Dashboard:
    made.with_row(Row("Processors"))
    made.with_panel(
        over_time(
            "Processors by use",
            "percentunit",
            NEUTRAL,
            "The share of all processors' time. Much steal: the instance has used up its CPU credits.",
            (
                'avg by (mode) (rate(node_cpu_seconds_total{mode!="idle"}[$__rate_interval]))',
                "{{mode}}",
            ),
        )
    )
    made.with_panel(
        over_time(
            "Load for each processor",
            "short",
            limits(1, 4),
            "Programs that run or wait, for each processor, on average of 1 and of 15 minutes. The alert rings at 4.",
            ('node_load1 / on (instance) count by (instance) (node_cpu_seconds_total{mode="idle"})', "1 min"),
            ('node_load15 / on (instance) count by (instance) (node_cpu_seconds_total{mode="idle"})', "15 min"),
        )
    )
    made.with_panel(
        over_time(
            "Waiting for a resource",
            "percentunit",
            limits(0.2, 0.5),
            "The share of time in which some program waited for a processor, for memory or for a disk (the kernel's PSI).",
            ("rate(node_pressure_cpu_waiting_seconds_total[$__rate_interval])", "processor"),
            ("rate(node_pressure_memory_waiting_seconds_total[$__rate_interval])", "memory"),
            ("rate(node_pressure_io_waiting_seconds_total[$__rate_interval])", "disk"),
        )
    )
    return made.with_panel(
        over_time(
            "Clock",
            "s",
            limits(0.05, 0.5),
            "How far the clock is from that of the time server. The alert rings at 0.5 s.",
            ("abs(node_timex_offset_seconds)", "offset"),
        )
    )


def _memory(made: Dashboard) -> Dashboard:
    made.with_row(Row("Memory"))
    made.with_panel(
        over_time(
            "Memory",
            "bytes",
            NEUTRAL,
            "All memory, what programs could still get, and what the page cache holds of files.",
            ("node_memory_MemTotal_bytes", "all"),
            ("node_memory_MemAvailable_bytes", "available"),
            ("node_memory_Cached_bytes", "page cache"),
        )
    )
    made.with_panel(
        over_time(
            "Memory of the programs that tell it",
            "bytes",
            NEUTRAL,
            "Resident memory of Gitea, Prometheus, Alertmanager and the exporters.",
            ("sum by (job) (process_resident_memory_bytes)", "{{job}}"),
        )
    )
    made.with_panel(
        now(
            "Killed because memory was missing",
            "short",
            GOOD_IS_ZERO,
            "Programs that the kernel killed within the last day because memory was missing, in a container or on the host.",
            ("increase(node_vmstat_oom_kill[1d])", "programs"),
            width=8,
        )
    )
    made.with_panel(
        now(
            "Memory available",
            "percentunit",
            at_least(0.08, 0.15),
            "The share of memory that programs could still get. The alert rings below 8 %.",
            ("node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes", "available"),
            width=8,
        )
    )
    return made.with_panel(
        now(
            "Open files",
            "percentunit",
            limits(0.7, 0.9),
            "Open files, as a share of what the kernel permits.",
            ("node_filefd_allocated / node_filefd_maximum", "open files"),
            width=8,
        )
    )


def _disks(made: Dashboard) -> Dashboard:
    made.with_row(Row("Disks"))
    made.with_panel(
        over_time(
            "Free room",
            "percentunit",
            NEUTRAL,
            "The free share of each disk. The alert rings below disk_free_percent of the site file, 10 % by default.",
            (f"node_filesystem_avail_bytes{{{DISKS}}} / node_filesystem_size_bytes", "{{mountpoint}}"),
        )
    )
    made.with_panel(
        bars(
            "Full in",
            "s",
            at_least(DAY, 7 * DAY),
            "How long the free room lasts at the pace of the last six hours; a year means a year or longer.",
            (until_full(), "{{mountpoint}}"),
            width=12,
            most=365 * DAY,
        )
    )
    made.with_panel(
        over_time(
            "Read and written",
            "Bps",
            NEUTRAL,
            "Bytes a second of each disk.",
            ("rate(node_disk_read_bytes_total[$__rate_interval])", "{{device}} read"),
            ("rate(node_disk_written_bytes_total[$__rate_interval])", "{{device}} written"),
        )
    )
    return made.with_panel(
        over_time(
            "Disks at work",
            "percentunit",
            limits(0.8, 0.95),
            "The share of time in which a disk had something to do.",
            ("rate(node_disk_io_time_seconds_total[$__rate_interval])", "{{device}}"),
        )
    )
