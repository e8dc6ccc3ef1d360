"""The canary of an update: one of everything that a site can hold, written before it, read and compared after it, removed.

It is the administrator's: a private repository with what a repository can hold, a private organization with a package, and
a public key without a private half. All requests go through nginx, as a user's do.
"""

from __future__ import annotations

import hashlib
import itertools
import secrets
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from ops.config.paths import LOCALHOST
from ops.config.schema import Site
from ops.errors import OpsError
from ops.images.versions import Release
from ops.model import Secret
from ops.world import World
from ops.world.https import Answer

# The name of the repository, the organization, the package and the key.
NAME = "ops-canary"
_MARK = "The canary of ops update: written before an update, read after it, then removed."
# A version before this one is not asked for a part, and the report says so. 1.22 is the oldest version whose answers to
# every one of these requests were recorded; a part that only later versions serve gets its own number here.
_SERVED_SINCE: Mapping[str, tuple[int, int]] = {
    "organization": (1, 22),
    "file": (1, 22),
    "label": (1, 22),
    "issue": (1, 22),
    "comment": (1, 22),
    "attachment": (1, 22),
    "release": (1, 22),
    "release file": (1, 22),
    "pull request": (1, 22),
    # 1.22 answers 404 to the first page of a wiki (tests/data/recordings).
    "wiki page": (1, 26),
    "LFS object": (1, 22),
    "package": (1, 22),
    "public key": (1, 22),
}
PARTS = tuple(_SERVED_SINCE)
# What was written may take a moment to be readable: Gitea's queues note a new branch, for example.
_READABLE_SECONDS = 10.0
_PAGE = 50
_BOUNDARY = "ops-canary-5f0c2d7e"
_LFS_TYPE = "application/vnd.git-lfs+json"


@dataclass(frozen=True)
class Part:
    """One object of the canary: the path that reads it, and the values that have to come back.

    A value's name is a path in the JSON document (``head.sha``, ``labels.0.name``); "" is the whole body in Base64.
    ``basic`` parts are read as git reads them, with the token as a password.
    """

    name: str
    path: str
    values: Mapping[str, Any]
    basic: bool = False


@dataclass(frozen=True)
class Written:
    """A written canary: the newest commit of its branch main, its parts, and the reason of each part that it lacks."""

    commit: str
    parts: tuple[Part, ...]
    skipped: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Compared:
    """A canary read back: a finding for each part that is not as it was, and whether content is missing or different.

    A part that Gitea only fails to serve, with 500 for example, is a finding and no lost content.
    """

    findings: tuple[str, ...]
    lost: bool


class _NotStoredError(Exception):
    """The running version does not store a part of the canary; the message says how it answers."""


def write(site: Site, world: World, token: Secret, release: Release) -> Written:
    """Write the canary and read it back; leftovers of an earlier one are removed first.

    ``release`` is the running version of Gitea. A part that it does not store or does not return is left out with the
    reason: a feature may be switched off, and what it cannot do says nothing about the next version. Raises OpsError if
    there can be no repository.
    """
    api = _Api(site, world, token)
    remove(site, world, token)
    writer = _Writer(api)
    commit = writer.repository()
    parts: list[Part] = []
    skipped: dict[str, str] = {}
    for name, make in writer.parts.items():
        if release.numbers < _SERVED_SINCE[name]:
            skipped[name] = f"Gitea {'.'.join(map(str, release.numbers))} is older than its first known version"
            continue
        try:
            parts.append(make())
        except _NotStoredError as error:
            skipped[name] = str(error)
        except (LookupError, TypeError, ValueError) as error:
            skipped[name] = f"Gitea's answer is not understood: {error!r}"
    returned = _await_readable(api, parts)
    skipped |= {part.name: "the running version does not return it" for part in parts if part not in returned}
    return Written(commit, returned, skipped)


