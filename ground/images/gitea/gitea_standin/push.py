"""gitea serv (an ssh session), gitea hook (called by git) and the runner token: all of them call the server."""

from __future__ import annotations

import http.client
import json
import os
import re
import shlex
import sys
from typing import Any

from . import git
from .errors import CommandError
from .release import installed_release
from .settings import load

# The git commands that ssh sessions may run, and the access that each needs.
_VERBS = {"git-upload-pack": "read", "git-upload-archive": "read", "git-receive-pack": "write"}
_PATH = re.compile(r"/?(?P<owner>[\w.-]+)/(?P<repo>[\w.-]+?)(?:\.git)?/?")


class _RefusedError(Exception):
    """The server refused; the message is for the user."""


def serv(arguments: list[str]) -> int:
    """One ssh session, whose process becomes git; 1 with a line on stderr when it is refused."""
    key = arguments[0].removeprefix("key-") if arguments else ""
    try:
        command = shlex.split(os.environ.get("SSH_ORIGINAL_COMMAND", ""))
        return _run_git(key, command) if command else _greet(key)
    except (_RefusedError, CommandError, ValueError) as error:
        return _fail(str(error))


def hook(arguments: list[str]) -> int:
    """One of git's hooks; git refuses the push when pre-receive does not return 0."""
    name = arguments[0] if arguments else ""
    # A push by hand inside the container does not go through Gitea and has no user.
    if name == "update" or not os.environ.get("GITEA_REPO_ID"):
        return 0
    query = f"?repo={os.environ['GITEA_REPO_ID']}&user={os.environ.get('GITEA_PUSHER_ID', '0')}"
    refs = {ref: old for old, _, ref in (line.split() for line in sys.stdin if len(line.split()) == 3)}
    try:
        answer = _ask("POST", f"/hook/{name}{query}", {"refs": refs})
    except (_RefusedError, CommandError) as error:
        return _fail(str(error))
    for line in answer.get("lines", []):
        print(line)
    return 0


def generate_runner_token(_arguments: list[str]) -> int:
    """Prints the registration token of runners."""
    try:
        print(_ask("POST", "/actions/generate_actions_runner_token")["token"])
    except _RefusedError as error:
        raise CommandError(str(error)) from error
    return 0


def flush_queues(_arguments: list[str]) -> int:
    """Gitea manager flush-queues: waits until the queues are empty."""
    try:
        _ask("POST", "/manager/flush-queues")
    except _RefusedError as error:
        raise CommandError(str(error)) from error
    print("Flushed")
    return 0


def _greet(key: str) -> int:
    owner = _ask("GET", f"/serv/none/{key}")
    print(
        f"Hi there, {owner['user']}! You've successfully authenticated with the key named {owner['title']}, "
        "but Gitea does not provide shell access.\n"
        "If this is unexpected, please log in with password and setup Gitea under another user.",
        file=sys.stderr,
    )
    return 0


def _run_git(key: str, command: list[str]) -> int:
    if len(command) < 2:
        return _fail("Too few arguments")
    match = _PATH.fullmatch(command[1]) if len(command) == 2 else None
    if command[0] not in _VERBS:
        return _fail(f"Unknown git command {' '.join(command[:1])}")
    if match is None:
        return _fail("Invalid repository path")
    mode = _VERBS[command[0]]
    allowed = _ask("GET", f"/serv/command/{key}/{match['owner']}/{match['repo']}?mode={mode}")
    environment = git.environment(load().data_directory) | {
        "SSH_ORIGINAL_COMMAND": command[0],
        "GITEA_REPO_ID": str(allowed["repo_id"]),
        "GITEA_PUSHER_ID": str(allowed["user_id"]),
    }
    if protocol := os.environ.get("GIT_PROTOCOL"):
        environment["GIT_PROTOCOL"] = protocol
    # git replaces this process, so an ssh session that ends early ends git too.
    arguments = ["git", command[0].removeprefix("git-"), allowed["path"]]
    return os.execvpe(arguments[0], arguments, environment)  # noqa: S606


def _fail(message: str) -> int:
    print(flush=True)
    print(
        f"error:\nerror: {message}\nerror:" if installed_release().since(1, 26) else f"Gitea: {message}",
        file=sys.stderr,
    )
    return 1


def _ask(method: str, path: str, document: object = None) -> dict[str, Any]:
    settings = load()
    connection = http.client.HTTPConnection("127.0.0.1", settings.http_port, timeout=60)
    body = b"" if document is None else json.dumps(document).encode()
    headers = {"X-Gitea-Internal-Auth": f"Bearer {settings.internal_token}"}
    try:
        connection.request(method, f"/api/internal{path}", body, headers)
        response = connection.getresponse()
        content = response.read()
    except OSError as error:
        raise CommandError(f"Failed to connect to the Gitea server, is it running? {error}") from error
    finally:
        connection.close()
    return _document(response.status, content)


def _document(status: int, content: bytes) -> dict[str, Any]:
    try:
        document = json.loads(content or b"{}")
    except ValueError:
        document = {}
    if status >= 400:
        raise _RefusedError(str(document.get("message", f"Internal Server Error ({status})")))
    return dict(document)
