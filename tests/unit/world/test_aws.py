"""Errors of AWS: permanent ones and temporary ones."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.awsrequest import AWSResponse
from moto import mock_aws

from ops.errors import OpsError, Unavailable
from ops.world.aws import Aws
from ops.world.aws_clients import AwsClients
from tests.support.moto_site import use_moto_credentials


@pytest.fixture(autouse=True)
def _known_account(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answer the question for the account, so that a test's request is its first."""
    monkeypatch.setattr(AwsClients, "account", "123456789012")


@pytest.mark.parametrize(("headers", "status"), [({"x-amz-replication-status": "COMPLETED"}, "COMPLETED"), ({}, "")])
def test_the_replication_status_is_that_of_s3_and_empty_without_a_replication_rule(
    monkeypatch: pytest.MonkeyPatch, headers: dict[str, str], status: str
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")

    def send(_: Any, request: Any) -> AWSResponse:
        assert (request.method, request.url.rpartition("/")[2]) == ("HEAD", "one.json")
        return AWSResponse(request.url, 200, headers, Body(""))

    monkeypatch.setattr("botocore.httpsession.URLLib3Session.send", send)
    assert Aws("eu-central-1").replication("bucket", "manifests/one.json") == status


class Body:
    """The body of an answer, as botocore reads it."""

    def __init__(self, code: str) -> None:
        self._code = code

    def stream(self, *_: Any) -> Iterator[bytes]:
        if self._code:
            yield f"<Error><Code>{self._code}</Code><Message>from the test</Message></Error>".encode()


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "ExpiredToken", Unavailable),
        (500, "InternalError", Unavailable),
        (403, "AccessDenied", OpsError),
        (404, "NoSuchBucket", OpsError),
    ],
)
def test_expired_credentials_and_server_errors_are_temporary(
    monkeypatch: pytest.MonkeyPatch, status: int, code: str, kind: type[OpsError]
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setattr("time.sleep", lambda _: None)

    def send(_: Any, request: Any) -> AWSResponse:
        return AWSResponse(request.url, status, {"Content-Type": "application/xml"}, Body(code))

    monkeypatch.setattr("botocore.httpsession.URLLib3Session.send", send)
    with pytest.raises(OpsError, match=f"AWS says {code}") as failed:
        Aws("eu-central-1").objects("bucket", "manifests/")
    assert type(failed.value) is kind


def test_thousands_of_objects_are_hidden_by_few_requests() -> None:
    with mock_aws(), pytest.MonkeyPatch.context() as patch:
        use_moto_credentials(patch)
        bucket, sent = Aws("eu-central-1"), list[int]()
        storage = bucket._client("s3")
        storage.create_bucket(Bucket="many", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
        storage.put_bucket_versioning(Bucket="many", VersioningConfiguration={"Status": "Enabled"})
        storage.put_object(Bucket="many", Key="manifests/1", Body=b"kept as a version")
        storage.meta.events.register("before-call.s3.DeleteObjects", lambda **_: sent.append(1))
        written = bucket.object_dates("many", "manifests/")["manifests/1"]
        assert abs(datetime.now(UTC) - written) < timedelta(minutes=1)
        assert bucket.replications("many", ["manifests/1"]) == ("",)
        bucket.hide_objects("many", [f"manifests/{number}" for number in range(1001)])
        assert len(sent) == 2
        assert bucket.objects("many", "") == ()
        listed = storage.list_object_versions(Bucket="many", Prefix="manifests/1")
        assert [each["Key"] for each in listed["Versions"]] == ["manifests/1"]
        bucket.hide_objects("many", [])
        assert len(sent) == 2
