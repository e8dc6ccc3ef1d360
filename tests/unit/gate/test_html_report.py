"""The page shows the state of the stages, and all texts in it are escaped."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from xml.sax.saxutils import quoteattr

import pytest

from ops.gate import evidence
from ops.gate.benchmarks import Bench, Figure
from ops.gate.html_report import page_from, sentence_from
from ops.model import Circumstances, Proof

KEY, TREE, NOW = bytes(32), "a" * 40, datetime(2026, 11, 23, 12, tzinfo=UTC)


def _page(proofs: dict[str, Proof], changed: tuple[str, ...] = (), benches: tuple[Bench, ...] = ()) -> str:
    return page_from(evidence.check_chain(TREE, proofs, KEY), TREE, "c" * 40, changed, NOW, benches)


def _lint(
    name: str = "test_a_push_comes_back", image_set: str = "hermetic", finished: str = "2026-11-23T11:01:05+00:00"
) -> Proof:
    junit = f'<testsuite><testcase classname="a" name="{name}" time="2.5"/></testsuite>'.encode()
    under = Circumstances(
        image_set,
        {"nginx:1.30.4": "sha256:" + "ab" * 32},
        {"python": "3.11"},
        "2026-11-23T11:00:00+00:00",
        finished,
        evidence.COMMANDS["lint"],
        {"production": "sha256:" + "cd" * 32},
    )
    return Proof(evidence.to_envelope(evidence.statement_from("lint", TREE, junit, under), KEY), junit)


def test_unproven_stages_are_shown_with_their_commands() -> None:
    page = _page({})
    assert "0 of 4 stages are proven" in page
    assert "<code>./noxw -s lint</code>" in page


def test_a_proven_stage_shows_its_tests_times_and_images() -> None:
    page = _page({"lint": _lint()})
    for shown in (
        "1 of 4 stages are proven",
        "A push comes back",
        "1 min 05 s",
        "2026-11-23 11:00 UTC",
        "2.50 s",
        "nginx:1.30.4",
        "ab" * 32,
        "hermetic",
        "site production",
    ):
        assert shown in page


def test_a_whole_number_of_minutes_is_shown_without_seconds() -> None:
    page = _page({"lint": _lint(finished="2026-11-23T11:55:00+00:00")})
    assert '<span class="duration">55 min</span>' in page


def test_an_external_site_shows_its_own_image_set() -> None:
    page = _page({"lint": _lint(image_set=evidence.OF_THE_SITE)})
    assert "site&rsquo;s own" in page
    assert "hermetic" not in page


def test_a_test_name_is_escaped() -> None:
    page = _page({"lint": _lint("test_&lt;script&gt;alert(1)&lt;/script&gt;")})
    assert "<script>" not in page


def test_a_failed_test_is_first_and_marked() -> None:
    junit = b"""<testsuite><testcase classname="a" name="test_slow" time="9"/>
        <testcase classname="a" name="test_broken" time="0"><failure/></testcase></testsuite>"""
    proof = Proof(
        evidence.to_envelope(
            evidence.statement_from("lint", TREE, junit, Circumstances(command=evidence.COMMANDS["lint"])), KEY
        ),
        junit,
    )
    page = _page({"lint": proof})
    assert page.index("Broken") < page.index("Slow")
    assert page.count(">failed<") == 1


def test_the_length_of_a_bar_is_the_share_of_the_longest_test() -> None:
    junit = b"""<testsuite><testcase classname="a" name="test_a" time="8"/>
        <testcase classname="a" name="test_b" time="6"/><testcase classname="a" name="test_c" time="0"/></testsuite>"""
    proof = Proof(
        evidence.to_envelope(
            evidence.statement_from("lint", TREE, junit, Circumstances(command=evidence.COMMANDS["lint"])), KEY
        ),
        junit,
    )
    assert re.findall(r"--share:([\d.]+)", _page({"lint": proof})) == ["1.0", "0.75", "0.0"]


def test_all_of_900_tests_are_listed() -> None:
    cases = "".join(f'<testcase classname="a" name="test_number_{each}" time="0"/>' for each in range(900))
    junit = f"<testsuite>{cases}</testsuite>".encode()
    proof = Proof(
        evidence.to_envelope(
            evidence.statement_from("lint", TREE, junit, Circumstances(command=evidence.COMMANDS["lint"])), KEY
        ),
        junit,
    )
    assert _page({"lint": proof}).count("Number ") == 900


def _recording(course: str, result: str = "") -> Proof:
    junit = (
        f'<testsuite><testcase classname="a" name="test_a_drill" time="9"><properties><property name="course" '
        f"value={quoteattr(course)}/></properties>{result}</testcase></testsuite>"
    ).encode()
    under = Circumstances(command=evidence.COMMANDS["lint"])
    return Proof(evidence.to_envelope(evidence.statement_from("lint", TREE, junit, under), KEY), junit)


DRILL = '{"title": "Restore drill", "steps": {"fetch": 3.0}, "marks": [], "limits": []}'


def test_a_recorded_timeline_is_drawn_with_its_test_s_name() -> None:
    page = _page({"lint": _recording(DRILL)})
    assert '<svg class="course"' in page
    assert "<strong>Restore drill</strong>" in page
    assert "Measured by: A drill." in page


def test_a_timeline_altered_after_the_run_is_not_drawn() -> None:
    proof = _recording(DRILL)
    assert proof.junit
    altered = Proof(proof.envelope, proof.junit.replace(b"3.0", b"1.0"))
    assert "its JUnit file was altered" in _page({"lint": altered})
    assert "<svg" not in _page({"lint": altered})


def test_the_timeline_of_a_failed_test_and_an_invalid_timeline_are_not_drawn() -> None:
    assert "<svg" not in _page({"lint": _recording(DRILL, "<failure/>")})
    assert "<svg" not in _page({"lint": _recording("{")})


def test_a_figure_is_shown_with_its_alternative_target_and_verdict() -> None:
    good = Figure("unchanged backup", "1.2 s", "backup.sh: 24 s", 0.05, "at most 0.1", met=True)
    bad = Figure("the <pause>", "0.9 s", "", None, "at most 0.5 s", met=False)
    without_target = Figure("packs of 64 MiB", "16.4 s", "packs of 16: 13.5 s", 1.21, "", met=True)
    page = _page({}, benches=(Bench("backup", TREE, NOW, (good, bad, without_target)),))
    for shown in ("1.2 s", "against backup.sh: 24 s", "0.05", "at most 0.1", "2026-11-23 12:00 UTC on this tree"):
        assert shown in page
    assert (page.count(">met<"), page.count(">missed<")) == (1, 1)
    assert "the &lt;pause&gt;" in page


def test_figures_of_another_tree_are_marked() -> None:
    assert f"another tree, <code>{'b' * 12}</code>" in _page({}, benches=(Bench("backup", "b" * 40, NOW, ()),))


def test_without_timelines_and_figures_their_headings_are_left_out() -> None:
    page = _page({})
    assert "Duration of each step" not in page
    assert "Benchmarks" not in page


def test_the_page_loads_nothing_from_the_network() -> None:
    page = _page({"lint": _lint()})
    assert not any(word in page for word in ("src=", "@import", "url(", "<link"))


def test_the_page_warns_about_changed_files() -> None:
    assert "2 files differ" in _page({}, ("a", "b"))
    assert "1 file differs" in _page({}, ("a",))
    assert "differ from this commit" not in _page({})


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("a.b::test_a_push_comes_back", "A push comes back"),
        ("a::test_tls_is_spoken[1.2]", "Tls is spoken (1.2)"),
        ("a::test_today_s_tls", "Today's tls"),
    ],
)
def test_a_test_s_name_is_shown_as_a_sentence(name: str, sentence: str) -> None:
    assert sentence_from(name) == sentence
