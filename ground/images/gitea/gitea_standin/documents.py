"""What the API says of users, repositories, issues, keys and tokens: Gitea's field names."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from . import issues
from .accounts import Token, User, user_of_id
from .context import Context
from .keys import PublicKey
from .repositories import Branch, Repository, may_write

_NEVER = "1970-01-01T00:00:00Z"


def moment(unix: int) -> str:
    """A time as the API writes it."""
    return datetime.fromtimestamp(unix, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def user_document(context: Context, user: User) -> dict[str, Any]:
    """An account; what is private shows to itself and to administrators alone."""
    near = context.user is not None and (context.user.is_admin or context.user.id == user.id)
    return {
        "id": user.id,
        "login": user.name,
        "login_name": "",
        "source_id": 0,
        "full_name": user.full_name,
        "email": user.email if near else f"{user.name.lower()}@noreply.localhost",
        "avatar_url": f"{context.settings.root_url}avatars/{user.id}",
        "html_url": f"{context.settings.root_url}{user.name}",
        "language": "",
        "is_admin": user.is_admin and near,
        "last_login": moment(user.last_login_unix) if near else "0001-01-01T00:00:00Z",
        "created": moment(user.created_unix),
        "restricted": user.is_restricted,
        "active": user.is_active,
        "prohibit_login": user.prohibit_login,
        "location": "",
        "website": "",
        "description": "",
        "visibility": "public",
        "followers_count": 0,
        "following_count": 0,
        "starred_repos_count": 0,
        "username": user.name,
    }


def clone_urls(context: Context, repository: Repository) -> tuple[str, str]:
    """The addresses to clone from, over HTTP and over ssh."""
    settings = context.settings
    if settings.ssh_port == 22:
        ssh = f"git@{settings.ssh_domain}:{repository.full_name}.git"
    else:
        ssh = f"ssh://git@{settings.ssh_domain}:{settings.ssh_port}/{repository.full_name}.git"
    return f"{settings.root_url}{repository.full_name}.git", ssh


def repository_document(context: Context, repository: Repository) -> dict[str, Any]:
    """A repository, with what the one who asks may do with it."""
    owner = user_of_id(context.database, repository.owner_id)
    http, ssh = clone_urls(context, repository)
    write = may_write(repository, context.user)
    page = f"{context.settings.root_url}{repository.full_name}"
    return {
        "id": repository.id,
        "owner": user_document(context, owner) if owner else None,
        "name": repository.name,
        "full_name": repository.full_name,
        "description": repository.description,
        "empty": repository.is_empty,
        "private": repository.is_private,
        "fork": False,
        "template": False,
        "mirror": False,
        "size": repository.size,
        "language": "",
        "html_url": page,
        "url": f"{context.settings.root_url}api/v1/repos/{repository.full_name}",
        "link": "",
        "ssh_url": ssh,
        "clone_url": http,
        "original_url": "",
        "website": "",
        "stars_count": 0,
        "forks_count": 0,
        "watchers_count": 0,
        "open_issues_count": issues.count_open(context.database, repository),
        "open_pr_counter": 0,
        "release_counter": 0,
        "default_branch": repository.default_branch,
        "archived": False,
        "created_at": moment(repository.created_unix),
        "updated_at": moment(repository.updated_unix),
        "archived_at": _NEVER,
        "permissions": {"admin": write, "push": write, "pull": True},
        "has_issues": True,
        "has_wiki": True,
        "has_pull_requests": True,
        "has_projects": True,
        "has_releases": True,
        "has_packages": True,
        "has_actions": True,
        "avatar_url": "",
        "internal": False,
        "object_format_name": "sha1",
        "topics": [],
    }


def issue_document(context: Context, repository: Repository, issue: issues.Issue) -> dict[str, Any]:
    """An issue."""
    poster = user_of_id(context.database, issue.poster_id)
    root, place = context.settings.root_url, f"{repository.full_name}/issues/{issue.index}"
    return {
        "id": issue.id,
        "url": f"{root}api/v1/repos/{place}",
        "html_url": f"{root}{place}",
        "number": issue.index,
        "user": user_document(context, poster) if poster else None,
        "original_author": "",
        "original_author_id": 0,
        "title": issue.title,
        "body": issue.body,
        "ref": "",
        "assets": [],
        "labels": [],
        "milestone": None,
        "assignee": None,
        "assignees": None,
        "state": "closed" if issue.closed else "open",
        "is_locked": False,
        "comments": 0,
        "created_at": moment(issue.created_unix),
        "updated_at": moment(issue.updated_unix),
        "closed_at": moment(issue.updated_unix) if issue.closed else None,
        "due_date": None,
        "pull_request": None,
        "repository": {
            "id": repository.id,
            "name": repository.name,
            "owner": repository.owner_name,
            "full_name": repository.full_name,
        },
        "pin_order": 0,
    }


def key_document(context: Context, owner: User, key: PublicKey) -> dict[str, Any]:
    """An ssh key."""
    return {
        "id": key.id,
        "key": key.content,
        "url": f"{context.settings.root_url}api/v1/user/keys/{key.id}",
        "title": key.title,
        "fingerprint": key.fingerprint,
        "created_at": moment(key.created_unix),
        "last_used_at": moment(key.created_unix),
        "user": user_document(context, owner),
        "key_type": "user",
    }


def token_document(token: Token, secret: str = "") -> dict[str, Any]:
    """An access token; the token itself only where it was made this moment."""
    return {
        "id": token.id,
        "name": token.name,
        "sha1": secret,
        "token_last_eight": token.last_eight,
        "scopes": list(token.scopes),
    }


def branch_document(branch: Branch) -> dict[str, Any]:
    """A branch and the commit it points to."""
    person = {"name": branch.author, "email": branch.email, "username": ""}
    commit = {
        "id": branch.commit,
        "message": f"{branch.message}\n",
        "url": "",
        "author": person,
        "committer": person,
        "verification": None,
        "timestamp": branch.when,
        "added": None,
        "removed": None,
        "modified": None,
    }
    return {
        "name": branch.name,
        "commit": commit,
        "protected": False,
        "required_approvals": 0,
        "enable_status_check": False,
        "status_check_contexts": [],
        "user_can_push": True,
        "user_can_merge": True,
        "effective_branch_protection_name": "",
    }
