"""One contract per adapter, for the fake of the unit tests and for the real adapter."""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import boto3
import docker
import pytest
import requests
from botocore.config import Config

from ground import aws
from ground.container import RUN_LABEL, RunContext
from ground.image_set import ImageSet
from ground.mail import Mailbox
from ops.errors import Locked, OpsError, Unavailable
from ops.model import AccessKey, Secret, SmtpCredentials
from ops.world.aws import PENDING, Aws
from ops.world.aws_account import AwsAccount
from ops.world.clock import Clock
from ops.world.containers import Containers, Ran, Service
from ops.world.https import Https
from ops.world.lock import exclusive
from ops.world.mail import CredentialsRefused, Mail, MailRefused
from ops.world.process import Finished, Processes
from tests.support.fakes import FakeAws, FakeClock, FakeContainers, FakeHttps, FakeMail, FakeProcesses
from tests.support.slow_engine import slow_engine

both = pytest.mark.parametrize("kind", ["fake", "real"])


@pytest.fixture
def cloud(kind: str, request: pytest.FixtureRequest) -> FakeAws | Aws:
    if kind == "fake":
        return FakeAws({"adapters/a": "b"}, {"ours"}, {"adapters/a": "c"})
    endpoint = request.getfixturevalue("aws_endpoint")
    os.environ.update(aws.CREDENTIALS)
    secrets = aws.client(endpoint, "secretsmanager")
    if not secrets.list_secrets(Filters=[{"Key": "name", "Values": ["adapters/a"]}])["SecretList"]:
        secrets.create_secret(Name="adapters/a", SecretString="b")
        Aws(aws.REGION, endpoint).put_pending_secret("adapters/a", Secret("c"))
    region = {"LocationConstraint": aws.REGION}
    if "ours" not in [each["Name"] for each in aws.client(endpoint, "s3").list_buckets()["Buckets"]]:
        aws.client(endpoint, "s3").create_bucket(Bucket="ours", CreateBucketConfiguration=region)
    return Aws(aws.REGION, endpoint)


@both
def test_a_secret_is_read_by_name_and_the_error_for_a_missing_one_names_it(cloud: FakeAws | Aws) -> None:
    assert cloud.secret("adapters/a").reveal() == "b"
    assert cloud.secret("adapters/a", PENDING).reveal() == "c"
    with pytest.raises(OpsError, match=r"secret adapters/nothing: AWS says ResourceNotFoundException"):
        cloud.secret("adapters/nothing")


@both
def test_a_bucket_exists_or_does_not(cloud: FakeAws | Aws) -> None:
    assert cloud.bucket_exists("ours")
    assert not cloud.bucket_exists("not-there")


def test_a_bucket_of_another_account_is_refused_though_it_is_open(aws_endpoint: str) -> None:
    os.environ.update(aws.CREDENTIALS)
    # LocalStack takes an access key of twelve digits as the account's number.
    stranger = boto3.client(
        "s3",
        region_name=aws.REGION,
        endpoint_url=aws_endpoint,
        aws_access_key_id="111111111111",
        aws_secret_access_key="test",
        config=Config(s3={"addressing_style": "path"}),
    )
    stranger.create_bucket(Bucket="strangers", CreateBucketConfiguration={"LocationConstraint": aws.REGION})
    statement = {"Effect": "Allow", "Principal": "*", "Action": "s3:*", "Resource": "arn:aws:s3:::strangers*"}
    stranger.put_bucket_policy(
        Bucket="strangers", Policy=json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    )
    # LocalStack compares the owner at few operations (docs/localstack.md), and this is one.
    with pytest.raises(OpsError, match="AWS says AccessDenied"):
        AwsAccount(aws.REGION, aws_endpoint).missing_settings("strangers")


def test_a_mail_user_s_key_is_made_listed_and_deleted(aws_endpoint: str) -> None:
    os.environ.update(aws.CREDENTIALS)
    adapter = Aws(aws.REGION, aws_endpoint)
    aws.client(aws_endpoint, "iam").create_user(UserName="adapter-mail")
    identity, key = adapter.make_access_key("adapter-mail")
    assert len(key.reveal()) == 40
    assert adapter.access_keys("adapter-mail") == (AccessKey(identity, active=True),)
    adapter.delete_access_key("adapter-mail", identity)
    assert adapter.access_keys("adapter-mail") == ()
    with pytest.raises(OpsError, match="IAM user missing-user: AWS says NoSuchEntity"):
        adapter.access_keys("missing-user")


