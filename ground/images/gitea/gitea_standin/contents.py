"""The API of what a repository holds besides its commits: files by API, labels, comments, releases, pull requests, wiki."""

from __future__ import annotations

import time
import uuid
from base64 import b64decode
from pathlib import Path
from typing import Any

from werkzeug import Response
from werkzeug.exceptions import abort
from werkzeug.routing import Rule

from . import branches, documents, git, issues, repositories
from .api import BRANCH, REPO, repository_of, required, signed_in, text_of
from .context import Context, Handler, route
from .database import Row
from .git import Commit
from .issues import Issue
from .release import Release
from .repositories import Repository, commit_file, may_read, may_write, path_of, wiki_path_of
from .storage import store, stored
from .web import json_response, missing


def routes(_release: Release) -> list[Rule]:
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
        route("GET", "/attachments/<uuid:uuid>", get_attachment),
    ]


def add_file(context: Context) -> Response:
    """201 with the commit; the file goes onto a new branch."""
    repository, document = repository_of(context), context.request.document()
    content, branch = b64decode(required(document, "content")), _branch(required(document, "new_branch"))
    new = (context.path["name"], content.decode(), required(document, "message"))
    folder, author = path_of(context.settings, repository), (context.me.name, context.me.email)
    made = commit_file(context.settings, folder, author, new, to=branch, base=repository.default_branch)
    branches.write(context.database, context.settings, repository, [f"refs/heads/{branch}"])
    newest, blob = _commit(context, folder, made), _blob(context, folder, f"{made}:{new[0]}")
    file = documents.file(context, repository, new[0], branch, blob, newest)
    commit = documents.file_commit(context, repository, newest)
    return json_response({"content": file, "commit": commit, "verification": documents.verification()}, 201)


def get_file(context: Context) -> Response:
    """A file of a branch."""
    repository, name = repository_of(context), context.path["name"]
    branch = _branch(context.request.args.get("ref", repository.default_branch))
    folder = path_of(context.settings, repository)
    blob, newest = _blob(context, folder, f"{branch}:{name}"), _commit(context, folder, branch)
    return json_response(documents.file(context, repository, name, branch, blob, newest))


def add_label(context: Context) -> Response:
    """201 with the label; its colour loses the number sign."""
    repository, document = repository_of(context), context.request.document()
    label: dict[str, object] = {"name": required(document, "name"), "description": text_of(document, "description")}
    label |= {"repo_id": repository.id, "color": text_of(document, "color").removeprefix("#")}
    return json_response(documents.label(context, repository, context.database.insert("label", **label)), 201)


def add_comment(context: Context) -> Response:
    """201 with the comment."""
    repository, issue, now = repository_of(context), _issue(context), int(time.time())
    values = {"poster_id": context.me.id, "issue_id": issue.id, "content": required(context.request.document(), "body")}
    row = context.database.insert("comment", **values, created_unix=now, updated_unix=now)
    return json_response(documents.comment(context, repository, row, issue.index), 201)


def get_comment(context: Context) -> Response:
    """One comment."""
    repository = repository_of(context)
    query = 'SELECT comment.*, "index" FROM comment JOIN issue ON issue.id = issue_id WHERE comment.id = %s AND repo_id = %s'
    row = context.database.row(query, context.path["id"], repository.id) or missing()
    return json_response(documents.comment(context, repository, row, row["index"]))


def add_release(context: Context) -> Response:
    """201 with the release; its tag is made, too."""
    repository, document = repository_of(context), context.request.document()
    tag, target = _branch(required(document, "tag_name")), text_of(document, "target_commitish")
    commit = _git(context, repository, "rev-parse", f"refs/heads/{_branch(target or repository.default_branch)}")
    _git(context, repository, "update-ref", f"refs/tags/{tag}", commit)
    values = {
        "repo_id": repository.id,
        "tag_name": tag,
        "lower_tag_name": tag.lower(),
        "target": target,
        "sha1": commit,
    }
    values |= {"publisher_id": context.me.id, "title": text_of(document, "name"), "note": text_of(document, "body")}
    # The tag may have been pushed before.
    statement = "DELETE FROM release WHERE repo_id = %s AND tag_name = %s AND is_tag"
    context.database.execute(statement, repository.id, tag)
    row = context.database.insert("release", **values, created_unix=int(time.time()))
    return json_response(documents.release(context, repository, row), 201)


