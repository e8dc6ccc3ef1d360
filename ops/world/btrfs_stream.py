"""Read a dumped btrfs send stream: whether a snapshot differs from its parent outside of some folders (btrfs-receive(8), --dump)."""

from __future__ import annotations

import re
from collections.abc import Sequence

# Spaces in names are escaped with a backslash.
_LINE = re.compile(r"(?P<command>\S+)\s+(?P<path>(?:\\.|\S)+)(?:\s+dest=(?P<dest>(?:\\.|\S)+))?")
# A new inode, or one that is moved or removed, has a name such as o267-9-0 for a while (kernel, fs/btrfs/send.c).
_ORPHAN = re.compile(r"o\d+-\d+-\d+(?=/|$)")
_MAKE = frozenset({"mkfile", "mkdir", "mknod", "mkfifo", "mksock", "symlink"})


class SnapshotChanges:
    """The changes of a snapshot against its parent. Content of the ``ignored`` folders does not count, the folders do.

    ``ignored`` are paths below the subvolume. A command that is not understood counts as a change.
    """

    def __init__(self, ignored: Sequence[str] = ()) -> None:
        self._ignored = tuple(ignored)
        # The folders of which btrfs sends the times again when something below them has changed.
        self._above = {"", *(above for each in ignored for above in _parents(each)), *ignored}
        self._new, self._dropped = set[str](), set[str]()
        self._begun = self._changed = False

    @property
    def changed(self) -> bool:
        """Whether the snapshot differs. A stream without its first command counts as a difference."""
        return self._changed or not self._begun or bool(self._new)

    def read(self, line: str) -> None:
        """Take one line of the dump."""
        found = _LINE.match(line)
        if found is None:
            self._changed = True
        elif found["command"] == "snapshot" and not self._begun:
            self._begun = True
        elif not self._is_ignored(found["command"], _below(found["path"]), _below(found["dest"] or "")):
            self._changed = True

    def _is_ignored(self, command: str, path: str, dest: str) -> bool:
        if command == "rename":
            return self._is_ignored_rename(path, dest)
        if command == "utimes" and path in self._above:
            return True
        if command in _MAKE and _orphan_of(path) == path:
            self._new.add(path)
            return True
        return self._is_inside(path)

    def _is_ignored_rename(self, path: str, dest: str) -> bool:
        if self._is_inside(dest) and (path in self._new or self._is_inside(path)):
            self._new.discard(path)
            return True
        if self._is_inside(path) and _orphan_of(dest) == dest:
            self._dropped.add(dest)
            return True
        return False

    def _is_inside(self, path: str) -> bool:
        return path.startswith(tuple(f"{each}/" for each in self._ignored)) or _orphan_of(path) in self._dropped


def _below(path: str) -> str:
    """Return a path of the dump (./SNAPSHOT/PATH) without the snapshot's name."""
    return path.removeprefix("./").partition("/")[2]


def _orphan_of(path: str) -> str:
    found = _ORPHAN.match(path)
    return found[0] if found else "-"


def _parents(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts))]
