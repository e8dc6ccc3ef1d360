"""Runs as root before Gitea starts: writes app.ini from template and environment, gives folders to the git user."""

from __future__ import annotations

import os
import pwd
import re
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path

from . import log
from .ini import Sections, parse, render
from .settings import Keys, config_path

_OWNED = (Path("/data/gitea"), Path("/data/git"))
# GITEA__section__KEY and GITEA__section__KEY__FILE are settings of app.ini.
_PREFIX, _FILE = "GITEA__", "__FILE"
_ESCAPED = re.compile(r"_0[xX]((?:[0-9A-Fa-f]{2})+)_")
_TEMPLATE: Sections = {
    "": {"APP_NAME": "Gitea: Git with a cup of tea", "RUN_MODE": "prod", "RUN_USER": "git"},
    "repository": {"ROOT": "/data/git/repositories"},
    "server": {"APP_DATA_PATH": "/data/gitea", "HTTP_PORT": "3000", "SSH_PORT": "22"},
    "database": {"DB_TYPE": "sqlite3"},
    "log": {"ROOT_PATH": "/data/gitea/log"},
    "security": {"INSTALL_LOCK": "false"},
}


def main() -> int:
    """Exit code 0, or 1 with a log line when the configuration cannot be written."""
    path = config_path()
    try:
        current = parse(path.read_text()) if path.exists() else _TEMPLATE
        wanted = _with_secrets(_with_environment(current, os.environ))
    except OSError as error:
        log.error("cmd/config.go:environment-to-ini()", f"unable to read the configuration: {error}")
        return 1
    account = pwd.getpwnam("git")
    if not path.exists() or wanted != current:
        _replace(path, render(wanted), account)
    _prepare_ssh_folder(account)
    for folder in _OWNED:
        _give(folder, account)
    return 0


def _with_environment(sections: Sections, environ: Mapping[str, str]) -> Sections:
    """`sections` with the overrides of the environment."""
    result = {name: dict(keys) for name, keys in sections.items()}
    for section, key, value in _overrides(environ):
        result.setdefault(section, {})[key] = value
    return result


def _overrides(environ: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    """Section, key and value of every variable of that form. As in Gitea, a __FILE that cannot be read is logged and skipped."""
    for name, value in sorted(environ.items()):
        if not name.startswith(_PREFIX):
            continue
        from_file = name.endswith(_FILE)
        section, key = _decoded(name.removesuffix(_FILE)[len(_PREFIX) :])
        if not key:
            continue
        try:
            content = _file_content(value) if from_file else value
        except OSError as error:
            log.error("modules/setting/config_env.go:EnvironmentToConfig()", f"unable to read {name}: {error}")
            continue
        yield section.lower(), key, content


def _decoded(encoded: str) -> tuple[str, str]:
    """Section and key. The first __ that is no part of an escape separates them (decodeEnvSectionKey)."""
    section, key, in_key, last = "", "", False, 0
    for found in [*_ESCAPED.finditer(encoded), None]:
        text = encoded[last : found.start() if found else None]
        if not in_key and "__" in text:
            before, _, after = text.partition("__")
            section, key, in_key = section + before, after, True
        elif in_key:
            key += text
        else:
            section += text
        if found:
            letters = bytes.fromhex(found[1]).decode("utf-8", "replace")
            section, key, last = section + letters * (not in_key), key + letters * in_key, found.end()
    return section, key


def _file_content(path: str) -> str:
    # Editors and `echo` end a file with a newline that is not part of the secret. Gitea takes one off.
    content = Path(path).read_bytes().decode()
    return content[:-2] if content.endswith("\r\n") else content.removesuffix("\n")


def _with_secrets(sections: Sections) -> Sections:
    # Gitea generates the secrets that an installed instance does not have.
    keys = Keys(sections)
    if not keys.truth("security", "INSTALL_LOCK"):
        return sections
    result = {name: dict(values) for name, values in sections.items()}
    for section, key in (("security", "INTERNAL_TOKEN"), ("security", "SECRET_KEY"), ("oauth2", "JWT_SECRET")):
        if not keys.text(section, key, ""):
            result.setdefault(section, {})[key] = secrets.token_urlsafe(32)
    return result


def _replace(path: Path, text: str, account: pwd.struct_passwd) -> None:
    # Written to another file and renamed: a killed start must not leave half a configuration.
    draft = path.with_suffix(".new")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    os.chown(draft, account.pw_uid, account.pw_gid)
    draft.replace(path)


def _prepare_ssh_folder(account: pwd.struct_passwd) -> None:
    folder = Path("/data/git/.ssh")
    folder.mkdir(mode=0o700, exist_ok=True)
    os.chown(folder, account.pw_uid, account.pw_gid)


def _give(folder: Path, account: pwd.struct_passwd) -> None:
    # As in the real image, only the top folder's owner is checked: a walk at each start takes too long.
    if folder.stat().st_uid != account.pw_uid:
        for parent, folders, files in os.walk(folder):
            for name in [".", *folders, *files]:
                os.chown(Path(parent) / name, account.pw_uid, account.pw_gid, follow_symlinks=False)
    folder.chmod(0o755)
