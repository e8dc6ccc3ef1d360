"""Organizations, generic packages and LFS objects: rows in PostgreSQL, content in files named by its SHA-256."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

from werkzeug import Response
from werkzeug.exceptions import abort
from werkzeug.routing import Rule

from . import accounts, documents, repositories
from .api import AT, for_administrators, required, signed_in, text_of
from .context import Context, route
from .database import Duplicate, Row
from .release import Release
from .repositories import Repository, may_read, may_write, stored_file
from .web import challenge, empty, json_response, missing

_FILE = "/api/packages/<owner>/generic/<package>/<version>/<name>"
_LFS = "/<owner>/<repo>/info/lfs/objects"
_PRIVATE = documents.VISIBILITY.index("private")


def routes(_release: Release) -> list[Rule]:
    """Every path."""
    return [
        route("POST", f"{AT}/orgs", signed_in(create_organization)),
        route("GET", f"{AT}/orgs/<owner>", get_organization),
        route("DELETE", f"{AT}/orgs/<owner>", for_administrators(delete_organization)),
        route("PUT", _FILE, signed_in(publish)),
        route("GET", _FILE, get_package_file),
        route("DELETE", f"{AT}/packages/<owner>/generic/<package>/<version>", signed_in(delete_package)),
        route("POST", f"{_LFS}/batch", lfs_batch),
        route("PUT", f"{_LFS}/<oid>/<int:size>", lfs_upload),
        route("GET", f"{_LFS}/<oid>", lfs_download),
    ]


def create_organization(context: Context) -> Response:
    """201; 422 for a taken name."""
    document, now = context.request.document(), int(time.time())
    name = required(document, "username")
    if accounts.find_user(context.database, name):
        abort(422, f"user already exists [name: {name}]")
    # As in Gitea, an organization is a row among the users; it has no password and does not sign in.
    values: dict[str, object] = {"lower_name": name.lower(), "name": name, "email": "", "type": 1, "is_active": False}
    values |= {"description": text_of(document, "description"), "created_unix": now, "updated_unix": now}
    visibility = text_of(document, "visibility") or "public"
    if visibility not in documents.VISIBILITY:
        abort(422, "[Visibility]: In")
    row = context.database.insert('"user"', **values, visibility=documents.VISIBILITY.index(visibility))
    return json_response(documents.organization(context, row), 201)


def get_organization(context: Context) -> Response:
    """An organization; a private one does not exist for anonymous requests."""
    row = _owner(context, organization=True)
    if row["visibility"] == _PRIVATE and context.user is None:
        missing()
    return json_response(documents.organization(context, row))


def delete_organization(context: Context) -> Response:
    """204; 403 for accounts other than administrators, 422 while it has packages."""
    row = _owner(context, organization=True)
    if context.database.row("SELECT 1 AS one FROM package_file WHERE owner_id = %s", row["id"]):
        abort(422, f"user still has ownership of packages [uid: {row['id']}]")
    context.database.execute('DELETE FROM "user" WHERE id = %s', row["id"])
    return Response(status=204)


def publish(context: Context) -> Response:
    """201; 409 for a file that the version has already."""
    content, path = context.request.get_data(), context.path
    digest = hashlib.sha256(content).hexdigest()
    values = {"owner_id": _owner(context)["id"], **{name: path[name] for name in ("package", "version", "name")}}
    try:
        context.database.insert("package_file", **values, hash_sha256=digest)
    except Duplicate:
        abort(409, "package file already exists")
    store(context.settings.data_directory / "packages", digest, content)
    return empty(201)


def get_package_file(context: Context) -> Response:
    """The file; 401 for anonymous requests if the owner is private."""
    owner, path = _owner(context), context.path
    if owner["visibility"] == _PRIVATE and context.user is None:
        challenge("authGroup.Verify")
    query = "SELECT * FROM package_file WHERE owner_id = %s AND package = %s AND version = %s AND name = %s"
    row = context.database.row(query, owner["id"], path["package"], path["version"], path["name"])
    return stored(context.settings.data_directory / "packages", row["hash_sha256"] if row else "")


def delete_package(context: Context) -> Response:
    """204; 404 for an unknown version."""
    statement = "DELETE FROM package_file WHERE owner_id = %s AND package = %s AND version = %s"
    if not context.database.execute(statement, _owner(context)["id"], context.path["package"], context.path["version"]):
        missing()
    return Response(status=204)


def lfs_batch(context: Context) -> Response:
    """How each object is uploaded and verified: by this server, with the request's own credentials."""
    document, repository = context.request.document(), _lfs_repository(context, write=True)
    header = {"Authorization": context.request.headers["Authorization"]}
    chunked = {"Transfer-Encoding": "chunked"} if context.instance.release.since(1, 26) else {}
    url = f"{context.settings.root_url}{repository.full_name}.git/info/lfs"
    objects = []
    for each in document.get("objects") or []:
        upload = {"href": f"{url}/objects/{each['oid']}/{each['size']}", "header": header | chunked}
        verify = {"href": f"{url}/verify", "header": header | {"Accept": "application/vnd.git-lfs+json"}}
        objects.append({**each, "actions": {"upload": upload, "verify": verify}})
    return json_response({"objects": objects})


def lfs_upload(context: Context) -> Response:
    """200; 422 for content other than announced."""
    repository, oid = _lfs_repository(context, write=True), context.path["oid"]
    content = context.request.get_data()
    if (hashlib.sha256(content).hexdigest(), len(content)) != (oid, context.path["size"]):
        abort(422, "Upload does not match LFS MetaObject")
    insert = "INSERT INTO lfs_meta_object (oid, size, repository_id) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING"
    context.database.execute(insert, oid, len(content), repository.id)
    store(context.settings.repositories.parent / "lfs", oid, content)
    return empty(200)


def lfs_download(context: Context) -> Response:
    """The object."""
    repository = _lfs_repository(context, write=False)
    query = "SELECT oid FROM lfs_meta_object WHERE oid = %s AND repository_id = %s"
    row = context.database.row(query, context.path["oid"], repository.id)
    return stored(context.settings.repositories.parent / "lfs", row["oid"] if row else "")


def _lfs_repository(context: Context, *, write: bool) -> Repository:
    found = repositories.find(context.database, context.path["owner"], context.path["repo"].removesuffix(".git"))
    if context.user is None:
        challenge("Unauthorized")
    if found is None or not (may_write if write else may_read)(found, context.user):
        abort(404, "Not found.")
    return found


def _owner(context: Context, *, organization: bool = False) -> Row:
    query = 'SELECT * FROM "user" WHERE lower_name = %s AND type >= %s'
    return context.database.row(query, context.path["owner"].lower(), int(organization)) or missing()


def store(folder: Path, name: str, content: bytes) -> None:
    """Writes an attachment, a package's file or an LFS object."""
    path = stored_file(folder, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def stored(folder: Path, name: str) -> Response:
    """The stored file; 404 for a missing one, and for the name ""."""
    path = stored_file(folder, name)
    if not name or not path.exists():
        missing()
    return Response(path.read_bytes(), content_type="application/octet-stream")
