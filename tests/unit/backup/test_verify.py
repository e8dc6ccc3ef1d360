"""Verification: its findings, its record, and differences that do not count as damage."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ops.backup import catalogue, contents, manifest, verify
from ops.backup.manifest import Backup
from ops.config.paths import HostPaths
from ops.errors import OpsError, Refused, Unavailable
from ops.world.btrfs import Btrfs
from ops.world.containers import Ran, Service
from ops.world.process import Processes
from ops.world.restic import Damaged, Snapshot, folder_of
from tests.support import fakes

NOW = datetime(2026, 11, 23, 6, 30, tzinfo=UTC)
MAIN = "ref: refs/heads/main\n0001 refs/heads/main"
MADE = fakes.made(NOW - timedelta(minutes=10), repositories=contents.refs_from(f"= a/b.git\n{MAIN}\n"))
SITE = fakes.site()
DUMPED = [
    "+ user\t1\ta\tt\t0",
    "= user 3",
    "+ repository\t1\t7\tb\tf\t0",
    "= repository 1",
    "+ repo_unit\t7\t1",
    "= repo_unit 1",
]
DATA = "/srv/gitea/.moment/gitea"


@dataclass
class VerifiedSite(fakes.FakeWorld):
    """A host with two repositories that can be damaged in every way; ``checked`` records which share of which was read."""

    damaged: dict[str, int] = field(default_factory=dict)
    checked: list[tuple[str, str, bool]] = field(default_factory=list)
    sizes: dict[str, int] = field(default_factory=dict)
    dumped: list[str] = field(default_factory=lambda: list(DUMPED))
    repositories: dict[str, str] = field(default_factory=lambda: {"a/b.git": MAIN})
    # Repositories that the listing loses, as one through a rotated log did.
    unlisted: frozenset[str] = frozenset()
    unreachable: bool = False
    btrfs: Any = None

    def restic(self, repository: str, **_: Any) -> Repository:
        return Repository(self, "remote" if repository.startswith("s3:") else "local")

    def name(self, project: str, service: str) -> str:
        return f"{project}-{service}-1"

    def services(self, project: str) -> list[Service]:
        assert project == HostPaths().project
        return [Service("gitea", "gitea/gitea:28.1.0", "running", "healthy", 0, NOW)]

    def run_script(self, image: str, script: str, *, folder: Path, target: str, user: str) -> Ran:
        assert (image, target, user) == ("gitea/gitea:28.1.0", "/data", "1000:1000")
        found = sorted(folder.glob("git/repositories/*/*.git"))
        # git requires these in a repository.
        assert all({each.name for each in one.iterdir()} >= {"HEAD", "refs", "objects"} for one in found)
        names = [str(each.relative_to(folder / "git/repositories")) for each in found]
        return Ran(0, "".join(f"= {each}\n{self.repositories[each]}\n" for each in names if each not in self.unlisted))


@dataclass
class Repository:
    site: VerifiedSite
    kind: str

    @property
    def repository(self) -> str:
        return f"{self.kind} repository"

    def exists(self) -> bool:
        return True

    def snapshots(self) -> tuple[Snapshot, ...]:
        if self.damaged_now("snapshots"):
            raise OpsError("a snapshot cannot be read")
        ids = [getattr(part, self.kind) for part in MADE.parts.values()]
        return tuple(Snapshot(each, each, paths=(DATA,)) for each in ids)

    def snapshots_or_none(self) -> tuple[Snapshot, ...]:
        return self.snapshots()

    def damaged_now(self, kind: str) -> bool:
        left = self.site.damaged.get(kind, 0)
        self.site.damaged[kind] = left - 1
        return left > 0

    def check(self, share: str = "", *, alone: bool = True) -> None:
        if self.site.unreachable:
            raise Unavailable("the bucket is unreachable")
        self.site.checked.append((self.kind, share, alone))
        if self.damaged_now(self.kind):
            raise Damaged(f"{self.kind} is damaged: pack 0af3: hash mismatch")

    def size(self, snapshot: str) -> int:
        return self.site.sizes.get(snapshot.split("-")[1], 1000)

    def restore(self, snapshot: str, target: Path, *, include: str, only: Sequence[str]) -> None:
        assert (self.kind, snapshot, include) == ("remote", MADE.parts["data"].remote, DATA)
        assert "/git/repositories/*/*.git/refs" in only
        for each in self.site.repositories:
            (target / "git/repositories" / each / "refs").mkdir(parents=True)
            (target / "git/repositories" / each / "HEAD").touch()

    def dump_into(self, snapshot: str, filename: str, argv: Sequence[str], hear: Callable[[str], None]) -> None:
        assert {"--data-only", "--table=repository", "--table=user"} <= set(argv)
        if self.damaged_now("dump"):
            raise OpsError("pg_restore: error: input file does not appear to be a valid archive")
        for line in self.site.dumped:
            hear(line)


@pytest.fixture
def site() -> VerifiedSite:
    world = VerifiedSite(aws=fakes.FakeAws(stored={manifest.key_of(MADE.identity): manifest.to_json(MADE)}))
    world.clock = fakes.FakeClock(NOW)
    world.containers = world  # type: ignore[assignment]
    # These are plain folders, for which the adapter runs no program.
    world.btrfs = Btrfs(Processes())
    return world


@pytest.fixture
def paths(tmp_path: Path) -> HostPaths:
    (tmp_path / "data/gitea").mkdir(parents=True)
    return HostPaths(data=tmp_path / "data", lock=tmp_path / "operation.lock")


def test_a_passed_verification_is_recorded_in_the_bucket(site: VerifiedSite, paths: HostPaths) -> None:
    report = verify.verify(SITE, site, paths=paths)  # type: ignore[arg-type]
    assert (report.exit_code, report.facts["identity"], report.facts["share"]) == (0, MADE.identity, "1/7")
    assert site.checked == [("remote", "1/7", False), ("local", "1/7", False)]
    (kept,) = catalogue.verifications(SITE, site)  # type: ignore[arg-type]
    assert (kept.identity, kept.share, kept.passed, kept.began) == (MADE.identity, 1, True, NOW)
    site.clock.sleep(86400)
    assert verify.verify(SITE, site, paths=paths).facts["share"] == "2/7"  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["remote", "local"])
def test_damage_in_either_repository_is_checked_twice_and_has_exit_code_3(
    site: VerifiedSite, paths: HostPaths, kind: str
) -> None:
    site.damaged = {kind: 2}
    report = verify.verify(SITE, site, paths=paths)  # type: ignore[arg-type]
    assert (report.exit_code, report.lines) == (3, (f"{kind} is damaged: pack 0af3: hash mismatch",))
    assert (kind, "1/7", True) in site.checked
    (kept,) = catalogue.verifications(SITE, site)  # type: ignore[arg-type]
    assert not kept.passed
    assert catalogue.verifications(SITE, site)[0].identity == MADE.identity  # type: ignore[arg-type]


def test_a_concurrent_prune_does_not_count_as_damage(site: VerifiedSite, paths: HostPaths) -> None:
    site.damaged = {"remote": 1}
    assert verify.verify(SITE, site, paths=paths).exit_code == 0  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ({"sizes": {"database": 999}}, f"database of {MADE.identity} has 999 bytes of 1000"),
        ({"sizes": {"configuration": 1001}}, f"configuration of {MADE.identity} has 1001 bytes of 1000"),
        ({"sizes": {"data": 1001}}, f"data of {MADE.identity} has 1001 bytes of 1000"),
        ({"sizes": {"data": 0}}, f"data of {MADE.identity} has 0 bytes of 1000"),
        ({"dumped": [DUMPED[0], *DUMPED[2:]]}, f"table user is not in the dump of {MADE.identity}"),
        ({"dumped": []}, f"table user is not in the dump of {MADE.identity}"),
        (
            {"dumped": [each.replace("= user 3", "= user 2") for each in DUMPED]},
            f"table user has 2 rows in the dump of {MADE.identity} and 3 in its manifest",
        ),
        (
            {"dumped": [*DUMPED, "+ repository\t1\t8\tlost\tf\t0", "+ repo_unit\t8\t1"]},
            f"repository a/lost.git is in the dump of {MADE.identity} and not in its data",
        ),
        ({"repositories": {}}, f"repository a/b.git of {MADE.identity} is only in its manifest"),
        (
            {"repositories": {"a/b.git": MAIN, "a/c.git": MAIN}},
            f"repository a/c.git of {MADE.identity} is only in its data",
        ),
        (
            {"repositories": {"a/b.git": MAIN.replace("0001", "0002")}},
            f"repository a/b.git of {MADE.identity} has other refs than its manifest",
        ),
        ({"damaged": {"dump": 1}}, "dump: pg_restore: error: input file does not appear to be a valid archive"),
        ({"damaged": {"snapshots": 1}}, "a snapshot cannot be read"),
    ],
)
def test_a_backup_that_differs_from_its_manifest_has_exit_code_3(
    site: VerifiedSite, paths: HostPaths, damage: dict[str, Any], words: str
) -> None:
    vars(site).update(damage)
    report = verify.verify(SITE, site, paths=paths)  # type: ignore[arg-type]
    assert (report.exit_code, report.lines) == (3, (words,))
    # The fetched files were removed.
    assert [each.name for each in paths.data.iterdir()] == ["gitea"]


def test_a_repository_that_manifest_and_listing_both_lack_is_found_by_its_folder(
    site: VerifiedSite, paths: HostPaths
) -> None:
    site.repositories, site.unlisted = {"a/b.git": MAIN, "a/lost.git": MAIN}, frozenset({"a/lost.git"})
    report = verify.verify(SITE, site, paths=paths)  # type: ignore[arg-type]
    words = f"repository a/lost.git is in the data of {MADE.identity} as a folder, and git does not list it"
    assert (report.exit_code, report.lines) == (3, (words,))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"missing": ("a/lost.git",)}, "repository a/lost.git is missing from backup"),
        ({"rows": {"user": 3, "repository": 13}}, "has 1 repositories, and its database 13"),
    ],
)
def test_a_manifest_with_fewer_repositories_than_the_table_fails_its_verification(
    site: VerifiedSite, paths: HostPaths, changes: dict[str, Any], words: str
) -> None:
    site.aws.stored[manifest.key_of(MADE.identity)] = manifest.to_json(replace(MADE, **changes))
    site.dumped[3] = "= repository 13"
    report = verify.verify(SITE, site, paths=paths)  # type: ignore[arg-type]
    (line,) = report.lines
    assert words in line
    assert report.exit_code == 3


def test_hard_links_do_not_count_as_a_difference(site: VerifiedSite, paths: HostPaths) -> None:
    site.sizes = {"data": 600}
    assert verify.verify(SITE, site, paths=paths).exit_code == 0  # type: ignore[arg-type]


def test_an_unreachable_bucket_leaves_no_verification_record(site: VerifiedSite, paths: HostPaths) -> None:
    site.unreachable = True
    with pytest.raises(Unavailable):
        verify.verify(SITE, site, paths=paths)  # type: ignore[arg-type]
    assert catalogue.verifications(SITE, site) == ()  # type: ignore[arg-type]
    site.unreachable, site.aws.stored = False, {}
    with pytest.raises(Refused, match="there is no backup yet"):
        verify.verify(SITE, site, paths=paths)  # type: ignore[arg-type]


def test_only_a_broken_backup_newer_than_the_newest_whole_one_is_a_finding() -> None:
    later, earlier = (manifest.identity_of(MADE.moment + timedelta(hours=hours)) for hours in (1, -1))
    backups = [Backup(earlier, None, "cut off"), Backup(MADE.identity, MADE), Backup(later, None, "cut off")]
    assert verify.newer_broken(backups, MADE) == [f"backup {later} is broken: cut off"]


def test_the_folder_of_a_snapshot_comes_from_its_own_repository() -> None:
    remote: Any = Repository(VerifiedSite(), "remote")
    assert folder_of(remote, MADE.parts["data"].remote) == DATA
    with pytest.raises(OpsError, match="remote repository has no snapshot gone"):
        folder_of(remote, "gone")
