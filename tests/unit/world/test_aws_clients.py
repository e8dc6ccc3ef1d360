"""The settings of boto3's clients."""

from __future__ import annotations

import pytest

from ops.world.aws_clients import AwsClients
from tests.support.moto_site import use_moto_credentials


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    use_moto_credentials(monkeypatch)


@pytest.mark.parametrize("service", ["s3", "ec2", "secretsmanager"])
def test_boto_s_retries_are_cut_only_for_an_endpoint_of_its_own(service: str) -> None:
    local = AwsClients("eu-central-1", "http://127.0.0.1:4566").client(service)
    assert local.meta.config.retries["total_max_attempts"] == 4
    default = AwsClients("eu-central-1")
    without_settings = default.session.client(service)
    assert default.client(service).meta.config.retries == without_settings.meta.config.retries