def compare(site: Site, world: World, token: Secret, parts: Iterable[Part]) -> Compared:
    """Read every part and compare it with what was written."""
    return _compare(_Api(site, world, token), parts)


def remove(site: Site, world: World, token: Secret) -> None:
    """Remove the canary, as far as it exists; raises OpsError for a part that stays.

    The organization is removed only if its description is the canary's: its name may be a user's choice.
    """
    api = _Api(site, world, token)
    paths = [f"/api/v1/user/keys/{each['id']}" for each in _keys(api) if each["title"] == NAME]
    paths.append(f"/api/v1/repos/{api.repository}")
    organization = api.ask("GET", f"/api/v1/orgs/{NAME}")
    if organization.status == 200 and str(organization.json().get("description", "")).startswith(_MARK):
        paths += [f"/api/v1/packages/{NAME}/generic/{NAME}/1", f"/api/v1/orgs/{NAME}"]
    for path in paths:
        answer = api.ask("DELETE", path)
        if answer.status not in (204, 404):
            raise OpsError(
                f"Gitea answers {answer.status} to the removal of the canary at {path}",
                f"remove {NAME} by hand, in the settings of {site.gitea.admin_username}",
            )


def _keys(api: _Api) -> Iterator[Mapping[str, Any]]:
    """Yield every public key of the administrator; Gitea returns 50 at a time."""
    for page in itertools.count(1):
        answer = api.ask("GET", f"/api/v1/user/keys?limit={_PAGE}&page={page}")
        found: Sequence[Mapping[str, Any]] = answer.json() if answer.status == 200 else []
        yield from found
        if len(found) < _PAGE:
            return


def _await_readable(api: _Api, parts: Sequence[Part]) -> tuple[Part, ...]:
    """Wait until the running version returns every part, for some seconds, and return those that it returns."""
    began = api.world.clock.monotonic()
    while True:
        returned = tuple(part for part in parts if not _compare(api, [part]).findings)
        if len(returned) == len(parts) or api.world.clock.monotonic() - began > _READABLE_SECONDS:
            return returned
        api.world.clock.sleep(0.5)


def _compare(api: _Api, parts: Iterable[Part]) -> Compared:
    findings, lost = [], False
    for part in parts:
        answer = api.ask("GET", part.path, basic=part.basic)
        if answer.status != 200:
            findings.append(f"{part.name}: {part.path} answers {answer.status}")
            lost = lost or answer.status == 404
        elif different := [name for name, value in part.values.items() if _value(answer, name) != value]:
            findings.append(f"{part.name}: its {', '.join(name or 'content' for name in different)} changed")
            lost = True
    return Compared(tuple(findings), lost)


def _value(answer: Answer, name: str) -> Any:
    """Return a value of an answer by its name in ``Part.values``, None for a missing one."""
    if not name:
        return b64encode(answer.body).decode()
    try:
        found: Any = answer.json()
        for step in name.split("."):
            found = found[int(step) if isinstance(found, list) else step]
    except (ValueError, LookupError, TypeError):
        return None
    return found


