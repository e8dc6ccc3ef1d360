"""Updates of Gitea against `docker compose pull && docker compose up --detach`, which is what the roadmap's scripts and Watchtower do.

Both on the same site in the same run, from 28.0.1 to 28.1.0 and to a release that is broken, while visitors come.
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
# So long a site that was updated to a broken release is given to become well by itself.
PATIENCE_SECONDS = 90.0
_COMPOSE = "cd /opt/gitea-suite/compose"
# What an update elsewhere is: another tag in the settings, and these two.
_THEIRS = (
    _COMPOSE
    + """
sed -i "s#^GITEA_IMAGE=.*#GITEA_IMAGE='gitea/gitea:{tag}'#" .env
docker compose --progress quiet pull gitea
docker compose --progress quiet up --detach
"""
)


@dataclass
class Met:
    """What visitors met who come twenty times a second: for how long nothing was served, and how often they were told why."""

    asked: int = 0
    told_why: int = 0
    failed: int = 0
    away: float = 0.0
    _since: float | None = None

    def saw(self, when: float, status: int) -> None:
        """Count one answer; status 0 is none."""
        self.asked += 1
        self.told_why += status == 503
        self.failed += status not in {200, 503}
        if status == 200 and self._since is not None:
            self.away, self._since = round(self.away + when - self._since, 2), None
        elif status != 200 and self._since is None:
            self._since = when

    @property
    def is_away(self) -> bool:
        """Whether the last who came was not served."""
        return self._since is not None


@contextmanager
def visitors(site: Site, path: str = "/user/login") -> Iterator[Met]:
    """Have people come during the block."""
    met, over = Met(), threading.Event()

    def come() -> None:
        while not over.is_set():
            met.saw(time.monotonic(), _status(site, path))
            over.wait(0.05)

    person = threading.Thread(target=come)
    person.start()
    try:
        yield met
    finally:
        over.set()
        person.join()


def _status(site: Site, path: str) -> int:
    try:
        with closing(connected(site.address, 443, site.domain, site.trust)) as connection:
            connection.request("GET", path)
            return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0


@pytest.fixture
def older_gitea(site: Site, sizes: list[float]) -> Site:
    """The site at 28.0.1 and of the size that is compared at; a new version is watched for 10 s."""
    reset_site(site)
    grow(site, compared(sizes))
    settings = json.dumps({"watch_seconds": 10, "healthy_minutes": 1})
    changed = SETTINGS.replace("sys.argv[1]", repr("update")).replace("sys.argv[2]", repr(settings))
    site.host.shell(f"python3 - <<'E'\n{changed}\nE")
    return site


def reset_site(site: Site) -> None:
    """The site has nothing, at 28.0.1."""
    site.host.shell(script_for_gitea("28.0.1"))


def test_updates_against_compose_that_makes_the_container_anew(older_gitea: Site, sizes: list[float]) -> None:
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
            "Gitea is away for an update, 95th percentile",
            f"{away:.1f} s",
            f"docker compose up: {their_away:.1f} s",
            round(away / their_away, 2),
            f"<= {AWAY_SECONDS:g} s",
            met=away <= AWAY_SECONDS,
        ),
        Figure(
            "visitors of an update who are told nothing",
            f"{sum(each.failed for each, _ in ours)} of {sum(each.asked for each, _ in ours)}",
            f"docker compose up: {sum(each.failed for each in theirs)} of {sum(each.asked for each in theirs)}",
            None,
            "0",
            met=not any(each.failed for each, _ in ours),
        ),
        Figure(
            f"a broken release taken back with its data, {size}: from the verdict until it is well",
            f"{back['back']:.1f} s",
            f"docker compose up: {'never' if never else 'well by itself'}",
            None,
            f"<= {BACK_SECONDS:g} s",
            met=back["back"] <= BACK_SECONDS,
        ),
        Figure(
            "what updates there are, of every service",
            f"{max(checks):.1f} s",
            "",
            None,
            f"<= {CHECK_SECONDS:g} s",
            met=max(checks) <= CHECK_SECONDS,
        ),
    ]
    details: dict[str, Any] = {
        "ours": [{"met": asdict(met), "told": told} for met, told in ours],
        "theirs": [asdict(each) for each in theirs],
        "broken": back,
        "checks": checks,
    }
    record("update", figures, details)
    assert never, "the broken release is not broken for them"
    assert [each.what for each in figures if not each.met] == []


def _there_and_back(site: Site) -> tuple[Met, dict[str, Any]]:
    with visitors(site) as met:
        told = site.host.ops("update gitea --to 28.1.0 --yes").document
    assert told["outcome"] == "updated"
    site.host.ops("rollback --yes")
    return met, {"away": told["away"], "durations": told["durations"]}


def _broken(site: Site) -> dict[str, Any]:
    """The seconds of each step of an update to a release that migrates and serves nothing."""
    with visitors(site) as met:
        argv = "/usr/local/bin/ops update gitea --to 28.1.1-broken --yes --json 2>/dev/null"
        site.host.shell(argv, code=5)
    assert not met.is_away
    entry = site.host.ops("update history").document["updates"][-1]
    assert entry["outcome"] == "rolled back"
    return {"away": entry["away"], "met": asdict(met), **entry["durations"]}


def _their_update(site: Site) -> Met:
    reset_site(site)
    with visitors(site) as met:
        site.host.shell(_THEIRS.format(tag="28.1.0"))
        _until(lambda: not met.is_away, PATIENCE_SECONDS)
    assert not met.is_away
    return met


def _their_broken(site: Site) -> bool:
    """Whether their site stays broken for as long as someone is patient."""
    with visitors(site) as met:
        site.host.shell(_THEIRS.format(tag="28.1.1-broken"))
        _until(lambda: met.is_away, PATIENCE_SECONDS)
        _until(lambda: not met.is_away, PATIENCE_SECONDS)
    return met.is_away


def _until(holds: Callable[[], bool], seconds: float) -> None:
    """Wait until something holds, or so long."""
    time.sleep(1)
    deadline = time.monotonic() + seconds
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.2)
