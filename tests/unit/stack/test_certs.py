"""A certificate is issued, renewed when due, and nginx is reloaded only when it changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from ops.errors import OpsError, Unavailable
from ops.model import Report
from ops.stack import certs
from ops.world.containers import Ran
from ops.world.process import Finished
from tests.support import fakes


def _world(
    certbot: Callable[[Sequence[str]], Finished], nginx: Callable[[Sequence[str]], Ran] = lambda _: Ran(0, "")
) -> fakes.FakeWorld:
    return fakes.FakeWorld(
        processes=fakes.FakeProcesses(certbot), containers=fakes.FakeContainers(answers={"nginx": nginx})
    )


def _renew(world: Any, folder: Path) -> Report:
    return certs.renew(fakes.site(), world, live=folder / "live", compose=folder)


def _writes(folder: Path, content: str) -> Callable[[Sequence[str]], Finished]:
    def certbot(argv: Sequence[str]) -> Finished:
        (folder / "live/git.example.org").mkdir(parents=True, exist_ok=True)
        (folder / "live/git.example.org/fullchain.pem").write_text(content)
        return Finished(0, "")

    return certbot


def test_the_first_certificate_switches_nginx_to_tls_and_reloads_it(tmp_path: Path) -> None:
    world = _world(_writes(tmp_path, "first"))
    assert _renew(world, tmp_path).changed is True
    assert [argv[-1] for _, argv, _ in world.containers.executed] == [
        "/docker-entrypoint.d/40-select-stage.sh",
        "-t",
        "reload",
    ]


def test_a_certificate_that_is_not_due_leaves_nginx_alone(tmp_path: Path) -> None:
    _renew(_world(_writes(tmp_path, "same")), tmp_path)
    world = _world(_writes(tmp_path, "same"))
    assert _renew(world, tmp_path).changed is False
    assert world.containers.executed == []


def test_an_issuer_that_refuses_is_reported_with_certbot_s_output_and_nginx_is_not_reloaded(tmp_path: Path) -> None:
    world = _world(lambda _: Finished(1, "log\nDetail: no valid A records found\n"))
    with pytest.raises(Unavailable, match="no valid A records found"):
        _renew(world, tmp_path)
    assert world.containers.executed == []


def test_nginx_is_not_reloaded_with_an_invalid_configuration(tmp_path: Path) -> None:
    world = _world(_writes(tmp_path, "new"), lambda argv: Ran(int("-t" in argv), "emerg"))
    with pytest.raises(OpsError, match="emerg"):
        _renew(world, tmp_path)
    assert all("reload" not in argv for _, argv, _ in world.containers.executed)


def test_the_next_run_repeats_a_failed_reload_although_no_renewal_is_due(tmp_path: Path) -> None:
    with pytest.raises(OpsError, match="emerg"):
        _renew(_world(_writes(tmp_path, "new"), lambda argv: Ran(int("-t" in argv), "emerg")), tmp_path)
    world = _world(_writes(tmp_path, "new"))
    assert _renew(world, tmp_path).changed is True
    assert [argv[-1] for _, argv, _ in world.containers.executed][-1] == "reload"
    assert _renew(_world(_writes(tmp_path, "new")), tmp_path).changed is False


def test_a_certificate_of_another_issuer_is_replaced_at_once(tmp_path: Path) -> None:
    settings = tmp_path / "renewal/git.example.org.conf"
    settings.parent.mkdir()
    for server, requested in (
        ("https://acme-staging-v02.api.letsencrypt.org/directory", {"CERTBOT_WHEN": "--force-renewal"}),
        (fakes.site().tls.acme_directory, {}),
    ):
        settings.write_text(f"version = 5.8.1\n[renewalparams]\nserver = {server}\nkey_type = ecdsa\n")
        world = _world(_writes(tmp_path, server))
        _renew(world, tmp_path)
        assert world.processes.given == [requested]
