"""The restore drill: restore the newest backup into a scratch site beside the real one, check it, and remove it.

The scratch site is fetched from the bucket alone, as after the loss of the host. It has no port and no access to the network.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from ops.backup import caches, catalogue, contents, records, witness
from ops.backup import repositories as backup_repositories
from ops.backup.manifest import Manifest
from ops.backup.records import Drill, due, is_acceptable, to_json
from ops.backup.repositories import DUMP, Repositories
from ops.config import compose_files
from ops.config.paths import COMPOSE_DIRECTORY, HostPaths
from ops.config.schema import Site
from ops.errors import OpsError, Refused
from ops.model import Report
from ops.restore import plan, rights, staging
from ops.restore.drill_checks import FSCK, Checked, compare_rows, fsck_result, repository_rows
from ops.stack import accounts
from ops.stack.health import await_healthy
from ops.step_timer import StepTimer
from ops.timeline_chart import Limit, Mark, TimelineChart, to_document
from ops.world import World, postgres
from ops.world.lock import exclusive
from ops.world.restic import INACCESSIBLE, folder_of

PROJECT = "gitea-drill"
LAST_STEP = "use"
_HEALTHY_SECONDS = 300
# The number of repositories to clone; git fsck checks all of them in place.
_CLONED_REPOSITORIES = 3
_SIGN_IN = """printf 'header = "Authorization: token %s"\\n' "$TOKEN" |
curl -fsS -K - -o /dev/null http://127.0.0.1:3000/api/v1/user"""
_HEALTH = ["curl", "-fsS", "-o", "/dev/null", "http://127.0.0.1:3000/api/healthz"]
_CLONE = (
    'rm -rf /tmp/drill && git clone -q --mirror "$1" /tmp/drill && git -C /tmp/drill fsck --no-dangling --no-progress'
)


def drill(
    site: Site,
    world: World,
    *,
    when_due: bool = False,
    accept: bool = False,
    paths: HostPaths | None = None,
    compose: Path = COMPOSE_DIRECTORY,
) -> Report:
    """Restore the newest backup into a scratch site, compare it with its manifest, and remove it.

    The result is written to the bucket. ``when_due`` skips the drill while the last one passed and is recent enough.
    ``accept`` records findings about the restored copy's use as known: they fail neither this drill nor a later one. The
    report has exit code 3 if there are findings. Raises Locked while another drill runs, Refused if there is no backup.
    """
    paths = paths or HostPaths()
    began = world.clock.now()
    with exclusive(paths.lock.with_name("drill.lock"), began):
        if when_due and not due(catalogue.drills(site, world), site.backup.drill_days, began):
            return Report("drill", False, "no drill is due")
        both = backup_repositories.repositories(site, world, paths, locks_reads=True)
        chosen = catalogue.choose(catalogue.list_backups(site, world, both))
        earlier = catalogue.drills(site, world)[-1:]
        known = [name for each in earlier for name in each.accepted]
        result = settle(_run_drill(site, world, paths, both, chosen, began, compose), known, every=accept)
    world.aws.write_object(site.backup.bucket, records.key_of(records.DRILLS, began), to_json(result))
    return report_of(result, site)


def report_of(result: Drill, site: Site) -> Report:
    """Return the report of a drill, with exit code 3 if it has findings or took longer than ``backup.rto_minutes``."""
    late = result.rto_seconds > site.backup.rto_minutes * 60
    findings = list(result.findings)
    if late:
        findings.append(
            f"a restore takes {result.rto_seconds:.0f} s, more than backup.rto_minutes = {site.backup.rto_minutes}"
        )
    summary = (
        f"backup {result.identity} was restored in {result.rto_seconds:.0f} s; {result.rpo_seconds / 60:.0f} min would be lost"
        if result.passed
        else f"backup {result.identity} was not restored correctly"
    )
    facts = {**json.loads(to_json(result)), "site": site.name, "course": to_document(course_of(result, site))}
    lines = [*findings, *(f"accepted: {each}" for each in result.accepted), *(f"note: {each}" for each in result.notes)]
    if acceptable := [each for each in result.findings if is_acceptable(each)]:
        lines.append(f"if {_number(acceptable)} known and no loss: ops restore --drill --accept")
    return Report("drill", True, summary, facts, tuple(lines), 3 if findings else 0)


def _number(findings: Sequence[str]) -> str:
    return "this finding is" if len(findings) == 1 else f"these {len(findings)} findings are"


