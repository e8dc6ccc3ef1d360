"""The folders of Gitea's data whose content is in no backup. The one list of them, with the reason for each."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

# Below Gitea's data (/data in its container). docs/decisions/0031-caches-out-of-backups.md has the reasons in full.
CACHES: Mapping[str, str] = {
    "gitea/indexers": "Gitea builds its search index again at the start, from the restored database and repositories",
    "gitea/log": "the log of another moment; the containers' logs have what the site reports",
    "gitea/queues": "Gitea would run its waiting jobs again after a restore, and send mails and webhooks twice",
    "gitea/repo-archive": "Gitea makes the archive of a commit again for the next download",
    "gitea/sessions": "sessions of another moment; this suite keeps them in the database",
    "gitea/tmp": "work of a running request, which a restore does not continue",
}


def patterns(folder: Path) -> tuple[str, ...]:
    """Return restic's patterns for the caches in a copy of Gitea's data. The folders stay, with owner and mode."""
    return tuple(f"{folder}/{each}/*" for each in CACHES)


def clear(folder: Path) -> None:
    """Empty the caches in a restored copy of Gitea's data: those of a cloned snapshot, or of a backup that still has them.

    The folders stay, with owner and mode; Gitea makes a missing one at its start.
    """
    for name in CACHES:
        cache = folder / name
        if cache.is_symlink() or not cache.is_dir():
            continue
        for each in cache.iterdir():
            if each.is_dir() and not each.is_symlink():
                shutil.rmtree(each)
            else:
                each.unlink()
