"""The gitea command line: finds the command, refuses root, and loads only what that command needs.

Hooks and ssh sessions start this program several times a push: an import left out is time saved for every push.
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path

from . import log
from .errors import CommandError
from .release import installed_release

Arguments = list[str]
_ROOT = (
    "Gitea is not supposed to be run as root. Sorry. If you need to use privileged TCP ports please instead use "
    "setcap and the `cap_net_bind_service` permission"
)
_USAGE = """NAME:
   gitea - A painless self-hosted Git service

COMMANDS:
   web, serv, hook, migrate, doctor check, generate secret, actions generate-runner-token,
   admin user create|list|change-password|generate-access-token, admin regenerate hooks|keys"""


def main(arguments: Arguments) -> int:
    """Runs a command; its exit code."""
    config, words = _without_global_flags(arguments)
    if words[:1] in (["--version"], ["-v"]):
        print(
            f"gitea version {installed_release().version} built with python{sys.version_info.major}."
            f"{sys.version_info.minor} : stand-in"
        )
        return 0
    if words[:1] in (["help"], ["--help"], ["-h"]):
        print(_USAGE)
        return 0
    if os.getuid() == 0:
        log.fatal("modules/setting/setting.go:loadRunModeFrom()", _ROOT)
    if config:
        os.environ["GITEA_CUSTOM"] = str(Path(config).parent.parent)
    try:
        return _run(words or ["web"])
    except CommandError as error:
        print(f"Command error: {error}", file=sys.stderr)
        return 1


def _run(words: Arguments) -> int:
    for length in (3, 2, 1):
        place = _COMMANDS.get(" ".join(words[:length]))
        if place and len(words) >= length:
            command = getattr(importlib.import_module(f".{place[0]}", __package__), place[1])
            return int(command(words[length:]))
    raise CommandError(f"No such command: {' '.join(words)}")


def _without_global_flags(arguments: Arguments) -> tuple[str, Arguments]:
    """The configuration file named by --config, and all other arguments."""
    config, rest, left = "", [], list(arguments)
    while left:
        word = left.pop(0)
        name, given, value = word.partition("=")
        if name in {"--config", "-c"}:
            config = value if given else (left.pop(0) if left else "")
        elif name in {"--work-path", "-w", "--custom-path", "-C"}:
            left[:1] = [] if not given else left[:1]
        else:
            rest.append(word)
    return config, rest


# Command to module and function: imported when it is run, not before.
_COMMANDS = {
    "web": ("serve", "web"),
    "migrate": ("serve", "migrate"),
    "serv": ("push", "serv"),
    "hook": ("push", "hook"),
    "actions generate-runner-token": ("push", "generate_runner_token"),
    "generate secret": ("admin", "generate_secret"),
    "admin user create": ("admin", "create"),
    "admin user list": ("admin", "list_users"),
    "admin user change-password": ("admin", "change_password"),
    "admin user generate-access-token": ("admin", "generate_access_token"),
    "admin regenerate hooks": ("admin", "regenerate_hooks"),
    "admin regenerate keys": ("admin", "regenerate_keys"),
    "doctor check": ("doctor", "check"),
}
