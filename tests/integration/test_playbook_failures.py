"""A playbook that is interrupted, fails or falls silent is ended with its processes and reported with its reason."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from ground import run_registry
from ops.errors import OpsError, Refused, Unavailable
from ops.world.ansible import play

_SLOW_PLAYBOOK = """
- hosts: all
  gather_facts: false
  tasks:
    - name: Work for long
      ansible.builtin.command: {argv: [sleep, "{{ seconds }}"]}
"""
_ASSERTION = """
- hosts: all
  gather_facts: false
  tasks:
    - name: Refuse it
      ansible.builtin.assert: {that: seconds == 0, fail_msg: "{{ 'no ' * 2000 }}seconds: take 0", quiet: true}
"""
_VERB = """
- hosts: all
  gather_facts: false
  tasks:
    - name: Write
      ansible.builtin.copy: {content: "", dest: "{{ folder }}/written", mode: "0600"}
    - name: Have each
      ansible.builtin.command: {argv: "{{ item }}"}
      loop: [[echo, well], [ops, certs, renew]]
      environment: {PATH: "{{ folder }}:/usr/bin:/bin"}
"""
_PLAY_SCRIPT = """
import os, signal, sys
from pathlib import Path
from ops.world.ansible import play
from ops.world.process import interrupt_code, signals_unwind
folder, number, when = Path(sys.argv[1]), signal.Signals[sys.argv[2]], sys.argv[3]
host = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
requested = {"seconds": "30.31" if when == "during" else "0"}
handlers = lambda: [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
try:
    with signals_unwind():
        before = handlers()
        try:
            play(folder, "one.yml", state=folder / "state", host=host, variables=requested, tell=lambda line: print(line, flush=True))
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


def _processes_of(folder: Path) -> set[str]:
    """The command lines of the processes that the playbook in ``folder`` started."""
    found = set()
    for each in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            variables = (each / "environ").read_bytes().decode(errors="replace")
            if f"ANSIBLE_CONFIG={folder}" in variables:
                found.add((each / "cmdline").read_bytes().decode(errors="replace").replace("\0", " "))
    return found


@pytest.mark.parametrize(
    ("when", "number", "code"), [("during", "SIGINT", 130), ("during", "SIGTERM", 143), ("after", "SIGINT", 130)]
)
def test_an_interrupt_ends_a_playbook_with_all_its_processes_and_also_works_after_one(
    tmp_path: Path, when: str, number: str, code: int
) -> None:
    (tmp_path / "one.yml").write_text(_SLOW_PLAYBOOK)
    argv = [sys.executable, "-c", _PLAY_SCRIPT, str(tmp_path), number, when]
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


def _play(folder: Path, playbook: str) -> OpsError:
    (folder / "one.yml").write_text(playbook)
    host = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    with pytest.raises(OpsError) as caught:
        play(
            folder,
            "one.yml",
            state=folder / "state",
            host=host,
            variables={"seconds": 1, "folder": str(folder)},
            tell=print,
        )
    return caught.value


def test_a_failed_assertion_of_a_playbook_is_refused_with_its_whole_message(tmp_path: Path) -> None:
    refused = _play(tmp_path, _ASSERTION)
    assert isinstance(refused, Refused)
    assert refused.message == "no " * 2000 + "seconds: take 0"


def test_a_verb_that_exits_7_on_the_host_makes_the_playbook_unavailable_with_the_same_hint(
    tmp_path: Path,
) -> None:
    (tmp_path / "ops").write_text(
        """#!/bin/sh\necho '{"next": "ask again"}'; echo 'certbot: no answer' >&2; exit 7\n"""
    )
    (tmp_path / "ops").chmod(0o700)
    error = _play(tmp_path, _VERB)
    assert isinstance(error, Unavailable)
    assert error.hint == "ask again"
    assert "certbot: no answer" in error.message
    assert error.left_as == "the host keeps 2 change(s) that the playbook made before the failure"


def test_a_playbook_that_falls_silent_is_ended_with_its_processes_and_names_the_task(tmp_path: Path) -> None:
    (tmp_path / "one.yml").write_text(_SLOW_PLAYBOOK)
    host = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    progress: list[str] = []
    began = time.monotonic()
    with pytest.raises(Unavailable, match=r"no event for .* in task Work for long") as ended:
        play(
            tmp_path,
            "one.yml",
            state=tmp_path / "state",
            host=host,
            variables={"seconds": "300.31"},
            tell=progress.append,
            silence_seconds=5,
        )
    assert time.monotonic() - began < 60
    assert ended.value.exit_code == 7
    assert any("sleep 300.31" in line for line in progress)
    _until(lambda: not _processes_of(tmp_path))
