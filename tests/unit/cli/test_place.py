"""Each verb runs in its place, the site's host or the deploying machine; in the other one a refusal has the real command."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from ops.cli import arguments, main, place
from ops.cli.place import Place
from ops.stack import health
from tests.support import fakes

ON_HOST = {
    "health", "certs renew", "nginx replace", "haproxy replace", "stack recreate", "stack stop", "backup take", "backup list", "backup verify", "backup status", "backup stream",
    "backup unlock", "restore", "update", "rollback", "secrets fetch", "secrets apply", "settings apply",
    "settings check", "settings resume", "accounts ensure-admin", "notify",
}  # fmt: skip
ON_THE_DEPLOYING_MACHINE = {
    "deploy", "destroy", "backup prune", "backup rewind", "secrets rotate", "secrets rotate-smtp", "secrets set",
    "gate status", "gate promote", "gate run",
}  # fmt: skip
UNITS = Path(__file__).parents[3] / "playbooks/roles"


def _leaves(
    parser: argparse.ArgumentParser, above: tuple[str, ...] = ()
) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    groups = [each for each in parser._actions if isinstance(each, argparse._SubParsersAction)]
    for group in groups:
        for name, verb in group.choices.items():
            yield from _leaves(verb, (*above, name))
    if not groups:
        yield " ".join(above), parser


@pytest.fixture
def site_file(tmp_path: Path) -> Path:
    return _site_file(tmp_path)


def _site_file(folder: Path, **changes: Any) -> Path:
    path = folder / "site.toml"
    path.write_text(tomli_w.dumps(fakes.site_document(**changes)))
    return path


def _refusal(capsys: pytest.CaptureFixture[str], *argv: str) -> dict[str, Any]:
    with pytest.raises(SystemExit) as ended:
        main.main([*argv, "--json"])
    captured = capsys.readouterr()
    document: dict[str, Any] = json.loads(captured.out)
    assert "Traceback" not in captured.err
    assert (ended.value.code, document["left_as"]) == (2, "nothing was changed")
    return document


def test_every_verb_has_its_place() -> None:
    places = {name: place.of(verb) for name, verb in _leaves(arguments.parser())}
    assert {name for name, found in places.items() if found is Place.HOST} == ON_HOST
    assert {name for name, found in places.items() if found is Place.DEPLOYING_MACHINE} == ON_THE_DEPLOYING_MACHINE
    assert {name for name, found in places.items() if found is Place.ANYWHERE} == {"dashboards", "site"}


@pytest.mark.parametrize(
    "verb",
    [*sorted(ON_HOST - {"notify"}), "notify subject", "restore --yes", "restore --resume", "restore --drill --when-due",
     "update gitea --to 28.1.0", "update --check", "update history", "update --automatic", "secrets apply --pending smtp"],
)  # fmt: skip
def test_a_verb_of_the_host_is_refused_on_another_machine_with_the_command_for_it(
    verb: str, site_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = _refusal(capsys, *verb.split(), "--site", str(site_file))
    name = next(each for each in sorted(ON_HOST, key=len, reverse=True) if verb.startswith(each))
    assert document["summary"] == f"ops {name} runs on the site's host, and this is another machine"
    assert f"run ssh -i keys/test ubuntu@git.example.org sudo ops {verb} --json" in document["next"]


@pytest.mark.parametrize(
    "verb",
    ["deploy", "destroy --yes", "backup prune --dry-run", "secrets rotate metrics-token", "secrets set restic-password",
     "gate status", "gate run unit"],
)  # fmt: skip
def test_a_verb_of_the_deploying_machine_is_refused_on_the_host(
    verb: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPS_IMAGE", "gitea-suite/ops:1")
    document = _refusal(capsys, *verb.split())
    name = next(each for each in ON_THE_DEPLOYING_MACHINE if verb.startswith(each))
    assert document["summary"] == f"ops {name} runs on the deploying machine, and this is the site's host"
    assert document["next"] == f"run ./noxw -s ops -- {verb} --json in the checkout on the deploying machine"


def test_the_command_for_the_host_keeps_the_options_asks_on_a_terminal_and_leaves_out_the_site_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    host = {"ssh_key": "~/my key", "address": "192.0.2.9", "ssh_port": 2200, "ssh_user": "admin"}
    file = _site_file(tmp_path, host=host)
    for given in ((f"--site={file}",), ("--site", str(file))):
        with pytest.raises(SystemExit):
            main.main(["restore", *given, "--repository", "a/b"])
        command = f"run ssh -t -i '{Path.home()}/my key' -p 2200 admin@192.0.2.9 sudo ops restore --repository a/b\n"
        assert command in capsys.readouterr().err


def test_an_argument_with_a_space_is_quoted_for_both_shells(
    site_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = _refusal(capsys, "notify", "it's late", "--site", str(site_file))
    quoted = """'sudo ops notify '"'"'it'"'"'"'"'"'"'"'"'s late'"'"' --json'"""
    assert document["next"] == f"run ssh -i keys/test ubuntu@git.example.org {quoted}"


def test_without_open_ssh_the_command_goes_through_session_manager(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = _site_file(tmp_path, network={"admin_cidrs": []})
    document = _refusal(capsys, "rollback", "--site", str(file))
    start = "run aws ssm start-session --region eu-central-1 --target INSTANCE_ID"
    outputs = tmp_path / ".state/test/outputs.json"
    assert document["next"] == f"{start} (instance_id in {outputs}), and on the host sudo ops rollback --json"


def test_without_a_site_file_the_refusal_says_where_to_run_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPS_SITE", raising=False)
    document = _refusal(capsys, "restore", "--yes")
    assert document["next"] == "connect to the site's host with ssh, and run sudo ops restore --yes --json there"


def test_health_runs_on_the_host_or_with_an_address_anywhere(
    site_file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _refusal(capsys, "health", "--site", str(site_file))["next"].endswith("; from here, give --address ADDRESS")
    monkeypatch.setattr(health, "health_from_outside", lambda *_, address: health.check_site([]))
    for image in ("", "gitea-suite/ops:1"):
        monkeypatch.setenv("OPS_IMAGE", image)
        with pytest.raises(SystemExit) as ended:
            main.main(["health", "--address", "192.0.2.9", "--site", str(site_file)])
        assert ended.value.code == 3


def test_the_wrapper_on_the_host_marks_its_runs_and_every_unit_s_verb_belongs_to_the_host() -> None:
    assert "--env OPS_IMAGE={{ ops_image_reference }}" in (UNITS / "ops/templates/ops.sh.j2").read_text()
    files = [*UNITS.rglob("*.j2"), UNITS / "ops/vars/main.yml"]
    written = "\n".join(each.read_text() for each in files)
    verbs = [
        *re.findall(r"/usr/local/bin/ops ([a-z][a-z -]+[a-z])", written),
        *re.findall(r"^    verb: (.+)$", written, re.MULTILINE),
    ]
    assert len(verbs) > 10
    assert [each for each in verbs if not each.startswith(tuple(ON_HOST))] == []
