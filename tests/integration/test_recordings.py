"""The stand-in gives the answers that real Gitea was recorded to give; tests/data/recordings/unserved.toml lists the others."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.gitea_contract import METRICS_TOKEN, Bench, Fleet, Gitea, Postgres, Worktree
from tests.support.recordings import DOMAIN, VERSIONS, Compared, Replay, faults

# The image whose program answers as each recorded version does, when its file VERSION names it.
IMAGE_TAG = "1.27.3"
_SETTINGS = {
    "GITEA__server__ROOT_URL": f"http://{DOMAIN}/",
    "GITEA__server__SSH_DOMAIN": DOMAIN,
    "GITEA__metrics__ENABLED": "true",
    "GITEA__metrics__TOKEN": METRICS_TOKEN,
    "GITEA_STANDIN_PING_SECONDS": "0.2",
}


def of_version(fleet: Fleet, version: str, database: str = "") -> Gitea:
    """Return the healthy stand-in, as that version of Gitea."""
    command = f"echo {version} >/app/gitea/VERSION; exec /usr/bin/entrypoint"
    return fleet.healthy(IMAGE_TAG, environment=_SETTINGS, entrypoint=["sh", "-c", command], database=database)


@pytest.fixture(scope="module", params=VERSIONS)
def replayed(
    request: pytest.FixtureRequest,
    bench: Bench,
    postgres_image: str,
    gitea_image: object,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[str, tuple[Compared, ...]]:
    """A recorded version with all of its requests, sent again to the stand-in in their order."""
    version = str(request.param)
    postgres = Postgres.on(bench, postgres_image, f"recorded-{version}")
    gitea = of_version(Fleet(bench, postgres, gitea_image), version)  # type: ignore[arg-type]
    work = Worktree.at(tmp_path_factory.mktemp("recorded") / "work")
    replay = Replay(version, gitea, work, postgres.host)
    return version, replay.run(lambda: postgres.container.stop(timeout=10))


def test_every_recorded_request_is_answered_as_recorded_or_listed(replayed: tuple[str, tuple[Compared, ...]]) -> None:
    version, results = replayed
    assert faults(version, results) == []
