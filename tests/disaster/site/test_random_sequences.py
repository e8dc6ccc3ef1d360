"""Random sequences of updates, kills, backups, restores and rollbacks on a deployed site.

The same on the fake host: tests/unit/update/test_update_sequences.py.
"""

from __future__ import annotations

import json
import random
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.disaster.site.conftest import change, reset_site, script_for_gitea
from tests.disaster.site.test_killed_backup_and_restore import try_kill_at_step
from tests.disaster.site.test_power_failure import until_resumed
from tests.support.deployed_site import Account, DeployedSite, Git, Ssh, ops
from tests.support.sequences import Refused, Sequences
from tests.support.updated_site import image_in_use, issue, titles, version_of

pytestmark = pytest.mark.usefixtures("by_hand", "short_watch")
# The steps of an update at which it may be killed.
_STEPS = ("pull", "freeze", "data", "copy", "canary", "stop", "picture", "pin", "up", "judge", "back")


class Deployed:
    """The deployed site and one repository on it; each write is an issue and a branch."""

    releases: Sequence[str] = ("28.0.1", "28.1.0", "28.1.1-crash", "28.1.1-midmigration", "28.1.1-broken")

    def __init__(
        self,
        site: DeployedSite,
        ssh: Ssh,
        account: Account,
        push: Callable[[str], object],
        cut_power: Callable[[], None],
    ) -> None:
        self._site, self._ssh, self._account, self._push, self._cut_power = site, ssh, account, push, cut_power
        self.acknowledged: list[str] = []
        self.before: list[str] | None = None

    def version(self) -> str:
        return version_of(self._site, self._account)

    def content(self) -> Sequence[str]:
        found = titles(self._site, self._account)
        address = f"{self._site.url}/api/v1/repos/{self._account.name}/kept/branches?limit=50"
        branches = {str(each["name"]) for each in self._account.session.get(address).json()}
        assert branches - {"main"} == found
        return sorted(found)

    def write(self, words: str) -> None:
        print(f"writing {words}", flush=True)
        self._push(words)
        issue(self._site, self._account, words)
        self.acknowledged.append(words)

    def update(self, to: str) -> None:
        self._run(*self._update_to(to))

    def update_and_cut_off(self, to: str, number: int, *, power: bool) -> None:
        step = _STEPS[number % len(_STEPS)]
        output = try_kill_at_step(self._ssh, step, *self._update_to(to))
        print(f"{to}, to be killed at {step}, {power=}: {output.splitlines()[-1:]}", flush=True)
        # A refused update, or one without that step, was not killed.
        if f"== {step}\n" not in output:
            return
        if power:
            self._cut_power()
            until_resumed(self._ssh)
        else:
            self._run("update", "--resume")

    def back_up(self) -> None:
        print(f"backed up: {ops(self._ssh, 'backup', 'take')['identity']}", flush=True)

    def restore(self) -> None:
        print(f"restored: {ops(self._ssh, 'restore', '--yes')['summary']}", flush=True)

    def go_back(self, number: int) -> None:
        if number < 0:
            self._run("rollback", "--yes")
            return
        if not self.can_go_back():
            raise Refused("there is no snapshot to roll back to")
        try_kill_at_step(self._ssh, "back", "rollback", "--yes")
        self._run("update", "--resume")

    def can_go_back(self) -> bool:
        return self._ssh("sudo test -e /srv/gitea/.update/kept.json").returncode == 0

    def assert_well(self) -> None:
        assert self._account.session.get(f"{self._site.url}/user/login").status_code == 200
        assert image_in_use(self._ssh)
        assert self._ssh("sudo test -e /srv/gitea/.update/journal").returncode == 1

    @staticmethod
    def _update_to(to: str) -> tuple[str, ...]:
        return ("update", "gitea", "--to", to, "--yes")

    def _run(self, *arguments: str) -> None:
        """Run a verb that succeeds, is undone or is refused; raises Refused when it is refused."""
        done = self._ssh(f"sudo ops {shlex.join(arguments)} --json")
        assert done.returncode in {0, 4, 5}, f"{done.stdout}\n{done.stderr}"
        summary = str(json.loads(done.stdout)["summary"])
        print(f"{shlex.join(arguments)}: {summary}", flush=True)
        if done.returncode == 4:
            raise Refused(summary)


@pytest.mark.timeout(1800)
def test_after_any_sequence_of_operations_the_site_serves_all_acknowledged_writes(
    site: DeployedSite,
    ssh: Ssh,
    git: Git,
    tmp_path: Path,
    cut_power: Callable[[], None],
    request: pytest.FixtureRequest,
) -> None:
    reset_site(ssh, script_for_gitea("1.27.3"))
    # The broken test releases fail at once.
    change(ssh, "update", watch_seconds=10)
    account: Account = request.getfixturevalue("account")
    remote: str = request.getfixturevalue("repository")
    site_under_test = Deployed(
        site,
        ssh,
        account,
        lambda branch: git("push", remote, f"HEAD:refs/heads/{branch}", directory=tmp_path / "work"),
        cut_power,
    )

    sequences = Sequences()
    sequences.site_under_test = site_under_test
    chance = random.Random(seed := random.randrange(10**6))
    print(f"seed {seed}", flush=True)
    operations = _operations(chance, site_under_test.releases)
    chance.shuffle(operations)
    for operation in operations:
        operation(sequences)
        sequences.serves_what_it_has_acknowledged()
    # The next tests expect this release.
    sequences.is_updated("28.1.0")
    sequences.serves_what_it_has_acknowledged()
    assert site_under_test.version() == "28.1.0"
    assert ssh("sudo ops health --json").returncode == 0


def _operations(chance: random.Random, releases: Sequence[str]) -> list[Callable[[Sequences], None]]:
    """Return some operations of each kind, so that none is missing by chance.

    Hypothesis is no option here: it would repeat a failed sequence on a site that has changed since.
    """

    def killed(power: bool) -> Callable[[Sequences], None]:
        to, number = chance.choice(releases), chance.randrange(len(_STEPS))
        return lambda site: site.is_updated_and_cut_off(to, number, power)

    def updated() -> Callable[[Sequences], None]:
        to = chance.choice(releases)
        return lambda site: site.is_updated(to)

    return [
        *[Sequences.someone_writes] * 4,
        *[updated() for _ in range(4)],
        *[killed(power) for power in (False, False, False, True, True)],
        *[lambda site, number=number: site.goes_back(number) for number in (-1, 0)],
        Sequences.is_backed_up,
        Sequences.is_restored,
    ]
