"""The environment of the programs that ops runs: which of the caller's variables they get, and why.

A variable without a rule is dropped, so that a variable of the operator's shell changes no deployment.
docs/reference/environment.md is generated from this table.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase

# Python, Ansible and git need a UTF-8 locale, and messages of programs are parsed in English.
LOCALE: Mapping[str, str] = {"LANG": "C.UTF-8", "LC_ALL": "C.UTF-8"}


@dataclass(frozen=True)
class Rule:
    """Names of variables (``*`` matches any text), whether programs get them, and the reason."""

    names: tuple[str, ...]
    kept: bool
    reason: str


def _keep(reason: str, *names: str) -> Rule:
    return Rule(names, True, reason)


def _drop(reason: str, *names: str) -> Rule:
    return Rule(names, False, reason)


# The first rule that matches decides.
RULES = (
    _keep("where programs are found", "PATH"),
    _keep("the user, whose configuration files programs read", "HOME", "USER", "LOGNAME"),
    _keep(
        "folders of that user, like HOME",
        "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR", "XDG_STATE_HOME",
    ),
    _keep("the folder of temporary files; the default may be too small", "TMPDIR"),
    _keep("what the terminal can show", "TERM", "NO_COLOR"),
    _keep("the ssh agent, which ssh-add fills for a bastion host of ~/.ssh/config", "SSH_AUTH_SOCK"),
    _keep(
        "the way out of a network with a proxy",
        "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy", "no_proxy",
    ),
    _keep(
        "the certificate authorities of such a network",
        "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "AWS_CA_BUNDLE",
    ),
    _keep("credentials of AWS", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"),
    _keep(
        "the profile, and the files that contain it",
        "AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE",
    ),
    _keep(
        "a role by a token, as CI systems have it",
        "AWS_ROLE_ARN", "AWS_ROLE_SESSION_NAME", "AWS_WEB_IDENTITY_TOKEN_FILE",
    ),
    _keep("credentials of a container or an EC2 instance", "AWS_CONTAINER_*", "AWS_EC2_METADATA_*"),
    _keep("the region; ops sets that of the site file", "AWS_REGION", "AWS_DEFAULT_REGION"),
    _keep(
        "the endpoint; boto3, in the process of ops, obeys them too, and both must reach the same AWS",
        "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_*", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
        "AWS_USE_FIPS_ENDPOINT", "AWS_USE_DUALSTACK_ENDPOINT",
    ),
    _drop("retries, pager, output format and the like: ops sets what it needs", "AWS_*"),
    _keep(
        "the operator's provider mirror and registry credentials; replaced where ops finds a mirror",
        "TF_CLI_CONFIG_FILE",
    ),
    _keep("a cache of providers, whose hashes the lock file checks", "TF_PLUGIN_CACHE_DIR"),
    _drop(
        "TF_WORKSPACE would make a second site, TF_VAR_* and TF_CLI_ARGS* another one, TF_LOG another output",
        "TF_*",
    ),
    _keep("Terraform asks its maker for new versions unless it is set", "CHECKPOINT_DISABLE"),
    _drop("another configuration, strategy, inventory or callback; ops sets its own", "ANSIBLE_*", "MITOGEN_*"),
    _drop("other files, another project or other profiles of the stack", "COMPOSE_*"),
    _keep(
        "the engine; docker-py, in the process of ops, obeys them too",
        "DOCKER_HOST", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH",
    ),
    _keep("the folder with credentials of registries", "DOCKER_CONFIG"),
    _drop(
        "DOCKER_CONTEXT names an engine that docker-py does not use, DOCKER_DEFAULT_PLATFORM images of another machine type, "
        "the others another builder or version of the API",
        "DOCKER_*", "BUILDKIT_*", "BUILDX_*",
    ),
    _drop("another repository, password or cache of backups", "RESTIC_*", "RCLONE_*"),
    _drop("a hook of git sets GIT_DIR, which makes git read another checkout", "GIT_*"),
    _drop("another database, user or password for psql", "PG*"),
    _drop(
        f"every program runs with {' and '.join(f'{name}={value}' for name, value in LOCALE.items())}",
        "LANG", "LANGUAGE", "LC_*",
    ),
    _keep("where Python writes bytecode, if anywhere", "PYTHONPYCACHEPREFIX", "PYTHONDONTWRITEBYTECODE"),
    _drop(
        "PYTHONPATH, PYTHONHOME and PYTHONSTARTUP run other code in Ansible; the others change its output",
        "PYTHON*",
    ),
    _keep("the package index of the packages in the image of ops, whose hashes are checked", "UV_*"),
    _drop("uv does not read them", "PIP_*"),
    _drop("other libraries in every program", "LD_*"),
    _drop("read by ops itself, and by no program that it runs", "OPS_*", "TERRAFORM_PROVIDER_MIRROR", "GATE_*"),
    _drop("every other variable", "*"),
)  # fmt: skip


def is_kept(name: str) -> bool:
    """Return whether programs get the caller's variable of that name."""
    return next(rule.kept for rule in RULES if any(fnmatchcase(name, pattern) for pattern in rule.names))


def environment_for(own: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the complete environment of a program: the caller's kept variables, the locale, and ``own`` above both."""
    kept = {name: value for name, value in os.environ.items() if is_kept(name)}
    return {**kept, **LOCALE, **(own or {})}


@contextmanager
def only_kept() -> Iterator[None]:
    """Give this process that environment during the block, for a library that copies the environment of the process."""
    before = dict(os.environ)
    _replace(environment_for())
    try:
        yield
    finally:
        _replace(before)


def _replace(wanted: Mapping[str, str]) -> None:
    for name in set(os.environ) - set(wanted):
        del os.environ[name]
    os.environ.update(wanted)
