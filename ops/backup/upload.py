"""Upload the backups that exist only on the host to the bucket."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ops.backup import manifest
from ops.backup.manifest import Manifest, Part
from ops.backup.repositories import LOCKS, REMOTE, Repositories, repositories
from ops.backup.unlock import remove_locks_of_killed_runs
from ops.config.paths import HostPaths
from ops.config.schema import Site
from ops.errors import OpsError
from ops.step_timer import StepTimer
from ops.world import World


def upload_backup(
    site: Site, world: World, paths: HostPaths, timer: StepTimer, made: Manifest
) -> tuple[Manifest, tuple[str, ...]]:
    """Upload a backup and all pending ones; return its manifest in the bucket, and a line for each other backup that failed."""
    failures: dict[str, OpsError] = {}
    uploaded = upload_pending(site, world, paths, timer, failures)
    if made.identity not in uploaded:
        raise failures.get(made.identity) or OpsError(
            f"backup {made.identity} is no longer on this host", "run ops backup take again"
        )
    lines = (
        f"backup {name} cannot be uploaded to the bucket: {error.message}; {error.hint}"
        for name, error in failures.items()
    )
    return uploaded[made.identity], tuple(lines)


def upload_pending(
    site: Site, world: World, paths: HostPaths, timer: StepTimer, failures: dict[str, OpsError]
) -> dict[str, Manifest]:
    """Upload the backups that exist only on this host, oldest first, each with its manifest, and return them by name.

    A backup that cannot be uploaded for a reason of its own is added to ``failures`` and does not stop the others.
    """
    both = repositories(site, world, paths)
    with timer.step("bucket"):
        _require_repository(site, world, both)
    uploaded = {}
    for file in sorted(paths.pending.glob("*.json")):
        try:
            waiting = manifest.from_json(file.read_bytes())
            if not all(both.local.holds(part.local) for part in waiting.parts.values()):
                world.tell(f"backup {waiting.identity} was only on this host, and its parts are gone")
                file.unlink()
                continue
            with timer.step("copy"):
                parts = _copied(both, waiting.parts)
            durations = {**waiting.durations, "copy": timer.seconds["copy"]}
            made = replace(waiting, parts=parts, finished=world.clock.now(), durations=durations)
            with timer.step("manifest"):
                world.aws.write_object(site.backup.bucket, manifest.key_of(made.identity), manifest.to_json(made))
                file.unlink()
        except OpsError as failed:
            # An unreachable bucket or a lock would stop all the others, too.
            if failed.exit_code != OpsError.exit_code:
                raise
            remove = f"remove {file} if this backup is not needed"
            failures[file.stem] = OpsError(
                failed.message, "; ".join(filter(None, (failed.hint, remove))), left_as=failed.left_as
            )
            continue
        uploaded[made.identity] = made
    return uploaded


def _require_repository(site: Site, world: World, both: Repositories) -> None:
    """Create the bucket's repository if there is none, else remove the locks of killed runs.

    The objects tell both without opening it (restic's design, "Repository Layout"). A lock that stays is waited for by the
    command that it blocks.
    """
    if not world.aws.objects(site.backup.bucket, f"{REMOTE}config"):
        both.remote.make(both.local)
    elif world.aws.objects(site.backup.bucket, LOCKS):
        gone, _ = remove_locks_of_killed_runs(site, world, both.remote)
        for holder in gone.values():
            world.tell(f"removed the lock of a killed run: {holder}")


def _copied(both: Repositories, parts: Mapping[str, Part]) -> dict[str, Part]:
    both.remote.copy([each.local for each in parts.values()], both.local)
    arrived = {each.original: each.identity for each in both.remote.snapshots()}
    missing = [name for name, each in parts.items() if each.local not in arrived]
    if missing:
        raise OpsError(f"{' and '.join(missing)} did not arrive in the bucket", "run ops backup take again")
    return {name: replace(each, remote=arrived[each.local]) for name, each in parts.items()}
