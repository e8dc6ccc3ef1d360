"""Requests and responses: werkzeug's, with Gitea's limits and content types."""

from __future__ import annotations

import json
from typing import Any, NoReturn

import werkzeug
from werkzeug import Response
from werkzeug.exceptions import Unauthorized, abort


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


class Challenge(Unauthorized):
    """A 401 that asks for basic authentication."""


def challenge(message: str) -> NoReturn:
    """Aborts with a Challenge."""
    raise Challenge(message)
