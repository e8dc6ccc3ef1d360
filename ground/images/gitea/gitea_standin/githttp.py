"""Smart HTTP: git's own http-backend with streamed input and output."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import threading
from collections.abc import Iterator
from io import BufferedReader
from typing import IO, cast

from werkzeug import Response
from werkzeug.exceptions import ClientDisconnected, HTTPException, abort
from werkzeug.routing import Rule

from . import git, log
from .accounts import find_user
from .context import Context, route
from .http_server import BODY_TAKEN
from .release import Release
from .repositories import Repository, find, may_read, path_of
from .web import challenge

_PIECE = 65536
_PROGRAM = "/usr/lib/git-core/git-http-backend"
_PROTOCOL = re.compile(r"[0-9A-Za-z]+=[0-9A-Za-z]+(:[0-9A-Za-z]+=[0-9A-Za-z]+)*")
_SERVICES = ("git-upload-pack", "git-receive-pack")


def routes(_release: Release) -> list[Rule]:
    """The paths of clones and pushes."""
    return [
        route("GET", "/<owner>/<repo>/info/refs", info_refs),
        route("POST", "/<owner>/<repo>/<any('git-upload-pack', 'git-receive-pack'):service>", service_rpc),
    ]


def info_refs(context: Context) -> Response:
    """The first request of a clone or a push."""
    service = context.request.args.get("service", "")
    if service not in _SERVICES:
        abort(400, "unknown git service")
    repository = _authorized(context, service)
    return _backend(context, repository, service, "/info/refs", {"QUERY_STRING": f"service={service}"})


def service_rpc(context: Context) -> Response:
    """The second request of a clone or a push, which carries the data."""
    service = context.path["service"]
    repository = _authorized(context, service)
    kind = f"application/x-{service}-request"
    if context.request.headers.get("Content-Type") != kind:
        abort(400, "wrong content type for this git service")
    return _backend(context, repository, service, f"/{service}", {"CONTENT_TYPE": kind})


def _authorized(context: Context, service: str) -> Repository:
    """The repository, when the user may use the service on it; aborts otherwise."""
    owner = find_user(context.database, context.path["owner"]) or abort(404, "Not found.")
    repository = find(context.database, owner.name, context.path["repo"].removesuffix(".git"))
    public_pull = repository is not None and not repository.is_private and service == "git-upload-pack"
    if context.user is None and not public_pull:
        challenge("Unauthorized")
    if repository is None and service == "git-receive-pack":
        abort(403, "Push to create is not enabled for users.")
    # As in Gitea, the pre-receive hook checks the permission to write; reading is enough here.
    if repository is None or not may_read(repository, context.user):
        abort(404, "Repository not found")
    return repository


def _backend(context: Context, repository: Repository, service: str, tail: str, extra: dict[str, str]) -> Response:
    # Without the git wrapper, as leader of its own process group: a signal must reach every process that it starts.
    process = subprocess.Popen(
        [_PROGRAM],
        start_new_session=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=_environment(context, repository, service, tail) | extra,
    )
    context.request.environ[BODY_TAKEN] = True
    body = cast("IO[bytes]", context.request.environ["wsgi.input"])
    feeder = threading.Thread(target=_feed, args=(body, process), daemon=True)
    feeder.start()
    try:
        status, headers = _read_head(_output(process))
        # As in Gitea, the response begins after git's answer: a proxy may stop forwarding a push on an early head.
        _output(process).peek(1)
    except HTTPException:
        _finish(process, feeder)
        raise
    pieces = _pieces(process, feeder)
    # A generator that never started would not stop git when the client leaves before the first byte.
    next(pieces)
    return Response(pieces, status, headers)


def _output(process: subprocess.Popen[bytes]) -> BufferedReader:
    return cast("BufferedReader", process.stdout)


def _environment(context: Context, repository: Repository, service: str, tail: str) -> dict[str, str]:
    request, user = context.request, context.user
    folder = path_of(context.settings, repository)
    result = git.environment(context.settings.data_directory) | {
        "GIT_PROJECT_ROOT": str(folder.parent),
        "PATH_INFO": f"/{folder.name}{tail}",
        "GIT_HTTP_EXPORT_ALL": "1",
        "REQUEST_METHOD": request.method,
        "REMOTE_ADDR": request.remote_addr or "",
        "SSH_ORIGINAL_COMMAND": service,
        "GITEA_REPO_ID": str(repository.id),
        "GITEA_PUSHER_ID": str(user.id if user else 0),
        "REMOTE_USER": user.name if user else "",
    }
    # Without the length: with it, http-backend spins forever when a client disconnects before the end.
    if encoding := request.headers.get("Content-Encoding"):
        result["HTTP_CONTENT_ENCODING"] = encoding
    if _PROTOCOL.fullmatch(protocol := request.headers.get("Git-Protocol", "")):
        result["GIT_PROTOCOL"] = protocol
    return result


def _feed(body: IO[bytes], process: subprocess.Popen[bytes]) -> None:
    stdin = cast("IO[bytes]", process.stdin)
    try:
        while piece := body.read(_PIECE):
            stdin.write(piece)
        stdin.close()
    except (OSError, ValueError, ClientDisconnected) as error:
        if not isinstance(error, BrokenPipeError):
            # The client left in the middle of a push: git must not take the received part for the whole.
            _stop(process)
        with contextlib.suppress(OSError):
            stdin.close()


def _read_head(stdout: IO[bytes]) -> tuple[int, dict[str, str]]:
    status, headers = 200, {}
    while line := stdout.readline().strip():
        name, _, value = line.decode("latin-1").partition(":")
        if name.lower() == "status":
            status = int(value.split()[0])
        else:
            headers[name] = value.strip()
    return (status, headers) if headers else abort(500, "git http-backend gave no answer")


def _pieces(process: subprocess.Popen[bytes], feeder: threading.Thread) -> Iterator[bytes]:
    try:
        yield b""
        while piece := _output(process).read1(_PIECE):
            yield piece
    except GeneratorExit:
        # The client left before the end, so the rest of git's output has no reader.
        _stop(process)
        raise
    finally:
        _finish(process, feeder)


def _stop(process: subprocess.Popen[bytes]) -> None:
    # SIGTERM, not SIGKILL: git removes its temporary files.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)


def _finish(process: subprocess.Popen[bytes], feeder: threading.Thread) -> None:
    try:
        code = process.wait(timeout=30)
    except subprocess.TimeoutExpired:
        _stop(process)
        code = process.wait()
    _output(process).close()
    feeder.join(timeout=5)
    if code != 0:
        log.error("repo/githttp.go:serviceRPC()", f"git http-backend ended with {code}")
