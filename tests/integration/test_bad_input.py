"""Failures end with the documented exit code, a cause and a next step, and leave nothing behind."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import docker
import pytest

from ground import run_registry
from ground.acme import Acme
from ground.container import RUN_LABEL, RunContext
from ops.config.tool_variables import ansible_variables
from ops.errors import OpsError, Refused
from ops.world.ansible import play
from tests.support import fakes


def _command(*argv: str, **environment: str) -> subprocess.CompletedProcess[str]:
    given = os.environ | {"PYTHONPATH": str(run_registry.REPOSITORY)} | environment
    return subprocess.run(
        [sys.executable, "-m", *argv],
        cwd=run_registry.REPOSITORY,
        env=given,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_site_file_with_three_errors_exits_2_and_lists_all_three_in_one_json_document(tmp_path: Path) -> None:
    site = tmp_path / "site.toml"
    text = (run_registry.REPOSITORY / "sites/production.example.toml").read_text()
    for good, bad in (
        ('name = "production"', 'name = "P"'),
        ('"example.org" ', '"example" '),
        ("[aws]\n", "[aws]\nregoin = 1\n"),
    ):
        assert good in text
        text = text.replace(good, bad, 1)
    site.write_text(text)
    done = _command("ops", "deploy", "--site", str(site), "--json")
    assert done.returncode == 2
    assert '"error": "ConfigError"' in done.stdout
    assert all(named in done.stderr for named in ("3 problems", 'name = "P"', "zone", "did you mean aws.region?"))


def test_a_missing_ssh_key_is_refused_with_the_command_that_makes_one(tmp_path: Path) -> None:
    site = tmp_path / "site.toml"
    text = (run_registry.REPOSITORY / "sites/production.example.toml").read_text()
    site.write_text(text.replace("~/.ssh/gitea-production", str(tmp_path / "nothing")))
    done = _command("ops", "deploy", "--site", str(site))
    assert done.returncode == 4
    assert f"ssh-keygen -t ed25519 -f {tmp_path}/nothing" in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["site.toml"]


def test_an_unknown_option_exits_2_and_points_to_the_help() -> None:
    done = _command("ops", "deploy", "--sight", "x")
    assert done.returncode == 2
    assert "--help" in done.stderr


_ENSURE = """
import os, sys; from pathlib import Path; from ground import prerequisites; from ops.errors import OpsError
import docker; os.getuid() or os.setuid(65534)
prerequisites.platform.freedesktop_os_release = lambda: {"ID": sys.argv[1], "VERSION_ID": sys.argv[2]}
prerequisites._KEYRING = prerequisites._PID_FILE = Path(sys.argv[3], "nothing")
prerequisites._ENGINE_START_SECONDS, prerequisites.time.sleep = 0, lambda seconds: None
try: prerequisites.ensure(Path(sys.argv[3]), lambda line: None, bases=True)
except OpsError as error: print(error.exit_code, error.message, error.hint, sep="\\n")
"""
_APT_GET = "apt-get update && apt-get install --yes"
_ENGINE = "docker.io apparmor ca-certificates"


class _User:
    """A user without rights, whose PATH has these programs only; each of them writes its command line to a file."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._programs, self._calls = folder, folder / "bin", folder / "calls"
        self._programs.mkdir(mode=0o755)
        self._calls.touch()
        self._calls.chmod(0o666)

    def has(self, *names: str, code: int = 0, doing: str = "") -> None:
        for name in names:
            program = self._programs / name
            program.write_text(f'#!/bin/sh\necho "{name} $*" >>{self._calls}\n{doing}\nexit {code}\n')
            program.chmod(0o755)

    def ensure(self, release: str, **variables: str) -> list[str]:
        """Return the exit code, the message and the hint."""
        done = subprocess.run(
            [sys.executable, "-c", _ENSURE, *release.split(), str(self.folder)],
            env={
                "PATH": str(self._programs),
                "DOCKER_HOST": f"unix://{self.folder}/nothing.sock",
                "PYTHONPATH": str(run_registry.REPOSITORY),
            }
            | variables,
            capture_output=True,
            text=True,
            check=False,
            # Without a terminal sudo cannot ask for a password.
            start_new_session=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    @property
    def ran(self) -> list[str]:
        """The command lines of apt, in order."""
        return [line for line in self._calls.read_text().splitlines() if "apt-" in line]


@pytest.fixture
def user() -> Iterator[_User]:
    """A user with the programs of a new machine."""
    # Not in the test's own folder, which other users cannot read.
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        with_little = _User(Path(folder))
        with_little.has("git", "ssh", "apt-get")
        yield with_little


@pytest.mark.parametrize(
    ("release", "wanted"),
    [
        ("debian 13", f"{_ENGINE} docker-cli docker-compose mmdebstrap debian-archive-keyring"),
        ("ubuntu 24.04", f"{_ENGINE} docker-compose-v2 mmdebstrap debian-archive-keyring"),
    ],
)
def test_without_docker_and_root_the_hint_is_one_command_for_root(user: _User, release: str, wanted: str) -> None:
    code, message, hint = user.ensure(release)
    assert (code, hint) == ("4", f"run as root: {_APT_GET} {wanted}")
    assert "missing prerequisites: Docker Engine, Docker's client, Docker Compose 2, mmdebstrap" in message
    assert "there is no sudo" in message
    assert user.ran == []


def test_where_no_package_has_compose_the_hint_also_gives_its_path(user: _User) -> None:
    code, _, hint = user.ensure("debian 12")
    assert code == "4"
    assert (
        f"{_APT_GET} {_ENGINE} mmdebstrap debian-archive-keyring; then install Docker Compose 2 at /usr/local" in hint
    )


def test_without_permission_for_sudo_nothing_is_changed(user: _User) -> None:
    user.has("sudo", code=1)
    code, message, hint = user.ensure("debian 13")
    assert (code, hint.split(" docker.io")[0]) == ("4", f"run as root: {_APT_GET}")
    assert "sudo does not permit it to this user" in message
    assert user.ran == []


def test_an_ops_terraform_that_is_no_program_is_reported_before_docker_is_installed(user: _User) -> None:
    user.has("sudo")
    code, message, hint = user.ensure("debian 13", OPS_TERRAFORM="/nothing/terraform")
    assert (code, message) == ("2", "OPS_TERRAFORM=/nothing/terraform is not a program")
    assert hint.startswith("set OPS_TERRAFORM to the path of Terraform 1.11 or newer")
    assert user.ran == []


def test_apt_s_lists_are_updated_first_and_all_packages_are_installed_at_once(user: _User) -> None:
    """On a release that is in no table, with empty lists at first."""
    user.has("sudo", "setsid")
    offer = 'printf "Package: docker-compose-v2\\nVersion: 2.40.3\\n"'
    user.has("apt-cache", doing=f"/bin/grep -q 'apt-get update' {user.folder}/calls && {offer}")
    code, message, _ = user.ensure("ubuntu 26.04")
    assert (code, message) == ("7", "the Docker engine does not start")
    before, update, asked, install = user.ran
    assert before == asked == "apt-cache show --no-all-versions docker-cli docker-compose-v2 docker-compose"
    assert update == "sudo env LC_ALL=C apt-get update -q"
    assert "-o DPkg::Lock::Timeout=300 install" in install
    assert install.endswith(f" {_ENGINE} docker-compose-v2 mmdebstrap debian-archive-keyring")


def test_only_a_lock_on_apt_s_lists_is_waited_for(user: _User) -> None:
    """The first boot holds that lock, and apt's own option to wait does not cover it."""
    held, offline = "E: Could not get lock /var/lib/apt/lists/lock.", "E: Failed to fetch"
    answers = f"if [ $(/bin/grep -c update {user.folder}/calls) -lt 3 ]; then echo '{held}'; else echo '{offline}'; fi"
    user.has("sudo", doing=f"case $* in *update*) {answers}; exit 100;; esac")
    code, message, *_ = user.ensure("debian 13")
    assert (code, message) == ("7", "sudo env LC_ALL=C apt-get update -q failed:")
    assert len(user.ran) == 3


def test_an_unreachable_host_is_reported_within_a_minute(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        host = {"ansible_host": "127.0.0.1", "ansible_port": taken.getsockname()[1], "ansible_user": "admin"}
        variables = ansible_variables(
            fakes.site(),
            {},
            data_volume_id="vol-1",
            compose_source=tmp_path,
            image_archive=tmp_path,
            image_id="",
            image_name="",
        )
        began = time.monotonic()
        with pytest.raises(OpsError) as caught:
            play(
                run_registry.REPOSITORY / "playbooks",
                "site.yml",
                state=tmp_path,
                host=host,
                variables=variables,
                tell=print,
                boot_seconds=4,
            )
    assert caught.value.exit_code == 7
    assert "ssh key" in caught.value.hint
    assert time.monotonic() - began < 60


def test_the_issuer_rejects_an_unknown_domain_and_names_it(
    run_context: RunContext, issuer: Acme, images: Mapping[str, str], tmp_path: Path
) -> None:
    (tmp_path / "authorities.pem").write_text(issuer.authorities)
    argv = ["certonly", "--standalone", "--non-interactive", "--agree-tos", "--email", "a@gitea.test"]
    argv += ["--server", issuer.directory, "--domain", "elsewhere.gitea.test"]
    container = run_context.client.containers.run(
        images["CERTBOT_IMAGE"],
        argv,
        network=run_context.network,
        labels={RUN_LABEL: run_context.run},
        environment={"REQUESTS_CA_BUNDLE": "/authorities.pem"},
        volumes={str(tmp_path / "authorities.pem"): {"bind": "/authorities.pem", "mode": "ro"}},
        detach=True,
    )
    ended = container.wait(timeout=60)["StatusCode"]
    log = container.logs().decode()
    container.remove(v=True)
    assert ended != 0
    assert "elsewhere.gitea.test" in log


@pytest.mark.parametrize(
    ("number", "code", "moment"),
    [(signal.SIGINT, 130, "starting the test environment"), (signal.SIGTERM, 143, "the test environment is running")],
)
def test_an_interrupted_run_leaves_nothing_behind(
    docker_client: docker.DockerClient, number: signal.Signals, code: int, moment: str
) -> None:
    ended, output = _interrupted_up(number, moment)
    (name,) = set(re.findall(r"starting the test environment (ground-\w+)", output))
    assert ended == code, output
    filters = {"label": f"{RUN_LABEL}={name}"}
    assert docker_client.containers.list(all=True, filters=filters) == []
    assert docker_client.networks.list(filters=filters) == []
    assert docker_client.volumes.list(filters=filters) == []
    assert not (run_registry.RUNS / name).exists()


def _interrupted_up(number: signal.Signals, moment: str) -> tuple[int, str]:
    """Run `ground up`, signal its process group at a line that starts with ``moment``; returns exit code and output."""
    environment = os.environ | {"PYTHONPATH": str(run_registry.REPOSITORY)}
    environment.pop("GATE_NOTE", None)
    argv = [sys.executable, "-u", "-m", "ground", "up"]
    with subprocess.Popen(
        argv, cwd=run_registry.REPOSITORY, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stderr
        output = []
        for line in process.stderr:
            output.append(line)
            if line.startswith(moment):
                # The whole process group, as a terminal does.
                os.killpg(process.pid, number)
        return process.wait(60), "".join(output)


_INSIDE_A_CALLBACK = """
import os, signal, sys, time, weakref
from ops.world.process import interrupt_code, signals_unwind
class Held: pass
number = signal.Signals[sys.argv[1]]
def gone(_):
    os.kill(os.getpid(), number)
    time.sleep(0.1)
try:
    with signals_unwind():
        held = Held()
        watched = weakref.ref(held, gone)
        del held
        time.sleep(20)
except KeyboardInterrupt as interrupt:
    sys.exit(interrupt_code(interrupt))
"""


@pytest.mark.parametrize(("number", "code"), [("SIGTERM", 143), ("SIGINT", 130)])
def test_an_interrupt_during_a_callback_of_the_interpreter_is_not_lost(number: str, code: int) -> None:
    argv = [sys.executable, "-c", _INSIDE_A_CALLBACK, number]
    environment = os.environ | {"PYTHONPATH": str(run_registry.REPOSITORY)}
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == code, done.stderr


def test_an_unknown_image_set_exits_2() -> None:
    done = _command("ground", "up", IMAGE_SET="some")
    assert done.returncode == 2
    assert "auto, hermetic or upstream" in done.stderr


def test_without_a_debian_mirror_the_hint_names_the_variable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from ground import base_images

    monkeypatch.setattr(base_images, "_APT", tmp_path)
    monkeypatch.delenv("GROUND_DEBIAN_MIRROR", raising=False)
    with pytest.raises(Refused) as caught:
        base_images.debian_mirror()
    assert "GROUND_DEBIAN_MIRROR" in caught.value.hint
