"""The pages a browser sees: start, sign in, a user, a repository, and the stream of events."""

from __future__ import annotations

import time
from collections.abc import Iterator
from html import escape
from urllib.parse import quote, urlsplit

from . import accounts, mailer, repositories
from .context import SESSION_COOKIE, Context, Handler, Route, route
from .documents import clone_urls
from .messages import HttpError, Request, Response, redirect, text_response
from .repositories import Repository

_PING_SECONDS = 30.0
_LOGIN_FORM = """<h4>Sign In</h4>{problem}
<form class="ui form" action="/user/login" method="post">
<label for="user_name">Username or Email Address</label>
<input id="user_name" type="text" name="user_name" autofocus required>
<label for="password">Password</label>
<input id="password" name="password" type="password" autocomplete="current-password" required>
<button class="ui primary button">Sign In</button>
</form>"""


def routes() -> list[Route]:
    """Every page; the ones with names in their paths come last."""
    return [
        route("GET", "/user/login", login_form),
        route("POST", "/user/login", login),
        route("POST", "/user/logout", logout),
        route("POST", "/user/forgot_password", forgot_password),
        route("GET", "/user/events", events),
        route("GET", "/", _for_eyes(start)),
        route("GET", "/explore/repos", _for_eyes(start)),
        route("GET", "/{owner}", _for_eyes(user_page)),
        route("GET", "/{owner}/{repo}", _for_eyes(repository_page)),
    ]


def page(context_title: str, title: str, content: str, status: int = 200) -> Response:
    """A whole HTML page."""
    text = (
        f'<!DOCTYPE html>\n<html lang="en-US"><head><meta charset="utf-8"><title>{escape(title)} - '
        f'{escape(context_title)}</title></head>\n<body><h1><a href="/">{escape(context_title)}</a></h1>\n'
        f"{content}\n<footer>Powered by Gitea</footer></body></html>\n"
    )
    response = text_response(text, status, "text/html")
    response.headers |= {
        "Cache-Control": "max-age=0, private, must-revalidate, no-transform",
        "X-Frame-Options": "SAMEORIGIN",
    }
    return response


def install_page(app_name: str) -> Response:
    """What an instance that is not installed yet shows."""
    return page(app_name, "Installation", "<h3>Initial Configuration</h3>\n<p>Set INSTALL_LOCK to begin.</p>")


def same_origin(request: Request) -> bool:
    """Whether a browser's request comes from a page of ours; what is no browser says nothing and passes."""
    site = request.header("Sec-Fetch-Site")
    if site:
        return site in {"same-origin", "none"}
    origin = request.header("Origin")
    return not origin or urlsplit(origin).netloc == request.header("Host")


def start(context: Context) -> Response:
    """The repositories there are to see."""
    found = repositories.search(context.database, context.user)
    items = "".join(f'<li><a href="/{quote(each.full_name)}">{escape(each.full_name)}</a></li>' for each in found)
    who = escape(context.user.name) if context.user else '<a href="/user/login">Sign In</a>'
    return _page(context, "Explore", f"<nav>{who}</nav>\n<ul>{items}</ul>")


def user_page(context: Context) -> Response:
    """A user's repositories."""
    user = accounts.find_user(context.database, context.parts["owner"])
    if user is None:
        raise HttpError(404, "Page Not Found")
    found = repositories.search(context.database, context.user, owner_id=user.id)
    items = "".join(f'<li><a href="/{quote(each.full_name)}">{escape(each.name)}</a></li>' for each in found)
    return _page(context, user.name, f"<h2>{escape(user.name)}</h2>\n<ul>{items}</ul>")


def repository_page(context: Context) -> Response:
    """A repository: how to clone it, its branches."""
    repository = repositories.find(context.database, context.parts["owner"], context.parts["repo"])
    if repository is None or not repositories.may_read(repository, context.user):
        raise HttpError(404, "Page Not Found")
    return _page(context, repository.full_name, _repository_content(context, repository))


def login_form(context: Context) -> Response:
    """The form to sign in with."""
    return _page(context, "Sign In", _LOGIN_FORM.format(problem=""))


def login(context: Context) -> Response:
    """Signs a browser in: 303 to the start page with a cookie; the form again when the password is wrong."""
    if not same_origin(context.request):
        raise HttpError(403, "cross-origin request is not allowed")
    form = context.request.form()
    user = accounts.check_password(context.database, form.get("user_name", ""), form.get("password", ""))
    if user is None:
        return _page(context, "Sign In", _LOGIN_FORM.format(problem="<p>Username or password is incorrect.</p>"))
    accounts.edit_user(context.database, user, last_login_unix=int(time.time()))
    cookie = f"{SESSION_COOKIE}={context.instance.sessions.begin(user)}; {_cookie_attributes(context)}"
    return redirect("/", {"Set-Cookie": cookie})


def forgot_password(context: Context) -> Response:
    """Says that a mail was sent, whoever asked for whom, and sends it when there is such an account. Raises HttpError."""
    if not context.settings.mail.enabled:
        raise HttpError(404, "Page Not Found")
    email = context.request.form().get("email", "")
    user = accounts.find_user_by_login(context.database, email)
    if user is not None:
        text = f"Hi {user.name}, somebody asked for a new password. The stand-in has no page to set one.\n"
        mailer.send(context.settings.mail, user.email, "Recover your account", text)
    said = f"<p>A new confirmation email has been sent to <b>{escape(email)}</b>.</p>"
    return _page(context, "Forgot Password", said)


def logout(context: Context) -> Response:
    """Signs a browser out."""
    context.instance.sessions.end(context.request.cookie(SESSION_COOKIE))
    return redirect("/", {"Set-Cookie": f"{SESSION_COOKIE}=; Max-Age=0; {_cookie_attributes(context)}"})


def events(context: Context) -> Response:
    """Server-sent events: a ping now and then; for strangers the word that they are none of its readers."""
    headers = {"Content-Type": "text/event-stream", "Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    stream = _pings(context) if context.user else iter([b"event: close\ndata: unauthorized\n\n"])
    return Response(200, headers, None, stream)


def _pings(context: Context) -> Iterator[bytes]:
    # An empty line goes out at once, as Gitea's does: a proxy that holds events back is found out by it.
    yield b"\n"
    while not context.instance.stopping.wait(_PING_SECONDS):
        yield b"event: ping\n\n"


def _for_eyes(handler: Handler) -> Handler:
    def guarded(context: Context) -> Response:
        if context.user is None and context.settings.require_sign_in:
            return redirect("/user/login")
        return handler(context)

    return guarded


def _page(context: Context, title: str, content: str) -> Response:
    return page(context.settings.app_name, title, content)


def _repository_content(context: Context, repository: Repository) -> str:
    http, ssh = clone_urls(context, repository)
    branches = [] if repository.is_empty else repositories.branches(context.settings, repository)
    items = "".join(f"<li>{escape(each.name)} {each.commit[:10]} {escape(each.message)}</li>" for each in branches)
    return (
        f"<h2>{escape(repository.full_name)}</h2>\n<p>{escape(repository.description)}</p>\n"
        f"<p><code>{escape(http)}</code> <code>{escape(ssh)}</code></p>\n<ul>{items}</ul>"
    )


def _cookie_attributes(context: Context) -> str:
    return "Path=/; HttpOnly; SameSite=Lax" + ("; Secure" if context.settings.https else "")
