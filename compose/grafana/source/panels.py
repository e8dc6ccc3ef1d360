"""The panels that every dashboard is made of: each has a unit, thresholds and a description."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from grafana_foundation_sdk.builders import bargauge, common, dashboard, stat, statetimeline, table, timeseries
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.models.common import (
    BarGaugeDisplayMode,
    BigValueColorMode,
    BigValueGraphMode,
    GraphThresholdsStyleMode,
    LegendDisplayMode,
    LegendPlacement,
    VizOrientation,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardLinkType,
    DataSourceRef,
    Threshold,
    ThresholdsMode,
    ValueMap,
    ValueMappingResult,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

# The uid of compose/grafana/provisioning/datasources/prometheus.yaml.
SOURCE = DataSourceRef(type_val="prometheus", uid="prometheus")
TAG = "gitea-suite"
GREEN, YELLOW, RED, BLUE = "green", "yellow", "red", "blue"
MINUTE, HOUR, DAY = 60, 3600, 86400
# The colours of a value from each limit on; the first is that of every smaller value.
Colours = Sequence[tuple[float | None, str]]
NEUTRAL: Colours = ((None, BLUE),)
GOOD_IS_ONE: Colours = ((None, RED), (1, GREEN))
GOOD_IS_ZERO: Colours = ((None, GREEN), (1, RED))
# A query, and the name of its series.
Query = tuple[str, str]

_WELL = {"1": ("yes", GREEN), "0": ("no", RED)}
_Panel = TypeVar("_Panel", stat.Panel, timeseries.Panel, bargauge.Panel, statetimeline.Panel, table.Panel)


def limits(*steps: float) -> Colours:
    """Return the colours of a value that is well below the first limit, and bad from the last one on."""
    return ((None, GREEN), *zip(steps, (YELLOW, RED)[-len(steps) :], strict=True))


def at_least(warn: float, good: float) -> Colours:
    """Return the colours of a value that is bad below ``warn``, and well from ``good`` on."""
    return ((None, RED), (warn, YELLOW), (good, GREEN))


def board(uid: str, title: str, description: str) -> dashboard.Dashboard:
    """Return an empty read-only dashboard with links to the others."""
    others = dashboard.DashboardLink("Other dashboards").type(DashboardLinkType.DASHBOARDS).tags([TAG]).keep_time(True)
    made = dashboard.Dashboard(title).uid(uid).description(description).tags([TAG]).readonly()
    return made.time("now-6h", "now").refresh("1m").timezone("utc").links([others])


def now(title: str, unit: str, colours: Colours, description: str, *queries: Query, width: int = 4) -> stat.Panel:
    """Return a panel with the present value of each query."""
    panel = stat.Panel().graph_mode(BigValueGraphMode.NONE).color_mode(BigValueColorMode.BACKGROUND)
    return _with(panel, title, unit, colours, description, queries, width=width, height=4, instant=True)


def well(title: str, description: str, *queries: Query, width: int = 4) -> stat.Panel:
    """Return a panel that says yes or no for each series: 1 is yes."""
    return now(title, "short", GOOD_IS_ONE, description, *queries, width=width).mappings([_mapping(_WELL)])


def over_time(
    title: str, unit: str, colours: Colours, description: str, *queries: Query, width: int = 12
) -> timeseries.Panel:
    """Return a graph of each query; limits are drawn as lines."""
    mode = GraphThresholdsStyleMode.DASHED if len(colours) > 1 else GraphThresholdsStyleMode.OFF
    legend = common.VizLegendOptions().show_legend(True).display_mode(LegendDisplayMode.LIST)
    panel = timeseries.Panel().min(0).fill_opacity(10).legend(legend.placement(LegendPlacement.BOTTOM))
    panel.thresholds_style(common.GraphThresholdsStyleConfig().mode(mode))
    return _with(panel, title, unit, colours, description, queries, width=width, height=8, instant=False)


def bars(
    title: str,
    unit: str,
    colours: Colours,
    description: str,
    *queries: Query,
    width: int = 8,
    most: float | None = None,
) -> bargauge.Panel:
    """Return a bar for the present value of each series; ``most`` is the length of a full bar."""
    panel = bargauge.Panel().orientation(VizOrientation.HORIZONTAL).display_mode(BarGaugeDisplayMode.BASIC).min(0)
    if most is not None:
        panel.max(most)
    return _with(panel, title, unit, colours, description, queries, width=width, height=8, instant=True)


def states(title: str, description: str, *queries: Query, width: int = 24) -> statetimeline.Panel:
    """Return a line of yes and no over time for each series: 1 is yes."""
    panel = statetimeline.Panel().mappings([_mapping(_WELL)])
    return _with(panel, title, "short", GOOD_IS_ONE, description, queries, width=width, height=8, instant=False)


def rows(title: str, unit: str, colours: Colours, description: str, query: str, width: int = 24) -> table.Panel:
    """Return a table with a row for each series and a column for each label."""
    return _with(table.Panel(), title, unit, colours, description, ((query, ""),), width=width, height=8, instant=True)


def _with(
    panel: _Panel,
    title: str,
    unit: str,
    colours: Colours,
    description: str,
    queries: Sequence[Query],
    *,
    width: int,
    height: int,
    instant: bool,
) -> _Panel:
    steps = [Threshold(value=limit, color=colour) for limit, colour in colours]
    panel.title(title).unit(unit).description(description).span(width).height(height).datasource(SOURCE)
    panel.thresholds(dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps))
    for number, (expression, name) in enumerate(queries):
        query = Dataquery().expr(expression).ref_id(chr(ord("A") + number)).datasource(SOURCE)
        query.legend_format(name) if name else query.format(PromQueryFormat.TABLE)
        panel.with_target(query.instant() if instant else query.range())
    return panel


def _mapping(texts: Mapping[str, tuple[str, str]]) -> ValueMap:
    found = ((value, ValueMappingResult(text=text, color=colour)) for value, (text, colour) in texts.items())
    return ValueMap(dict(found))
