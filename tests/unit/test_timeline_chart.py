"""A timeline chart is drawn to scale, and an exceeded limit looks different from one that was kept."""

from __future__ import annotations

import json
import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.timeline_chart import Limit, Mark, TimelineChart, chart_from_json, duration, to_document, to_svg

CHART = TimelineChart(
    "Restore drill",
    {"fetch": 30.0, "start": 10.0, "check": 60.0},
    (Mark("the site is healthy", 40.0),),
    (Limit("RTO", 40.0, 3600.0), Limit("RPO", 2400.0, 1800.0)),
)


def _bars(drawing: str, kind: str) -> list[tuple[float, float]]:
    """The start and the width of each bar of a kind, in percent."""
    found = re.findall(rf'<rect class="{kind}" x="([\d.]+)%" [^>]*width="([\d.]+)%"', drawing)
    return [(float(start), float(width)) for start, width in found]


def test_each_step_starts_at_the_end_of_the_previous_one() -> None:
    assert _bars(to_svg(CHART), "step") == [(0.0, 30.0), (30.0, 10.0), (40.0, 60.0)]


def test_a_mark_is_drawn_at_its_moment() -> None:
    assert 'class="mark" x1="40.0%" x2="40.0%"' in to_svg(CHART)


def test_a_bar_within_its_limit_is_shorter_and_one_beyond_it_is_longer_and_red() -> None:
    drawing = to_svg(CHART)
    assert _bars(drawing, "kept") == [(0.0, 1.11)]
    assert _bars(drawing, "broken") == [(0.0, 100.0)]
    # The limit itself is at three quarters of the longer bar.
    assert 'class="limit" x1="75.0%" x2="75.0%"' in drawing


def test_a_chart_contains_its_names_and_values_as_text() -> None:
    words = " ".join(ElementTree.fromstring(to_svg(CHART)).itertext())
    for shown in ("fetch", "30 s", "1 min", "the site is healthy", "40 s", "of at most 60 min", "of at most 30 min"):
        assert shown in words


def test_names_are_escaped() -> None:
    drawing = to_svg(TimelineChart("<b>", {"<script>": 1.0}, (Mark("<i>", 1.0),), (Limit("<u>", 1.0, 2.0),)))
    assert not re.search("<(b|script|i|u)>", drawing)
    assert ElementTree.fromstring(drawing).tag == "svg"


def test_a_chart_of_zero_seconds_is_drawn() -> None:
    assert ElementTree.fromstring(to_svg(TimelineChart("nothing", {"a": 0.0}))).tag == "svg"


def test_a_chart_is_read_back_from_its_document() -> None:
    assert chart_from_json(json.dumps(to_document(CHART))) == CHART


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"title": "a", "steps": {"b": "c"}}', '{"title": 1, "steps": []}'])
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a timeline chart"):
        chart_from_json(text)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.04, "0.04 s"), (1.26, "1.3 s"), (59.6, "60 s"), (65, "1 min 05 s"), (3600, "60 min"), (7265, "121 min 05 s")],
)
def test_a_duration_is_rounded_to_a_useful_precision(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@given(st.dictionaries(st.text(max_size=5), st.floats(0, 1e6), max_size=6))
def test_no_step_is_drawn_outside_the_chart(steps: dict[str, float]) -> None:
    assert all(start + width <= 100.1 for start, width in _bars(to_svg(TimelineChart("any", steps)), "step"))
