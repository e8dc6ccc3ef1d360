"""The verbs and options of the command line, and the place where each verb runs."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from ops.cli.commands import (
    run_accounts,
    run_backup,
    run_certs,
    run_dashboards,
    run_deploy,
    run_destroy,
    run_gate,
    run_haproxy,
    run_health,
    run_nginx,
    run_notify,
    run_restore,
    run_rollback,
    run_secrets,
    run_settings,
    run_site,
    run_stack,
    run_update,
)
from ops.cli.place import Place
from ops.cli.verb_parser import (
    VerbParser,
    add_action,
    add_consent,
    add_renamed,
    add_verb,
    add_verb_with_actions,
    moment,
    number,
)
from ops.gate.evidence import STAGES

if TYPE_CHECKING:
    from ops.cli.verb_parser import Verbs


def parser() -> argparse.ArgumentParser:
    """Return the parser of all verbs and their options."""
    root = VerbParser(
        prog="ops", description="Operate a Gitea site on AWS: deploy, monitor, back up, restore and update it."
    )
    verbs = root.add_subparsers(dest="command", required=True, metavar="VERB")
    add_verb(verbs, "site", "check the site file and print the site that it describes", run_site, Place.ANYWHERE)
    _add_deploy(verbs)
    _add_destroy(verbs)
    health = "check the site's health; exit code 3 if a probe fails"
    outside = add_verb(verbs, "health", health, run_health, Place.HOST, anywhere_with="address")
    outside.add_argument("--address", help="probe the site from this machine at this address instead of on the host")
    certs = add_verb_with_actions(verbs, "certs", "issue or renew the TLS certificate", run_certs)
    add_action(certs, "renew", "issue the certificate if it is missing, renew it when it is due", Place.HOST)
    for name, title, function in (("nginx", "nginx", run_nginx), ("haproxy", "HAProxy", run_haproxy)):
        actions = add_verb_with_actions(
            verbs, name, f"replace the {title} container without a failed request", function
        )
        add_action(
            actions,
            "replace",
            "start a container with the current image and configuration, then drain and remove the old one",
            Place.HOST,
        )
    stack = add_verb_with_actions(verbs, "stack", "recreate or stop Gitea while requests wait", run_stack)
    recreated = add_action(stack, "recreate", "recreate containers with the current settings and images", Place.HOST)
    recreated.add_argument(
        "--services", default="gitea", metavar="NAMES", help="the services, separated by commas (default: gitea)"
    )
    add_action(stack, "stop", "stop Gitea once running transfers have ended", Place.HOST)
    _add_backup(verbs)
    _add_restore(verbs)
    _add_update(verbs)
    _add_secrets(verbs)
    _add_settings(verbs)
    accounts = add_verb_with_actions(verbs, "accounts", "create the administrator or reset the password", run_accounts)
    add_action(accounts, "ensure-admin", "make sure that the administrator exists and can sign in", Place.HOST)
    notice = add_verb(verbs, "notify", "mail the text on standard input to the site's contact", run_notify, Place.HOST)
    notice.add_argument("subject", help="the subject of the mail")
    _add_dashboards(verbs)
    _add_gate(verbs)
    return root


def _add_deploy(verbs: Verbs) -> None:
    summary = "deploy the site as its file describes it, from nothing or from any state"
    deploy = add_verb(verbs, "deploy", summary, run_deploy, Place.DEPLOYING_MACHINE)
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
    add_consent(deploy)


def _add_destroy(verbs: Verbs) -> None:
    summary = "destroy the site; its backups stay unless --with-backups is given"
    destroy = add_verb(verbs, "destroy", summary, run_destroy, Place.DEPLOYING_MACHINE)
    destroy.add_argument(
        "--with-backups", action="store_true", help="also delete the backups, their replica and the secrets"
    )
    destroy.add_argument(
        "--without-verified-backup",
        action="store_true",
        help="destroy the site although its newest backup is not verified",
    )
    add_consent(destroy)


def _add_backup(verbs: Verbs) -> None:
    actions = add_verb_with_actions(
        verbs, "backup", "take, list, check, unlock, prune and rewind backups, and ship WAL", run_backup
    )
    take = add_action(actions, "take", "back up the site now", Place.HOST)
    add_renamed(
        take,
        "--begin-anew",
        "--allow-empty-disk",
        "back up an empty data disk although backups of an earlier disk exist",
    )
    add_action(actions, "list", "list the backups, newest last", Place.HOST)
    add_action(actions, "verify", "check the repositories and compare the newest backup with its manifest", Place.HOST)
    add_action(actions, "status", "check the backups against the site file; exit code 3 if a check fails", Place.HOST)
    add_action(actions, "stream", "ship WAL to the bucket until it is stopped", Place.HOST)
    unlock = "remove the locks of killed runs from the repository in the bucket; exit code 8 if a holder may still run"
    add_action(actions, "unlock", unlock, Place.HOST)
    of_operator = Place.DEPLOYING_MACHINE
    prune = add_action(actions, "prune", "delete the backups that the retention policy does not keep", of_operator)
    rewind = add_action(actions, "rewind", "show the bucket's objects as they were at an earlier time", of_operator)
    rewind.add_argument(
        "--at", type=moment, required=True, metavar="TIME", help="the time to go back to, such as 2026-11-24T04:30Z"
    )
    for each in (prune, rewind):
        each.add_argument("--dry-run", action="store_true", help="print what would be done; change nothing")
        add_consent(each)


def _add_restore(verbs: Verbs) -> None:
    parser = add_verb(verbs, "restore", "restore the site or one repository from a backup", run_restore, Place.HOST)
    parser.add_argument(
        "backup", nargs="?", default="", help="the backup to restore (default: the newest complete one)"
    )
    parser.add_argument(
        "--at", type=moment, metavar="TIME", help="the newest backup at or before this time, such as 2026-11-24T04:30Z"
    )
    parser.add_argument("--repository", default="", metavar="OWNER/NAME", help="restore only this repository")
    add_renamed(
        parser, "--fetch", "--full-copy", "copy all data from the backup, even if its snapshot is on the data disk"
    )
    wal = parser.add_mutually_exclusive_group()
    add_renamed(wal, "--from-log", "--from-wal", "restore the database from base backup and WAL instead of the dump")
    wal.add_argument(
        "--newest-database",
        action="store_true",
        help="restore the newest database state that base backup and WAL give, which is newer than the data",
    )
    ways = parser.add_mutually_exclusive_group()
    ways.add_argument("--dry-run", action="store_true", help="print what would be restored; change nothing")
    ways.add_argument(
        "--resume", action="store_true", help="undo an interrupted restore: go back to the site before it"
    )
    add_renamed(
        ways,
        "--secret-key",
        "--export-secret-key",
        "write the backup's SECRET_KEY into a file in memory, for a site that is deployed again",
    )
    ways.add_argument("--drill", action="store_true", help="restore the newest backup into a scratch site and check it")
    parser.add_argument("--when-due", action="store_true", help="with --drill: run it only when it is due")
    parser.add_argument(
        "--accept",
        action="store_true",
        help="with --drill: accept its findings about single repositories; they fail no drill again",
    )
    add_consent(parser)


def _add_update(verbs: Verbs) -> None:
    parser = add_verb(verbs, "update", "update services; an update that fails is undone", run_update, Place.HOST)
    parser.add_argument(
        "service",
        nargs="?",
        default="",
        help="the service to update, or history to list past updates (default: all services, without major updates)",
    )
    parser.add_argument(
        "--to", default="", metavar="TAG", help="with SERVICE: the version to update to (default: the newest)"
    )
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
    add_consent(parser)
    back = add_verb(verbs, "rollback", "undo the last update, with the data from before it", run_rollback, Place.HOST)
    back.add_argument("--dry-run", action="store_true", help="print what would be lost; change nothing")
    add_consent(back)


def _add_secrets(verbs: Verbs) -> None:
    actions = add_verb_with_actions(verbs, "secrets", "fetch, apply, rotate and set the secrets", run_secrets)
    add_action(actions, "fetch", "write the secrets into files in memory", Place.HOST)
    apply = add_action(actions, "apply", "apply the current secrets to the running services", Place.HOST)
    apply.add_argument("--pending", default="", metavar="NAME", help="use the pending value of this secret")
    of_operator = Place.DEPLOYING_MACHINE
    rotate = add_action(actions, "rotate", "give a secret a new value and apply it on the host", of_operator)
    rotate_smtp = add_action(
        actions, "rotate-smtp", "make a new access key for SMTP and apply it on the host", of_operator
    )
    set_to = "set a secret to a lost site's value, or setting-NAME to that of a setting, read from standard input"
    adopt = add_action(actions, "set", set_to, of_operator)
    rotate.add_argument("name", nargs="?", default="", help="the secret to rotate")
    adopt.add_argument("name", nargs="?", default="", help="the secret to set")
    for each in (rotate, rotate_smtp, adopt):
        add_consent(each)


def _add_settings(verbs: Verbs) -> None:
    actions = add_verb_with_actions(
        verbs, "settings", "apply and check [gitea.settings] of the site file", run_settings
    )
    summary = (
        "give Gitea the settings of the site file: it is restarted and tested, and goes back if it fails with them"
    )
    apply = add_action(actions, "apply", summary, Place.HOST)
    apply.add_argument("--dry-run", action="store_true", help="print what would change; change nothing")
    add_action(actions, "check", "compare Gitea's app.ini with the site file; exit code 3 if they differ", Place.HOST)
    add_action(actions, "resume", "undo an interrupted change of settings", Place.HOST)


def _add_dashboards(verbs: Verbs) -> None:
    summary = "open an ssh tunnel to the dashboards, until Ctrl-C; on the host, print where Grafana listens"
    parser = add_verb(verbs, "dashboards", summary, run_dashboards, Place.ANYWHERE)
    parser.add_argument(
        "--port",
        type=number(1024, 65535),
        default=3000,
        metavar="NUMBER",
        help="the port of this machine (default: 3000)",
    )
    parser.add_argument(
        "--minutes", type=number(1, 720), default=60, metavar="NUMBER", help="how long it stays open (default: 60)"
    )


def _add_gate(verbs: Verbs) -> None:
    actions = add_verb_with_actions(
        verbs, "gate", "run a stage of the gate, print the gate's status, promote a proven tree", run_gate
    )
    of_operator = Place.DEPLOYING_MACHINE
    add_action(actions, "status", "print which stages are proven for this tree", of_operator, site=False)
    promote = add_action(actions, "promote", "write the release manifest and tag the commit", of_operator, site=False)
    promote.add_argument("version", help="the version to release, such as 1.2.3")
    run = add_action(actions, "run", "run a stage and store its evidence", of_operator, site=False)
    run.add_argument("stage", choices=STAGES, help="the stage to run")
    run.add_argument(
        "options", nargs="*", metavar="-- OPTION", help="options of deploy-e2e: --rehearse, --keep, --site FILE"
    )
