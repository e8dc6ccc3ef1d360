"""The verbs and options of the command line."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping
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
    run_settings,
    run_site,
    run_update,
)
from ops.errors import ConfigError
from ops.gate.evidence import STAGES
from ops.model import Report

_CERTS = {"renew": "issue the certificate if it is missing, renew it when it is due"}
_NGINX = {"replace": "start a container with the current image and configuration, then drain and remove the old one"}
_BACKUP = {
    "take": "back up the site now",
    "list": "list the backups, newest last",
    "verify": "check the repositories and compare the newest backup with its manifest",
    "status": "check the backups against the site file (exit code 3 if a check fails)",
    "stream": "ship WAL to the bucket until it is stopped",
    "prune": "delete the backups that the retention policy does not keep",
    "rewind": "show the bucket's objects as they were at an earlier time",
    "unlock": "remove the locks of killed runs from the repository in the bucket (exit code 8 if a holder may still run)",
}
_SECRETS = {
    "fetch": "write the secrets into files in memory",
    "apply": "apply the current secrets to the running services",
    "rotate": "give a secret a new value and apply it on the host",
    "rotate-smtp": "make a new access key for SMTP and apply it on the host",
    "set": "set a secret to a lost site's value, or setting-NAME to that of a setting, read from standard input",
}
_SETTINGS = {
    "apply": "give Gitea the settings of the site file; it is restarted, tested, and goes back if it does not work with them",
    "check": "compare Gitea's app.ini with the site file (exit code 3 if they differ)",
    "resume": "undo an interrupted change of settings",
}
_ACCOUNTS = {"ensure-admin": "make sure that the administrator exists and can sign in"}


def parser() -> argparse.ArgumentParser:
    """Return the parser of all verbs and their options."""
    root = _Parser(
        prog="ops", description="Operate a Gitea site on AWS: deploy, monitor, back up, restore and update it."
    )
    verbs = root.add_subparsers(dest="command", required=True, metavar="VERB")
    _verb(verbs, "site", "check the site file and print the site that it describes", run_site)
    deploy = _verb(
        verbs, "deploy", "deploy the site as its file describes it, from nothing or from any state", run_deploy
    )
    ways = deploy.add_mutually_exclusive_group()
    ways.add_argument(
        "--dry-run", action="store_true", help="print the AWS resources to be made and their cost; change nothing"
    )
    ways.add_argument(
        "--check", action="store_true", help="print differences from the site file (exit code 3 if any); change nothing"
    )
    ways.add_argument("--replace-host", action="store_true", help="replace the host's machine; the data disk stays")
    deploy.add_argument(
        "--session-manager",
        action="store_true",
        help="connect through AWS Session Manager; use it while the security group does not know your address",
    )
    _consent(deploy)
    end = _verb(verbs, "destroy", "destroy the site; its backups stay unless --with-backups is given", run_destroy)
    end.add_argument(
        "--with-backups", action="store_true", help="also delete the backups, their replica and the secrets"
    )
    end.add_argument(
        "--without-verified-backup",
        action="store_true",
        help="destroy the site although its newest backup is not verified",
    )
    _consent(end)
    outside = _verb(verbs, "health", "check the site's health (exit code 3 if a probe fails)", run_health)
    outside.add_argument("--address", help="probe the site from this machine at this address instead of on the host")
    _choice(_verb(verbs, "certs", "issue or renew the TLS certificate (on the host)", run_certs), _CERTS)
    _choice(
        _verb(verbs, "nginx", "replace the nginx container without a failed request (on the host)", run_nginx), _NGINX
    )
    backups = _verb(
        verbs,
        "backup",
        "take, list, verify and check backups, ship WAL, unlock (on the host); prune and rewind them (on the deploying machine)",
        run_backup,
    )
    _choice(backups, _BACKUP)
    _renamed(
        backups,
        "--begin-anew",
        "--allow-empty-disk",
        "take: back up an empty data disk although backups of an earlier disk exist",
    )
    backups.add_argument(
        "--dry-run", action="store_true", help="prune, rewind: print what would be done; change nothing"
    )
    backups.add_argument(
        "--at", type=_moment, metavar="TIME", help="rewind: the time to go back to, such as 2026-11-24T04:30Z"
    )
    _consent(backups)
    _restore_parser(verbs)
    _update_parser(verbs)
    _secrets_parser(verbs)
    settings = _verb(verbs, "settings", "apply and check [gitea.settings] of the site file (on the host)", run_settings)
    _choice(settings, _SETTINGS)
    settings.add_argument("--dry-run", action="store_true", help="apply: print what would change; change nothing")
    _choice(
        _verb(verbs, "accounts", "create the administrator or reset the password (on the host)", run_accounts),
        _ACCOUNTS,
    )
    notice = _verb(verbs, "notify", "mail the text on standard input to the site's contact", run_notify)
    notice.add_argument("subject", help="the subject of the mail")
    _gate_parser(verbs)
    return root


class _Parser(argparse.ArgumentParser):
    """Ends a wrong invocation with exit code 2 and, with --json, with one JSON document."""

    def error(self, message: str) -> None:  # type: ignore[override]
        error = ConfigError(message, f"run {self.prog} --help")
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
    """Add a switch under its new name; the old spelling stays valid and is hidden in the help."""
    parser.add_argument(new, action="store_true", help=summary)
    name = new.lstrip("-").replace("-", "_")
    parser.add_argument(old, dest=name, action="store_true", help=argparse.SUPPRESS)


def _choice(parser: argparse.ArgumentParser, actions: Mapping[str, str]) -> None:
    summary = "; ".join(f"{name}: {text}" for name, text in actions.items())
    parser.add_argument("action", choices=tuple(actions), help=summary)


def _consent(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--yes", action="store_true", help="do not ask for confirmation of losses and interruptions")


def _restore_parser(verbs: argparse._SubParsersAction[_Parser]) -> None:
    parser = _verb(verbs, "restore", "restore the site or one repository from a backup (on the host)", run_restore)
    parser.add_argument(
        "backup", nargs="?", default="", help="the backup to restore (default: the newest complete one)"
    )
    parser.add_argument(
        "--at", type=_moment, metavar="TIME", help="the newest backup at or before this time, such as 2026-11-24T04:30Z"
    )
    parser.add_argument("--repository", default="", metavar="OWNER/NAME", help="restore only this repository")
    _renamed(
        parser, "--fetch", "--full-copy", "copy all data from the backup, even if its snapshot is on the data disk"
    )
    logs = parser.add_mutually_exclusive_group()
    _renamed(logs, "--from-log", "--from-wal", "restore the database from base backup and WAL instead of the dump")
    logs.add_argument(
        "--newest-database",
        action="store_true",
        help="restore the newest database state that base backup and WAL give, which is newer than the data",
    )
    ways = parser.add_mutually_exclusive_group()
    ways.add_argument("--dry-run", action="store_true", help="print what would be restored; change nothing")
    ways.add_argument(
        "--resume", action="store_true", help="undo an interrupted restore: go back to the site before it"
    )
    ways.add_argument(
        "--secret-key",
        action="store_true",
        help="write the backup's SECRET_KEY into a file in memory, for a site that is deployed again",
    )
    ways.add_argument("--drill", action="store_true", help="restore the newest backup into a scratch site and check it")
    parser.add_argument("--when-due", action="store_true", help="run the drill only when it is due")
    parser.add_argument(
        "--accept",
        action="store_true",
        help="drill: accept its findings about single repositories; they fail no drill again",
    )
    _consent(parser)


def _update_parser(verbs: argparse._SubParsersAction[_Parser]) -> None:
    parser = _verb(verbs, "update", "update services; an update that fails is undone (on the host)", run_update)
    parser.add_argument(
        "service",
        nargs="?",
        default="",
        help="the service to update, or history to list past updates (default: all services, without major updates)",
    )
    parser.add_argument("--to", default="", metavar="TAG", help="the version to update to (default: the newest)")
    ways = parser.add_mutually_exclusive_group()
    ways.add_argument(
        "--check",
        action="store_true",
        help="list available updates with their size (patch, minor, major) and whether they are automatic",
    )
    ways.add_argument("--dry-run", action="store_true", help="print what would be done; change nothing")
    ways.add_argument("--resume", action="store_true", help="finish or undo an interrupted update")
    ways.add_argument(
        "--automatic",
        action="store_true",
        help="install updates that need no operator, if the maintenance window is open",
    )
    parser.add_argument(
        "--without-drill", action="store_true", help="update although the restore drill is overdue or has failed"
    )
    parser.add_argument(
        "--accept-loss",
        action="append",
        default=[],
        metavar="NAME",
        help="keep a new version although it removes or empties this table or column, or this part of the canary",
    )
    _consent(parser)
    back = _verb(verbs, "rollback", "undo the last update, with the data from before it (on the host)", run_rollback)
    back.add_argument("--dry-run", action="store_true", help="print what would be lost; change nothing")
    _consent(back)


def _moment(text: str) -> datetime:
    """Parse a time; without a zone it is UTC, as all times of backups."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time; give one such as 2026-11-24T04:30Z") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _secrets_parser(verbs: argparse._SubParsersAction[_Parser]) -> None:
    parser = _verb(
        verbs,
        "secrets",
        "fetch and apply the secrets (on the host); rotate and set them (on the deploying machine)",
        run_secrets,
    )
    _choice(parser, _SECRETS)
    parser.add_argument("name", nargs="?", default="", help="the secret to rotate, or to set from standard input")
    parser.add_argument("--pending", default="", metavar="NAME", help="apply: use the pending value of this secret")
    _consent(parser)


def _gate_parser(verbs: argparse._SubParsersAction[_Parser]) -> None:
    parser = _verb(verbs, "gate", "run a stage of the gate, print the gate's status, promote a proven tree", run_gate)
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    status = actions.add_parser("status", help="print which stages are proven for this tree")
    promote = actions.add_parser("promote", help="write the release manifest and tag the commit")
    promote.add_argument("version", help="the version to release, such as 1.2.3")
    run = actions.add_parser("run", help="run a stage and store its evidence")
    run.add_argument("stage", choices=STAGES, help="the stage to run")
    run.add_argument(
        "options", nargs="*", metavar="-- OPTION", help="options of deploy-e2e: --rehearse, --keep, --site FILE"
    )
    for action in (status, promote, run):
        _json(action, default=argparse.SUPPRESS)
