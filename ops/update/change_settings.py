"""Apply the site file's settings to Gitea: either it works with them, or it runs with the settings of before.

The settings are one file beside compose.yaml (ops/config/settings_file.py). While a change is under way, the file of before
lies beside it; the next run that finds it puts it back. Only Gitea is restarted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path

from ops.config import settings_file
from ops.config.gitea_settings import secrets_of
from ops.config.paths import COMPOSE_DIRECTORY, HostPaths
from ops.config.schema import Site
from ops.errors import Locked, OpsError, RolledBack, Stranded
from ops.model import Report
from ops.secrets import store
from ops.stack import accounts, gitea_settings
from ops.stack.maintenance import MaintenanceMode, end_maintenance, maintenance_mode
from ops.update import available, canary, smoke_test, steps
from ops.update.journal import UpdateContext
from ops.world import World
from ops.world.lock import exclusive

VERB = "settings"
BEFORE = "gitea-settings.before.json"
_REASON = "Its settings are being changed."
# A backup takes seconds and starts every quarter of an hour.
_BACKUP_SECONDS = 600.0
_NO_SETTINGS = "{}\n"
# For a file that differs in no setting, such as in the folder of the secrets.
_UNNAMED = (settings_file.FILE,)
# Gitea's own lines of why it ends, and those of a panic.
_TELLING = re.compile(r" \[[EF]\] |^panic:|PANIC")
_LINES, _LONGEST = 3, 400


def apply(
    site: Site,
    world: World,
    *,
    dry_run: bool = False,
    paths: HostPaths | None = None,
    compose: Path = COMPOSE_DIRECTORY,
) -> Report:
    """Give Gitea the settings of the site file. Where it runs and they differ, it is restarted and tested.

    Raises Refused when a secret of a setting is missing: then nothing was changed. Raises RolledBack when Gitea does not work
    with the settings and runs with those of before again, Stranded when it does not run with them either, Locked while
    another operation runs.
    """
    at = UpdateContext(site, world, paths or HostPaths(), compose)
    wanted = settings_file.compose_file(site, str(at.paths.secrets))
    if dry_run:
        return _plan(at, wanted)
    with _locked(at, "ops settings apply"):
        _resume(at)
        current = _text(at)
        changed = settings_file.changed_settings(current, wanted)
        if current != wanted:
            # Gitea's container does not start without its secrets' files.
            store.fetch(site, world, directory=at.paths.secrets)
        if not _gitea_runs(at):
            return _write_only(at, current, wanted, changed)
        differing = gitea_settings.differences(site, gitea_settings.environment(world, at.paths.project), at.paths.live)
        if current == wanted and not differing:
            return Report(VERB, False, "Gitea runs with the settings of the site file")
        return _change(at, wanted, changed or differing or _UNNAMED)


def check(site: Site, world: World, *, paths: HostPaths | None = None, compose: Path = COMPOSE_DIRECTORY) -> Report:
    """Return the settings in which Gitea differs from the site file (exit code 3 if any); changes nothing."""
    at = UpdateContext(site, world, paths or HostPaths(), compose)
    given = gitea_settings.environment(world, at.paths.project)
    differing = gitea_settings.differences(site, given, at.paths.live)
    summary = f"{len(differing)} settings of Gitea differ from the site file" if differing else "as in the site file"
    return Report(VERB, False, summary, {"differing": list(differing)}, differing, 3 if differing else 0)


def resume(site: Site, world: World, *, paths: HostPaths | None = None, compose: Path = COMPOSE_DIRECTORY) -> Report:
    """Undo a change of settings that was interrupted; raises Stranded when Gitea does not run as before."""
    at = UpdateContext(site, world, paths or HostPaths(), compose)
    with _locked(at, "ops settings resume"):
        undone = _resume(at)
        runs = _gitea_runs(at)
    summary = f"an interrupted change was undone: {', '.join(undone)}" if undone else "no change was interrupted"
    if undone and not runs:
        summary += "; Gitea does not run, and gets the settings of before at its next start"
    return Report(VERB, bool(undone), summary, {"settings": list(undone)})


@contextmanager
def _locked(at: UpdateContext, verb: str) -> Iterator[None]:
    """Hold the lock of all operations; waits for a running backup, for at most ten minutes."""
    with ExitStack() as held:
        began = at.world.clock.monotonic()
        while True:
            try:
                held.enter_context(exclusive(at.paths.lock, at.world.clock.now(), verb))
                break
            except Locked as locked:
                if "ops backup" not in locked.message or at.world.clock.monotonic() - began > _BACKUP_SECONDS:
                    raise
            at.world.clock.sleep(1)
        yield


def _plan(at: UpdateContext, wanted: str) -> Report:
    changed = settings_file.changed_settings(_text(at), wanted)
    summary = f"would change {', '.join(changed)}" if changed else "nothing would change"
    return Report(VERB, _text(at) != wanted, summary, {"settings": list(changed)}, changed)


def _write_only(at: UpdateContext, current: str, wanted: str, changed: tuple[str, ...]) -> Report:
    if current == wanted:
        return Report(VERB, False, "the settings of the site file are in place; Gitea does not run")
    at.world.files.write(at.compose / settings_file.FILE, wanted.encode())
    return Report(VERB, True, "Gitea does not run; it gets the settings at its next start", {"settings": list(changed)})


def _change(at: UpdateContext, wanted: str, changed: tuple[str, ...]) -> Report:
    names = ", ".join(changed)
    at.world.tell(f"changing settings of Gitea: {names}")
    commit = _write_canary(at)
    began = at.world.clock.monotonic()
    try:
        at.world.files.write(at.compose / BEFORE, _text(at).encode())
        with _restarting(at) as mode:
            mode.stop()
            try:
                _start_with(at, wanted)
            except OpsError as failed:
                # The waiting requests go on waiting.
                raise _go_back(at, names, failed.message, mode) from failed
        away = at.world.clock.monotonic() - began
        if findings := _findings(at, commit):
            raise OpsError("; ".join(findings))
    except RolledBack:
        # Not before the end of maintenance mode, which the next run would otherwise not end.
        at.world.files.remove(at.compose / BEFORE)
        raise
    except Stranded:
        raise
    except OpsError as failed:
        raise _go_back(at, names, failed.message) from failed
    except BaseException:
        at.world.tell(_go_back(at, names, "it was interrupted").message)
        raise
    finally:
        _remove_canary(at, commit)
    at.world.files.remove(at.compose / BEFORE)
    return Report(
        VERB,
        True,
        f"Gitea runs with the changed settings ({names}); it was restarted within {away:.1f} s",
        {"settings": list(changed), "away": round(away, 2)},
    )


@contextmanager
def _restarting(at: UpdateContext, *, failing: bool = False) -> Iterator[MaintenanceMode]:
    maintenance = partial(maintenance_mode, at.site, at.world, _REASON, project=at.paths.project)
    # What runs on a failing Gitea is not waited for.
    with maintenance(drain_seconds=0.0) if failing else maintenance() as mode:
        yield mode
    steps.await_reachable(at)


def _start_with(at: UpdateContext, text: str) -> None:
    """Write the settings and start the stopped Gitea with them; raises OpsError with the reason when it does not run."""
    at.world.files.write(at.compose / settings_file.FILE, text.encode())
    try:
        steps.run_gitea(at)
    except OpsError as error:
        # A container that is made again has no log of this one.
        error.message = ": ".join(part for part in (error.message, _last_words(at)) if part)
        raise


def _findings(at: UpdateContext, commit: str) -> tuple[str, ...]:
    """Return what is wrong with the running Gitea: settings that it did not take, the smoke test, the watch, and the probes."""
    site, world, project = at.site, at.world, at.paths.project
    release = available.current_pins(at.compose)["gitea"].release
    given = gitea_settings.environment(world, project)
    return (
        tuple(f"app.ini does not have {each}" for each in gitea_settings.differences(site, given, at.paths.live))
        or smoke_test.use(site, world, project=project, release=release, canary=commit)
        or smoke_test.watch(site, world, project=project, service="gitea", seconds=site.update.watch_seconds)
        or smoke_test.failing_probes(site, world, project=project)
    )


def _go_back(at: UpdateContext, names: str, why: str, mode: MaintenanceMode | None = None) -> OpsError:
    """Start Gitea with the settings of before and return the error to raise: RolledBack, or Stranded if that failed, too.

    ``mode`` is the maintenance mode that lasts; its caller removes the file of before. Without it, this is in a maintenance
    mode of its own.
    """
    at.world.tell(f"going back to the settings of before: {why}")
    try:
        _put_back(at, failing=True, mode=mode)
    except OpsError as again:
        return Stranded(
            f"Gitea does not work with the changed settings ({names}): {why}; and not with those of before: {again.message}",
            "run ops settings resume to try again, then follow docs/runbooks/stranded.md",
            left_as=f"the settings of before are in {at.compose / BEFORE}",
        )
    return RolledBack(
        f"Gitea does not work with the changed settings ({names}): {why}",
        "correct [gitea.settings] in the site file, then run ops deploy",
        left_as="Gitea runs with the settings of before",
    )


def _resume(at: UpdateContext) -> tuple[str, ...]:
    """Undo an interrupted change and return the names of its settings; () if there is none."""
    before = at.compose / BEFORE
    if not before.is_file():
        return ()
    changed = settings_file.changed_settings(before.read_text(encoding="utf-8"), _text(at))
    at.world.tell(f"a change of settings was interrupted, it is undone: {', '.join(changed)}")
    state = _gitea_state(at)
    # The engine restarts a Gitea that ends at its start, with the settings that its container was made with.
    if state in {"running", "restarting"}:
        _put_back(at, failing=state == "restarting")
    else:
        # The next start of Gitea reads the file.
        at.world.files.write(at.compose / settings_file.FILE, before.read_bytes())
        at.world.files.remove(before)
    # That of the run that was interrupted.
    end_maintenance(at.world, at.paths.project)
    return changed or _UNNAMED


def _put_back(at: UpdateContext, *, failing: bool, mode: MaintenanceMode | None = None) -> None:
    before = at.compose / BEFORE
    if not before.is_file():
        # Nothing was written yet.
        return
    with nullcontext(mode) if mode else _restarting(at, failing=failing) as during:
        during.stop()
        _start_with(at, before.read_text(encoding="utf-8"))
    if not mode:
        at.world.files.remove(before)


def _text(at: UpdateContext) -> str:
    path = at.compose / settings_file.FILE
    return path.read_text(encoding="utf-8") if path.is_file() else _NO_SETTINGS


def _gitea_runs(at: UpdateContext) -> bool:
    return _gitea_state(at) == "running"


def _gitea_state(at: UpdateContext) -> str:
    """Return the engine's state of Gitea's container; "" without one."""
    found = at.world.containers.services(at.paths.project)
    return next((each.state for each in found if each.name == "gitea"), "")


def _write_canary(at: UpdateContext) -> str:
    """Write the repository that the test clones, and return its commit; "" when Gitea does not take one."""
    release = available.current_pins(at.compose)["gitea"].release
    try:
        with accounts.token(at.site, at.world) as token:
            return canary.write(at.site, at.world, token, release).commit
    except OpsError as error:
        at.world.tell(f"the change is tested without a clone, because Gitea does not work now: {error.message}")
        return ""


def _remove_canary(at: UpdateContext, commit: str) -> None:
    if not commit:
        return
    try:
        with accounts.token(at.site, at.world) as token:
            canary.remove(at.site, at.world, token)
    except OpsError as error:
        at.world.tell(f"the canary was not removed, the next update removes it: {error.message}")


def _last_words(at: UpdateContext) -> str:
    """Return Gitea's last lines about its failure, without the secrets of its settings; "" without any."""
    argv = ["docker", "compose", "logs", "--no-color", "--no-log-prefix", "--tail", "40", "gitea"]
    with suppress(OpsError):
        lines = at.world.processes.run(argv, directory=at.compose).output.splitlines()
        telling = [line.strip() for line in lines if _TELLING.search(line)][-_LINES:]
        return _masked(at, "; ".join(dict.fromkeys(telling))[-_LONGEST:])
    return ""


def _masked(at: UpdateContext, text: str) -> str:
    for name in secrets_of(at.site.gitea.settings):
        with suppress(OSError):
            value = (at.paths.secrets / name).read_text(encoding="utf-8").strip('"\n')
            text = text.replace(value, f"(the secret {name})") if value else text
    return text