def settle(result: Drill, known: Collection[str], *, every: bool) -> Drill:
    """Return a drill whose acceptable findings that are ``known``, or ``every`` one of them, are accepted ones.

    An accepted finding that did not appear again is forgotten, unless the drill ended before its checks.
    """
    accepted = [each for each in result.findings if is_acceptable(each) and (every or each in known)]
    findings = tuple(each for each in result.findings if each not in accepted)
    if LAST_STEP not in result.durations:
        accepted = list(known)
    return replace(result, findings=findings, accepted=tuple(accepted))


def course_of(result: Drill, site: Site) -> TimelineChart:
    """Return the chart of a drill: its steps, a mark when the scratch site was up, and RTO and RPO against their limits."""
    return TimelineChart(
        f"Restore drill of backup {result.identity}",
        result.durations,
        (Mark("the site is up", result.rto_seconds),) if result.rto_seconds else (),
        (
            Limit("RTO: until the site is up", result.rto_seconds, site.backup.rto_minutes * 60),
            Limit("RPO: age of the backup", result.rpo_seconds, site.backup.rpo_minutes * 60),
        ),
    )


def sample(repositories: Sequence[str]) -> tuple[str, ...]:
    """Return the repositories to clone: at most three, spread evenly over all of them, without wikis."""
    names = sorted(name for name in repositories if not name.endswith(".wiki.git"))
    step = max(1, -(-len(names) // _CLONED_REPOSITORIES))
    return tuple(names[::step])


def _run_drill(
    site: Site, world: World, paths: HostPaths, both: Repositories, chosen: Manifest, began: datetime, compose: Path
) -> Drill:
    timer, scratch = StepTimer(world), paths.data / ".drill"
    start, findings, notes, rto = world.clock.monotonic(), list[str](), list[str](), 0.0
    command = _compose(compose)
    with ExitStack() as undo:
        _remove(world, scratch, command)
        undo.callback(_remove, world, scratch, command)
        try:
            if shortage := plan.check_free_space(chosen, world.btrfs.free(paths.data), 0, has_snapshot=False):
                raise Refused(shortage)
            with timer.step("fetch"):
                _fetch(world, both, chosen, scratch)
            with timer.step("database"):
                notes += _database(world, both, chosen, scratch, command)
            with timer.step("start"):
                _run(world, [*command, "up", "--detach", "gitea"], scratch)
                await_healthy(world, ["gitea"], project=PROJECT, seconds=_HEALTHY_SECONDS)
            rto = round(world.clock.monotonic() - start, 1)
            with timer.step("compare"):
                findings += _differences(world, paths, chosen, scratch)
            with timer.step("check"):
                checked = _check_repositories(world, paths, chosen, scratch)
                findings += checked.findings
                notes += checked.notes
            with timer.step(LAST_STEP):
                findings += _usage_findings(world, sample(_served(world, chosen)), site.gitea.admin_username)
        except INACCESSIBLE:
            raise
        except OpsError as error:
            findings.append(error.message)
    rpo = (began - chosen.moment).total_seconds()
    return Drill(began, chosen.identity, rto, rpo, tuple(findings), timer.seconds, notes=tuple(notes))


def _compose(folder: Path) -> list[str]:
    return [
        "docker",
        "compose",
        "--project-name",
        PROJECT,
        "--project-directory",
        str(folder),
        "--progress",
        "quiet",
        *compose_files.files(folder, "drill.yaml"),
    ]


def _fetch(world: World, both: Repositories, chosen: Manifest, scratch: Path) -> None:
    # The entry point of PostgreSQL's image changes the owner of its folder.
    for folder in (scratch, scratch / "postgresql", scratch / "gitea"):
        folder.mkdir(mode=0o711)
    data = chosen.parts["data"].remote
    both.remote.restore(data, scratch / "gitea", include=folder_of(both.remote, data))
    world.btrfs.own_like(scratch.parent / "gitea", scratch / "gitea")
    caches.clear(scratch / "gitea")


def _database(
    world: World, both: Repositories, chosen: Manifest, scratch: Path, command: Sequence[str]
) -> tuple[str, ...]:
    """Load the dump into a new server and return a line for each right that the new server does not know."""
    _run(world, [*command, "up", "--detach", "postgres"], scratch)
    await_healthy(world, ["postgres"], project=PROJECT, seconds=_HEALTHY_SECONDS)
    load = postgres.load(world.containers.name(PROJECT, "postgres"), postgres.USER, rights=False)
    left_out: list[str] = []
    both.remote.dump_into(chosen.parts["database"].remote, DUMP, load, rights.separate(world.tell, left_out))
    return rights.lines_of(left_out)


def _differences(world: World, paths: HostPaths, chosen: Manifest, scratch: Path) -> list[str]:
    with world.postgres.session(world.containers.name(PROJECT, "postgres")) as session:
        rows, expected = dict(contents.content(session).rows), witness.expected(session)
    refs, folders = contents.refs(world, paths, scratch / "gitea"), witness.folders(scratch / "gitea")
    missing = witness.missing_lines(witness.missing(refs, expected, folders), chosen.identity)
    return [*staging.compare(chosen, rows, refs), *missing]


def _check_repositories(world: World, paths: HostPaths, chosen: Manifest, scratch: Path) -> Checked:
    """Compare the repositories with the restored database's rows, and run git fsck on each."""
    rows = _repository_rows(world)
    compared = compare_rows(rows, chosen.repositories)
    (image,) = [each.image for each in world.containers.services(paths.project) if each.name == "gitea"]
    done = world.containers.run_script(image, FSCK, folder=scratch / "gitea", target="/data", user="1000:1000")
    if done.code:
        raise OpsError(f"git fsck could not run: {done.output.strip()[-300:]}", "look at the logs of Docker")
    checked = fsck_result(done.output, rows)
    return Checked(compared.findings + checked.findings, compared.notes + checked.notes)


def _repository_rows(world: World) -> dict[str, bool]:
    with world.postgres.session(world.containers.name(PROJECT, "postgres")) as session:
        return repository_rows(session)


def _served(world: World, chosen: Manifest) -> list[str]:
    """Return the repositories of the backup that Gitea serves to clients by its rows."""
    return [name for name, is_served in _repository_rows(world).items() if is_served and name in chosen.repositories]


def _usage_findings(world: World, repositories: Sequence[str], administrator: str) -> list[str]:
    """Use the scratch site as a person does, with these repositories, and return each finding.

    Without its database, Gitea answers 401 to the right token: then the finding is the database, not the account.
    """
    findings = _sign_in_and_clone(world, repositories, administrator)
    if findings and world.containers.execute(PROJECT, "gitea", _HEALTH, user="git").code:
        return [f"Gitea or its database does not answer on the scratch site: {findings[0]}"]
    return findings


def _sign_in_and_clone(world: World, repositories: Sequence[str], administrator: str) -> list[str]:
    """Sign in as the administrator and clone the repositories; return each finding."""
    created = world.containers.execute(
        PROJECT,
        "gitea",
        [
            "gitea",
            "admin",
            "user",
            "generate-access-token",
            "--username",
            administrator,
            "--token-name",
            "drill",
            "--scopes",
            "all",
        ],
        user="git",
    )
    if created.code:
        return [f"{administrator} cannot sign in: {created.output.strip()[-300:]}"]
    token = accounts.token_from(created.output).reveal()
    findings = []
    signed = world.containers.execute(
        PROJECT, "gitea", ["sh", "-c", _SIGN_IN], user="git", environment={"TOKEN": token}
    )
    if signed.code:
        findings.append(f"{administrator} cannot sign in: {signed.output.strip()[-300:]}")
    # In the environment: the process list would show a password in a URL.
    pair = b64encode(f"{administrator}:{token}".encode()).decode()
    environment = {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "http.extraHeader",
        "GIT_CONFIG_VALUE_0": f"Authorization: Basic {pair}",
        "GIT_TERMINAL_PROMPT": "0",
    }
    for name in repositories:
        argv = ["sh", "-c", _CLONE, "clone", f"http://127.0.0.1:3000/{name}"]
        cloned = world.containers.execute(PROJECT, "gitea", argv, user="git", environment=environment)
        if cloned.code:
            findings.append(f"{name} cannot be cloned: {cloned.output.strip()[-300:]}")
    return findings


def _remove(world: World, scratch: Path, command: Sequence[str]) -> None:
    _run(world, [*command, "down", "--volumes", "--timeout", "1"], scratch)
    world.btrfs.remove(scratch)


def _run(world: World, argv: Sequence[str], scratch: Path) -> None:
    done = world.processes.run(argv, environment={"DATA_DIRECTORY": str(scratch)})
    if done.code:
        raise OpsError(
            f"the scratch site: {' '.join(done.output.split())[-400:]}", f"look at docker compose -p {PROJECT} logs"
        )
