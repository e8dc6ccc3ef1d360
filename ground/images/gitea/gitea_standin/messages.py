"""Requests and responses as the handlers see them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from email.message import Message
from io import BufferedIOBase
from typing import Any
from urllib.parse import parse_qsl

_LARGEST_DOCUMENT = 4 * 1024 * 1024


class HttpError(Exception):
    """A request ends here, with this status and this message."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = dict(headers or {})


class Body:
    """The body of a request, read piece by piece: by its length, or chunked, or none."""

    def __init__(self, stream: BufferedIOBase, length: int, chunked: bool) -> None:
        self._stream = stream
        self._left = length
        self._chunked = chunked
        self.exhausted = not chunked and length == 0

    def read(self, size: int) -> bytes:
        """At most `size` bytes, b"" at the end. Raises ConnectionError when the client is gone."""
        if self.exhausted:
            return b""
        if self._left == 0:
            self._next_chunk()
            if self.exhausted:
                return b""
        data = self._stream.read1(min(size, self._left))
        if not data:
            raise ConnectionResetError("the client ended in the middle of a body")
        self._left -= len(data)
        self._after_piece()
        return data

    def read_all(self, limit: int = _LARGEST_DOCUMENT) -> bytes:
        """The whole body. Raises HttpError when it is larger than `limit` bytes."""
        pieces, total = [], 0
        while piece := self.read(65536):
            pieces.append(piece)
            total += len(piece)
            if total > limit:
                raise HttpError(413, "request body too large")
        return b"".join(pieces)

    def _after_piece(self) -> None:
        if self._left == 0 and not self._chunked:
            self.exhausted = True
        elif self._left == 0:
            self._stream.readline(3)

    def _next_chunk(self) -> None:
        line = self._stream.readline(1024).partition(b";")[0].strip()
        try:
            self._left = int(line, 16)
        except ValueError as error:
            raise ConnectionResetError("the client sent a broken chunk") from error
        if self._left == 0:
            self.exhausted = True
            while self._stream.readline(65536).strip():
                pass


@dataclass
class Request:
    """One request; header names are matched whatever their capitals.

    A handler that reads the body while the response is under way sets `body_taken`.
    """

    method: str
    path: str
    query: dict[str, str]
    headers: Message
    body: Body
    client: str = ""
    body_taken: bool = False

    def header(self, name: str) -> str:
        """A header's value, or an empty text."""
        return self.headers.get(name) or ""

    def document(self) -> dict[str, Any]:
        """The JSON object in the body. Raises HttpError(422) where there is none."""
        try:
            content = json.loads(self.body.read_all() or b"{}")
        except ValueError as error:
            raise HttpError(422, f"invalid JSON: {error}") from error
        if not isinstance(content, dict):
            raise HttpError(422, "a JSON object is needed")
        return content

    def form(self) -> dict[str, str]:
        """The fields of a form sent by a browser."""
        return dict(parse_qsl(self.body.read_all().decode("utf-8", "replace"), keep_blank_values=True))

    def cookie(self, name: str) -> str:
        """A cookie's value, or an empty text."""
        for part in self.header("Cookie").split(";"):
            key, _, value = part.strip().partition("=")
            if key == name:
                return value
        return ""


@dataclass
class Response:
    """One response: `body`, or where it is None the pieces of `stream`, sent as they come."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = b""
    stream: Iterator[bytes] | None = None


def json_response(content: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """`content` as JSON."""
    fields = {"Content-Type": "application/json;charset=utf-8", **(headers or {})}
    return Response(status, fields, json.dumps(content, separators=(",", ":")).encode() + b"\n")


def text_response(text: str, status: int = 200, kind: str = "text/plain") -> Response:
    """`text` as it is."""
    return Response(status, {"Content-Type": f"{kind};charset=utf-8"}, text.encode())


def redirect(location: str, headers: Mapping[str, str] | None = None) -> Response:
    """Sends the browser elsewhere, to ask there with GET."""
    return Response(303, {"Location": location, **(headers or {})})
