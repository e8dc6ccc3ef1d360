"""Every fault rings its alerts, within seconds with the intervals of a rehearsal, and its end is reported, too."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator

import pytest

from tests.support.alert_faults import FAULTS, Fault
from tests.support.deployed_site import Account, DeployedSite, Ssh, timers_stopped, until
from tests.support.site_alerts import Alerts, quick_watch, wait_for

Record = Callable[[str, object], None]

_SCRIPTED = [fault for fault in FAULTS if fault.test == Fault.test]
# A consequence would ring at the latest so long after its cause: 3 minutes of `for`, at a thirtieth of the usual interval.
_CONSEQUENCE_SECONDS = 10
_RESOLVED_SECONDS = 240
# After so long without a heartbeat whatever counts them rings.
_BEAT_SECONDS = 15


@pytest.fixture(scope="module")
def alerts(site: DeployedSite, ssh: Ssh) -> Iterator[Alerts]:
    """The alerts of the site with a quick watch, while no timer of the host runs."""
    health = "gitea-suite-health.timer"
    with timers_stopped(ssh):
        assert ssh(f"sudo sh -c 'systemctl stop {health}; ops health >/dev/null'").returncode in (0, 3)
        with quick_watch(site, ssh) as quick:
            yield quick
        assert ssh(f"sudo systemctl start {health}").returncode == 0


@pytest.mark.parametrize("fault", _SCRIPTED, ids=lambda fault: fault.name)
def test_a_fault_rings_its_alerts_and_its_end_is_reported(
    fault: Fault, site: DeployedSite, alerts: Alerts, record_property: Record
) -> None:
    inject, remove = fault.scripts(site.domain, int(site.document["mail"].get("smtp_port", 587)))
    until(lambda: not alerts.ringing() & set(fault.rings) - {"Watchdog"}, "the alerts are silent before the fault", 240)
    before = alerts.position()
    began = time.monotonic()
    try:
        alerts.run(inject)
        _await(fault, alerts, before)
        rung = time.monotonic() - began
        if fault.silent:
            time.sleep(_CONSEQUENCE_SECONDS)
        assert alerts.arrived(before, "firing", "mail") & set(fault.silent) == set()
        after = alerts.position()
    finally:
        alerts.run(remove)
    ended = time.monotonic()
    _await_end(fault, alerts, after)
    _record(record_property, fault, rung, time.monotonic() - ended)


def _await(fault: Fault, alerts: Alerts, before: tuple[int, int]) -> None:
    """Wait until the fault is noticed where it is to be noticed."""
    what = f"{fault.name}: {', '.join(fault.rings)}"
    if fault.channel == "heartbeat":
        _await_silence(alerts, fault.seconds)
    elif fault.channel == "prometheus":
        until(lambda: set(fault.rings) <= alerts.ringing(), what, fault.seconds)
    else:
        until(lambda: set(fault.rings) <= alerts.arrived(before, "firing", fault.channel), what, fault.seconds)


def _await_silence(alerts: Alerts, seconds: float) -> None:
    """Wait until no heartbeat has arrived for some seconds."""
    deadline, last, changed = time.monotonic() + seconds, alerts.heartbeats(), time.monotonic()
    while time.monotonic() - changed < _BEAT_SECONDS:
        assert time.monotonic() < deadline, f"the heartbeat goes on for {seconds} s"
        if (now := alerts.heartbeats()) != last:
            last, changed = now, time.monotonic()
        time.sleep(0.5)


def _await_end(fault: Fault, alerts: Alerts, after: tuple[int, int]) -> None:
    if fault.channel == "heartbeat":
        count = alerts.heartbeats()
        until(lambda: alerts.heartbeats() > count, "the heartbeat goes on", _RESOLVED_SECONDS)
    elif fault.channel == "prometheus":
        until(lambda: not set(fault.rings) & alerts.ringing(), f"{fault.name}: its end", _RESOLVED_SECONDS)
    else:
        # The receiver of the webhook may have lost a message: it is the fault of one of them.
        until(
            lambda: set(fault.rings) <= alerts.arrived(after, "resolved", "mail"),
            f"{fault.name}: RESOLVED",
            _RESOLVED_SECONDS,
        )


def test_repositories_that_vanish_ring(
    site: DeployedSite, alerts: Alerts, account: Account, record_property: Record
) -> None:
    (fault,) = [each for each in FAULTS if each.test == "test_repositories_that_vanish_ring"]
    api = f"{site.url}/api/v1"
    names = [f"vanishing-{number}" for number in range(20)]
    for name in names:
        assert account.session.post(f"{api}/user/repos", json={"name": name}).status_code == 201
    # Prometheus has to have seen them.
    time.sleep(6)
    before = alerts.position()
    for name in names:
        assert account.session.delete(f"{api}/repos/{account.name}/{name}").status_code == 204
    told = wait_for(
        lambda: set(fault.rings) <= alerts.arrived(before, "firing", "mail"), fault.seconds, "repositories vanish"
    )
    ended = wait_for(
        lambda: set(fault.rings) <= alerts.arrived(before, "resolved", "mail"), _RESOLVED_SECONDS, "the alert ends"
    )
    _record(record_property, fault, told, ended)


def _record(record_property: Record, fault: Fault, rung: float, ended: float) -> None:
    measured = {"fault": fault.name, "alerts": list(fault.rings), "channel": fault.channel}
    record_property("alarm", json.dumps({**measured, "rung": round(rung, 1), "ended": round(ended, 1)}))
