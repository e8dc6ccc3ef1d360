"""EC2's instance metadata service, version 2: a session token first, then the role's credentials and the location.

Its answers follow the EC2 User Guide, "Use the Instance Metadata Service to access instance metadata".
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ROLE = os.environ.get("ROLE", "gitea")
REGION = os.environ.get("REGION", "eu-central-1")
TOKENS: set[str] = set()
_TIME = "%Y-%m-%dT%H:%M:%SZ"


def _credentials() -> str:
    now = datetime.now(UTC)
    document = {
        "Code": "Success",
        "Type": "AWS-HMAC",
        "LastUpdated": now.strftime(_TIME),
        "Expiration": (now + timedelta(hours=6)).strftime(_TIME),
        "AccessKeyId": "ASIAGROUNDGROUNDGROU",
        "SecretAccessKey": "ground",
        "Token": "ground",
    }
    return json.dumps(document)


PAGES: dict[str, Callable[[], str]] = {
    "/latest/meta-data/iam/security-credentials/": lambda: ROLE,
    f"/latest/meta-data/iam/security-credentials/{ROLE}": _credentials,
    "/latest/meta-data/placement/region": lambda: REGION,
    "/latest/meta-data/placement/availability-zone": lambda: f"{REGION}a",
    "/latest/meta-data/instance-id": lambda: "i-0123456789abcdef0",
    "/latest/dynamic/instance-identity/document": lambda: json.dumps({"region": REGION, "accountId": "000000000000"}),
}


class Metadata(BaseHTTPRequestHandler):
    """Answers like the service at 169.254.169.254."""

    def do_PUT(self) -> None:
        """Return a session token."""
        if self.path != "/latest/api/token" or "X-aws-ec2-metadata-token-ttl-seconds" not in self.headers:
            return self._answer(400, "")
        token = secrets.token_urlsafe(32)
        TOKENS.add(token)
        return self._answer(200, token)

    def do_GET(self) -> None:
        """Return a page to requests with a valid token."""
        if self.headers.get("X-aws-ec2-metadata-token") not in TOKENS:
            return self._answer(401, "")
        page = PAGES.get(self.path) or PAGES.get(f"{self.path}/")
        return self._answer(200, page()) if page else self._answer(404, "")

    def _answer(self, status: int, text: str) -> None:
        content = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("X-Aws-Ec2-Metadata-Token-Ttl-Seconds", "21600")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Log nothing."""


if __name__ == "__main__":
    ThreadingHTTPServer(("0.0.0.0", 80), Metadata).serve_forever()
