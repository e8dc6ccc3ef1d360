"""The bounds of the checks of the site file's values."""

from __future__ import annotations

import pytest

from ops.config import checks

LABEL = "a" * 63
LONGEST = f"{LABEL}.{LABEL}.{LABEL}.{'a' * 34}.org"


def test_a_list_has_at_most_a_thousand_values_unless_the_check_says_otherwise() -> None:
    assert checks.each(checks.anything)(["a"] * 1000)
    assert not checks.each(checks.anything)(["a"] * 1001)
    assert not checks.each(checks.anything, most=2)(["a"] * 3)


@pytest.mark.parametrize(
    ("value", "valid"),
    [
        (LONGEST, True),
        (f"a{LONGEST}", False),
        (LONGEST.replace("aa.org", "aaa.org"), False),
        ("a.b.c.d.e.f.g.h.i.org", True),
        ("a.b.c.d.e.f.g.h.i.j.org", False),
        ("xn--mnchen-3ya.example.org", True),
        # Without its first letter, and with a hyphen before it, this is other punycode: one invalid, one valid.
        ("xn--bbb.example.org", True),
        ("xn--a-le24y.example.org", False),
        ("xn--.example.org", False),
        ("xn--99999999z.example.org", False),
        ("ab--cd.example.org", False),
    ],
)
def test_a_domain_is_what_certificates_are_issued_for(value: str, valid: bool) -> None:
    assert checks.is_domain(value) is valid


def test_the_longest_domain_has_230_characters() -> None:
    assert len(LONGEST) == 230
    # Another fault than its length.
    assert checks.explain_domain(LONGEST.replace("a.", "_.", 1)) == ""
    assert "230 characters" in checks.explain_domain(f"{LONGEST}a")


def test_a_domain_without_punycode_gets_the_prefix_alone() -> None:
    assert checks.explain_domain("gït..org").startswith("write it in punycode (xn--...): only a-z")


@pytest.mark.parametrize(
    ("value", "valid"),
    [
        (f"{'a' * 64}@example.org", True),
        (f"{'a' * 65}@example.org", False),
        (f"{'a' * 64}@{'b' * 61}.{'c' * 61}.{'d' * 61}.org", True),
        (f"{'a' * 64}@{'b' * 62}.{'c' * 61}.{'d' * 61}.org", False),
        ("a@b@example.org", False),
    ],
)
def test_an_address_has_at_most_64_characters_before_the_at_sign_and_254_in_all(value: str, valid: bool) -> None:
    assert len(value) <= 255
    assert checks.is_email(value) is valid


def test_an_at_sign_before_the_last_one_is_named() -> None:
    assert checks.explain_email("o@b@Example.org").startswith("certbot refuses @ in an e-mail address")


def test_a_host_name_has_at_most_253_characters() -> None:
    longest = f"{LABEL}.{LABEL}.{LABEL}.{'a' * 61}"
    assert len(longest) == 253
    assert checks.is_host(longest)
    assert not checks.is_host(f"{longest}a")


def test_a_mirror_may_have_capitals_but_no_query_and_no_fragment() -> None:
    assert checks.is_mirror("https://MAX.example.org:5000/")
    assert not checks.is_mirror("https://max.example.org?")
    assert not checks.is_mirror("https://max.example.org#")


def test_a_url_may_have_every_port_but_0() -> None:
    assert checks.is_url("http")("http://a:1")
    assert not checks.is_url("http")("http://a:0")


@pytest.mark.parametrize("character", ["\x00", "\x7f", "\x85", "\ud800", "\u2028", "\u2029"])
def test_a_line_has_no_control_character_no_lone_surrogate_and_no_separator(character: str) -> None:
    assert checks.is_line("ab")
    assert not checks.is_line(f"a{character}b")


@pytest.mark.parametrize(
    ("value", "valid"),
    [
        ("x" * 255, True),
        ("x" * 256, False),
        ('"', True),
        ("''", False),
        ("'a", True),
        ("a'", True),
        ("X-ray X", True),
        ("'a\"", True),
    ],
)
def test_only_a_title_between_two_equal_quotation_marks_loses_them(value: str, valid: bool) -> None:
    assert checks.is_title(value) is valid


def test_a_path_may_have_capitals_but_no_character_that_ssh_expands() -> None:
    assert checks.is_path("/keys/X")
    assert not any(checks.is_path(f"/keys/{each}") for each in '"%\\$')