def test_an_unreachable_aws_is_unavailable() -> None:
    os.environ.update(aws.CREDENTIALS)
    with pytest.raises(Unavailable, match="out of reach"):
        Aws(aws.REGION, "http://127.0.0.1:9").secret("adapters/a")


@pytest.fixture
def engine(
    kind: str, run_context: RunContext, built: ImageSet, docker_client: docker.DockerClient
) -> Iterator[FakeContainers | Containers]:
    if kind == "fake":
        found = (Service("mail", "image", "running", "", 0),)
        yield FakeContainers(found, {"mail": lambda argv: Ran(3, "said\n") if argv[0] == "sh" else Ran(127, "")})
        return
    with _mail_service(run_context, built, docker_client):
        yield Containers()


@contextmanager
def _mail_service(run_context: RunContext, built: ImageSet, client: docker.DockerClient) -> Iterator[None]:
    labels = {RUN_LABEL: run_context.run, "com.docker.compose.project": "adapter", "com.docker.compose.service": "mail"}
    container = client.containers.run(built.local("mail"), ["sleep", "600"], labels=labels, detach=True, init=True)
    yield
    container.remove(force=True, v=True)


@both
def test_a_service_is_listed_with_its_state(engine: FakeContainers | Containers) -> None:
    (service,) = engine.services("adapter")
    assert (service.name, service.state, service.health, service.restarts) == ("mail", "running", "", 0)


@both
def test_a_command_in_a_service_returns_its_exit_code_and_output(engine: FakeContainers | Containers) -> None:
    assert engine.execute("adapter", "mail", ["sh", "-c", "echo said >&2; exit 3"]) == Ran(3, "said\n")


