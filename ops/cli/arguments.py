"""The command line's verbs and options."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ops import report
from ops.cli.commands import (
    run_accounts,
    run_backup,
    run_certs,
    run_deploy,
    run_destroy,
    run_gate,
    run_health,
    run_nginx,
    run_notify,
    run_restore,
    run_rollback,
    run_secrets,
    run_site,
    run_update,
)
from ops.errors import ConfigError
from ops.gate.evidence import STAGES
from ops.model import Report


def parser() -> argparse.ArgumentParser:
    """Return what understands every verb and its options."""
    whole = _Parser(prog="ops", description="Operate a Gitea site: deploy it, prove it, keep it alive.")
    verbs = whole.add_subparsers(dest="command", required=True, metavar="VERB")
    _verb(verbs, "site", "check the site file and say what it describes", run_site)
    deploy = _verb(verbs, "deploy", "make the site what its file says, from nothing or from any state", run_deploy)
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
    end = _verb(verbs, "destroy", "end the site; its backups stay unless told otherwise", run_destroy)
    end.add_argument(
        "--with-backups", action="store_true", help="delete the backups, their replica and the secrets, too"
    )
    end.add_argument(
        "--without-verified-backup", action="store_true", help="even though the newest backup is not verified"
    )
    _consent(end)
    outside = _verb(verbs, "health", "say whether the site is well (exit 3 when a probe is red)", run_health)
    outside.add_argument("--address", help="probe from outside, at this address, instead of from the site's own host")
    _choice(_verb(verbs, "certs", "issue or renew the certificate (on the host)", run_certs), "renew")
    _choice(
        _verb(verbs, "nginx", "have another nginx take its place, no request fails (on the host)", run_nginx), "replace"
    )
    backups = _verb(
        verbs,
        "backup",
        "take, list, verify and judge backups, bring the log away (on the host); prune and rewind (from here)",
        run_backup,
    )
    _choice(backups, "take", "list", "verify", "status", "stream", "prune", "rewind")
    _renamed(backups, "--begin-anew", "--allow-empty-disk", "take: back up a new data disk though older backups exist")
    backups.add_argument("--dry-run", action="store_true", help="prune, rewind: say what would be done; touch nothing")
    backups.add_argument("--at", type=_moment, metavar="TIME", help="rewind: to this moment, such as 2026-11-24T04:30Z")
    _consent(backups)
    _restore_parser(verbs)
    _update_parser(verbs)
    _secrets_parser(verbs)
    _choice(_verb(verbs, "accounts", "make sure of the administrator (on the host)", run_accounts), "ensure-admin")
    notice = _verb(verbs, "notify", "mail a text, read from standard input, to the site's contact", run_notify)
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


def _renamed(parser: argparse._ActionsContainer, old: str, new: str, summary: str) -> None:
    """Add a switch under its new name; the old spelling keeps working and does not show in the help."""
    parser.add_argument(new, action="store_true", help=summary)
    name = new.lstrip("-").replace("-", "_")
    parser.add_argument(old, dest=name, action="store_true", help=argparse.SUPPRESS)


def _choice(parser: argparse.ArgumentParser, *choices: str) -> None:
    parser.add_argument("action", choices=choices)


def _consent(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--yes", action="store_true", help="agree beforehand to what is lost or interrupted")


def _restore_parser(verbs: argparse._SubParsersAction[_Parser]) -> None:
    parser = _verb(verbs, "restore", "make the site what a backup says it was (on the host)", run_restore)
    parser.add_argument("backup", nargs="?", default="", help="which backup (default: the newest whole one)")
    parser.add_argument("--at", type=_moment, metavar="TIME", help="the newest backup at or before 2026-11-24T04:30Z")
    parser.add_argument("--repository", default="", metavar="OWNER/NAME", help="this repository alone")
    _renamed(parser, "--fetch", "--full-copy", "copy all data, even if its snapshot is on the data disk")
    logs = parser.add_mutually_exclusive_group()
    _renamed(logs, "--from-log", "--from-wal", "build the database from base backup and WAL, not from the dump")
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


def _update_parser(verbs: argparse._SubParsersAction[_Parser]) -> None:
    parser = _verb(verbs, "update", "take services a step further, wholly or not at all (on the host)", run_update)
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
    parser.add_argument(
        "--accept-loss",
        action="append",
        default=[],
        metavar="NAME",
        help="keep a new version although it removes or empties this table or column, or this part of the canary",
    )
    _consent(parser)
    back = _verb(
        verbs, "rollback", "go back to before the last update, with the data of then (on the host)", run_rollback
    )
    back.add_argument("--dry-run", action="store_true", help="say what would be lost; touch nothing")
    _consent(back)


def _moment(text: str) -> datetime:
    """A time without a zone is UTC, as all times of backups are."""
    found = datetime.fromisoformat(text)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _secrets_parser(verbs: argparse._SubParsersAction[_Parser]) -> None:
    parser = _verb(verbs, "secrets", "fetch and apply the secrets (on the host), rotate them (from here)", run_secrets)
    parser.add_argument("action", choices=("fetch", "apply", "rotate", "rotate-smtp", "set"))
    parser.add_argument("name", nargs="?", default="", help="which secret to rotate, or to set from standard input")
    parser.add_argument("--pending", default="", metavar="NAME", help="apply: of this one, the value to become current")
    _consent(parser)


def _gate_parser(verbs: argparse._SubParsersAction[_Parser]) -> None:
    parser = _verb(verbs, "gate", "run a stage, say how the chain stands, promote a proven tree", run_gate)
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    status = actions.add_parser("status", help="say which stages are proven for this tree")
    promote = actions.add_parser("promote", help="write the release manifest and tag the commit")
    promote.add_argument("version")
    run = actions.add_parser("run", help="run a stage and keep its evidence")
    run.add_argument("stage", choices=STAGES)
    run.add_argument("options", nargs="*", metavar="-- OPTION", help="of deploy-e2e: --rehearse, --keep, --site FILE")
    for action in (status, promote, run):
        _json(action, default=argparse.SUPPRESS)
