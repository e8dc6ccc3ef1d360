"""Recordings of real Gitea (tests/data/recordings): their requests sent again, and the answers compared with the recorded ones."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from tests.support.gitea_contract import METRICS_TOKEN, Gitea, Worktree, execute

DATA = Path(__file__).parents[1] / "data/recordings"
VERSIONS = tuple(sorted(each.name for each in DATA.iterdir() if each.is_dir()))
DOMAIN = "git.example.test"
ADMIN, PASSWORD = "root-admin", "correct-horse-1"
KINDS = ("http", "git", "commands")
_LFS_CONTENT = b"ten bytes\n"
_OID = hashlib.sha256(_LFS_CONTENT).hexdigest()
# The recorded requests that a signed-in browser sent.
_BROWSER = {"sign in by form", "dashboard, signed in", "web socket path, signed in, no upgrade", "events, signed in"}
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[.0-9]*(?:Z|[+-]\d\d:\d\d)")
_LOG_HEAD = re.compile(r"^(?:TIME|\d{4}/\d\d/\d\d \d\d:\d\d:\d\d) \S+ (?=\[[A-Z]\] )", re.MULTILINE)


@dataclass(frozen=True)
class Listed:
    """A recorded answer that the stand-in does not give: why, and which parts of it (exit, streams) it gives all the same."""

    reason: str
    given: tuple[str, ...] = ()


@dataclass(frozen=True)
class Compared:
    """One recorded request sent again: what differs, by the part of the answer."""

    kind: str
    name: str
    differences: Mapping[str, str] = field(default_factory=dict)


def load(version: str, name: str) -> Any:
    """Return a file of a recording."""
    return json.loads((DATA / version / f"{name}.json").read_text(encoding="utf-8"))


def unserved() -> Mapping[str, Any]:
    """Return what the stand-in does not serve, as listed."""
    return tomllib.loads((DATA / "unserved.toml").read_text(encoding="utf-8"))


def listed(version: str) -> dict[tuple[str, str], Listed]:
    """Return the listed answers of a version by kind and name."""
    return {
        (kind, name): Listed(entry["reason"], tuple(entry.get("given", ())))
        for kind in KINDS
        for entry in unserved()[kind]
        if version in entry.get("versions", VERSIONS)
        for name in entry["names"]
    }


def faults(version: str, results: Iterable[Compared]) -> list[str]:
    """Return each answer that differs and is not listed, and each that is listed and does not differ."""
    expected = listed(version)
    found = []
    for each in results:
        entry = expected.pop((each.kind, each.name), None)
        differences = dict(each.differences)
        if entry and not differences:
            found.append(f"{each.kind}: {each.name!r} is served: remove it from unserved.toml")
        elif entry:
            differences = {part: differences[part] for part in entry.given if part in differences}
        found += [f"{each.kind}: {each.name!r}: {part}: {text}" for part, text in differences.items()]
    return [*found, *(f"{kind}: {name!r} is listed and not recorded" for kind, name in expected)]


def shape_of(value: Any) -> Any:
    """Return the shape of a JSON value: names with types; a list has the shape of its first element."""
    if isinstance(value, dict):
        return {name: shape_of(each) for name, each in value.items()}
    if isinstance(value, list):
        return [shape_of(each) for each in value[:1]]
    return "null" if value is None else type(value).__name__


@dataclass
class Replay:
    """One recording, sent to a running Gitea in its order."""

    version: str
    gitea: Gitea
    work: Worktree
    database: str
    results: list[Compared] = field(default_factory=list)
    _address: str = ""
    _url: str = ""
    _token: str = ""
    _browser: requests.Session = field(default_factory=requests.Session)

    def run(self, stop_database: Callable[[], None]) -> tuple[Compared, ...]:
        """Send every request; the last ones come after `stop_database`."""
        # Asked once: each time is a request to the engine.
        self._address, self._url = self.gitea.address, self.gitea.url
        http, commands = load(self.version, "http"), load(self.version, "commands")
        accounts = _index(commands, "a token from the command line") + 1
        first_git, away = _index(http, "info/refs, protocol 2"), _index(http, "health, database away")
        commands_away = _index(commands, "list accounts, database away")
        self._each(self._command, commands[:accounts])
        self._each(self._request, http[:first_git])
        self.work.begin()
        self.work.commit("a", b"a")
        self._each(self._git, load(self.version, "git"))
        self._each(self._request, http[first_git:away])
        self._each(self._command, commands[accounts:commands_away])
        stop_database()
        self._each(self._request, http[away:])
        self._each(self._command, commands[commands_away:])
        return tuple(self.results)

    def _each(self, send: Callable[[Mapping[str, Any]], Compared], recorded: Sequence[Mapping[str, Any]]) -> None:
        self.results += [send(each) for each in recorded]

    def _request(self, recorded: Mapping[str, Any]) -> Compared:
        name, answer = recorded["name"], recorded["answer"]
        with self._sent(name, recorded["request"]) as response:
            differences = {}
            if response.status_code != answer["status"]:
                differences["status"] = f"{response.status_code} instead of {answer['status']}"
            if "headers" in answer and (different := _different_headers(response, answer["headers"])):
                differences["headers"] = different
            lines = response.iter_lines(chunk_size=1, decode_unicode=True)
            if "first_lines" in answer:
                got: Any = [next(lines, "(end)") for _ in answer["first_lines"]]
                differences |= _difference("body", got, answer["first_lines"])
            else:
                differences |= self._different_body(response, answer)
            if name == "make a token" and response.status_code == 201:
                self._token = response.json()["sha1"]
        return Compared("http", name, differences)

    def _sent(self, name: str, request: Mapping[str, Any]) -> requests.Response:
        options: dict[str, Any] = {"headers": {"Host": DOMAIN, **self._headers(name, request)}}
        if "basic_auth" in request:
            options["auth"] = tuple(request["basic_auth"])
        if "json" in request:
            options["json"] = json.loads(json.dumps(request["json"]).replace("PUBLIC-KEY", self.work.public_key))
        if "body_bytes" in request:
            options["data"] = bytes(request["body_bytes"])
        if "multipart" in request:
            options["files"] = {part: (file, _content_of(file)) for part, file in request["multipart"].items()}
        if "form" in request:
            options["data"] = self._filled_in(request["form"])
        if name == "LFS batch, upload":
            options["json"]["objects"] = [{"oid": _OID, "size": len(_LFS_CONTENT)}]
        if name == "LFS upload":
            options |= {"data": _LFS_CONTENT, "auth": (ADMIN, PASSWORD)}
        url = f"{self._url}{request['path'].replace('OID', _OID)}"
        send = self._browser.request if name in _BROWSER else requests.request
        return send(request["method"], url, stream=True, allow_redirects=False, timeout=30, **options)

    def _filled_in(self, form: Mapping[str, str]) -> dict[str, str]:
        # The session looks for cookies by the name in this header.
        self._browser.get(f"{self._url}/user/login", headers={"Host": DOMAIN}, timeout=20)
        given = {"password": PASSWORD, "_csrf": self._browser.cookies.get("_csrf") or ""}
        return {name: given.get(name, value) for name, value in form.items()}

    def _headers(self, name: str, request: Mapping[str, Any]) -> dict[str, str]:
        secret = {
            "metrics, right token": METRICS_TOKEN,
            "metrics, wrong token": "wrong",
            "who am I, bad token": "0" * 40,
        }.get(name, self._token)
        return {header: value.replace("VALUE", secret) for header, value in request.get("headers", {}).items()}

    def _different_body(self, response: requests.Response, answer: Mapping[str, Any]) -> dict[str, str]:
        if "text" in answer:
            got = self._masked(response.text)[: max(len(answer["text"]), 200)]
            return _difference("body", got[: len(answer["text"])] if len(answer["text"]) > 200 else got, answer["text"])
        if "json" not in answer and "shape" not in answer:
            return {}
        try:
            document = response.json()
        except ValueError:
            return {"body": f"no JSON: {response.text[:200]!r}"}
        if "json" in answer:
            return _difference("body", self._masked_json(document), answer["json"])
        return _difference("body", shape_of(document), answer["shape"])

    def _masked(self, text: str) -> str:
        for found, mask in (
            (self.database, "DBHOST"),
            (f"{self._address}:3000", DOMAIN),
            (self._address, "ADDRESS"),
        ):
            text = text.replace(found, mask)
        return _TIME.sub("TIME", text)

    def _masked_json(self, document: Any, name: str = "") -> Any:
        if isinstance(document, dict):
            return {key: self._masked_json(value, key) for key, value in document.items()}
        if isinstance(document, list):
            return [self._masked_json(each) for each in document]
        if not isinstance(document, str):
            return document
        named = {"sha1": "TOKEN", "token": "TOKEN", "token_last_eight": "TOKEN-END", "sha": "SHA1"}
        uuid = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
        return named.get(name) or uuid.sub("UUID", self._masked(document))

    def _git(self, recorded: Mapping[str, Any]) -> Compared:
        folder, name = self.work.folder.parent, recorded["name"]
        argv = [
            each.replace(DOMAIN, f"{self._address}:3000").replace("ADDRESS", self._address)
            for each in recorded["command"]
        ]
        argv = [each.replace("WORK", str(folder)) for each in argv]
        work = self.work
        if name == "push over ssh":
            work = Worktree(folder / "ks", self.work.environment)
            work.commit("more", b"more")
        if argv[0] == "ssh":
            argv = [*self._ssh(unknown=name == "ssh, unknown key"), f"git@{self._address}", *argv[2:]]
        done = subprocess.run(
            argv,
            cwd=work.folder,
            env=dict(work.environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        got = (done.returncode, self._masked_git(done.stdout), self._masked_git(done.stderr))
        recorded_streams = (_without_numbers(recorded["stdout"]), _without_numbers(recorded["stderr"]))
        return Compared("git", name, _different_run(got, (recorded["exit"], *recorded_streams)))

    def _ssh(self, *, unknown: bool) -> list[str]:
        command = self.work.environment["GIT_SSH_COMMAND"].split()
        if unknown:
            other = self.work.folder.parent / "other-key"
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(other)], check=True)
            command[command.index("-i") + 1] = str(other)
        return command

    def _masked_git(self, text: str) -> str:
        return _without_numbers(self._masked(text.replace(str(self.work.folder.parent), "WORK")))

    def _command(self, recorded: Mapping[str, Any]) -> Compared:
        done = execute(self.gitea.container, recorded["command"], recorded["user"])
        out, err = self._masked_command(done.stdout), self._masked_command(done.stderr)
        expected = (recorded["exit"], *(self._masked_command(recorded[stream]) for stream in ("stdout", "stderr")))
        return Compared("commands", recorded["name"], _different_run((done.returncode, out, err), expected))

    def _masked_command(self, text: str) -> str:
        text = _LOG_HEAD.sub("LOG ", self._masked(text))
        text = re.sub(r"built with .*", "built with COMPILER", text)
        text = re.sub(r"generated random password is '[^']+'", "generated random password is 'PASSWORD'", text)
        return re.sub(r"^(?:[A-Za-z0-9]{40}|TOKEN(?:40)?)$", "TOKEN", text, flags=re.MULTILINE)


def _index(recorded: Sequence[Mapping[str, Any]], name: str) -> int:
    return [each["name"] for each in recorded].index(name)


def _content_of(file: str) -> bytes:
    return bytes(1000) if file.endswith(".bin") else b"attached\n"


def _difference(part: str, got: Any, recorded: Any) -> dict[str, str]:
    if got == recorded:
        return {}
    if isinstance(got, dict) and isinstance(recorded, dict):
        names = [name for name in {**got, **recorded} if got.get(name, part) != recorded.get(name, part)]
        got, recorded = ({name: each.get(name, "(missing)") for name in names} for each in (got, recorded))
    return {part: f"{got!r} instead of {recorded!r}"}


def _different_run(got: tuple[int, str, str], recorded: tuple[int, str, str]) -> dict[str, str]:
    differences = _difference("exit", got[0], recorded[0])
    differences |= _difference("streams", [bool(each) for each in got[1:]], [bool(each) for each in recorded[1:]])
    for number, stream in enumerate(("stdout", "stderr"), 1):
        differences |= _difference(stream, got[number], recorded[number])
    return differences


def _different_headers(response: requests.Response, recorded: Mapping[str, str]) -> str:
    got = {name.lower(): value for name, value in response.headers.items() if name.lower() in HEADERS}
    got |= {"last-modified": "TIME"} if "last-modified" in got else {}
    expected = dict(recorded) | ({"last-modified": "TIME"} if "last-modified" in recorded else {})
    cookies = response.raw.headers.getlist("Set-Cookie")
    if cookies:
        got["set-cookie"] = _cookies(cookies)
    if "set-cookie" in expected:
        expected["set-cookie"] = _cookies(expected["set-cookie"].split(", "))
    return next(iter(_difference("", got, expected).values()), "")


def _cookies(cookies: Iterable[str]) -> str:
    """Return cookies without values, in one order."""
    return ", ".join(sorted("; ".join(sorted(re.sub(r"=[^;]*", "", each).split("; "))) for each in cookies))


def _without_numbers(text: str) -> str:
    text = re.sub(r"\b[0-9a-f]{40}\b", "SHA1", text)
    return re.sub(r"\b[0-9a-f]{7}\.\.[0-9a-f]{7}\b", "OLD..NEW", text)


HEADERS = frozenset(
    name for version in VERSIONS for each in load(version, "http") for name in each["answer"].get("headers", {})
)
