"""The page shows the chain as it is, and nothing in it can be more than text."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest

from ops import gate
from ops.model import Circumstances, Proof
from ops.report_page import page_from, sentence_from

KEY, TREE, NOW = bytes(32), "a" * 40, datetime(2026, 11, 23, 12, tzinfo=UTC)


def _page(proofs: dict[str, Proof], changed: tuple[str, ...] = ()) -> str:
    return page_from(gate.judge_chain(TREE, proofs, KEY), TREE, "c" * 40, changed, NOW, {"a caption": "<svg></svg>"})


def _lint(name: str = "test_a_push_comes_back") -> Proof:
    junit = f'<testsuite><testcase classname="a" name="{name}" time="2.5"/></testsuite>'.encode()
    under = Circumstances(
        "hermetic",
        {"nginx:1.30.4": "sha256:" + "ab" * 32},
        {"python": "3.11"},
        "2026-11-23T11:00:00+00:00",
        "2026-11-23T11:01:05+00:00",
        gate.COMMANDS["lint"],
        {"production": "sha256:" + "cd" * 32},
    )
    return Proof(gate.sealed(gate.statement_from("lint", TREE, junit, under), KEY), junit)


def test_an_unproven_chain_says_so_and_names_the_commands() -> None:
    page = _page({})
    assert "0 of 4 stages are proven" in page
    assert "<code>./noxw -s lint</code>" in page


def test_a_proven_stage_shows_its_tests_time_and_images() -> None:
    page = _page({"lint": _lint()})
    for shown in (
        "1 of 4 stages are proven",
        "A push comes back",
        "1 min 05 s",
        "2.50 s",
        "nginx:1.30.4",
        "ab" * 32,
        "hermetic",
        "site production",
        "<svg></svg>",
    ):
        assert shown in page


def test_a_name_cannot_become_markup() -> None:
    page = _page({"lint": _lint("test_&lt;script&gt;alert(1)&lt;/script&gt;")})
    assert "<script>" not in page


def test_a_failed_test_stands_first_and_is_called_so() -> None:
    junit = b"""<testsuite><testcase classname="a" name="test_slow" time="9"/>
        <testcase classname="a" name="test_broken" time="0"><failure/></testcase></testsuite>"""
    proof = Proof(
        gate.sealed(gate.statement_from("lint", TREE, junit, Circumstances(command=gate.COMMANDS["lint"])), KEY), junit
    )
    page = _page({"lint": proof})
    assert page.index("Broken") < page.index("Slow")
    assert page.count(">failed<") == 1


def test_a_bar_is_as_long_as_its_test_took() -> None:
    junit = b"""<testsuite><testcase classname="a" name="test_a" time="8"/>
        <testcase classname="a" name="test_b" time="6"/><testcase classname="a" name="test_c" time="0"/></testsuite>"""
    proof = Proof(
        gate.sealed(gate.statement_from("lint", TREE, junit, Circumstances(command=gate.COMMANDS["lint"])), KEY), junit
    )
    assert re.findall(r"--share:([\d.]+)", _page({"lint": proof})) == ["1.0", "0.75", "0.0"]


def test_every_test_is_listed_however_many_there_are() -> None:
    cases = "".join(f'<testcase classname="a" name="test_number_{each}" time="0"/>' for each in range(900))
    junit = f"<testsuite>{cases}</testsuite>".encode()
    proof = Proof(
        gate.sealed(gate.statement_from("lint", TREE, junit, Circumstances(command=gate.COMMANDS["lint"])), KEY), junit
    )
    assert _page({"lint": proof}).count("Number ") == 900


def test_the_page_asks_nothing_of_the_network() -> None:
    page = _page({"lint": _lint()})
    assert not any(word in page for word in ("src=", "@import", "url(", "<link"))


def test_a_changed_tree_is_warned_about() -> None:
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
def test_a_test_s_name_is_read_as_the_sentence_it_is(name: str, sentence: str) -> None:
    assert sentence_from(name) == sentence
