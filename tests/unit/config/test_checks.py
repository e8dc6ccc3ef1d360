"""The bounds of each check of the site file: the last value that passes, and the first that does not."""

from __future__ import annotations

import pytest

from ops.config import checks

LABEL = "a" * 63
# 230 characters.
DOMAIN = f"{LABEL}.{LABEL}.{LABEL}.{'a' * 34}.org"


def test_a_list_has_at_most_a_thousand_values() -> None:
    check = checks.each(checks.anything)
    assert check([""] * 1000)
    assert not check([""] * 1001)
    assert checks.each(checks.anything, 2)(["", ""])


def test_a_domain_has_at_most_230_characters() -> None:
    assert len(DOMAIN) == checks.LONGEST_DOMAIN
    assert checks.is_domain(DOMAIN)
    assert checks.explain_domain(DOMAIN) == ""
    assert not checks.is_domain(f"a{DOMAIN[64:]}.{DOMAIN}")
    longer = DOMAIN.replace("a.org", "aa.org")
    assert not checks.is_domain(longer)
    assert "at most 230 characters" in checks.explain_domain(longer)


def test_a_domain_has_at_most_ten_labels() -> None:
    ten = "a.b.c.d.e.f.g.h.i.org"
    assert checks.is_domain(ten)
    assert checks.explain_domain(ten) == ""
    assert not checks.is_domain(f"0.{ten}")
    assert "10 labels" in checks.explain_domain(f"0.{ten}")


@pytest.mark.parametrize(
    ("label", "is_valid"),
    [
        # The text behind the prefix decides: with a character less or more both would decode.
        ("xn--24yn", False),
        ("xn--c-lf9qc", False),
        ("xn--strae-oqa", True),
        ("xn--99999999z", False),
        ("ab--cd", False),
        ("a-b", True),
    ],
)
def test_hyphens_in_the_third_and_fourth_place_are_valid_as_punycode_only(label: str, is_valid: bool) -> None:
    assert checks.is_domain(f"{label}.org") is is_valid


def test_a_domain_that_has_no_punycode_is_explained_without_an_example() -> None:
    assert "punycode (xn--...)" in checks.explain_domain(f"{'ä' * 64}.org")
    assert 'punycode: "xn--4ca.org"' in checks.explain_domain("ä.org")


def test_the_part_before_the_at_sign_has_at_most_64_characters() -> None:
    assert checks.is_email(f"{'a' * 64}@example.org")
    assert not checks.is_email(f"{'a' * 65}@example.org")


def test_an_address_has_at_most_254_characters() -> None:
    assert checks.is_email(f"{'a' * 23}@{DOMAIN}")
    assert not checks.is_email(f"{'a' * 24}@{DOMAIN}")


def test_an_address_with_two_at_signs_is_refused_because_of_the_first() -> None:
    assert not checks.is_email("a@b@example.org")
    assert checks.explain_email("a@b@example.org").startswith("certbot refuses @")


def test_a_host_name_has_at_most_253_characters() -> None:
    longest = ".".join([LABEL, LABEL, LABEL, "a" * 61])
    assert len(longest) == 253
    assert checks.is_host(longest)
    assert not checks.is_host(f"{longest}a")


def test_a_url_has_any_port_but_0() -> None:
    assert checks.is_url("http")("http://example.org:1")
    assert not checks.is_url("http")("http://example.org:0")


@pytest.mark.parametrize("value", ["https://mirror.example.org?x", "https://mirror.example.org#x"])
def test_a_mirror_has_neither_query_nor_fragment(value: str) -> None:
    assert not checks.is_mirror(value)
    assert checks.is_mirror("https://X.example.org")


@pytest.mark.parametrize("character", ["\x00", "\x7f", "\ud800", "\u2028", "\u2029"])
def test_a_line_has_no_control_character_no_half_of_a_pair_and_no_line_break(character: str) -> None:
    assert not checks.is_line(f"a{character}b")


def test_a_title_has_at_most_255_characters() -> None:
    assert checks.is_title("x" * 255)
    assert not checks.is_title("x" * 256)


@pytest.mark.parametrize("title", ["'", '"', "'X\"", "X X", "XX", "'a' b"])
def test_a_title_that_no_pair_of_quotation_marks_encloses_is_valid(title: str) -> None:
    assert checks.is_title(title)


@pytest.mark.parametrize("title", ["''", '""', "'a'", '"a"', '"""a'])
def test_a_title_between_quotation_marks_is_refused(title: str) -> None:
    assert "quotation marks" in checks.explain_title(title)


@pytest.mark.parametrize("character", ['"', "%", "\\", "$"])
def test_a_path_has_no_character_that_ssh_expands_or_ends_at(character: str) -> None:
    assert not checks.is_path(f"keys/{character}")


def test_a_path_may_contain_any_other_character() -> None:
    assert checks.is_path("X's keys/ä~{}")