def test_the_output_of_a_command_is_complete_when_the_machine_is_too_busy_to_read_it_at_once(
    run_context: RunContext,
    built: ImageSet,
    docker_client: docker.DockerClient,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with _mail_service(run_context, built, docker_client), slow_engine(tmp_path) as address:
        monkeypatch.setenv("DOCKER_HOST", address)
        assert Containers().execute("adapter", "mail", ["seq", "5000"]).output.split()[-1] == "5000"
        variables = {"SAID": "two words"}
        ran = Containers().execute("adapter", "mail", ["sh", "-c", 'id -u; echo "$SAID"'], "65534", variables)
        assert ran == Ran(0, "65534\ntwo words\n")


@both
def test_a_restarted_service_has_a_new_start_time(engine: FakeContainers | Containers) -> None:
    (before,) = engine.services("adapter")
    engine.stop("adapter", "mail", at_most=1)
    assert [each.state for each in engine.services("adapter")] == ["exited"]
    engine.start("adapter", "mail")
    (after,) = engine.services("adapter")
    assert after.state == "running"
    assert before.started < after.started <= datetime.now(UTC)


@both
def test_an_error_for_a_stopped_service_names_it(engine: FakeContainers | Containers) -> None:
    with pytest.raises(OpsError, match="web is not running"):
        engine.execute("adapter", "web", ["true"])
    engine.stop("adapter", "web")
    with pytest.raises(OpsError, match="web has no container"):
        engine.start("adapter", "web")


def test_a_missing_image_has_no_id(docker_client: docker.DockerClient) -> None:
    assert docker_client
    assert Containers().image_id("nowhere/nothing:1") == ""


@both
def test_a_program_returns_its_exit_code_and_output(kind: str) -> None:
    written = "import sys; print('out', flush=True); print('err', file=sys.stderr); sys.exit(4)"
    adapter: FakeProcesses | Processes = Processes()
    if kind == "fake":
        adapter = FakeProcesses(lambda _: Finished(4, "out\nerr\n"))
    assert adapter.run([sys.executable, "-c", written]) == Finished(4, "out\nerr\n")


def test_a_watched_program_is_read_line_by_line_and_ended_on_request() -> None:
    written = "import sys, time; print('out'); print('a', file=sys.stderr, flush=True); time.sleep({}); sys.exit(4)"
    heard: list[str] = []

    def on_line(line: str) -> bool:
        heard.append(line)
        return enough is False

    enough = False
    done = Processes().run_watched([sys.executable, "-c", written.format(0)], environment={}, on_line=on_line)
    assert (done, heard) == ((Finished(4, "out\n"), "a\n"), ["a"])
    enough = True
    (ended, _) = Processes().run_watched([sys.executable, "-c", written.format(60)], environment={}, on_line=on_line)
    assert ended.code == -signal.SIGTERM


def test_an_error_for_a_missing_program_names_it() -> None:
    with pytest.raises(Unavailable, match="no-such-program is not installed"):
        Processes().run(["no-such-program"])


@both
def test_an_unreachable_web_server_is_unavailable(kind: str) -> None:
    adapter: FakeHttps | Https = FakeHttps(None, ssh_banner="") if kind == "fake" else Https()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(Unavailable, match=r"https://git.example.org/ at 127.0.0.1"):
            adapter.request("git.example.org", "127.0.0.1", "GET", "/")
        with pytest.raises(Unavailable):
            adapter.banner("127.0.0.1", taken.getsockname()[1])


def _send_banner(server: socket.socket) -> None:
    connection, _ = server.accept()
    with connection:
        connection.sendall(b"SSH-2.0-Test\r\nmore\r\n")


def test_a_banner_is_the_first_line_of_a_server() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        sender = threading.Thread(target=_send_banner, args=(server,))
        sender.start()
        assert Https().banner("127.0.0.1", server.getsockname()[1]) == "SSH-2.0-Test"
        sender.join()


@both
def test_a_clock_advances_during_a_sleep(kind: str) -> None:
    clock: FakeClock | Clock = FakeClock() if kind == "fake" else Clock()
    before, began = clock.now(), clock.monotonic()
    clock.sleep(0.05)
    assert clock.now() > before
    assert clock.monotonic() - began >= 0.05


def test_an_error_for_a_held_lock_names_its_holder_and_start_time(tmp_path: Path) -> None:
    now = FakeClock().now()
    with (
        exclusive(tmp_path / "deploy.lock", now, "ops deploy"),
        pytest.raises(
            Locked,
            match=rf"deploy is already running: ops deploy, process {os.getpid()}, since 2026-11-23 12:00:00 UTC",
        ),
        exclusive(tmp_path / "deploy.lock", now),
    ):
        pass
    with exclusive(tmp_path / "deploy.lock", now):
        assert (tmp_path / "deploy.lock").exists()


SENT = {"sender": "gitea@gitea.test", "recipient": "keeper@gitea.test", "subject": "Grüße", "text": "a body\n"}
# The form of SES's passwords: a version byte and 32 more bytes, in base64.
KNOWN = SmtpCredentials("AKIAIOSFODNN7EXAMPLE", Secret(base64.b64encode(b"\x04" + bytes(32)).decode()))
UNKNOWN = SmtpCredentials("AKIAIOSFODNN7EXAMPLE", Secret("not derived from a key"))


@pytest.fixture
def mail_server(kind: str, request: pytest.FixtureRequest) -> FakeMail | Mail:
    if kind == "fake":
        return FakeMail(lambda credentials: credentials == KNOWN)
    mailbox: Mailbox = request.getfixturevalue("mailbox")
    return Mail(mailbox.smtp_host, mailbox.smtp_port, mailbox.authority)


@both
def test_a_mail_with_known_credentials_arrives(
    kind: str, mail_server: FakeMail | Mail, request: pytest.FixtureRequest
) -> None:
    mail_server.send(KNOWN, **SENT)
    if isinstance(mail_server, FakeMail):
        (taken,) = mail_server.taken
        seen = (taken.username, [taken.recipient], taken.subject, taken.text)
    else:
        last = requests.get(request.getfixturevalue("mailbox").inbox, timeout=5).json()[-1]
        seen = (last["user"], last["to"], last["subject"], last["text"].replace("\r\n", "\n"))
    assert seen == (KNOWN.username, ["keeper@gitea.test"], "Grüße", "a body\n")


@both
def test_refused_credentials_differ_from_a_refused_mail(mail_server: FakeMail | Mail) -> None:
    with pytest.raises(CredentialsRefused, match="refuses the credentials"):
        mail_server.send(UNKNOWN, **SENT)
    with pytest.raises(MailRefused, match="Email address is not verified"):
        mail_server.send(KNOWN, **SENT | {"recipient": "someone@unverified.test"})


@both
def test_an_unreachable_mail_server_is_unavailable(kind: str) -> None:
    adapter = FakeMail(None) if kind == "fake" else Mail("127.0.0.1", 9)
    with pytest.raises(Unavailable, match="out of reach"):
        adapter.send(KNOWN, **SENT)


def test_a_mail_server_with_an_untrusted_certificate_never_gets_the_password(mailbox: Mailbox) -> None:
    with pytest.raises(Unavailable, match="certificate verify failed"):
        Mail(mailbox.smtp_host, mailbox.smtp_port).send(KNOWN, **SENT)
