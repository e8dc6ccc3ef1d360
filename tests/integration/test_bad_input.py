"""What goes wrong on the way ends with the design's exit code, a cause and a next step, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import docker
import pytest

from ground import run_registry
from ground.acme import Acme
from ground.container import RUN_LABEL, Place
from ops.config.tool_variables import ansible_variables
from ops.errors import OpsError, Refused, Unavailable
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


def test_a_site_file_with_three_mistakes_is_exit_2_with_all_three_and_one_json_document(tmp_path: Path) -> None:
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


def test_a_site_without_its_ssh_key_is_refused_with_the_command_that_makes_one(tmp_path: Path) -> None:
    site = tmp_path / "site.toml"
    text = (run_registry.REPOSITORY / "sites/production.example.toml").read_text()
    site.write_text(text.replace("~/.ssh/gitea-production", str(tmp_path / "nothing")))
    done = _command("ops", "deploy", "--site", str(site))
    assert done.returncode == 4
    assert f"ssh-keygen -t ed25519 -f {tmp_path}/nothing" in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["site.toml"]


def test_a_wrong_invocation_is_exit_2_and_says_where_help_is() -> None:
    done = _command("ops", "deploy", "--sight", "x")
    assert done.returncode == 2
    assert "--help" in done.stderr


_ENSURE = """
import os, sys; from pathlib import Path; from ground import prerequisites; from ops.errors import OpsError
import docker; os.getuid() or os.setuid(65534)
prerequisites.platform.freedesktop_os_release = lambda: {"ID": sys.argv[1], "VERSION_ID": sys.argv[2]}
prerequisites._KEYRING = prerequisites._PID_FILE = Path(sys.argv[3], "nothing")
prerequisites._ENGINE_START_SECONDS, prerequisites.time.sleep = 0, lambda seconds: None
try: prerequisites.ensure(Path(sys.argv[3]), lambda told: None, bases=True)
except OpsError as error: print(error.exit_code, error.message, error.hint, sep="\\n")
"""
_APT_GET = "apt-get update && apt-get install --yes"
_ENGINE = "docker.io apparmor ca-certificates"


class _Poor:
    """A user who may do nothing, on a PATH with these programs alone; each one that runs leaves a note."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._programs, self._notes = folder, folder / "bin", folder / "notes"
        self._programs.mkdir(mode=0o755)
        self._notes.touch()
        self._notes.chmod(0o666)

    def has(self, *names: str, code: int = 0, doing: str = "") -> None:
        for name in names:
            program = self._programs / name
            program.write_text(f'#!/bin/sh\necho "{name} $*" >>{self._notes}\n{doing}\nexit {code}\n')
            program.chmod(0o755)

    def lacks(self, name: str) -> None:
        (self._programs / name).unlink()

    def ensure(self, release: str) -> list[str]:
        """Return the exit code, the message and the hint."""
        done = subprocess.run(
            [sys.executable, "-c", _ENSURE, *release.split(), str(self.folder)],
            env={
                "PATH": str(self._programs),
                "DOCKER_HOST": f"unix://{self.folder}/nothing.sock",
                "PYTHONPATH": str(run_registry.REPOSITORY),
            },
            capture_output=True,
            text=True,
            check=False,
            # No terminal: nobody can be asked for a password.
            start_new_session=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    @property
    def ran(self) -> list[str]:
        """What was asked of apt, in order, and how."""
        return [line for line in self._notes.read_text().splitlines() if "apt-" in line]


@pytest.fixture
def poor() -> Iterator[_Poor]:
    """With what a fresh machine has, and Terraform."""
    # Not in the test's own folder, which is for this user's eyes alone.
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        user = _Poor(Path(folder))
        user.has("git", "ssh", "terraform", "apt-get")
        yield user


@pytest.mark.parametrize(
    ("release", "wanted"),
    [
        ("debian 13", f"{_ENGINE} docker-cli docker-compose mmdebstrap debian-archive-keyring"),
        ("ubuntu 24.04", f"{_ENGINE} docker-compose-v2 mmdebstrap debian-archive-keyring"),
    ],
)
def test_without_docker_and_without_root_the_one_command_that_helps_is_named(
    poor: _Poor, release: str, wanted: str
) -> None:
    code, message, hint = poor.ensure(release)
    assert (code, hint) == ("4", f"run as root: {_APT_GET} {wanted}")
    assert "missing here: Docker Engine, Docker's client, Docker Compose 2, mmdebstrap" in message
    assert "there is no sudo" in message
    assert poor.ran == []


def test_where_no_package_has_compose_its_place_is_named_beside_the_command(poor: _Poor) -> None:
    code, _, hint = poor.ensure("debian 12")
    assert code == "4"
    assert f"{_APT_GET} {_ENGINE} mmdebstrap debian-archive-keyring; then put Docker Compose 2 at /usr/local" in hint


def test_a_sudo_that_says_no_is_refused_before_anything_is_changed(poor: _Poor) -> None:
    poor.has("sudo", code=1)
    code, message, hint = poor.ensure("debian 13")
    assert (code, hint.split(" docker.io")[0]) == ("4", f"run as root: {_APT_GET}")
    assert "sudo does not permit it to this user" in message
    assert poor.ran == []


def test_a_missing_terraform_is_named_with_the_rest(poor: _Poor) -> None:
    poor.lacks("terraform")
    code, message, hint = poor.ensure("ubuntu 24.04")
    assert code == "4"
    assert "Docker Engine" in message
    assert "Terraform" in message
    assert hint.startswith(f"run as root: {_APT_GET} {_ENGINE}")
    assert "then install Terraform 1.11 or newer: https://" in hint


def test_a_missing_terraform_is_refused_before_docker_is_installed(poor: _Poor) -> None:
    poor.has("sudo")
    poor.lacks("terraform")
    code, message, hint = poor.ensure("debian 13")
    assert (code, message) == ("4", "terraform is not installed, and the distribution does not package it")
    assert hint.startswith("install Terraform 1.11 or newer: https://")
    assert poor.ran == []


def test_apt_s_lists_are_fetched_before_they_are_asked_and_all_is_installed_at_once(poor: _Poor) -> None:
    """On a release that no table knows, whose lists are empty at first."""
    poor.has("sudo", "setsid")
    offer = 'printf "Package: docker-compose-v2\\nVersion: 2.40.3\\n"'
    poor.has("apt-cache", doing=f"/bin/grep -q 'apt-get update' {poor.folder}/notes && {offer}")
    code, message, _ = poor.ensure("ubuntu 26.04")
    assert (code, message) == ("7", "the Docker engine does not start")
    before, update, asked, install = poor.ran
    assert before == asked == "apt-cache show --no-all-versions docker-cli docker-compose-v2 docker-compose"
    assert update == "sudo env LC_ALL=C apt-get update -q"
    assert "-o DPkg::Lock::Timeout=300 install" in install
    assert install.endswith(f" {_ENGINE} docker-compose-v2 mmdebstrap debian-archive-keyring")


def test_the_lock_on_apt_s_lists_is_waited_for_and_no_other_failure_is(poor: _Poor) -> None:
    """As a first boot holds it; apt's own option to wait does not hold for this one."""
    held, offline = "E: Could not get lock /var/lib/apt/lists/lock.", "E: Failed to fetch"
    answers = f"if [ $(/bin/grep -c update {poor.folder}/notes) -lt 3 ]; then echo '{held}'; else echo '{offline}'; fi"
    poor.has("sudo", doing=f"case $* in *update*) {answers}; exit 100;; esac")
    code, message, *_ = poor.ensure("debian 13")
    assert (code, message) == ("7", "sudo env LC_ALL=C apt-get update -q failed:")
    assert len(poor.ran) == 3


def test_an_unreachable_host_is_unavailable_soon(tmp_path: Path) -> None:
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


def test_an_issuer_that_does_not_know_the_domain_refuses_in_words(
    place: Place, issuer: Acme, images: Mapping[str, str], tmp_path: Path
) -> None:
    (tmp_path / "authorities.pem").write_text(issuer.authorities)
    argv = ["certonly", "--standalone", "--non-interactive", "--agree-tos", "--email", "a@gitea.test"]
    argv += ["--server", issuer.directory, "--domain", "elsewhere.gitea.test"]
    container = place.client.containers.run(
        images["CERTBOT_IMAGE"],
        argv,
        network=place.network,
        labels={RUN_LABEL: place.run},
        environment={"REQUESTS_CA_BUNDLE": "/authorities.pem"},
        volumes={str(tmp_path / "authorities.pem"): {"bind": "/authorities.pem", "mode": "ro"}},
        detach=True,
    )
    ended = container.wait(timeout=60)["StatusCode"]
    said = container.logs().decode()
    container.remove(v=True)
    assert ended != 0
    assert "elsewhere.gitea.test" in said


@pytest.mark.parametrize(
    ("number", "code", "moment"),
    [(signal.SIGINT, 130, "raising the ground"), (signal.SIGTERM, 143, "the ground stands")],
)
def test_a_run_that_is_interrupted_leaves_nothing(
    docker_client: docker.DockerClient, tmp_path: Path, number: signal.Signals, code: int, moment: str
) -> None:
    environment = os.environ | {"PYTHONPATH": str(run_registry.REPOSITORY)}
    environment.pop("GATE_NOTE", None)
    argv = [sys.executable, "-u", "-m", "ground", "up"]
    with subprocess.Popen(
        argv, cwd=run_registry.REPOSITORY, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stderr
        said = []
        for line in process.stderr:
            said.append(line)
            if line.startswith(moment):
                # The whole group, as a terminal would.
                os.killpg(process.pid, number)
        process.wait(60)
    (name,) = {
        word for line in said if "raising the ground" in line for word in line.split() if word.startswith("ground-")
    }
    assert process.returncode == code, "".join(said)
    chosen = {"label": f"{RUN_LABEL}={name}"}
    assert docker_client.containers.list(all=True, filters=chosen) == []
    assert docker_client.networks.list(filters=chosen) == []
    assert docker_client.volumes.list(filters=chosen) == []
    assert not (run_registry.RUNS / name).exists()


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
def test_an_interrupt_that_comes_inside_a_callback_of_the_interpreter_s_own_is_not_lost(number: str, code: int) -> None:
    argv = [sys.executable, "-c", _INSIDE_A_CALLBACK, number]
    environment = os.environ | {"PYTHONPATH": str(run_registry.REPOSITORY)}
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == code, done.stderr


_A_PLAYBOOK = """
- hosts: all
  gather_facts: false
  tasks:
    - name: Work for long
      ansible.builtin.command: {argv: [sleep, "{{ seconds }}"]}
"""
_A_REFUSAL = """
- hosts: all
  gather_facts: false
  tasks:
    - name: Refuse it
      ansible.builtin.assert: {that: seconds == 0, fail_msg: "{{ 'no ' * 2000 }}seconds: take 0", quiet: true}
"""
_A_VERB = """
- hosts: all
  gather_facts: false
  tasks:
    - name: Write
      ansible.builtin.copy: {content: "", dest: "{{ place }}/written", mode: "0600"}
    - name: Have each
      ansible.builtin.command: {argv: "{{ item }}"}
      loop: [[echo, well], [ops, certs, renew]]
      environment: {PATH: "{{ place }}:/usr/bin:/bin"}
"""
_IN_A_PLAYBOOK = """
import os, signal, sys
from pathlib import Path
from ops.world.ansible import play
from ops.world.process import interrupt_code, signals_unwind
place, number, when = Path(sys.argv[1]), signal.Signals[sys.argv[2]], sys.argv[3]
host = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
wish = {"seconds": "30.31" if when == "during" else "0"}
handlers = lambda: [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
try:
    with signals_unwind():
        before = handlers()
        try:
            play(place, "one.yml", state=place / "state", host=host, variables=wish, tell=lambda said: print(said, flush=True))
        finally:
            assert handlers() == before
        os.kill(os.getpid(), number)
except KeyboardInterrupt as interrupt:
    sys.exit(interrupt_code(interrupt))
"""


def _until(ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not ready():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _processes_of(place: Path) -> set[str]:
    """The command lines of what runs on behalf of the playbook in ``place``."""
    found = set()
    for each in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            told = (each / "environ").read_bytes().decode(errors="replace")
            if f"ANSIBLE_CONFIG={place}" in told:
                found.add((each / "cmdline").read_bytes().decode(errors="replace").replace("\0", " "))
    return found


@pytest.mark.parametrize(
    ("when", "number", "code"), [("during", "SIGINT", 130), ("during", "SIGTERM", 143), ("after", "SIGINT", 130)]
)
def test_an_interrupt_ends_a_playbook_with_all_its_processes_and_is_heard_after_one(
    tmp_path: Path, when: str, number: str, code: int
) -> None:
    (tmp_path / "one.yml").write_text(_A_PLAYBOOK)
    argv = [sys.executable, "-c", _IN_A_PLAYBOOK, str(tmp_path), number, when]
    environment = os.environ | {"PYTHONPATH": str(run_registry.REPOSITORY)}
    with subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        for line in process.stdout:
            if when == "during" and "Work for long" in line:
                _until(lambda: any("sleep 30.31" in each for each in _processes_of(tmp_path)))
                process.send_signal(signal.Signals[number])
        process.wait(20)
    assert process.returncode == code
    _until(lambda: not _processes_of(tmp_path))


def _play(place: Path, playbook: str) -> OpsError:
    (place / "one.yml").write_text(playbook)
    host = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    with pytest.raises(OpsError) as caught:
        play(
            place,
            "one.yml",
            state=place / "state",
            host=host,
            variables={"seconds": 1, "place": str(place)},
            tell=print,
        )
    return caught.value


def test_what_a_playbook_refuses_is_a_refusal_with_all_its_words(tmp_path: Path) -> None:
    refused = _play(tmp_path, _A_REFUSAL)
    assert isinstance(refused, Refused)
    assert refused.message == "no " * 2000 + "seconds: take 0"


def test_a_verb_that_finds_something_out_of_reach_on_the_host_ends_the_playbook_with_its_own_code(
    tmp_path: Path,
) -> None:
    (tmp_path / "ops").write_text(
        """#!/bin/sh\necho '{"next": "ask again"}'; echo 'certbot: no answer' >&2; exit 7\n"""
    )
    (tmp_path / "ops").chmod(0o700)
    away = _play(tmp_path, _A_VERB)
    assert isinstance(away, Unavailable)
    assert away.hint == "ask again"
    assert "certbot: no answer" in away.message
    assert away.left_as == "the host keeps 2 change(s) that the playbook made before the failure"


def test_an_image_set_that_is_not_known_is_refused() -> None:
    done = _command("ground", "up", IMAGE_SET="some")
    assert done.returncode == 2
    assert "auto, hermetic or upstream" in done.stderr


def test_a_base_image_without_a_mirror_names_the_variable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from ground import base_images

    monkeypatch.setattr(base_images, "_APT", tmp_path)
    monkeypatch.delenv("GROUND_DEBIAN_MIRROR", raising=False)
    with pytest.raises(Refused) as caught:
        base_images.debian_mirror()
    assert "GROUND_DEBIAN_MIRROR" in caught.value.hint
