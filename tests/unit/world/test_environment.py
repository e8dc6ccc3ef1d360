"""The caller's environment leaks into no program that ops runs (reports 10 and 15)."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import ansible_runner
import pytest

from ops.cli import environment_reference
from ops.world import ansible, git, postgres, tools, wheels
from ops.world.container_processes import ContainerProcesses
from ops.world.environment import LOCALE, RULES, environment_for, is_kept, only_kept
from ops.world.process import Processes

HOSTILE = {
    "TF_WORKSPACE": "dev", "TF_VAR_name": "other", "TF_CLI_ARGS": "-target=x", "TF_CLI_ARGS_apply": "-destroy", "TF_LOG": "TRACE",
    "TF_REATTACH_PROVIDERS": "{}", "TF_INPUT": "1", "AWS_MAX_ATTEMPTS": "1", "AWS_PAGER": "less", "AWS_DEFAULT_OUTPUT": "table",
    "ANSIBLE_CHECK_MODE_MARKERS": "1", "ANSIBLE_STRATEGY": "free", "ANSIBLE_CALLBACK_PLUGINS": "/x", "COMPOSE_FILE": "other.yaml",
    "COMPOSE_PROJECT_NAME": "other", "COMPOSE_PROFILES": "tools", "DOCKER_DEFAULT_PLATFORM": "linux/arm64", "DOCKER_CONTEXT": "other",
    "RESTIC_PASSWORD": "other", "RESTIC_REPOSITORY": "/x", "GIT_DIR": "/x", "GIT_WORK_TREE": "/x", "GIT_INDEX_FILE": "/x",
    "LC_ALL": "C", "LC_CTYPE": "de_DE.ISO-8859-1", "LANG": "tr_TR", "LANGUAGE": "de", "PYTHONPATH": "/x", "PYTHONHOME": "/x",
    "PYTHONSTARTUP": "/x", "PYTHONWARNINGS": "error", "PGHOST": "/x", "LD_PRELOAD": "/x.so", "DOMAIN": "other.example.org",
    "GITEA_IMAGE": "other", "UNKNOWN": "x",
}  # fmt: skip
KEPT = {
    "PATH": "/bin", "HOME": "/root", "TERM": "xterm", "HTTPS_PROXY": "http://proxy:3128", "no_proxy": "localhost",
    "AWS_PROFILE": "admin", "AWS_ACCESS_KEY_ID": "a", "AWS_REGION": "eu-central-1", "AWS_ENDPOINT_URL": "http://192.0.2.1:4566",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://192.0.2.1/", "DOCKER_HOST": "unix:///x", "DOCKER_CONFIG": "/x",
    "TF_CLI_CONFIG_FILE": "/x.rc", "TF_PLUGIN_CACHE_DIR": "/x", "SSH_AUTH_SOCK": "/x", "SSL_CERT_FILE": "/x.pem",
}  # fmt: skip


@pytest.fixture(autouse=True)
def hostile(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (HOSTILE | KEPT).items():
        monkeypatch.setenv(name, value)


class _Started(Exception):
    pass


def _given(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> Mapping[str, str]:
    """Return the environment of the first program that is started; it does not run."""
    seen: list[Mapping[str, str] | None] = []

    def start(*_: object, **options: Any) -> None:
        seen.append(options.get("env"))
        raise _Started

    monkeypatch.setattr(subprocess, "Popen", start)
    monkeypatch.setattr(subprocess, "run", start)
    with pytest.raises(_Started):
        act()
    (environment,) = seen
    return os.environ if environment is None else environment


def _in_background() -> None:
    with Processes().in_background(["x"]):
        pass


def _session() -> None:
    with postgres.Postgres().session("x"):
        pass


HERE, CONTAINER = Path(), ContainerProcesses("image", "name")
PROGRAMS: Mapping[str, Callable[[], object]] = {
    "run": lambda: Processes().run(["x"]),
    "output": lambda: Processes().output(["x"], directory=HERE, environment={}),
    "run_watched": lambda: Processes().run_watched(["x"], environment={}, on_line=bool),
    "pipe": lambda: Processes().pipe(["x"], ["y"], environment={}, tell=print),
    "in_background": _in_background,
    "in a container": lambda: CONTAINER.run(["x"]),
    "output of a container": lambda: CONTAINER.output(["x"], directory=HERE, environment={}),
    "git": lambda: git.Git(HERE).tree(),
    "tools": tools.versions,
    "uv": lambda: wheels.vendor(HERE / "r.txt", Path(os.devnull).parent / "shm/none", python_version="3.11"),
    "psql": _session,
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_no_variable_of_the_caller_s_shell_reaches_a_program(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given = _given(monkeypatch, PROGRAMS[name])
    assert {each for each in HOSTILE if each in given} - set(LOCALE) == set()
    assert KEPT.items() <= given.items()
    assert LOCALE.items() <= given.items()


def test_ansible_gets_the_same_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, str] = {}

    class Runner:
        rc = 0

        def __init__(self, **options: Any) -> None:
            seen.update(os.environ | options["envvars"])

        def run(self) -> None:
            assert os.environ["TF_WORKSPACE"] == "dev"

    monkeypatch.setattr(ansible, "environment", lambda playbooks: {"ANSIBLE_STRATEGY": "own", **LOCALE})
    monkeypatch.setattr(ansible_runner.interface, "init_runner", Runner)
    ansible.play(tmp_path, "one.yml", state=tmp_path, host={}, variables={}, tell=print)
    assert {each for each in HOSTILE if each in seen} - set(LOCALE) == {"ANSIBLE_STRATEGY"}
    assert (seen["ANSIBLE_STRATEGY"], seen["LC_ALL"]) == ("own", "C.UTF-8")


def test_the_environment_of_this_process_is_back_after_the_block() -> None:
    @only_kept()
    def fail() -> None:
        assert "TF_WORKSPACE" not in os.environ
        raise ZeroDivisionError

    before = dict(os.environ)
    with pytest.raises(ZeroDivisionError):
        fail()
    assert dict(os.environ) == before


def test_what_ops_sets_for_a_program_wins() -> None:
    assert environment_for({"TF_DATA_DIR": "x", "AWS_REGION": "eu-west-1"})["AWS_REGION"] == "eu-west-1"
    assert environment_for({"TF_DATA_DIR": "x"})["TF_DATA_DIR"] == "x"


def test_each_rule_has_a_reason_and_decides_some_name() -> None:
    assert all(rule.reason for rule in RULES)
    decided: Iterator[str] = (pattern.replace("*", "X") for rule in RULES for pattern in rule.names)
    assert sum(is_kept(name) for name in decided) == sum(len(rule.names) for rule in RULES if rule.kept)


def test_the_reference_of_the_environment_is_generated_from_the_rules() -> None:
    written = (Path(__file__).parents[3] / "docs/reference/environment.md").read_text()
    command = "python -m ops.cli.environment_reference > docs/reference/environment.md"
    assert written == environment_reference.markdown(), f"run: {command}"
