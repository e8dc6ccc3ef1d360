"""Smart HTTP: git's own http-backend, fed and drained as a stream."""

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

from . import git, log
from .accounts import find_user
from .context import Context
from .messages import Body, HttpError, Request, Response
from .repositories import Repository, find, may_read, path_of

_PIECE = 65536
_PROGRAM = "/usr/lib/git-core/git-http-backend"
_PROTOCOL = re.compile(r"[0-9A-Za-z]+=[0-9A-Za-z]+(:[0-9A-Za-z]+=[0-9A-Za-z]+)*")
_SERVICES = ("git-upload-pack", "git-receive-pack")


def info_refs(context: Context) -> Response:
    """The first request of a clone or a push."""
    service = context.request.query.get("service", "")
    if service not in _SERVICES:
        raise HttpError(400, "unknown git service")
    repository = _admitted(context, service)
    return _backend(context, repository, service, "/info/refs", {"QUERY_STRING": f"service={service}"})


def service_rpc(context: Context) -> Response:
    """The second request of a clone or a push, which carries the data."""
    service = context.parts["service"]
    repository = _admitted(context, service)
    kind = f"application/x-{service}-request"
    if context.request.header("Content-Type") != kind:
        raise HttpError(400, "wrong content type for this git service")
    return _backend(context, repository, service, f"/{service}", {"CONTENT_TYPE": kind})


def _admitted(context: Context, service: str) -> Repository:
    """The repository asked for, when the one who asks may use it so. Raises HttpError."""
    owner = find_user(context.database, context.parts["owner"])
    if owner is None:
        raise HttpError(404, "Not found.")
    repository = find(context.database, owner.name, context.parts["repo"].removesuffix(".git"))
    public_pull = repository is not None and not repository.is_private and service == "git-upload-pack"
    if context.user is None and (not public_pull or context.settings.require_sign_in):
        raise HttpError(401, "Unauthorized", {"WWW-Authenticate": 'Basic realm="Gitea"'})
    if repository is None and service == "git-receive-pack":
        raise HttpError(403, "Push to create is not enabled for users.")
    # Whether a push may write is asked by the pre-receive hook, as in Gitea: here reading is enough.
    if repository is None or not may_read(repository, context.user):
        raise HttpError(404, "Repository not found")
    return repository


def _backend(context: Context, repository: Repository, service: str, tail: str, extra: dict[str, str]) -> Response:
    # Started without the git wrapper, leading a group of its own: what ends it must reach all it started.
    process = subprocess.Popen(
        [_PROGRAM],
        start_new_session=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=_environment(context, repository, service, tail) | extra,
    )
    feeder = threading.Thread(target=_feed, args=(context.request.body, process), daemon=True)
    feeder.start()
    context.request.body_taken = True
    try:
        status, headers = _read_head(_output(process))
        # Gitea answers when git has, not before: a proxy may take an early head for a reason to stop passing the push on.
        _output(process).peek(1)
    except HttpError:
        _finish(process, feeder)
        raise
    pieces = _pieces(process, feeder)
    # Begun here: a generator that never began would not end git when the client is gone before the first byte.
    next(pieces)
    return Response(status, headers, None, pieces)


def _output(process: subprocess.Popen[bytes]) -> BufferedReader:
    return cast("BufferedReader", process.stdout)


def _input(process: subprocess.Popen[bytes]) -> IO[bytes]:
    return cast("IO[bytes]", process.stdin)


def _environment(context: Context, repository: Repository, service: str, tail: str) -> dict[str, str]:
    request, user = context.request, context.user
    folder = path_of(context.settings, repository)
    result = git.environment(context.settings.data_directory) | {
        "GIT_PROJECT_ROOT": str(folder.parent),
        "PATH_INFO": f"/{folder.name}{tail}",
        "GIT_HTTP_EXPORT_ALL": "1",
        "REQUEST_METHOD": request.method,
        "REMOTE_ADDR": request.client,
        "SSH_ORIGINAL_COMMAND": service,
        "GITEA_REPO_ID": str(repository.id),
        "GITEA_PUSHER_ID": str(user.id if user else 0),
        "REMOTE_USER": user.name if user else "",
    }
    return result | _body_headers(request)


def _body_headers(request: Request) -> dict[str, str]:
    # The length stays out: told one, http-backend spins for ever when a client breaks off before it.
    result = {}
    if encoding := request.header("Content-Encoding"):
        result["HTTP_CONTENT_ENCODING"] = encoding
    if _PROTOCOL.fullmatch(request.header("Git-Protocol")):
        result["GIT_PROTOCOL"] = request.header("Git-Protocol")
    return result


def _feed(body: Body, process: subprocess.Popen[bytes]) -> None:
    stdin = _input(process)
    try:
        while piece := body.read(_PIECE):
            stdin.write(piece)
        stdin.close()
    except BrokenPipeError:
        _discard(stdin)
    except OSError:
        # The client is gone in the middle of a push: git must not take what came for the whole.
        _end(process)
        _discard(stdin)


def _discard(stdin: IO[bytes]) -> None:
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
    if not headers:
        raise HttpError(500, "git http-backend said nothing")
    return status, headers


def _pieces(process: subprocess.Popen[bytes], feeder: threading.Thread) -> Iterator[bytes]:
    try:
        yield b""
        while piece := _output(process).read1(_PIECE):
            yield piece
    except GeneratorExit:
        # The client left before the end: nobody waits for what git still does.
        _end(process)
        raise
    finally:
        _finish(process, feeder)


def _end(process: subprocess.Popen[bytes]) -> None:
    # SIGTERM, not SIGKILL: git takes its half-written files away.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)


def _finish(process: subprocess.Popen[bytes], feeder: threading.Thread) -> None:
    try:
        code = process.wait(timeout=30)
    except subprocess.TimeoutExpired:
        _end(process)
        code = process.wait()
    _output(process).close()
    feeder.join(timeout=5)
    if code != 0:
        log.error("repo/githttp.go:serviceRPC()", f"git http-backend ended with {code}")
