"""The gitea command line: finds the command, refuses root, and imports only the modules of that command.

Hooks and ssh sessions start this program several times per push, so every import slows down every push.
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import NoReturn

from . import log
from .errors import CommandError
from .release import installed_release

Arguments = list[str]
_ROOT = "Gitea is not supposed to be run as root. {}If you need to use privileged TCP ports please instead use {}"
_SETCAP = "{} and the `cap_net_bind_service` permission{}"


def main(arguments: Arguments) -> int:
    """Runs a command and returns its exit code."""
    config, words = _without_config(arguments)
    if words[:1] == ["--version"]:
        python = f"python{sys.version_info.major}.{sys.version_info.minor}"
        name = "gitea" if installed_release().since(1, 26) else "Gitea"
        print(f"{name} version {installed_release().version} built with {python} : stand-in")
        return 0
    if os.getuid() == 0:
        _refuse_root()
    if config:
        os.environ["GITEA_CUSTOM"] = str(Path(config).parent.parent)
    try:
        return _run(words or ["web"])
    except CommandError as error:
        print(f"Command error: {error}", file=sys.stderr)
        return 1


def _refuse_root() -> NoReturn:
    if installed_release().since(1, 26):
        setcap = _SETCAP.format("`setcap`", ".")
        log.fatal("modules/setting/setting.go:mustNotRunAsRoot()", _ROOT.format("", setcap))
    log.fatal("modules/setting/setting.go:loadRunModeFrom()", _ROOT.format("Sorry. ", _SETCAP.format("setcap", "")))


def _run(words: Arguments) -> int:
    for length in (3, 2, 1):
        found = _COMMANDS.get(" ".join(words[:length]))
        if found:
            command = getattr(importlib.import_module(f".{found[0]}", __package__), found[1])
            return int(command(words[length:]))
    raise CommandError(f"No such command: {' '.join(words)}")


def _without_config(arguments: Arguments) -> tuple[str, Arguments]:
    """The configuration file in --config, and all other arguments."""
    config, rest, left = "", [], list(arguments)
    while left:
        name, given, value = left.pop(0).partition("=")
        if name in {"--config", "-c"}:
            config = value if given else "".join(left[:1])
            left = left if given else left[1:]
        else:
            rest.append(f"{name}{given}{value}")
    return config, rest


# Command to module and function; the module is imported when the command runs.
_COMMANDS = {
    "web": ("serve", "web"),
    "migrate": ("serve", "migrate"),
    "serv": ("push", "serv"),
    "hook": ("push", "hook"),
    "actions generate-runner-token": ("push", "generate_runner_token"),
    "admin user create": ("admin", "create"),
    "admin user list": ("admin", "list_users"),
    "admin user change-password": ("admin", "change_password"),
    "admin auth list": ("admin", "list_sources"),
    "manager flush-queues": ("push", "flush_queues"),
    "admin user generate-access-token": ("admin", "generate_access_token"),
    "admin regenerate hooks": ("admin", "regenerate_hooks"),
    "admin regenerate keys": ("admin", "regenerate_keys"),
    "doctor check": ("doctor", "check"),
}