class _Api:
    """Requests to the site as its administrator."""

    def __init__(self, site: Site, world: World, token: Secret) -> None:
        self.world = world
        self.administrator = site.gitea.admin_username
        self.repository = f"{self.administrator}/{NAME}"
        self._domain, self._token = site.domain, token

    def ask(
        self,
        method: str,
        path: str,
        document: Any = None,
        *,
        basic: bool = False,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send one request; bytes are sent as they are, any other document as JSON."""
        pair = b64encode(f"{self.administrator}:{self._token.reveal()}".encode()).decode()
        signed = {"Authorization": f"Basic {pair}" if basic else f"token {self._token.reveal()}"}
        return self.world.https.request(self._domain, LOCALHOST, method, path, signed | dict(headers or {}), document)

    def create(self, path: str, document: Any, *, method: str = "POST", status: int = 201, **more: Any) -> Answer:
        """Create something; raises _NotStoredError if Gitea does not answer with ``status``."""
        answer = self.ask(method, path, document, **more)
        if answer.status != status:
            raise _NotStoredError(f"Gitea answers {answer.status} to {method} {path}")
        return answer


class _Writer:
    """Writes the parts of the canary in their order; later ones need earlier ones."""

    def __init__(self, api: _Api) -> None:
        self._api = api
        self._at = f"/api/v1/repos/{api.repository}"
        self._made: dict[str, Any] = {}
        self.parts: Mapping[str, Callable[[], Part]] = {
            "organization": self._organization,
            "file": self._file,
            "label": self._label,
            "issue": self._issue,
            "comment": self._comment,
            "attachment": lambda: self._attach("attachment", f"issues/{self._need('issue')}", "canary.txt"),
            "release": self._release,
            "release file": lambda: self._attach("release file", f"releases/{self._need('release')}", "canary.zip"),
            "pull request": self._pull_request,
            "wiki page": self._wiki_page,
            "LFS object": self._lfs_object,
            "package": self._package,
            "public key": self._public_key,
        }

    def repository(self) -> str:
        """Create the private repository with its first commit, and return that."""
        request = {"name": NAME, "private": True, "auto_init": True, "default_branch": "main", "description": _MARK}
        answer = self._api.ask("POST", "/api/v1/user/repos", request)
        if answer.status != 201:
            raise OpsError(
                f"Gitea answers {answer.status} to the creation of {self._api.repository}",
                "look at docker logs of gitea",
            )
        clock = self._api.world.clock
        began = clock.monotonic()
        while (answer := self._api.ask("GET", f"{self._at}/branches/main")).status != 200:
            if clock.monotonic() - began > _READABLE_SECONDS:
                raise OpsError(
                    f"Gitea answers {answer.status} for the branch of {self._api.repository}",
                    "look at docker logs of gitea",
                )
            clock.sleep(0.5)
        return str(answer.json()["commit"]["id"])

    def _organization(self) -> Part:
        document = {"username": NAME, "visibility": "private", "description": f"{_MARK} {secrets.token_hex(8)}"}
        if self._api.ask("GET", f"/api/v1/orgs/{NAME}").status == 200:
            raise _NotStoredError(f"an organization {NAME} exists that is not the canary's")
        self._api.create("/api/v1/orgs", document)
        self._made["organization"] = NAME
        return Part("organization", f"/api/v1/orgs/{NAME}", {"description": document["description"]})

    def _file(self) -> Part:
        content = b64encode(_text("file").encode()).decode()
        document = {"content": content, "message": "Add the canary", "new_branch": "side"}
        path = f"{self._at}/contents/canary.txt"
        self._made["file"] = self._api.create(path, document).json()["commit"]["sha"]
        return Part("file", f"{path}?ref=side", {"content": content})

    def _label(self) -> Part:
        document = {"name": "canary", "color": "70c24a", "description": f"label {secrets.token_hex(8)}"}
        self._made["label"] = self._api.create(f"{self._at}/labels", document).json()["id"]
        issue = {"title": "labelled", "labels": [self._made["label"]]}
        number = self._api.create(f"{self._at}/issues", issue).json()["number"]
        values = {f"labels.0.{name}": value for name, value in document.items()}
        return Part("label", f"{self._at}/issues/{number}", values)

    def _issue(self) -> Part:
        document = {"title": f"issue {secrets.token_hex(8)}", "body": _text("issue")}
        self._made["issue"] = self._api.create(f"{self._at}/issues", document).json()["number"]
        return Part("issue", f"{self._at}/issues/{self._made['issue']}", document)

    def _comment(self) -> Part:
        document = {"body": _text("comment")}
        made = self._api.create(f"{self._at}/issues/{self._need('issue')}/comments", document).json()
        return Part("comment", f"{self._at}/issues/comments/{made['id']}", document)

    def _attach(self, part: str, owner: str, name: str) -> Part:
        content = secrets.token_bytes(1000)
        head = f'Content-Disposition: form-data; name="attachment"; filename="{name}"\r\n'
        head += "Content-Type: application/octet-stream\r\n\r\n"
        body = f"--{_BOUNDARY}\r\n{head}".encode() + content + f"\r\n--{_BOUNDARY}--\r\n".encode()
        headers = {"Content-Type": f"multipart/form-data; boundary={_BOUNDARY}"}
        made = self._api.create(f"{self._at}/{owner}/assets?name={name}", body, headers=headers).json()
        return Part(part, urlsplit(made["browser_download_url"]).path, _whole(content))

    def _release(self) -> Part:
        document = {"tag_name": "v1", "name": f"release {secrets.token_hex(8)}", "body": _text("release")}
        made = self._api.create(f"{self._at}/releases", {**document, "target_commitish": "main"}).json()
        self._made["release"] = made["id"]
        return Part("release", f"{self._at}/releases/{made['id']}", document)

    def _pull_request(self) -> Part:
        document = {"title": f"pull request {secrets.token_hex(8)}", "body": _text("pull request")}
        values = {**document, "head.sha": self._need("file"), "base.ref": "main"}
        made = self._api.create(f"{self._at}/pulls", {**document, "head": "side", "base": "main"}).json()
        return Part("pull request", f"{self._at}/pulls/{made['number']}", values)

    def _wiki_page(self) -> Part:
        content = b64encode(_text("wiki page").encode()).decode()
        document = {"title": "Canary", "content_base64": content, "message": "Add the canary"}
        made = self._api.create(f"{self._at}/wiki/new", document).json()
        return Part("wiki page", f"{self._at}/wiki/page/{made['sub_url']}", {"content_base64": content})

    def _lfs_object(self) -> Part:
        content = secrets.token_bytes(1000)
        oid, url = hashlib.sha256(content).hexdigest(), f"/{self._api.repository}.git/info/lfs/objects"
        batch = {"operation": "upload", "transfers": ["basic"], "objects": [{"oid": oid, "size": len(content)}]}
        headers = {"Accept": _LFS_TYPE, "Content-Type": _LFS_TYPE}
        answer = self._api.create(f"{url}/batch", batch, status=200, basic=True, headers=headers)
        href = answer.json()["objects"][0]["actions"]["upload"]["href"]
        self._api.create(urlsplit(href).path, content, method="PUT", status=200, basic=True)
        return Part("LFS object", f"{url}/{oid}", _whole(content), basic=True)

    def _package(self) -> Part:
        content = secrets.token_bytes(1000)
        path = f"/api/packages/{self._need('organization')}/generic/{NAME}/1/canary.bin"
        self._api.create(path, content, method="PUT")
        return Part("package", path, _whole(content))

    def _public_key(self) -> Part:
        # A random point: there is no private half that could sign in with it.
        wire = b"\0\0\0\x0bssh-ed25519\0\0\0\x20" + secrets.token_bytes(32)
        document = {"title": NAME, "key": f"ssh-ed25519 {b64encode(wire).decode()}"}
        made = self._api.create("/api/v1/user/keys", {**document, "read_only": True}).json()
        return Part("public key", f"/api/v1/user/keys/{made['id']}", document)

    def _need(self, name: str) -> Any:
        if name not in self._made:
            raise _NotStoredError(f"it needs the {name}")
        return self._made[name]


def _whole(content: bytes) -> dict[str, str]:
    return {"": b64encode(content).decode()}


def _text(name: str) -> str:
    """Return a text of a few kilobytes that no other text equals: cut off, re-encoded or emptied, it differs."""
    lines = [f"{number}: größer, 'quoted', \"twice\", <b>, \\, 🦜 {secrets.token_hex(16)}" for number in range(40)]
    return "\n".join([f"{_MARK} This is its {name}.", *lines, "The end."])
