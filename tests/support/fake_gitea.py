"""A fake of Gitea's API for the canary of an update: it keeps what is written, and answers as real Gitea was recorded."""

from __future__ import annotations

import json
import re
from base64 import b64decode, b64encode
from dataclasses import dataclass, field
from typing import Any

COMMIT = "c" * 40
_SIDE = "d" * 40


@dataclass
class FakeGitea:
    """The contents of a site: JSON documents and files by the path that reads them.

    ``not_served`` are patterns of paths that a Gitea with a switched-off feature answers with 404 to writes.
    """

    documents: dict[str, Any] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    made: int = 0
    not_served: list[str] = field(default_factory=list)

    def answer(self, method: str, path: str, document: Any) -> tuple[int, bytes]:
        """Return status and body of one request."""
        if method == "DELETE":
            return (204 if self._remove(path) else 404), b""
        if method == "GET":
            return self._read(path)
        switched_off = any(re.search(pattern, path) for pattern in self.not_served)
        return (404, b"{}") if switched_off else self._write(path, document)

    def _read(self, path: str) -> tuple[int, bytes]:
        if page := re.fullmatch(r"/api/v1/user/keys\?limit=(\d+)&page=(\d+)", path):
            keys = [each for name, each in self.documents.items() if name.startswith("/api/v1/user/keys/")]
            size, number = int(page[1]), int(page[2])
            return 200, json.dumps(keys[size * (number - 1) : size * number]).encode()
        if path in self.files:
            return 200, b64decode(self.files[path])
        return (200, json.dumps(self.documents[path]).encode()) if path in self.documents else (404, b"{}")

    def to_json(self) -> dict[str, Any]:
        return vars(self)

    def _write(self, path: str, document: Any) -> tuple[int, bytes]:
        self.made += 1
        if isinstance(document, bytes):
            return self._store(path, document)
        if path.endswith("/objects/batch"):
            (each,) = document["objects"]
            href = f"https://git.example.org{path.removesuffix('/batch')}/{each['oid']}/{each['size']}"
            return 200, json.dumps({"objects": [{"actions": {"upload": {"href": href}}}]}).encode()
        for pattern, place in _PLACES.items():
            if re.search(pattern, path):
                where = place.format(path=path, number=self.made, **document)
                self.documents[where] = self._document(path, document)
                return 201, json.dumps(self.documents[where]).encode()
        raise AssertionError(path)

    def _document(self, path: str, document: dict[str, Any]) -> dict[str, Any]:
        found = {"id": self.made, "number": self.made, **document, "commit": {"sha": _SIDE}}
        if path.endswith("/pulls"):
            found |= {"head": {"sha": _SIDE}, "base": {"ref": document["base"]}}
        if path.endswith("/wiki/new"):
            found["sub_url"] = document["title"]
        if path.endswith("/issues"):
            labels = [
                self.documents[f"{path.removesuffix('/issues')}/labels/{each}"] for each in document.get("labels", [])
            ]
            found["labels"] = labels
        return found

    def _store(self, path: str, content: bytes) -> tuple[int, bytes]:
        if "/assets?" in path:
            where = f"/attachments/{self.made}"
            self.files[where] = b64encode(content.split(b"\r\n\r\n", 1)[1].rpartition(b"\r\n--")[0]).decode()
            return 201, json.dumps({"browser_download_url": f"https://git.example.org{where}"}).encode()
        lfs = "/info/lfs/" in path
        self.files[path.rpartition("/")[0] if lfs else path] = b64encode(content).decode()
        return (200 if lfs else 201), b""

    def _remove(self, path: str) -> bool:
        if re.fullmatch(r"/api/v1/repos/[^/]+/[^/]+", path):
            self.files = {name: each for name, each in self.files.items() if name.startswith("/api/packages/")}
        elif package := re.fullmatch(r"/api/v1/packages/([^/]+/generic/.+)", path):
            self.files = {name: each for name, each in self.files.items() if package[1] not in name}
            return True
        kept = {name: each for name, each in self.documents.items() if not f"{name}/".startswith(f"{path}/")}
        is_known = len(kept) < len(self.documents)
        self.documents = kept
        return is_known


# What is written to a path, and the path that reads it.
_PLACES = {
    "/api/v1/orgs$": "{path}/{username}",
    "/user/repos$": "/api/v1/repos/keeper/{name}",
    "/contents/": "{path}?ref={new_branch}",
    "/issues/[0-9]+/comments$": "/api/v1/repos/keeper/ops-canary/issues/comments/{number}",
    "/wiki/new$": "/api/v1/repos/keeper/ops-canary/wiki/page/{title}",
    "/(labels|issues|pulls|releases|keys)$": "{path}/{number}",
}
