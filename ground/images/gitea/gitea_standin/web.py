"""Requests and responses: werkzeug's, with Gitea's limits and content types."""

from __future__ import annotations

import json
from typing import Any, NoReturn

import werkzeug
from werkzeug import Response
from werkzeug.exceptions import NotFound, Unauthorized, abort


class Request(werkzeug.Request):
    """One request."""

    max_content_length = 4 * 1024 * 1024

    def document(self) -> dict[str, Any]:
        """The JSON object in the body; aborts with 422 when there is none."""
        try:
            content = json.loads(self.get_data() or b"{}")
        except ValueError as error:
            abort(422, f"invalid JSON: {error}")
        if not isinstance(content, dict):
            abort(422, "a JSON object is needed")
        return content


def json_response(content: object, status: int = 200) -> Response:
    """`content` as JSON."""
    text = json.dumps(content, separators=(",", ":")) + "\n"
    return Response(text, status, content_type="application/json;charset=utf-8")


def text_response(text: str, status: int = 200, kind: str = "text/plain") -> Response:
    """`text` unchanged."""
    return Response(text, status, content_type=f"{kind};charset=utf-8")


def plain_error(text: str, status: int) -> Response:
    """An error of Go's own server, `http.Error`: it names its content type with a blank and forbids guessing it."""
    headers = {"X-Content-Type-Options": "nosniff"}
    return Response(f"{text}\n", status, headers, content_type="text/plain; charset=utf-8")


def empty(status: int) -> Response:
    """An answer without a body and without a content type."""
    response = Response(status=status)
    del response.headers["Content-Type"]
    return response


class Missing(NotFound):
    """A 404 of the API for something that is not there; `detail` says what, and only old releases tell it."""

    def __init__(self, detail: str = "") -> None:
        super().__init__()
        self.detail = detail


def missing(detail: str = "") -> NoReturn:
    """Aborts with Missing."""
    raise Missing(detail)


class Challenge(Unauthorized):
    """A 401 that asks for basic authentication."""


def challenge(message: str) -> NoReturn:
    """Aborts with a Challenge."""
    raise Challenge(message)
