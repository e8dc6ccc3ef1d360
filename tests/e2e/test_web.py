"""The site as a browser uses it: TLS, headers, pages, events."""

from __future__ import annotations

import base64
import hashlib
import ssl
from datetime import UTC, datetime

import pytest
import requests

from tests.support.deployed_site import Account, DeployedSite, connected, session_for, tls_connection, tls_context

# RFC 6455, section 1.3.
_WEBSOCKET = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def test_plain_http_is_redirected_to_https(site: DeployedSite, web: requests.Session) -> None:
    answer = web.get(f"http://{site.domain}/explore/repos?q=a", allow_redirects=False)
    assert answer.status_code in (301, 308)
    assert answer.headers["Location"] == f"{site.url}/explore/repos?q=a"


def test_the_certificate_is_valid_for_the_domain_and_for_ten_more_days(site: DeployedSite) -> None:
    with connected(site, tls_context(site)) as connection:
        certificate = connection.getpeercert()
    assert certificate
    assert ("DNS", site.domain) in certificate["subjectAltName"]
    ends = datetime.fromtimestamp(ssl.cert_time_to_seconds(str(certificate["notAfter"])), UTC)
    assert (ends - datetime.now(UTC)).days >= 10


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
def test_tls_1_2_and_1_3_are_accepted(site: DeployedSite, version: ssl.TLSVersion) -> None:
    assert tls_connection(site, version) == {"TLSv1_2": "TLSv1.2", "TLSv1_3": "TLSv1.3"}[version.name]


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_tls_1_1_is_refused(site: DeployedSite) -> None:
    with pytest.raises(ssl.SSLError) as refused:
        tls_connection(site, ssl.TLSVersion.TLSv1_1)
    # The alert comes from the site: a client without TLS 1.1 would fail as well, but with another reason.
    assert refused.value.reason == "TLSV1_ALERT_PROTOCOL_VERSION"


def test_a_cipher_without_forward_secrecy_is_refused(site: DeployedSite) -> None:
    with pytest.raises(ssl.SSLError) as refused:
        tls_connection(site, ssl.TLSVersion.TLSv1_2, "AES128-GCM-SHA256:AES256-SHA")
    assert refused.value.reason in {"SSLV3_ALERT_HANDSHAKE_FAILURE", "SSL/TLS_ALERT_HANDSHAKE_FAILURE"}


def test_a_push_is_passed_on_unbuffered_and_refused_at_once_only_above_its_own_limit(site: DeployedSite) -> None:
    push = f"/{site.administrator}/nothing.git/git-receive-pack"
    limit = site.document["gitea"].get("transfer_limit_mib", 0) * 2**20
    # Gitea refuses an anonymous push before its end, so nginx does not buffer the body. Gitea may close the connection after
    # its answer, and nginx then answers 503.
    assert _status_before_the_end(site, push, "Transfer-Encoding: chunked") in {401, 503}
    assert _status_before_the_end(site, push, f"Content-Length: {limit or 2**36}") in {401, 503}
    assert not limit or _status_before_the_end(site, push, f"Content-Length: {limit + 1}") == 413


def test_an_upload_above_the_limit_of_the_web_is_refused_at_once(site: DeployedSite) -> None:
    limit = site.document["gitea"].get("upload_limit_mib", 512) * 2**20
    assert _status_before_the_end(site, "/user/login", f"Content-Length: {limit + 1}") == 413


def _status_before_the_end(site: DeployedSite, path: str, length_header: str) -> int:
    """Return the status of the answer to an anonymous POST of which only a part was sent."""
    with connected(site, tls_context(site)) as connection:
        head = f"POST {path} HTTP/1.1\r\nHost: {site.domain}\r\n{length_header}\r\n\r\n"
        part = bytes(2 * 2**20)
        connection.sendall(
            head.encode() + (b"%x\r\n%b\r\n" % (len(part), part) if "chunked" in length_header else part)
        )
        return int(connection.recv(100).split()[1])


def test_security_headers_are_set_once(site: DeployedSite, web: requests.Session) -> None:
    answer = web.get(f"{site.url}/user/login")
    assert answer.status_code == 200
    headers = answer.raw.headers
    assert headers.getlist("Strict-Transport-Security") == [headers["Strict-Transport-Security"]]
    assert "max-age=63072000" in headers["Strict-Transport-Security"]
    for name in ("X-Content-Type-Options", "X-Frame-Options", "Referrer-Policy"):
        assert len(headers.getlist(name)) == 1, name


def test_gitea_reports_its_version_and_its_health(site: DeployedSite, web: requests.Session) -> None:
    assert web.get(f"{site.url}/api/healthz").json()["status"] == "pass"
    assert web.get(f"{site.url}/api/v1/version").json()["version"].split(".")[0].isdigit()


def test_metrics_are_not_public(site: DeployedSite, web: requests.Session) -> None:
    assert web.get(f"{site.url}/metrics").status_code in (401, 403, 404)


def test_registration_and_installation_are_disabled(site: DeployedSite, web: requests.Session) -> None:
    assert 'name="db_type"' not in web.get(f"{site.url}/").text
    requested = {
        "user_name": "intruder",
        "password": "long enough 1",
        "retype": "long enough 1",
        "email": "i@example.org",
    }
    web.post(f"{site.url}/user/sign_up", data=requested)
    assert web.get(f"{site.url}/api/v1/users/intruder").status_code == 404


def test_notifications_reach_a_signed_in_browser_unbuffered(
    site: DeployedSite, account: Account, web: requests.Session
) -> None:
    version = web.get(f"{site.url}/api/v1/version").json()["version"]
    with session_for(site) as browser:
        form = {"user_name": account.name, "password": account.password}
        assert browser.post(f"{site.url}/user/login", data=form, allow_redirects=False).status_code == 303
        if int(version.split(".")[0]) >= 28:
            _websocket_opens(site, browser)
            return
        # Gitea's first byte comes with its first ping, after 30 s.
        with browser.get(f"{site.url}/user/events", stream=True, timeout=60) as stream:
            assert stream.headers["Content-Type"].startswith("text/event-stream")
            assert next(stream.iter_content(1)) == b"\n"


def _websocket_opens(site: DeployedSite, browser: requests.Session) -> None:
    """Open the WebSocket that replaced the event stream in Gitea 28, and see that it stays open."""
    key = base64.b64encode(bytes(16)).decode()
    cookies = "; ".join(f"{each.name}={each.value}" for each in browser.cookies)
    lines = ["GET /-/ws HTTP/1.1", f"Host: {site.domain}", "Upgrade: websocket", "Connection: Upgrade"]
    lines += ["Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {key}", f"Origin: {site.url}", f"Cookie: {cookies}"]
    accepted = base64.b64encode(hashlib.sha1(f"{key}{_WEBSOCKET}".encode()).digest())
    with connected(site, tls_context(site)) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        head = connection.recv(4000)
        assert head.startswith(b"HTTP/1.1 101 ")
        assert accepted in head
        connection.settimeout(2)
        # Its first ping comes after 30 s.
        with pytest.raises(TimeoutError):
            connection.recv(1)
