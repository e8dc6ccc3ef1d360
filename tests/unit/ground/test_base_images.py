"""The Debian mirror of a machine, from apt's configuration, so that the two commands need no variable."""

from __future__ import annotations

from pathlib import Path

import pytest

from ground import base_images
from ops.errors import Refused

MIRROR = "http://deb.example.org/debian"


@pytest.fixture
def apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("GROUND_DEBIAN_MIRROR", raising=False)
    monkeypatch.setattr(base_images, "_APT", tmp_path)
    (tmp_path / "sources.list.d").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("sources.list", f"# a comment\ndeb {MIRROR} bookworm main\n"),
        ("sources.list", f"deb [signed-by=/usr/share/keyrings/a.gpg] {MIRROR}/ trixie main\n"),
        ("sources.list.d/debian.sources", f"Types: deb\nURIs: {MIRROR}\nSuites: trixie\n"),
        (
            "sources.list.d/debian.sources",
            f"Types: deb\nURIs: http://deb.example.org/debian-security {MIRROR}\nSuites: trixie\n",
        ),
    ],
)
def test_the_mirror_of_apt_s_configuration_is_used(apt: Path, file: str, text: str) -> None:
    (apt / file).write_text(text)
    assert base_images.debian_mirror().rstrip("/") == MIRROR


def test_a_list_of_mirrors_as_debian_s_images_for_clouds_have_it_is_followed(apt: Path, tmp_path: Path) -> None:
    mirrors = tmp_path / "mirrors/debian.list"
    mirrors.parent.mkdir()
    mirrors.write_text(f"{MIRROR}\n")
    (apt / "sources.list.d/debian.sources").write_text(f"Types: deb\nURIs: mirror+file://{mirrors}\nSuites: trixie\n")
    assert base_images.debian_mirror() == MIRROR


@pytest.mark.parametrize(
    "text",
    ["", "deb http://archive.example.org/ubuntu noble main\n", "deb mirror+file:///nothing/debian.list a main\n"],
)
def test_without_a_debian_mirror_the_hint_names_the_variable(apt: Path, text: str) -> None:
    (apt / "sources.list").write_text(text)
    assert base_images.configured_mirror() is None
    with pytest.raises(Refused, match="names no Debian mirror") as caught:
        base_images.debian_mirror()
    assert "GROUND_DEBIAN_MIRROR" in caught.value.hint


def test_the_variable_wins_over_apt_s_configuration(apt: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (apt / "sources.list").write_text(f"deb {MIRROR} trixie main\n")
    monkeypatch.setenv("GROUND_DEBIAN_MIRROR", "http://other.example.org/debian")
    assert base_images.debian_mirror() == "http://other.example.org/debian"
