"""The settings that versions of Gitea document, and a warning for each setting of a site that its version does not.

``setting_lists/`` has a file a version, made by ``python -m ops.cli.setting_list`` from what that version documents.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from ops.config.gitea_settings import Sections, each_of

FOLDER = Path(__file__).with_name("setting_lists")
# A name that an operator chooses, of a key or of a part of a section.
ANY = "*"


@dataclass(frozen=True)
class SettingList:
    """The keys that a version documents, by section; a section may be a pattern, and a key may be ``*`` for any."""

    version: str
    sections: Mapping[str, frozenset[str]]

    def has(self, section: str, key: str) -> bool:
        """Return whether the version documents a setting. A section has the keys of those above it: cron.x those of cron."""
        return any(ANY in keys or key in keys for keys in self._keys(section))

    def nearest(self, section: str, key: str) -> str:
        """Return the documented setting whose name is nearest, as SECTION.KEY; "" without one that is near."""
        inside = sorted({each for keys in self._keys(section) for each in keys})
        if near := difflib.get_close_matches(key.upper(), inside, n=1, cutoff=0.6):
            return f"{section}.{near[0]}"
        elsewhere = list(self._names())
        same = [name for name in elsewhere if name.rpartition(".")[2] == key.upper()]
        if same:
            return max(same, key=lambda name: difflib.SequenceMatcher(None, section, name.rpartition(".")[0]).ratio())
        near = difflib.get_close_matches(f"{section}.{key.upper()}", elsewhere, n=1, cutoff=0.75)
        return near[0] if near else ""

    def _names(self) -> Iterator[str]:
        for section, keys in self.sections.items():
            if ANY not in section:
                yield from (f"{section}.{each}" for each in sorted(keys))

    def _keys(self, section: str) -> Iterator[frozenset[str]]:
        name = section
        while name:
            yield from (keys for pattern, keys in self.sections.items() if fnmatchcase(name, pattern))
            name = name.rpartition(".")[0]


def list_from(text: str, version: str) -> SettingList:
    """Return the list in a file of ``setting_lists/``."""
    sections: dict[str, set[str]] = {}
    keys: set[str] = set()
    for line in filter(None, map(str.strip, text.splitlines())):
        if line.startswith("["):
            keys = sections.setdefault(line.strip("[]"), set())
        elif not line.startswith("#"):
            keys.add(line)
    return SettingList(version, {name: frozenset(found) for name, found in sections.items()})


def versions() -> tuple[str, ...]:
    """Return the versions that have a list, oldest first."""
    return tuple(sorted((file.stem for file in FOLDER.glob("*.txt")), key=_numbers))


def list_for(numbers: tuple[int, ...] | None = None) -> SettingList:
    """Return the list of a version, of the newest one before it, or of the oldest one; without a version, the newest list."""
    known = versions()
    older = [each for each in known if numbers is None or _numbers(each) <= numbers]
    version = older[-1] if older else known[0]
    return list_from((FOLDER / f"{version}.txt").read_text(encoding="utf-8"), version)


def warnings(settings: Sections, numbers: tuple[int, ...] | None = None) -> tuple[str, ...]:
    """Return a line for each setting that the version does not document, with the nearest name that it does."""
    if not settings:
        return ()
    documented = list_for(numbers)
    unknown = [(section, key) for section, key, _ in each_of(settings) if not documented.has(section, key)]
    return tuple(_warning(documented, section, key) for section, key in unknown)


def _warning(documented: SettingList, section: str, key: str) -> str:
    near = documented.nearest(section, key)
    others = [each for each in versions() if list_for(_numbers(each)).has(section, key)]
    hint = f"; did you mean gitea.settings.{near}?" if near else ""
    elsewhere = f"; Gitea {others[-1]} does" if others else ""
    return (
        f"warning: gitea.settings.{section}.{key}: Gitea {documented.version} does not document it{elsewhere or hint}"
    )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))
