"""Verify backups in their repositories: the stored data is undamaged, and the newest backup matches its manifest."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from datetime import datetime

from ops.backup import catalogue, contents, dump_rows, records, repositories, witness
from ops.backup.dump_rows import DumpRows
from ops.backup.manifest import Backup, Manifest
from ops.backup.records import SHARES, Verification
from ops.backup.repositories import DUMP, REPOSITORIES, Repositories
from ops.config.paths import HostPaths
from ops.config.schema import Site
from ops.errors import OpsError, Refused
from ops.model import Report
from ops.step_timer import StepTimer
from ops.world import World, postgres
from ops.world.lock import exclusive
from ops.world.restic import INACCESSIBLE, Damaged, Restic, folder_of

# The files from which git reads a repository's refs, in either format (gitrepository-layout(5)). git also requires a folder for
# objects, which may be empty.
_OF_REFS = ("HEAD", "config", "refs", "packed-refs", "reftable")


def verify(site: Site, world: World, *, paths: HostPaths | None = None) -> Report:
    """Check both repositories, read the next share of their packs, and compare the newest backup with its manifest.

    The bucket keeps the result. Exit code 3 when there is a finding. Raises Locked while another verification runs, Refused
    without backups, Unavailable when the bucket is unreachable: then no result is kept.
    """
    paths = paths or HostPaths()
    began = world.clock.now()
    with exclusive(paths.lock.with_name("verify.lock"), began):
        both = repositories.repositories(site, world, paths, locks_reads=True)
        if not catalogue.identities(site, world):
            raise Refused("there is no backup yet", "run ops backup take")
        share = records.choose_share(catalogue.verifications(site, world), began)
        made = _verified(site, world, paths, both, share, began)
    world.aws.write_object(site.backup.bucket, records.key_of(records.VERIFICATIONS, began), records.to_json(made))
    return report_of(made)


def report_of(made: Verification) -> Report:
    """Return the report of a verification; exit code 3 when it failed."""
    read = f"share {made.share}/{SHARES} of the packs was read"
    whole = f"backup {made.identity} matches its manifest, and {read}"
    summary = whole if made.passed else f"the backups failed verification: {len(made.findings)} findings"
    facts = {
        "identity": made.identity,
        "share": f"{made.share}/{SHARES}",
        "findings": made.findings,
        "durations": made.durations,
    }
    return Report("backup", True, summary, facts, made.findings, 0 if made.passed else 3)


def newer_broken(backups: Iterable[Backup], chosen: Manifest) -> list[str]:
    """Return a finding for each broken backup that is newer than the newest whole one."""
    return [
        f"backup {each.identity} is broken: {each.broken}"
        for each in backups
        if each.manifest is None and each.identity > chosen.identity
    ]


def compare(chosen: Manifest, sizes: dict[str, int], refs: dict[str, str]) -> list[str]:
    """Return each difference between a manifest and the repository: sizes, and the digests of the refs.

    A backup counts each hard link when it is taken, a verification counts the file once: Gitea's data has hard links and may
    be smaller.
    """
    findings = []
    for name, part in chosen.parts.items():
        size = sizes[name]
        matches = size == part.size or (name == "data" and 0 < size < part.size)
        if not matches:
            findings.append(f"{name} of {chosen.identity} has {size} bytes of {part.size}")
    for name in sorted({*refs} ^ {*chosen.repositories}):
        where = "in its manifest" if name in chosen.repositories else "in its data"
        findings.append(f"repository {name} of {chosen.identity} is only {where}")
    both = sorted({*refs} & {*chosen.repositories})
    findings += [
        f"repository {name} of {chosen.identity} has other refs than its manifest"
        for name in both
        if refs[name] != chosen.repositories[name]
    ]
    return findings


def _verified(
    site: Site, world: World, paths: HostPaths, both: Repositories, share: int, began: datetime
) -> Verification:
    timer, findings = StepTimer(world), list[str]()
    local = [("local", both.local)] if both.local.exists() else []
    for name, repository in [("remote", both.remote), *local]:
        with timer.step(name):
            findings += _damage(repository, f"{share}/{SHARES}")
    identity = ""
    try:
        backups = catalogue.list_backups(site, world, both)
        chosen = catalogue.choose(backups)
        identity = chosen.identity
        findings += newer_broken(backups, chosen)
        with timer.step("dump"):
            dumped = _dump(world, paths, both.remote, chosen)
            findings += dump_rows.missing_tables(chosen, dumped.counts)
        with timer.step("content"):
            findings += _content(world, paths, both.remote, chosen, dumped)
        findings += witness.check_manifest(chosen, catalogue.before(backups, chosen), explained=True)
    except INACCESSIBLE:
        raise
    except OpsError as error:
        findings.append(error.message)
    return Verification(began, identity, share, tuple(findings), timer.seconds)


def _damage(repository: Restic, share: str) -> list[str]:
    """Check a repository and return its damage. Damage counts after a second, exclusive check: a prune may have run meanwhile."""
    try:
        repository.check(share, alone=False)
    except Damaged:
        try:
            repository.check(share)
        except Damaged as damaged:
            return [damaged.message]
    return []


def _dump(world: World, paths: HostPaths, remote: Restic, chosen: Manifest) -> DumpRows:
    found, container = DumpRows(), world.containers.name(paths.project, "postgres")
    argv = postgres.dump_rows(container, dump_rows.tables_of(chosen), dump_rows.COLUMNS)
    remote.dump_into(chosen.parts["database"].remote, DUMP, argv, found.add)
    return found


def _content(world: World, paths: HostPaths, remote: Restic, chosen: Manifest, dumped: DumpRows) -> list[str]:
    sizes = {name: remote.size(part.remote) for name, part in chosen.parts.items()}
    refs, folders = _refs(world, paths, remote, chosen.parts["data"].remote)
    unlisted = [
        f"repository {name} is in the data of {chosen.identity} as a folder, and git does not list it"
        for name in witness.missing(refs, (), folders)
    ]
    lost = dump_rows.missing_repositories(chosen, dumped.served(), refs)
    return compare(chosen, sizes, refs) + unlisted + lost


def _refs(
    world: World, paths: HostPaths, remote: Restic, data: str
) -> tuple[dict[str, str], tuple[witness.Folder, ...]]:
    """Return a digest of the refs of each repository in a snapshot of Gitea's data, and the repositories' folders.

    Only the refs are fetched.
    """
    scratch = paths.data / ".verify"
    with ExitStack() as undo:
        world.btrfs.remove(scratch)
        undo.callback(world.btrfs.remove, scratch)
        scratch.mkdir()
        remote.restore(
            data,
            scratch,
            include=folder_of(remote, data),
            only=[f"/{REPOSITORIES}/*/*.git/{name}" for name in _OF_REFS],
        )
        world.btrfs.own_like(paths.live, scratch)
        for each in scratch.glob(f"{REPOSITORIES}/*/*.git"):
            (each / "objects").mkdir(exist_ok=True)
        return contents.refs(world, paths, scratch), witness.folders(scratch)
