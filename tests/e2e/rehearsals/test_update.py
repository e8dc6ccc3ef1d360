"""Updates on the running site: through every numbering, and to releases that are broken in every way, which leave no trace.

The broken releases are tags of the stand-in for Gitea (ground/images/gitea/README.md).
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Account, DeployedSite, Git, Ssh, head_of, ops, push

pytestmark = pytest.mark.usefixtures("by_hand", "hurried")

# A site begins anew at an older release: by hand, and as no one does it who has data.
_ANEW = """set -e
cd /opt/gitea-suite/compose
docker pull --quiet gitea/gitea:{tag} >/dev/null
digest=$(docker image inspect --format '{{{{index .RepoDigests 0}}}}' gitea/gitea:{tag} | cut -d @ -f 2)
docker compose --progress quiet stop gitea
docker compose exec -T postgres psql -q -U gitea postgres -c 'DROP DATABASE gitea WITH (FORCE)' -c 'CREATE DATABASE gitea'
find /srv/gitea/gitea -mindepth 1 -delete
sed -i "s#^GITEA_IMAGE=.*#GITEA_IMAGE='gitea/gitea:{tag}@$digest'#" .env
docker compose --progress quiet up --detach --wait gitea
ops accounts ensure-admin
"""
_HURRIED = """import json, pathlib
path = pathlib.Path("/etc/gitea-suite/site.json")
known = json.loads(path.read_text())
known["update"] |= {"watch_seconds": 25, "healthy_minutes": 1}
path.write_text(json.dumps(known))"""


@pytest.fixture
def hurried(ssh: Ssh) -> Iterator[None]:
    """New versions are watched for 25 s and have a minute to come up: the releases here are broken sooner than that."""
    kept = "/etc/gitea-suite/site.json"
    assert ssh(f"sudo cp {kept} /root/site.json && sudo python3 -c {shlex.quote(_HURRIED)}").returncode == 0
    yield
    assert ssh(f"sudo cp /root/site.json {kept}").returncode == 0


def test_a_site_of_1_22_6_is_updated_through_to_28_1_0_with_its_data_intact(
    site: DeployedSite, ssh: Ssh, git: Git, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    begun = ssh(f"sudo sh -c {shlex.quote(_ANEW.format(tag='1.22.6'))}")
    assert begun.returncode == 0, begun.stderr
    account: Account = request.getfixturevalue("account")
    remote: str = request.getfixturevalue("repository")
    commits = []
    for tag in ("1.27.3", "28.0.1", "28.1.0"):
        offered = {each["service"]: each for each in ops(ssh, "update", "--check")["services"]}
        assert offered["gitea"]["to"] == "28.1.0"
        commits.append(push(git, remote, tmp_path / "work", f"before {tag}"))
        _issue(site, account, f"before {tag}")
        done = ops(ssh, "update", "gitea", "--to", tag, "--yes")
        print(f"{done['from']} -> {tag}: away for {done['away']} s, {done['durations']}")
        assert (done["outcome"], _version(site, account)) == ("updated", tag)
        assert head_of(site, account, "kept") == commits[-1]
    assert _titles(site, account) == {"before 1.27.3", "before 28.0.1", "before 28.1.0"}
    git("clone", remote, "copy")
    git("fsck", "--strict", directory=tmp_path / "copy")
    told = git("rev-list", "HEAD", directory=tmp_path / "copy").stdout.split()
    assert set(commits) <= set(told)
    assert ops(ssh, "update", "gitea", "--yes")["summary"] == "there is nothing to update"
    entries = ops(ssh, "update", "history")["updates"]
    assert [each["outcome"] for each in entries[-3:]] == ["updated"] * 3


@pytest.mark.parametrize(
    ("tag", "with_data"),
    [
        ("28.1.1-crash", True),
        ("28.1.1-hang", True),
        ("28.1.1-sour", False),
        ("28.1.1-midmigration", True),
        ("28.1.1-broken", True),
    ],
)
def test_a_broken_release_is_taken_back_and_nothing_is_missing(
    site: DeployedSite, ssh: Ssh, account: Account, repository: str, git: Git, tmp_path: Path, tag: str, with_data: bool
) -> None:
    before = push(git, repository, tmp_path / "work", "before")
    _issue(site, account, "before")
    image, migration = _image(ssh), _migration(ssh)
    failed = ops(ssh, "update", "gitea", "--to", tag, "--yes", code=5)
    print(f"{tag}: {failed['summary']}")
    assert (_image(ssh), _migration(ssh), _version(site, account)) == (image, migration, "28.1.0")
    assert head_of(site, account, "kept") == before
    assert _titles(site, account) == {"before"}
    after = push(git, repository, tmp_path / "work", "after")
    assert head_of(site, account, "kept") == after
    entry = ops(ssh, "update", "history")["updates"][-1]
    assert (entry["outcome"], entry["with_data"]) == ("rolled back", with_data)
    assert ssh("sudo ops health --json").returncode == 0


@pytest.mark.parametrize("step", ["stop", "picture", "pin", "up", "judge", "back"])
def test_an_update_that_is_killed_at_any_step_is_finished_or_undone(
    site: DeployedSite, ssh: Ssh, account: Account, repository: str, git: Git, tmp_path: Path, step: str
) -> None:
    before = push(git, repository, tmp_path / "work", "before")
    _issue(site, account, "before")
    image, migration = _image(ssh), _migration(ssh)
    _cut_off_at(ssh, step, "update", "gitea", "--to", "28.1.1-broken", "--yes")
    undone = ops(ssh, "update", "--resume", code=5)
    assert "28.1.0 is back" in undone["summary"]
    assert (_image(ssh), _migration(ssh), _version(site, account)) == (image, migration, "28.1.0")
    assert head_of(site, account, "kept") == before
    assert _titles(site, account) == {"before"}
    assert ops(ssh, "update", "--resume")["changed"] is False


def _cut_off_at(ssh: Ssh, step: str, *arguments: str) -> None:
    """Run a verb on the host and kill it, with no chance to undo anything, when it begins a step."""
    kill = "docker kill --signal KILL $(docker ps --quiet --filter label=gitea-suite.verb=update)"
    script = (
        f'ops {shlex.join(arguments)} 2>&1 | while read -r line; do [ "$line" = "== {step}" ] && {kill}; done; true'
    )
    done = ssh(f"sudo sh -c {shlex.quote(script)}")
    assert done.returncode == 0, done.stderr


def _version(site: DeployedSite, account: Account) -> str:
    return str(account.session.get(f"{site.url}/api/v1/version").json()["version"])


def _image(ssh: Ssh) -> str:
    """What runs, which is what .env says."""
    running = ssh("sudo docker inspect --format '{{.Config.Image}}' gitea-suite-gitea-1").stdout.strip()
    pinned = ssh("sudo grep ^GITEA_IMAGE= /opt/gitea-suite/compose/.env").stdout.strip()
    assert pinned == f"GITEA_IMAGE='{running}'"
    return running


def _migration(ssh: Ssh) -> str:
    asked = "SELECT version FROM version"
    return ssh(f"sudo docker exec gitea-suite-postgres-1 psql -At -U gitea gitea -c '{asked}'").stdout.strip()


def _issue(site: DeployedSite, account: Account, title: str) -> None:
    where = f"{site.url}/api/v1/repos/{account.name}/kept/issues"
    assert account.session.post(where, json={"title": title}).status_code == 201


def _titles(site: DeployedSite, account: Account) -> set[str]:
    found: list[dict[str, Any]] = json.loads(
        account.session.get(f"{site.url}/api/v1/repos/{account.name}/kept/issues").text
    )
    return {str(each["title"]) for each in found}
