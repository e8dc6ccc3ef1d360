"""A time line is drawn to scale, and what took longer than it may is not drawn like what did not."""

from __future__ import annotations

import json
import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.timeline_chart import Limit, Mark, TimelineChart, chart_from_json, duration, to_document, to_svg

COURSE = TimelineChart(
    "Restore drill",
    {"fetch": 30.0, "start": 10.0, "check": 60.0},
    (Mark("the site is there", 40.0),),
    (Limit("RTO", 40.0, 3600.0), Limit("RPO", 2400.0, 1800.0)),
)


def _bars(drawing: str, kind: str) -> list[tuple[float, float]]:
    """Where each bar of a kind begins and how wide it is, in percent."""
    found = re.findall(rf'<rect class="{kind}" x="([\d.]+)%" [^>]*width="([\d.]+)%"', drawing)
    return [(float(start), float(width)) for start, width in found]


def test_each_step_begins_where_the_one_before_ended() -> None:
    assert _bars(to_svg(COURSE), "step") == [(0.0, 30.0), (30.0, 10.0), (40.0, 60.0)]


def test_a_mark_stands_at_its_moment() -> None:
    assert 'class="mark" x1="40.0%" x2="40.0%"' in to_svg(COURSE)


def test_what_keeps_its_limit_is_a_part_of_it_and_what_does_not_is_red_and_longer() -> None:
    drawing = to_svg(COURSE)
    assert _bars(drawing, "kept") == [(0.0, 1.11)]
    assert _bars(drawing, "broken") == [(0.0, 100.0)]
    # The limit itself stands at three quarters of the longer bar.
    assert 'class="limit" x1="75.0%" x2="75.0%"' in drawing


def test_a_drawing_says_in_words_what_it_shows() -> None:
    words = " ".join(ElementTree.fromstring(to_svg(COURSE)).itertext())
    for shown in ("fetch", "30 s", "1 min", "the site is there", "40 s", "of at most 60 min", "of at most 30 min"):
        assert shown in words


def test_a_name_cannot_become_markup() -> None:
    drawing = to_svg(TimelineChart("<b>", {"<script>": 1.0}, (Mark("<i>", 1.0),), (Limit("<u>", 1.0, 2.0),)))
    assert not re.search("<(b|script|i|u)>", drawing)
    assert ElementTree.fromstring(drawing).tag == "svg"


def test_a_course_without_a_second_in_it_is_drawn_all_the_same() -> None:
    assert ElementTree.fromstring(to_svg(TimelineChart("nothing", {"a": 0.0}))).tag == "svg"


def test_a_course_is_read_as_it_was_written() -> None:
    assert chart_from_json(json.dumps(to_document(COURSE))) == COURSE


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"title": "a", "steps": {"b": "c"}}', '{"title": 1, "steps": []}'])
def test_what_is_no_course_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no time line"):
        chart_from_json(text)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.04, "0.04 s"), (1.26, "1.3 s"), (59.6, "60 s"), (65, "1 min 05 s"), (3600, "60 min"), (7265, "121 min 05 s")],
)
def test_a_duration_is_told_as_exactly_as_it_matters(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@given(st.dictionaries(st.text(max_size=5), st.floats(0, 1e6), max_size=6))
def test_no_step_is_drawn_outside_of_the_drawing(steps: dict[str, float]) -> None:
    assert all(start + width <= 100.1 for start, width in _bars(to_svg(TimelineChart("any", steps)), "step"))
