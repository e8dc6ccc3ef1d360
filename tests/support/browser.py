"""Take screenshots of Grafana's dashboards by headless Chromium: runs in a container with Chromium and its driver.

``python3 browser.py ADDRESS FOLDER UID ...`` signs in at ADDRESS with the password on standard input, writes FOLDER/UID.png for
each dashboard, and prints a JSON object with the text of each page. The protocol is W3C's WebDriver.
"""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

DRIVER = "http://127.0.0.1:9515"
ARGUMENTS = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"]
# High enough for every panel of a dashboard: Grafana asks for the data of those in sight alone.
WIDTH, HEIGHT = 1400, 3000
_SECONDS, _SETTLE_SECONDS = 30, 8
_SIGN_IN = """
const [path, password, done] = arguments;
fetch(path, {method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify({user: "admin", password})})
  .then(answer => done(answer.status), error => done(String(error)));
"""


def ask(method: str, path: str, body: Any = None) -> Any:
    """Return the value of the driver's answer; raises OSError."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(DRIVER + path, data, {"Content-Type": "application/json"}, method=method)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)["value"]


def started() -> str:
    """Return the path of a new session once the driver answers; raises OSError when it does not."""
    options = {"browserName": "chrome", "goog:chromeOptions": {"args": [*ARGUMENTS, f"--window-size={WIDTH},{HEIGHT}"]}}
    deadline = time.monotonic() + _SECONDS
    while True:
        try:
            return f"/session/{ask('POST', '/session', {'capabilities': {'alwaysMatch': options}})['sessionId']}"
        except urllib.error.HTTPError as error:
            raise OSError(error.read().decode()) from error
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def main() -> int:
    """Sign in and take the screenshots."""
    address, folder, *uids = sys.argv[1:]
    password = sys.stdin.read().strip()
    with subprocess.Popen(["chromedriver", "--port=9515"], stdout=subprocess.DEVNULL) as driver:
        try:
            session = started()
            ask("POST", f"{session}/url", {"url": f"{address}login"})
            status = ask(
                "POST", f"{session}/execute/async", {"script": _SIGN_IN, "args": [f"{address}login", password]}
            )
            if status != 200:
                sys.stderr.write(f"signing in ends with {status}\n")
                return 1
            texts = {uid: taken(session, f"{address}d/{uid}?kiosk", Path(folder, f"{uid}.png")) for uid in uids}
        finally:
            driver.terminate()
    sys.stdout.write(json.dumps(texts))
    return 0


def taken(session: str, url: str, file: Path) -> str:
    """Write a screenshot of a page, and return the page's text."""
    ask("POST", f"{session}/url", {"url": url})
    time.sleep(_SETTLE_SECONDS)
    file.write_bytes(base64.b64decode(ask("GET", f"{session}/screenshot")))
    script = "return document.body.innerText"
    return str(ask("POST", f"{session}/execute/sync", {"script": script, "args": []}))


if __name__ == "__main__":
    sys.exit(main())
