"""The API of what a repository holds besides its commits: files by API, labels, comments, releases, pull requests, wiki."""

from __future__ import annotations

import time
import uuid
from base64 import b64decode, b64encode
from pathlib import Path
from typing import Any

from werkzeug import Response
from werkzeug.exceptions import abort
from werkzeug.routing import Rule

from . import git, issues, repositories
from .api import BRANCH, NOT_FOUND, REPO, repository_of, required, signed_in, text_of
from .context import Context, Handler, route
from .database import Row
from .issues import Issue
from .repositories import Repository, commit_file, may_read, may_write, path_of, wiki_path_of
from .storage import store, stored
from .web import json_response


def routes() -> list[Rule]:
    """Every path."""
    return [
        route("GET", f"{REPO}/contents/<name>", signed_in(get_file)),
        route("POST", f"{REPO}/contents/<name>", _writing(add_file)),
        route("POST", f"{REPO}/labels", _writing(add_label)),
        route("POST", f"{REPO}/issues/<int:index>/comments", signed_in(add_comment)),
        route("GET", f"{REPO}/issues/comments/<int:id>", signed_in(get_comment)),
        route("POST", f"{REPO}/issues/<int:index>/assets", _writing(attach)),
        route("POST", f"{REPO}/releases", _writing(add_release)),
        route("GET", f"{REPO}/releases/<int:id>", signed_in(get_release)),
        route("POST", f"{REPO}/releases/<int:id>/assets", _writing(attach)),
        route("POST", f"{REPO}/pulls", _writing(add_pull_request)),
        route("GET", f"{REPO}/pulls/<int:index>", signed_in(get_pull_request)),
        route("POST", f"{REPO}/wiki/new", _writing(add_page)),
        route("GET", f"{REPO}/wiki/page/<name>", signed_in(get_page)),
        route("GET", "/attachments/<uuid>", get_attachment),
    ]


def add_file(context: Context) -> Response:
    """201 with the commit; the file goes onto a new branch."""
    repository, document = repository_of(context), context.request.document()
    content, branch = b64decode(required(document, "content")).decode(), _branch(required(document, "new_branch"))
    new = (context.path["name"], content, required(document, "message"))
    folder, author = path_of(context.settings, repository), context.me.name
    commit = commit_file(context.settings, folder, author, new, to=branch, base=repository.default_branch)
    return json_response({"content": {"name": new[0]}, "commit": {"sha": commit}}, 201)


def get_file(context: Context) -> Response:
    """A file of a branch."""
    repository, name = repository_of(context), context.path["name"]
    branch = context.request.args.get("ref", repository.default_branch)
    content = _text_of_file(context, path_of(context.settings, repository), f"{_branch(branch)}:{name}")
    return json_response({"name": name, "encoding": "base64", "content": _encoded(content)})


def add_label(context: Context) -> Response:
    """201 with the label; its colour loses the number sign."""
    document = context.request.document()
    label: dict[str, object] = {"name": required(document, "name"), "description": text_of(document, "description")}
    label |= {"repo_id": repository_of(context).id, "color": text_of(document, "color").removeprefix("#")}
    return json_response(context.database.insert("label", **label), 201)


def add_comment(context: Context) -> Response:
    """201 with the comment."""
    issue, now = _issue(context), int(time.time())
    values = {"poster_id": context.me.id, "issue_id": issue.id, "content": required(context.request.document(), "body")}
    row = context.database.insert("comment", **values, created_unix=now, updated_unix=now)
    return json_response(_document(row, body="content"), 201)


def get_comment(context: Context) -> Response:
    """One comment."""
    query = "SELECT comment.* FROM comment JOIN issue ON issue.id = issue_id WHERE comment.id = %s AND repo_id = %s"
    row = context.database.row(query, context.path["id"], repository_of(context).id) or abort(404, NOT_FOUND)
    return json_response(_document(row, body="content"))


def add_release(context: Context) -> Response:
    """201 with the release; its tag is made, too."""
    repository, document = repository_of(context), context.request.document()
    tag, target = _branch(required(document, "tag_name")), text_of(document, "target_commitish")
    commit = _git(context, repository, "rev-parse", f"refs/heads/{_branch(target or repository.default_branch)}")
    _git(context, repository, "update-ref", f"refs/tags/{tag}", commit)
    values = {"repo_id": repository.id, "tag_name": tag, "sha1": commit}
    row = context.database.insert("release", **values, title=text_of(document, "name"), note=text_of(document, "body"))
    return json_response(_document(row, tag_name="tag_name", name="title", body="note"), 201)


def get_release(context: Context) -> Response:
    """One release."""
    return json_response(_document(_release(context), tag_name="tag_name", name="title", body="note"))


