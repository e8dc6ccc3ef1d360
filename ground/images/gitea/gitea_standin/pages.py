"""The pages for browsers: start, sign in, forgotten password, a repository."""

from __future__ import annotations

import secrets
from html import escape
from urllib.parse import quote, urlsplit

from werkzeug import Response
from werkzeug.exceptions import abort
from werkzeug.routing import Rule
from werkzeug.utils import redirect

from . import accounts, mailer, repositories
from .context import Context, route
from .headers import CSRF_COOKIE, SESSION_COOKIE, set_cookie
from .release import Release
from .web import Request

_DAY = 24 * 3600
_LOGIN_FORM = """<h4>Sign In</h4>{problem}
<form class="ui form" action="/user/login" method="post">{csrf}
<label for="user_name">Username or Email Address</label>
<input id="user_name" type="text" name="user_name" autofocus required>
<label for="password">Password</label>
<input id="password" name="password" type="password" autocomplete="current-password" required>
<button class="ui primary button">Sign In</button>
</form>"""


def routes(_release: Release) -> list[Rule]:
    """Every page."""
    return [
        route("GET", "/user/login", login_form),
        route("POST", "/user/login", login),
        route("POST", "/user/forgot_password", forgot_password),
        route("GET", "/explore/repos", start),
        route("GET", "/", start),
        route("GET", "/<owner>/<repo>", repository_page),
    ]


def page(app_name: str, title: str, content: str, status: int = 200) -> Response:
    """A whole HTML page."""
    text = (
        f'<!DOCTYPE html>\n<html lang="en-US"><head><meta charset="utf-8"><title>{escape(title)} - '
        f'{escape(app_name)}</title></head>\n<body><h1><a href="/">{escape(app_name)}</a></h1>\n'
        f"{content}\n<footer>Powered by Gitea</footer></body></html>\n"
    )
    return Response(text, status, content_type="text/html; charset=utf-8")


def install_page(app_name: str) -> Response:
    """The page of an instance that is not installed yet."""
    return page(app_name, "Installation", "<h3>Initial Configuration</h3>\n<p>Set INSTALL_LOCK to begin.</p>")


def start(context: Context) -> Response:
    """The repositories that the user may read."""
    found = repositories.search(context.database, context.user)
    items = "".join(f'<li><a href="/{quote(each.full_name)}">{escape(each.full_name)}</a></li>' for each in found)
    name = escape(context.user.name) if context.user else '<a href="/user/login">Sign In</a>'
    return page(context.settings.app_name, "Explore", f"<nav>{name}</nav>\n<ul>{items}</ul>")


def repository_page(context: Context) -> Response:
    """A repository; 404 without permission to read it."""
    repository = repositories.find(context.database, context.path["owner"], context.path["repo"])
    if repository is None or not repositories.may_read(repository, context.user):
        abort(404, "Not found.")
    return page(context.settings.app_name, repository.full_name, f"<h2>{escape(repository.full_name)}</h2>")


def login_form(context: Context, problem: str = "") -> Response:
    """The form to sign in with; before 1.26 it has a token that comes back with it."""
    token = context.request.cookies.get(CSRF_COOKIE) or secrets.token_urlsafe(24)
    before_26 = not context.instance.release.since(1, 26)
    csrf = f'\n<input type="hidden" name="{CSRF_COOKIE}" value="{escape(token)}">' if before_26 else ""
    response = page(context.settings.app_name, "Sign In", _LOGIN_FORM.format(problem=problem, csrf=csrf))
    if before_26:
        set_cookie(response, CSRF_COOKIE, token, _DAY)
    else:
        set_cookie(response, "redirect_to", "/")
    set_cookie(response, "gitea_incredible", "", 0)
    return response


def login(context: Context) -> Response:
    """Signs a browser in: 303 to the start page with a cookie; the form again for a wrong password."""
    _require_own_form(context)
    form = context.request.form
    try:
        user = accounts.check_password(context.database, form.get("user_name", ""), form.get("password", ""))
    except accounts.WrongPasswordError:
        return login_form(context, "<p>Username or password is incorrect.</p>")
    response = redirect("/", 303)
    # werkzeug's redirects have a page, which Gitea's do not.
    response.set_data(b"")
    del response.headers["Content-Type"]
    set_cookie(response, SESSION_COOKIE, context.instance.begin_session(user), secure=context.settings.https)
    set_cookie(response, "lang", "en-US")
    set_cookie(response, "redirect_to" if context.instance.release.since(1, 26) else CSRF_COOKIE, "", 0)
    return response


def forgot_password(context: Context) -> Response:
    """The same page for every address, and a mail to the account if there is one; 404 when mail is not enabled."""
    if not context.settings.mail.enabled:
        abort(404, "Not found.")
    _require_own_form(context)
    email = context.request.form.get("email", "")
    user = accounts.find_user_by_login(context.database, email)
    if user is not None:
        text = f"Hi {user.name}, somebody asked for a new password. The stand-in has no page to set one.\n"
        mailer.send(context.settings.mail, user.email, "Recover your account", text)
    sent = f"<p>A new confirmation email has been sent to <b>{escape(email)}</b>.</p>"
    return page(context.settings.app_name, "Forgot Password", sent)


def _require_own_form(context: Context) -> None:
    """Aborts unless the form is from a page of this site: by its token before 1.26, by the browser's headers since."""
    token = context.request.form.get(CSRF_COOKIE, "")
    if context.instance.release.since(1, 26):
        if not _same_origin(context.request):
            abort(403, "cross-origin request is not allowed")
    elif not token or token != context.request.cookies.get(CSRF_COOKIE):
        abort(400, "Invalid CSRF token.")


def _same_origin(request: Request) -> bool:
    # Clients other than browsers send neither header and pass.
    if site := request.headers.get("Sec-Fetch-Site"):
        return site in {"same-origin", "none"}
    origin = request.headers.get("Origin")
    return not origin or urlsplit(origin).netloc == request.headers.get("Host")
