"""The command line: the only print, the only sys.exit."""

from __future__ import annotations

import argparse
import getpass
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ops import (
    accounts,
    backup,
    certs,
    config,
    credentials,
    drill,
    health,
    moves,
    notify,
    offers,
    report,
    restore,
    secrets,
    standing,
    stream,
    succession,
    update,
    verify,
)
from ops.errors import ConfigError, OpsError, Refused
from ops.gate import STAGES
from ops.model import Report, Secret
from ops.world import World
from ops.world.process import interrupt_code, signals_unwind
from ops.world.remote import Remote

REPOSITORY = Path(__file__).parents[1]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gitea-suite"


def main(argv: Sequence[str] | None = None) -> None:
    """Run one verb and exit with the code that says in what state the system was left."""
    arguments = parser().parse_args(argv)
    sys.exit(_guarded(arguments))


def _guarded(arguments: argparse.Namespace) -> int:
    try:
        with signals_unwind():
            done: Report = arguments.verb(arguments)
    except OpsError as error:
        if arguments.json:
            print(report.failure_as_json(arguments.command, error))
        print(report.failure_as_text(error), file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt as interrupt:
        print("interrupted", file=sys.stderr)
        return interrupt_code(interrupt)
    except Exception as error:
        if arguments.json:
            print(
                report.failure_as_json(
                    arguments.command, OpsError(f"a bug: {error}", "report it with the traceback on stderr")
                )
            )
        traceback.print_exc()
        return 1
    print(report.as_json(done) if arguments.json else report.as_text(done))
    return done.exit_code


def parser() -> argparse.ArgumentParser:
    """Return what understands every verb and its options."""
    whole = _Parser(prog="ops", description="Operate a Gitea site: deploy it, prove it, keep it alive.")
    verbs = whole.add_subparsers(dest="command", required=True, metavar="VERB")
    _verb(verbs, "site", "check the site file and say what it describes", _site_check)
    deploy = _verb(verbs, "deploy", "make the site what its file says, from nothing or from any state", _deploy)
    ways = deploy.add_mutually_exclusive_group()
    ways.add_argument(
        "--dry-run", action="store_true", help="say what would be made in AWS, and its cost; touch nothing"
    )
    ways.add_argument(
        "--check", action="store_true", help="say what differs from the site file (exit 3); touch nothing"
    )
    ways.add_argument("--replace-host", action="store_true", help="put a new machine in the host's place; data stays")
    deploy.add_argument(
        "--session-manager",
        action="store_true",
        help="reach the host that way this time: its firewall may not know your address yet",
    )
    _consent(deploy)
    end = _verb(verbs, "destroy", "end the site; its backups stay unless told otherwise", _destroy)
    end.add_argument(
        "--with-backups", action="store_true", help="delete the backups, their replica and the secrets, too"
    )
    end.add_argument(
        "--without-verified-backup", action="store_true", help="even though the newest backup is not verified"
    )
    _consent(end)
    outside = _verb(verbs, "health", "say whether the site is well (exit 3 when a probe is red)", _health)
    outside.add_argument("--address", help="probe from outside, at this address, instead of from the site's own host")
    _choice(_verb(verbs, "certs", "issue or renew the certificate (on the host)", _certs), "renew")
    _choice(
        _verb(verbs, "nginx", "have another nginx take its place, no request fails (on the host)", _nginx), "replace"
    )
    backups = _verb(
        verbs,
        "backup",
        "take, list, verify and judge backups, bring the log away (on the host); prune and rewind (from here)",
        _backup,
    )
    _choice(backups, "take", "list", "verify", "status", "stream", "prune", "rewind")
    backups.add_argument(
        "--begin-anew", action="store_true", help="even of a new data disk while older backups are there"
    )
    backups.add_argument("--dry-run", action="store_true", help="prune, rewind: say what would be done; touch nothing")
    backups.add_argument("--at", type=_moment, metavar="TIME", help="rewind: to this moment, such as 2026-11-24T04:30Z")
    _consent(backups)
    _restore_parser(verbs)
    _update_parser(verbs)
    _secrets_parser(verbs)
    _choice(_verb(verbs, "accounts", "make sure of the administrator (on the host)", _accounts), "ensure-admin")
    notice = _verb(verbs, "notify", "mail a text, read from standard input, to the site's contact", _notify)
    notice.add_argument("subject")
    _gate_parser(verbs)
    return whole


class _Parser(argparse.ArgumentParser):
    """Ends a wrong invocation with the design's code and, with --json, still with one document."""

    def error(self, message: str) -> None:  # type: ignore[override]
        error = ConfigError(message, f"{self.prog} --help")
        if "--json" in sys.argv:
            print(report.failure_as_json(self.prog, error))
        print(report.failure_as_text(error), file=sys.stderr)
        sys.exit(error.exit_code)


def _verb(
    verbs: argparse._SubParsersAction[_Parser],
    name: str,
    summary: str,
    function: Callable[[argparse.Namespace], Report],
) -> argparse.ArgumentParser:
    parser = verbs.add_parser(name, help=summary, description=summary)
    parser.add_argument(
        "--site", type=Path, default=os.environ.get("OPS_SITE"), help="the site file (default: $OPS_SITE)"
    )
    _json(parser)
    parser.set_defaults(verb=function)
    return parser


def _json(parser: argparse.ArgumentParser, **more: Any) -> None:
    parser.add_argument("--json", action="store_true", help="print exactly one JSON document", **more)


def _choice(parser: argparse.ArgumentParser, *choices: str) -> None:
    parser.add_argument("action", choices=choices)


def _world(arguments: argparse.Namespace) -> World:
    if not arguments.site:
        raise ConfigError("no site file was named", "--site sites/local.toml, or OPS_SITE in the environment")
    return World(config.load(Path(arguments.site)), tell=_tell)


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _site_check(arguments: argparse.Namespace) -> Report:
    site = _world(arguments).site
    return Report(
        "site",
        changed=False,
        summary=f"{site.name}: https://{site.domain}/ in {site.aws.region}",
        facts={"name": site.name},
    )


def _deploy(arguments: argparse.Namespace) -> Report:
    # Ansible is there on the machine that deploys, and not in the image that runs on the host.
    from ops import deploy, drift

    world, workshop = _workshop(arguments)
    if arguments.dry_run:
        return deploy.rehearse(world.site, world, workshop=workshop)
    if arguments.check:
        return drift.check(world.site, world, workshop=workshop)
    replace = _agree(arguments) if arguments.replace_host else None
    through = arguments.session_manager
    return deploy.deploy(world.site, world, workshop=workshop, replace=replace, session_manager=through)


def _destroy(arguments: argparse.Namespace) -> Report:
    from ops import destroy

    world, workshop = _workshop(arguments)
    wish = destroy.Wish(arguments.with_backups, arguments.without_verified_backup)
    return destroy.destroy(world.site, world, workshop=workshop, wish=wish, agree=_agree(arguments))


def _workshop(arguments: argparse.Namespace) -> tuple[World, Any]:
    from ops.workspace import Workshop

    world = _world(arguments)
    return world, Workshop(REPOSITORY, Path(arguments.site).resolve().parent / ".state" / world.site.name, CACHE)


def _consent(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--yes", action="store_true", help="agree beforehand to what is lost or interrupted")


def _agree(arguments: argparse.Namespace) -> Callable[[str, Sequence[str]], None]:
    """Who is at the terminal types the site's name; elsewhere --yes stands for it."""

    def ask(name: str, losses: Sequence[str]) -> None:
        for line in losses:
            _tell(line)
        if arguments.yes:
            return
        if not sys.stdin.isatty():
            raise Refused("no one is at the terminal to agree to this", "--yes")
        print(f"To go on, type the site's name ({name}): ", end="", file=sys.stderr, flush=True)
        if sys.stdin.readline().strip() != name:
            raise Refused("that is not the site's name", "nothing was touched")

    return ask


def _health(arguments: argparse.Namespace) -> Report:
    world = _world(arguments)
    if arguments.address:
        return health.health_from_outside(world.site, world, address=arguments.address)
    return health.health(world.site, world)


def _certs(arguments: argparse.Namespace) -> Report:
    world = _world(arguments)
    return certs.renew(world.site, world)


def _nginx(arguments: argparse.Namespace) -> Report:
    world = _world(arguments)
    return succession.replace(world.site, world)


def _backup(arguments: argparse.Namespace) -> Report:
    if arguments.action in {"prune", "rewind"}:
        return _backups_from_afar(arguments)
    if arguments.dry_run or arguments.at:
        raise ConfigError(f"backup {arguments.action} takes neither --dry-run nor --at", "ops backup --help")
    world = _world(arguments)
    verbs = {"list": standing.backups, "verify": verify.verify, "status": standing.status, "stream": stream.stream}
    if arguments.action in verbs:
        return verbs[arguments.action](world.site, world)
    return backup.take(world.site, world, begin_anew=arguments.begin_anew)


def _backups_from_afar(arguments: argparse.Namespace) -> Report:
    # Of the machine that deploys, as deploy is.
    from ops import prune, rewind

    world, workshop = _workshop(arguments)
    agree = _agree(arguments)
    if arguments.action == "prune":
        return prune.prune(world.site, world, workshop=workshop, agree=agree, rehearse=arguments.dry_run)
    if arguments.at is None:
        raise ConfigError("rewind to when?", "--at TIME, such as --at 2026-11-24T04:30Z")
    return rewind.rewind(world.site, world, workshop=workshop, at=arguments.at, agree=agree, rehearse=arguments.dry_run)


def _restore_parser(verbs: argparse._SubParsersAction[_Parser]) -> None:
    parser = _verb(verbs, "restore", "make the site what a backup says it was (on the host)", _restore)
    parser.add_argument("backup", nargs="?", default="", help="which backup (default: the newest whole one)")
    parser.add_argument("--at", type=_moment, metavar="TIME", help="the newest backup at or before 2026-11-24T04:30Z")
    parser.add_argument("--repository", default="", metavar="OWNER/NAME", help="this repository alone")
    parser.add_argument(
        "--fetch", action="store_true", help="write all data anew, though a picture of it may be on the data disk"
    )
    logs = parser.add_mutually_exclusive_group()
    logs.add_argument(
        "--from-log", action="store_true", help="make the database of that moment out of base and log, not of the dump"
    )
    logs.add_argument(
        "--newest-database",
        action="store_true",
        help="with the newest database that base and log make, newer than the data",
    )
    ways = parser.add_mutually_exclusive_group()
    ways.add_argument("--dry-run", action="store_true", help="say what would be restored; touch nothing")
    ways.add_argument("--resume", action="store_true", help="go back to the site before a restore that was cut off")
    ways.add_argument(
        "--secret-key",
        action="store_true",
        help="put the backup's SECRET_KEY into a file in memory, for a site made anew",
    )
    ways.add_argument(
        "--drill", action="store_true", help="restore the newest backup into a scratch site, and judge it"
    )
    parser.add_argument("--when-due", action="store_true", help="drill only when the last one is too long ago")
    _consent(parser)


def _restore(arguments: argparse.Namespace) -> Report:
    world = _world(arguments)
    if arguments.resume:
        return restore.resume(world.site, world)
    if arguments.drill:
        return drill.drill(world.site, world, when_due=arguments.when_due)
    wish = restore.Wish(
        arguments.backup,
        arguments.at,
        arguments.repository,
        arguments.dry_run,
        arguments.from_log,
        arguments.newest_database,
        arguments.fetch,
    )
    if arguments.secret_key:
        return restore.keep_secret_key(world.site, world, wish=wish)
    return restore.restore(world.site, world, wish=wish, agree=_agree(arguments))


def _update_parser(verbs: argparse._SubParsersAction[_Parser]) -> None:
    parser = _verb(verbs, "update", "take services a step further, wholly or not at all (on the host)", _update)
    parser.add_argument(
        "service", nargs="?", default="", help="which service, or: history (default: all but major steps)"
    )
    parser.add_argument("--to", default="", metavar="TAG", help="to this version (default: the newest)")
    ways = parser.add_mutually_exclusive_group()
    ways.add_argument("--check", action="store_true", help="say what there is, how big the step is, who may take it")
    ways.add_argument("--dry-run", action="store_true", help="say what would be done; touch nothing")
    ways.add_argument("--resume", action="store_true", help="finish or undo an update that was cut off")
    ways.add_argument("--automatic", action="store_true", help="what needs no operator, when the window is open")
    parser.add_argument(
        "--without-drill", action="store_true", help="also while the restore drill is overdue or has failed"
    )
    _consent(parser)
    back = _verb(verbs, "rollback", "go back to before the last update, with the data of then (on the host)", _rollback)
    back.add_argument("--dry-run", action="store_true", help="say what would be lost; touch nothing")
    _consent(back)


def _update(arguments: argparse.Namespace) -> Report:
    world = _world(arguments)
    if arguments.check:
        return offers.check(world.site, world)
    if arguments.resume:
        return update.resume(world.site, world)
    if arguments.service == "history":
        return update.history(world.site, world)
    # No one is asked at the hour of the window: the site file has agreed.
    arguments.yes = arguments.yes or arguments.automatic
    wish = moves.Wish(arguments.service, arguments.to, arguments.automatic, arguments.dry_run, arguments.without_drill)
    return update.update(world.site, world, wish=wish, agree=_agree(arguments))


def _rollback(arguments: argparse.Namespace) -> Report:
    world = _world(arguments)
    return update.rollback(world.site, world, agree=_agree(arguments), rehearse=arguments.dry_run)


def _moment(text: str) -> datetime:
    """A time without a zone is UTC, as all times of backups are."""
    found = datetime.fromisoformat(text)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _secrets_parser(verbs: argparse._SubParsersAction[_Parser]) -> None:
    parser = _verb(verbs, "secrets", "fetch and apply the secrets (on the host), rotate them (from here)", _secrets)
    parser.add_argument("action", choices=("fetch", "apply", "rotate", "rotate-smtp", "set"))
    parser.add_argument("name", nargs="?", default="", help="which secret to rotate, or to set from standard input")
    parser.add_argument("--pending", default="", metavar="NAME", help="apply: of this one, the value to become current")
    _consent(parser)


def _secrets(arguments: argparse.Namespace) -> Report:
    if arguments.action in {"rotate", "rotate-smtp", "set"}:
        return _rotate(arguments)
    world = _world(arguments)
    if arguments.action == "fetch":
        return secrets.fetch(world.site, world)
    return credentials.apply(world.site, world, pending=arguments.pending)


def _rotate(arguments: argparse.Namespace) -> Report:
    # Of the machine that deploys, as deploy is.
    from ops import deploy, rotation

    name = secrets.SMTP if arguments.action == "rotate-smtp" else arguments.name
    adopted = arguments.action == "set"
    (rotation.require_adoptable if adopted else rotation.refuse)(name)
    world, workshop = _workshop(arguments)
    host = Remote(deploy.connection_of(world.site, workshop), world.processes)
    if adopted:
        value = Secret(_one_line(f"the value of {name}"))
        _agree(arguments)(world.site.name, [rotation.ADOPTED[name]])
        return rotation.adopt(world.site, world, host, name=name, value=value, lock=workshop.lock)
    _agree(arguments)(world.site.name, [rotation.CONSEQUENCES[name]])
    return rotation.rotate(world.site, world, host, name=name, lock=workshop.lock)


def _one_line(what: str) -> str:
    """What no one may see is asked for at a terminal without showing it, and read from a pipe otherwise."""
    if sys.stdin.isatty():
        return getpass.getpass(f"{what}: ", stream=sys.stderr)
    return sys.stdin.readline().rstrip("\n")


def _accounts(arguments: argparse.Namespace) -> Report:
    world = _world(arguments)
    return accounts.ensure_admin(world.site, world)


def _notify(arguments: argparse.Namespace) -> Report:
    world = _world(arguments)
    # A program's last words may be cut in the middle of a character.
    text = "" if sys.stdin.isatty() else sys.stdin.buffer.read().decode("utf-8", "replace")
    return notify.notify(world.site, world, subject=arguments.subject, text=text)


def _gate_parser(verbs: argparse._SubParsersAction[_Parser]) -> None:
    parser = _verb(verbs, "gate", "run a stage, say how the chain stands, promote a proven tree", _gate)
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    status = actions.add_parser("status", help="say which stages are proven for this tree")
    promote = actions.add_parser("promote", help="write the release manifest and tag the commit")
    promote.add_argument("version")
    run = actions.add_parser("run", help="run a stage and keep its evidence")
    run.add_argument("stage", choices=STAGES)
    run.add_argument("options", nargs="*", metavar="-- OPTION", help="of deploy-e2e: --rehearse, --keep, --site FILE")
    for action in (status, promote, run):
        _json(action, default=argparse.SUPPRESS)


def _gate(arguments: argparse.Namespace) -> Report:
    # Of the machine that proves, as deploy is.
    from ops import stages

    house = stages.Gatehouse.of(REPOSITORY, _tell)
    if arguments.action == "run":
        return stages.run(house, stage=arguments.stage, options=arguments.options)
    return stages.promote(house, version=arguments.version) if arguments.action == "promote" else stages.status(house)
