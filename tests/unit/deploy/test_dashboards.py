"""The tunnel to Grafana: what it prints, when it ends, and what it says when it breaks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from ops.deploy import dashboards
from ops.errors import OpsError, Refused
from ops.world.host_ops import HostOps
from ops.world.process import Finished, Processes, Terminated
from tests.support import fakes

CONNECTION = {
    "ansible_port": 22,
    "ansible_user": "admin",
    "ansible_host": "203.0.113.9",
    "ansible_ssh_private_key_file": "/keys/test",
    "ansible_ssh_common_args": "-o IdentitiesOnly=yes",
}


class Host(HostOps):
    """A host on which Grafana listens."""

    def ops(self, *arguments: str) -> Mapping[str, Any]:
        assert arguments == ("dashboards",)
        return {"address": "172.20.0.9:3000"}


class Tunnels:
    """Programs in the background: ``ended`` is how the tunnel ends, and None while it runs."""

    def __init__(self, ended: Finished | None = None) -> None:
        self.result, self.argv, self.open = ended, [""], False

    @contextmanager
    def in_background(self, argv: Sequence[str]) -> Iterator[Tunnels]:
        self.argv, self.open = list(argv), True
        try:
            yield self
        finally:
            self.open = False

    def ended(self) -> Finished | None:
        return self.result


def _open(tunnels: Tunnels, **more: Any) -> tuple[Any, Any]:
    world: Any = fakes.FakeWorld()
    world.processes = tunnels
    site = fakes.site(**more)
    return world, lambda: dashboards.open_tunnel(site, world, Host(CONNECTION, Processes()), port=3001, minutes=2)


def test_it_prints_url_user_and_where_the_password_is_and_ends_in_time() -> None:
    tunnels = Tunnels()
    world, run = _open(tunnels)
    before = world.clock.monotonic()
    report = run()
    assert world.progress == [
        "dashboards: http://localhost:3001/-/grafana/ for 2 minutes, or until Ctrl-C",
        "user: admin",
        "password: aws secretsmanager get-secret-value --region eu-central-1 --secret-id test/grafana-password "
        "--query SecretString --output text",
    ]
    assert 120 <= world.clock.monotonic() - before <= 122
    assert (report.summary, report.changed, tunnels.open) == ("the tunnel is closed", False, False)
    assert tunnels.argv[0] == "ssh"
    assert tunnels.argv[-2:] == ["-L", "127.0.0.1:3001:172.20.0.9:3000"]
    assert "ExitOnForwardFailure=yes" in tunnels.argv


def test_a_tunnel_that_breaks_says_why_and_names_another_port() -> None:
    tunnels = Tunnels(Finished(255, "bind [127.0.0.1]:3001: Address already in use\n"))
    _, run = _open(tunnels)
    with pytest.raises(OpsError, match="Address already in use") as raised:
        run()
    assert "--port NUMBER if port 3001" in raised.value.hint
    assert not tunnels.open


@pytest.mark.parametrize(("interrupt", "raises"), [(KeyboardInterrupt(), False), (Terminated(15), True)])
def test_ctrl_c_ends_it_well_and_sigterm_as_every_verb(
    monkeypatch: pytest.MonkeyPatch, interrupt: KeyboardInterrupt, raises: bool
) -> None:
    tunnels = Tunnels()
    world, run = _open(tunnels)

    def sleep(_: float) -> None:
        raise interrupt

    monkeypatch.setattr(world.clock, "sleep", sleep)
    if raises:
        with pytest.raises(Terminated):
            run()
    else:
        assert run().summary == "the tunnel is closed"
    assert not tunnels.open


def test_a_site_without_monitoring_opens_none() -> None:
    tunnels = Tunnels()
    _, run = _open(tunnels, monitoring={"enabled": False})
    with pytest.raises(Refused, match=r"monitoring\.enabled is false"):
        run()
    assert tunnels.argv == [""]
