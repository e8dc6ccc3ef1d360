"""Compose files: an added file comes behind all files that the settings name."""

from __future__ import annotations

from pathlib import Path

import pytest

from ops.config import compose_files


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ("", ("compose.yaml",)),
        ("DOMAIN='git.example.org'\nMY_COMPOSE_FILE=other.yaml\n", ("compose.yaml",)),
        (
            "COMPOSE_FILE='/opt/compose.yaml:/opt/quick-start.yaml'\nDOMAIN='a'\n",
            ("/opt/compose.yaml", "/opt/quick-start.yaml"),
        ),
        ("DOMAIN='a'\nCOMPOSE_FILE=compose.yaml\n", ("compose.yaml",)),
    ],
)
def test_the_settings_name_the_files_of_the_stack(settings: str, named: tuple[str, ...]) -> None:
    assert compose_files.named_in(settings) == named


def test_an_added_file_comes_behind_the_files_of_the_settings(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(f"COMPOSE_FILE='{tmp_path}/compose.yaml:{tmp_path}/quick-start.yaml'\n")
    wanted = [str(tmp_path / each) for each in ("compose.yaml", "quick-start.yaml", "trial.yaml")]
    options = compose_files.files(tmp_path, "trial.yaml")
    assert (options[::2], options[1::2]) == (["--file"] * 3, wanted)


def test_a_folder_without_settings_uses_compose_yaml(tmp_path: Path) -> None:
    assert compose_files.files(tmp_path) == ["--file", str(tmp_path / "compose.yaml")]
