"""The stages of the suite. Each stores evidence for exactly this tree, and the next one refuses to start without it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import nox

ROOT = Path(__file__).parent
GROUPS = ("nox", "ops", "lint", "unit", "mutation", "integration")

if sys.version_info < (3, 11):  # noqa: UP036 - nox runs this file under the Python that it was installed for
    version = sys.version.split()[0]
    sys.stderr.write(
        f"nox runs under Python {version}, but the suite needs 3.11 or newer: run ./noxw, which finds one\n"
    )
    sys.exit(2)

nox.needs_version = ">=2025"
# An installed nox may lack uv; pip and uv both accept the options used here.
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.reuse_venv = "yes"
nox.options.sessions = ["lint", "unit", "coverage", "integration"]


@nox.session
def lint(session: nox.Session) -> None:
    """Run every linter, type checker and validator on every file, in parallel."""
    _stage(session, "lint", "lint")


@nox.session
def unit(session: nox.Session) -> None:
    """Test the decisions of ops with fakes and in-process moto: no sockets, no processes, within seconds."""
    _stage(session, "unit", "unit")


@nox.session
def coverage(session: nox.Session) -> None:
    """Measure the coverage of the unit tests, in twice their time; fails below the minimum in pyproject.toml."""
    _install(session, "unit")
    _run(session, "-m", "pytest", "tests/unit", "--cov", "-n", "2", "--dist=worksteal", *session.posargs)


@nox.session
def mutation(session: nox.Session) -> None:
    """Mutate the pure modules of ops; the unit tests have to fail on 90 of 100 mutants; takes -- ops/MODULE.py ..."""
    _install(session, "mutation")
    _run(session, "-m", "pytest", "tests/mutation", "-q")
    _run(session, "-m", "tests.mutation", *session.posargs)


@nox.session
def integration(session: nox.Session) -> None:
    """Test every adapter with real programs on this machine: LocalStack, Docker, Terraform, Ansible, Pebble, a registry."""
    _stage(session, "integration", "integration", chooses_images=True)


@nox.session(name="deploy-e2e")
def deploy_e2e(session: nox.Session) -> None:
    """Deploy a site from nothing and test it from outside; takes -- --rehearse, --keep, --site sites/NAME.toml."""
    _stage(session, "deploy-e2e", "integration", chooses_images=True)


@nox.session
def promote(session: nox.Session) -> None:
    """Write the release manifest of a tree that every stage has proven, and tag it; takes -- VERSION."""
    _install(session, "unit")
    _run(session, "-m", "ops", "gate", "promote", *session.posargs)


@nox.session
def up(session: nox.Session) -> None:
    """Deploy the local site and leave it running, to look around."""
    _install(session, "integration")
    _choose_images(session)
    _run(session, "-m", "ground", "up", *session.posargs)


@nox.session
def down(session: nox.Session) -> None:
    """Remove running local sites and the leftovers of killed runs."""
    _install(session, "integration")
    _run(session, "-m", "ground", "down")


@nox.session
def ops(session: nox.Session) -> None:
    """Run ops on this machine; takes -- VERB and its options, for example -- gate status."""
    _install(session, "integration")
    _run(session, "-m", "ops", *session.posargs)


@nox.session
def terraform(session: nox.Session) -> None:
    """Run the Terraform of ops; takes -- and Terraform's arguments, for example -- -chdir=infra providers."""
    _install(session, "integration")
    _run(session, "-m", "ops.cli.terraform", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Run the benchmarks, each against a named alternative in the same run; writes reports/bench.json."""
    _install(session, "integration")
    _choose_images(session)
    _run(session, "-m", "pytest", "tests/bench", "-s", *session.posargs)


@nox.session(name="fresh-machine")
def fresh_machine(session: nox.Session) -> None:
    """Test the README's quick start on a fresh Debian 12 and 13, as a user with sudo: needs an hour and an idle machine."""
    _install(session, "integration")
    _run(session, "-m", "pytest", "tests/fresh", "-s", *session.posargs)


@nox.session
def dashboards(session: nox.Session) -> None:
    """Write the dashboards that Grafana reads, compose/grafana/dashboards, from compose/grafana/source."""
    _install(session, "lint")
    _run(session, "-m", "compose.grafana.source")


@nox.session
def lock(session: nox.Session) -> None:
    """Lock every dependency group again: names, versions and hashes in requirements/."""
    _install(session, "nox")
    for group in GROUPS:
        _compile(session, "--universal", "--python-version=3.11", "--group", group, "-o", f"requirements/{group}.txt")
    localstack = ("--python-version=3.11", "--python-platform=x86_64-manylinux_2_36", "requirements/localstack.in")
    _compile(session, *localstack, "-o", "requirements/localstack.txt")


def _choose_images(session: nox.Session) -> None:
    """Choose the image set once for all sessions and processes of this run, and pass it on in the environment.

    Without IMAGE_SET, the choice asks a registry: two answers in one run would prove two different things. It needs the packages
    of the group integration.
    """
    if "IMAGE_SET_FOUND" in os.environ:
        return
    argv = [f"{session.bin}/python", "-m", "ground", "image-set"]
    done = subprocess.run(
        argv, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, check=False
    )
    if done.returncode:
        sys.exit(done.returncode)
    os.environ.update(json.loads(done.stdout))


def _stage(session: nox.Session, stage: str, group: str, *, chooses_images: bool = False) -> None:
    _install(session, group)
    if chooses_images:
        _choose_images(session)
    _run(session, "-m", "ops", "gate", "run", stage, "--", *session.posargs)


def _install(session: nox.Session, group: str) -> None:
    session.log(f"installing the Python packages of requirements/{group}.txt: about a minute the first time")
    session.install("--require-hashes", "--quiet", "-r", f"requirements/{group}.txt")


def _compile(session: nox.Session, *arguments: str) -> None:
    session.run(
        "uv", "pip", "compile", "--upgrade", "--generate-hashes", "--no-emit-index-url", "--no-header", "-q", *arguments
    )


def _run(session: nox.Session, *arguments: str) -> None:
    """Run Python in the session's environment and exit with its exit code; nox itself would exit with 1.

    The terminal passes an interrupt to the child, and this function passes on SIGTERM. The child has the time that it needs
    to clean up.
    """
    path = os.pathsep.join([session.bin, os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}
    if environment.pop("PYTHONDONTWRITEBYTECODE", ""):
        # No bytecode may be written next to the code, but compiling it again takes longer than many programs run.
        environment["PYTHONPYCACHEPREFIX"] = str(ROOT / ".nox/bytecode")
    process = subprocess.Popen([f"{session.bin}/python", *arguments], cwd=ROOT, env=environment)
    before = signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    try:
        while (code := _wait(process)) is None:
            pass
    finally:
        signal.signal(signal.SIGTERM, before)
    if code:
        # A child that a signal ended has a negative code; a shell reports 128 plus the signal's number.
        sys.exit(code if code > 0 else 128 - code)


def _wait(process: subprocess.Popen[bytes]) -> int | None:
    try:
        return process.wait()
    except KeyboardInterrupt:
        return None