def get_release(context: Context) -> Response:
    """One release."""
    return json_response(documents.release(context, repository_of(context), _release(context)))


def attach(context: Context) -> Response:
    """201 with the attachment of an issue or the file of a release."""
    file = context.request.files.get("attachment") or abort(400, "attachment is missing")
    content, identity = file.read(), str(uuid.uuid4())
    owner = {"issue_id": _issue(context).id} if "index" in context.path else {"release_id": _release(context)["id"]}
    store(context.settings.data_directory / "attachments", identity, content)
    name = context.request.args.get("name") or file.filename or ""
    values = {**owner, "repo_id": repository_of(context).id, "size": len(content), "uploader_id": context.me.id}
    row = context.database.insert("attachment", uuid=identity, name=name, **values, created_unix=int(time.time()))
    return json_response(documents.attachment(context, row), 201)


def get_attachment(context: Context) -> Response:
    """The file; 404 without permission to read its repository."""
    row = context.database.row("SELECT * FROM attachment WHERE uuid = %s", context.path["uuid"])
    repository = repositories.of_id(context.database, row["repo_id"]) if row else None
    if row is None or repository is None or not may_read(repository, context.user):
        abort(404, "Not found.")
    return stored(context.settings.data_directory / "attachments", str(row["uuid"]))


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
    """201 with the page of the wiki, whose repository is made with its first page. 1.22 cannot make that repository so."""
    repository, document = repository_of(context), context.request.document()
    folder, name = wiki_path_of(context.settings, repository), _branch(required(document, "title"))
    content = b64decode(required(document, "content_base64"))
    first = not folder.exists()
    if first and not context.instance.release.since(1, 26):
        missing("object does not exist [id: refs/heads/master, rel_path: ]")
    if first:
        repositories.make_bare(context.settings, folder, "main")
    new, author = (f"{name}.md", content.decode(), text_of(document, "message")), (context.me.name, context.me.email)
    made = commit_file(context.settings, folder, author, new, to="main", base="" if first else "main")
    return json_response(documents.wiki_page(context, repository, name, content, _commit(context, folder, made)), 201)


def get_page(context: Context) -> Response:
    """One page of the wiki."""
    repository, name = repository_of(context), context.path["name"]
    folder = wiki_path_of(context.settings, repository)
    _, content = _blob(context, folder, f"main:{name}.md")
    return json_response(documents.wiki_page(context, repository, name, content, _commit(context, folder, "main")))


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
        missing()


def _commit(context: Context, folder: Path, revision: str) -> Commit:
    return git.commit(context.settings.data_directory, folder, revision)


def _blob(context: Context, folder: Path, name: str) -> tuple[str, bytes]:
    """The number and the content of `branch:path`; aborts with 404 without such a file."""
    try:
        # The second, empty name keeps git.run from dropping the newlines at the end of the file.
        told = git.run(context.settings.data_directory, folder, "cat-file", "--batch", text=f"{name}\n\n")
    except (git.GitError, OSError):
        missing()
    head, _, rest = told.partition("\n")
    if head.endswith("missing"):
        missing()
    number, _, size = head.split()
    return number, rest.encode()[: int(size)]


def _issue(context: Context) -> Issue:
    return issues.find(context.database, repository_of(context), context.path["index"]) or missing()


def _release(context: Context) -> Row:
    query = "SELECT * FROM release WHERE id = %s AND repo_id = %s"
    return context.database.row(query, context.path["id"], repository_of(context).id) or missing()


def _pull_document(context: Context, repository: Repository, issue: Issue) -> dict[str, Any]:
    row = context.database.row("SELECT * FROM pull_request WHERE issue_id = %s", issue.id) or missing()
    head = _git(context, repository, "rev-parse", f"refs/pull/{issue.index}/head")
    base = _git(context, repository, "rev-parse", f"refs/heads/{row['base_branch']}")
    commits = {"head": head, "base": base, "merge_base": _git(context, repository, "merge-base", head, base)}
    return documents.pull_request(context, repository, issue, row, commits)
