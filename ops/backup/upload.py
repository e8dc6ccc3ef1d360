"""Copy backups that exist on the host alone to the bucket."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ops.backup import manifest
from ops.backup.manifest import Manifest, Part
from ops.backup.repositories import LOCKS, REMOTE, Repositories, repositories
from ops.config.paths import HostPaths
from ops.config.schema import Site
from ops.errors import OpsError
from ops.step_timer import StepTimer
from ops.world import World


def upload_backup(
    site: Site, world: World, paths: HostPaths, timer: StepTimer, made: Manifest
) -> tuple[Manifest, tuple[str, ...]]:
    """Bring a backup to the bucket with all that waits; return it as it is there, and what of the others could not be brought."""
    stuck: dict[str, OpsError] = {}
    brought = upload_pending(site, world, paths, timer, stuck)
    if made.identity not in brought:
        raise stuck.get(made.identity) or OpsError(f"{made.identity} did not stay on this host", "run the backup again")
    left = (f"backup {name} cannot be brought to the bucket: {why.message}; {why.hint}" for name, why in stuck.items())
    return brought[made.identity], tuple(left)


def upload_pending(
    site: Site, world: World, paths: HostPaths, timer: StepTimer, stuck: dict[str, OpsError]
) -> dict[str, Manifest]:
    """Bring to the bucket what is on this host alone, oldest first, each with its manifest; return what was brought.

    What cannot be brought for a reason of its own is ``stuck`` and stops no other.
    """
    both = repositories(site, world, paths)
    with timer.step("bucket"):
        if not (_is_at_rest(site, world) or both.remote.unlock()):
            both.remote.make(both.local)
    brought = {}
    for file in sorted(paths.pending.glob("*.json")):
        try:
            waiting = manifest.from_json(file.read_bytes())
            if not all(both.local.holds(part.local) for part in waiting.parts.values()):
                world.tell(f"backup {waiting.identity} was on this host alone, and is no more")
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
            # Those who are away, and a lock that someone holds, would be so for all the others.
            if failed.exit_code != OpsError.exit_code:
                raise
            waits = f"it waits as {file}: take it away when it is of no use"
            stuck[file.stem] = OpsError(failed.message, "; ".join(filter(None, (failed.hint, waits))))
            continue
        brought[made.identity] = made
    return brought


def _is_at_rest(site: Site, world: World) -> bool:
    """Tell, without opening it, whether the bucket's repository is there and has no lock (restic's design, "Repository Layout")."""
    there = world.aws.objects(site.backup.bucket, f"{REMOTE}config")
    return bool(there) and not world.aws.objects(site.backup.bucket, LOCKS)


def _copied(both: Repositories, parts: Mapping[str, Part]) -> dict[str, Part]:
    both.remote.copy([each.local for each in parts.values()], both.local)
    there = {each.original: each.identity for each in both.remote.snapshots()}
    missing = [name for name, each in parts.items() if each.local not in there]
    if missing:
        raise OpsError(f"{' and '.join(missing)} did not arrive in the bucket", "run the backup again")
    return {name: replace(each, remote=there[each.local]) for name, each in parts.items()}