def attach(context: Context) -> Response:
    """201 with the attachment of an issue or the file of a release."""
    file = context.request.files.get("attachment") or abort(400, "attachment is missing")
    content, identity = file.read(), str(uuid.uuid4())
    owner = {"issue_id": _issue(context).id} if "index" in context.path else {"release_id": _release(context)["id"]}
    store(context.settings.data_directory / "attachments", identity, content)
    name = context.request.args.get("name") or file.filename or ""
    values = {**owner, "repo_id": repository_of(context).id, "size": len(content)}
    row = context.database.insert("attachment", uuid=identity, name=name, **values)
    url = f"{context.settings.root_url}attachments/{identity}"
    return json_response(
        {**{key: row[key] for key in ("id", "name", "size", "uuid")}, "browser_download_url": url}, 201
    )


def get_attachment(context: Context) -> Response:
    """The file; 404 without permission to read its repository."""
    row = context.database.row("SELECT * FROM attachment WHERE uuid = %s", context.path["uuid"])
    repository = repositories.of_id(context.database, row["repo_id"]) if row else None
    if row is None or repository is None or not may_read(repository, context.user):
        abort(404, "Not found.")
    return stored(context.settings.data_directory / "attachments", row["uuid"])


def add_pull_request(context: Context) -> Response:
    """201 with the pull request; its head gets a reference of its own, as in Gitea."""
    repository, document = repository_of(context), context.request.document()
    head, base = (_branch(required(document, name)) for name in ("head", "base"))
    commit = _git(context, repository, "rev-parse", f"refs/heads/{head}")
    title, body = required(document, "title"), text_of(document, "body")
    issue = issues.create(context.database, repository, context.me, title, body, is_pull=True)
    context.database.insert("pull_request", issue_id=issue.id, head_branch=head, base_branch=base)
    _git(context, repository, "update-ref", f"refs/pull/{issue.index}/head", commit)
    return json_response(_pull_document(context, repository, issue), 201)


def get_pull_request(context: Context) -> Response:
    """One pull request."""
    return json_response(_pull_document(context, repository_of(context), _issue(context)))


def add_page(context: Context) -> Response:
    """201 with the page of the wiki, whose repository is made with its first page."""
    repository, document = repository_of(context), context.request.document()
    folder, name = wiki_path_of(context.settings, repository), _branch(required(document, "title"))
    content = b64decode(required(document, "content_base64")).decode()
    first = not folder.exists()
    if first:
        repositories.make_bare(context.settings, folder, "main")
    new = (f"{name}.md", content, text_of(document, "message"))
    commit_file(context.settings, folder, context.me.name, new, to="main", base="" if first else "main")
    return json_response({"title": name, "sub_url": name, "content_base64": _encoded(content)}, 201)


def get_page(context: Context) -> Response:
    """One page of the wiki."""
    name, folder = context.path["name"], wiki_path_of(context.settings, repository_of(context))
    content = _text_of_file(context, folder, f"main:{name}.md")
    return json_response({"title": name, "sub_url": name, "content_base64": _encoded(content)})


def _writing(handler: Handler) -> Handler:
    def guarded(context: Context) -> Response:
        if not may_write(repository_of(context), context.user):
            abort(403, "user should have a permission to write to the repository")
        return handler(context)

    return signed_in(guarded)


def _branch(name: str) -> str:
    return name if BRANCH.fullmatch(name) else abort(422, "[Name]: GitRefName")


def _git(context: Context, repository: Repository, *arguments: str) -> str:
    try:
        return git.run(context.settings.data_directory, path_of(context.settings, repository), *arguments)
    except git.GitError:
        abort(404, NOT_FOUND)


def _text_of_file(context: Context, folder: Path, name: str) -> str:
    try:
        # The second, empty name keeps git.run from dropping the newlines at the end of the file.
        told = git.run(context.settings.data_directory, folder, "cat-file", "--batch", text=f"{name}\n\n")
    except (git.GitError, OSError):
        abort(404, NOT_FOUND)
    head, _, rest = told.partition("\n")
    return abort(404, NOT_FOUND) if head.endswith("missing") else rest.encode()[: int(head.split()[-1])].decode()


def _issue(context: Context) -> Issue:
    return issues.find(context.database, repository_of(context), context.path["index"]) or abort(404, NOT_FOUND)


def _release(context: Context) -> Row:
    query = "SELECT * FROM release WHERE id = %s AND repo_id = %s"
    return context.database.row(query, context.path["id"], repository_of(context).id) or abort(404, NOT_FOUND)


def _encoded(content: str) -> str:
    return b64encode(content.encode()).decode()


def _document(row: Row, **columns: str) -> dict[str, Any]:
    return {"id": row["id"], **{name: row[column] or "" for name, column in columns.items()}}


def _pull_document(context: Context, repository: Repository, issue: Issue) -> dict[str, Any]:
    row = context.database.row("SELECT * FROM pull_request WHERE issue_id = %s", issue.id) or abort(404, NOT_FOUND)
    head = _git(context, repository, "rev-parse", f"refs/pull/{issue.index}/head")
    ends = {"head": {"ref": row["head_branch"], "sha": head}, "base": {"ref": row["base_branch"]}}
    return {"number": issue.index, "title": issue.title, "body": issue.body, **ends}
