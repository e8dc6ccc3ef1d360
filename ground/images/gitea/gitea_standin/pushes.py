"""The queue of Gitea's second part of a push, in files: it survives a stop, and a backup that leaves it out loses what it held."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from . import log

# How long an item waits at least, so that tests see what real Gitea shows under load.
_DELAY_SECONDS = 0.3
Handle = Callable[[int, dict[str, str]], None]


class PushQueue:
    """Pushes that have ended and are not yet entered: the repository's number and the references with their old commits."""

    def __init__(self, folder: Path, handle: Handle) -> None:
        self._folder, self._handle = folder, handle
        self._one_at_a_time = threading.Lock()

    def start(self) -> None:
        """Enters leftovers of an earlier run, and from now on every push."""
        self._folder.mkdir(parents=True, exist_ok=True)
        threading.Thread(target=self._run, daemon=True).start()

    def put(self, repository: int, refs: Mapping[str, str]) -> None:
        """Adds a push."""
        path = self._folder / f"push_update-{time.time_ns()}-{threading.get_ident()}.json"
        draft = path.with_suffix(".new")
        draft.write_text(json.dumps([repository, refs]))
        draft.replace(path)

    def flush(self, older_than: float = 0.0) -> None:
        """Enters every push that has waited for so many seconds, oldest first."""
        with self._one_at_a_time:
            for path in sorted(self._folder.glob("push_update-*.json")):
                if time.time() - path.stat().st_mtime >= older_than:
                    self._enter(path)

    def _run(self) -> None:
        while True:
            self.flush(_DELAY_SECONDS)
            time.sleep(0.1)

    def _enter(self, path: Path) -> None:
        repository, refs = json.loads(path.read_text())
        try:
            self._handle(repository, refs)
        except Exception as error:
            # As in Gitea, the push stays in git, and the next one enters what this one lost.
            log.error(
                "repository/push.go:pushQueueHandler()", f"pushUpdate of repository {repository} failed: {error!r}"
            )
        path.unlink()
