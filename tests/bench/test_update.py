"""Updates of Gitea against `docker compose pull && docker compose up --detach`, as the roadmap's scripts and Watchtower update.

Both run on the same site in the same run, from 28.0.1 to 28.1.0 and to a broken release, while visitors send requests.
"""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import pytest

from ops.gate.benchmarks import Figure
from tests.bench.host import percentile
from tests.bench.record import record
from tests.bench.site import Site, compared, grow
from tests.disaster.site.conftest import SETTINGS, script_for_gitea
from tests.support.load_clients import connected

pytestmark = pytest.mark.timeout(60 * 60)

TIMES, THEIR_TIMES = 6, 3
AWAY_SECONDS, CHECK_SECONDS, BACK_SECONDS = 6.0, 3.0, 60.0
# The time for a site that was updated to a broken release to recover by itself.
RECOVERY_SECONDS = 90.0
_COMPOSE = "cd /opt/gitea-suite/compose"
# The update of the alternative: another tag in the settings, and these two commands.
_THEIRS = (
    _COMPOSE
    + """
sed -i "s#^GITEA_IMAGE=.*#GITEA_IMAGE='gitea/gitea:{tag}'#" .env
docker compose --progress quiet pull gitea
docker compose --progress quiet up --detach
"""
)


@dataclass
class Observed:
    """The answers to a visitor with up to twenty requests a second: how many, and the longest time without a page.

    A request that waits is as long without a page as one that is refused.
    """

    asked: int = 0
    told_why: int = 0
    failed: int = 0
    away: float = 0.0
    is_away: bool = False
    _served: float | None = None

    def saw(self, when: float, status: int) -> None:
        """Count one answer; status 0 means no answer."""
        self.asked += 1
        self.told_why += status == 503
        self.failed += status not in {200, 503}
        self.is_away = status != 200
        if not self.is_away:
            self.away = max(self.away, round(when - (self._served or when), 2))
            self._served = when


@contextmanager
def visitors(site: Site, path: str = "/user/login") -> Iterator[Observed]:
    """Send requests during the block."""
    met, over = Observed(), threading.Event()

    def send_requests() -> None:
        while not over.is_set():
            status = _status(site, path)
            met.saw(time.monotonic(), status)
            over.wait(0.05)

    client = threading.Thread(target=send_requests)
    client.start()
    try:
        yield met
    finally:
        over.set()
        client.join()


def _status(site: Site, path: str) -> int:
    try:
        with closing(connected(site.address, 443, site.domain, site.trust)) as connection:
            connection.request("GET", path)
            return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0


@pytest.fixture
def older_gitea(site: Site, sizes: list[float]) -> Site:
    """The site at 28.0.1 with the size for comparisons; a new version is watched for 10 s."""
    reset_site(site)
    grow(site, compared(sizes))
    settings = json.dumps({"watch_seconds": 10, "healthy_minutes": 1})
    changed = SETTINGS.replace("sys.argv[1]", repr("update")).replace("sys.argv[2]", repr(settings))
    site.host.shell(f"python3 - <<'E'\n{changed}\nE")
    return site


def reset_site(site: Site) -> None:
    """Reset the site to 28.0.1 without data."""
    site.host.shell(script_for_gitea("28.0.1"))


def test_updates_against_compose_that_recreates_the_container(older_gitea: Site, sizes: list[float]) -> None:
    checks = [older_gitea.host.ops("update --check").seconds for _ in range(3)]
    ours = [_there_and_back(older_gitea) for _ in range(TIMES)]
    back = _broken(older_gitea)
    theirs = [_their_update(older_gitea) for _ in range(THEIR_TIMES)]
    never = _their_broken(older_gitea)
    away = percentile([each.away for each, _ in ours], 0.95)
    their_away = percentile([each.away for each in theirs], 0.95)
    size = f"{compared(sizes):g} GB"
    figures = [
        Figure(
            "the longest time without a page during an update, 95th percentile",
            f"{away:.1f} s",
            f"docker compose up: {their_away:.1f} s",
            round(away / their_away, 2),
            f"<= {AWAY_SECONDS:g} s",
            met=away <= AWAY_SECONDS,
        ),
        Figure(
            "requests during an update without an answer or a reason",
            f"{sum(each.failed for each, _ in ours)} of {sum(each.asked for each, _ in ours)}",
            f"docker compose up: {sum(each.failed for each in theirs)} of {sum(each.asked for each in theirs)}",
            None,
            "0",
            met=not any(each.failed for each, _ in ours),
        ),
        Figure(
            f"a broken release rolled back with its data, {size}: from the failed check until healthy",
            f"{back['back']:.1f} s",
            f"docker compose up: {'never' if never else 'recovers by itself'}",
            None,
            f"<= {BACK_SECONDS:g} s",
            met=back["back"] <= BACK_SECONDS,
        ),
        Figure(
            "check for available updates of every service",
            f"{max(checks):.1f} s",
            "",
            None,
            f"<= {CHECK_SECONDS:g} s",
            met=max(checks) <= CHECK_SECONDS,
        ),
    ]
    details: dict[str, Any] = {
        "ours": [{"met": asdict(met), "told": report} for met, report in ours],
        "theirs": [asdict(each) for each in theirs],
        "broken": back,
        "checks": checks,
    }
    record("update", figures, details)
    assert never, "the broken release recovered without a rollback"
    assert [each.what for each in figures if not each.met] == []


def _there_and_back(site: Site) -> tuple[Observed, dict[str, Any]]:
    with visitors(site) as met:
        report = site.host.ops("update gitea --to 28.1.0 --yes").document
    assert report["outcome"] == "updated"
    site.host.ops("rollback --yes")
    return met, {"away": report["away"], "durations": report["durations"]}


def _broken(site: Site) -> dict[str, Any]:
    """Return the seconds of each step of an update to a release that migrates the database and then serves nothing."""
    with visitors(site) as met:
        argv = "/usr/local/bin/ops update gitea --to 28.1.1-broken --yes --json 2>/dev/null"
        site.host.shell(argv, code=5)
    assert not met.is_away
    entry = site.host.ops("update history").document["updates"][-1]
    assert entry["outcome"] == "rolled back"
    return {"away": entry["away"], "met": asdict(met), **entry["durations"]}


def _their_update(site: Site) -> Observed:
    reset_site(site)
    with visitors(site) as met:
        site.host.shell(_THEIRS.format(tag="28.1.0"))
        _until(lambda: not met.is_away, RECOVERY_SECONDS)
    assert not met.is_away
    return met


def _their_broken(site: Site) -> bool:
    """Tell whether the alternative's site stays broken until the end of the recovery time."""
    with visitors(site) as met:
        site.host.shell(_THEIRS.format(tag="28.1.1-broken"))
        _until(lambda: met.is_away, RECOVERY_SECONDS)
        _until(lambda: not met.is_away, RECOVERY_SECONDS)
    return met.is_away


def _until(holds: Callable[[], bool], seconds: float) -> None:
    """Wait until ``holds`` returns true, for at most ``seconds``."""
    time.sleep(1)
    deadline = time.monotonic() + seconds
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.2)
