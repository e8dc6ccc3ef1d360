"""The command line: stdout has only the result, and the exit code tells the state that the system was left in."""

from __future__ import annotations

import argparse
import io
import json
import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from ops import report
from ops.cli import arguments, main
from ops.deploy import deploy
from ops.errors import ConfigError, Degraded, Locked, OpsError, Refused, RolledBack, Stranded, Unavailable
from ops.model import Change, Report, Secret
from ops.secrets import rotate as secrets_rotate
from ops.secrets import setting_secrets
from ops.stack import health
from ops.world.process import Terminated, interrupt_code
from tests.support import fakes, ssh_keys

EXAMPLE = Path(__file__).parents[3] / "sites/production.example.toml"


def _main(*argv: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main.main(argv)
    return int(str(ended.value.code))


def _health_ends_with(monkeypatch: pytest.MonkeyPatch, outcome: Report | BaseException) -> int:
    def verb(*_: object) -> Report:
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    monkeypatch.setenv("OPS_IMAGE", "gitea-suite/ops:1")
    monkeypatch.setattr(health, "health", verb)
    return _main("health", "--site", str(EXAMPLE), "--json")


def test_a_valid_site_file_is_described(capsys: pytest.CaptureFixture[str]) -> None:
    assert _main("site", "--site", str(EXAMPLE)) == 0
    assert capsys.readouterr().out == "production: https://git.example.org/ in eu-central-1\n"


def test_a_setting_that_no_version_of_gitea_documents_is_warned_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "site.toml"
    key = f"{EXAMPLE.read_text()}\n[gitea.settings.ui]\nEXPLORE_PAGNG_NUM = 5\n"
    file.write_text(key)
    assert _main("site", "--site", str(file)) == 0
    warning = "warning: gitea.settings.ui.EXPLORE_PAGNG_NUM: Gitea 1.27 does not document it"
    assert f"{warning}; did you mean gitea.settings.ui.EXPLORE_PAGING_NUM?" in capsys.readouterr().out


def test_json_output_is_exactly_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    assert _main("site", "--site", str(EXAMPLE), "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["verb"], document["ok"], document["changed"], document["exit_code"]) == ("site", True, False, 0)


def test_a_verb_without_a_site_file_names_the_option_for_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPS_SITE", raising=False)
    assert _main("site") == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "next:  pass --site sites/production.toml" in captured.err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (OpsError("m", "h"), 1),
        (ConfigError("m", "h"), 2),
        (Degraded("m", "h"), 3),
        (Refused("m", "h"), 4),
        (RolledBack("m", "h"), 5),
        (Stranded("m", "h"), 6),
        (Unavailable("m", "h"), 7),
        (Locked("m", "h"), 8),
    ],
)
def test_each_error_has_its_exit_code_one_document_and_a_next_step(
    error: OpsError, code: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _health_ends_with(monkeypatch, error) == code
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    assert document == {
        "verb": "health",
        "ok": False,
        "changed": False,
        "exit_code": code,
        "error": type(error).__name__,
        "summary": "m",
        "left_as": "",
        "next": "h",
    }
    assert captured.err == "error: m\nnext:  h\n"


def test_a_failing_report_ends_with_its_own_exit_code(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _health_ends_with(monkeypatch, Report("health", False, "1 of 8 probes are red", exit_code=3)) == 3
    assert json.loads(capsys.readouterr().out)["ok"] is False


def test_a_bug_ends_with_exit_code_1_a_traceback_on_stderr_and_one_document(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _health_ends_with(monkeypatch, ZeroDivisionError("by zero")) == 1
    captured = capsys.readouterr()
    assert json.loads(captured.out)["summary"] == "a bug: by zero"
    assert "Traceback" in captured.err


@pytest.mark.parametrize(
    ("interrupt", "code"),
    [(KeyboardInterrupt(), 130), (Terminated(signal.SIGTERM), 143), (Terminated(signal.SIGHUP), 129)],
)
def test_an_interrupt_ends_with_the_signal_s_exit_code(
    interrupt: KeyboardInterrupt, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert interrupt_code(interrupt) == code
    assert _health_ends_with(monkeypatch, interrupt) == code


def test_a_wrong_invocation_ends_with_exit_code_2_and_names_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert _main("health", "--adress", "1") == 2
    assert "error: unrecognized arguments: --adress 1\nnext:  run ops health --help\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("action", "own"),
    [
        ("backup take", {"--allow-empty-disk"}),
        ("backup list", set()),
        ("backup verify", set()),
        ("backup status", set()),
        ("backup stream", set()),
        ("backup unlock", set()),
        ("backup prune", {"--dry-run", "--yes"}),
        ("backup rewind", {"--at", "--dry-run", "--yes"}),
        ("secrets fetch", set()),
        ("secrets apply", {"--pending"}),
        ("secrets rotate", {"--yes"}),
        ("secrets rotate-smtp", {"--yes"}),
        ("secrets set", {"--yes"}),
        ("certs renew", set()),
        ("nginx replace", set()),
        ("haproxy replace", set()),
        ("stack recreate", {"--services"}),
        ("stack stop", set()),
        ("accounts ensure-admin", set()),
    ],
)
def test_an_action_s_help_has_its_own_options_alone_and_other_options_are_refused(
    action: str, own: set[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert _main(*action.split(), "--help") == 0
    shown = set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
    assert shown == {"--help", "--site", "--json", *own}
    given = ("--at", "2026-11-24") if action == "backup rewind" else ()
    for foreign in {"--allow-empty-disk", "--dry-run", "--yes"} - own:
        assert _main(*action.split(), *given, foreign) == 2
        message = f"error: unrecognized arguments: {foreign}\nnext:  run ops {action} --help\n"
        assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("backup --dry-run prune", "backup prune --dry-run"),
        ("backup --at 2026-11-24 --yes rewind", "backup rewind --at 2026-11-24 --yes"),
        ("backup --allow-empty-disk take", "backup take --allow-empty-disk"),
        ("backup --site list list", "backup list --site list"),
        ("backup --site=list --json list", "backup list --site=list --json"),
        ("secrets --pending set apply", "secrets apply --pending set"),
        ("secrets --yes rotate metrics-token", "secrets rotate metrics-token --yes"),
        ("certs --json renew", "certs renew --json"),
    ],
)
def test_options_before_an_action_are_taken_as_behind_it(before: str, after: str) -> None:
    parse = arguments.parser().parse_args
    assert parse(before.split()) == parse(after.split())


@pytest.mark.parametrize("verb", ["backup", "secrets", "certs", "nginx", "haproxy", "stack", "accounts", "gate"])
def test_a_verb_without_its_action_is_refused(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    for given in ((), ("--json",)):
        assert _main(verb, *given) == 2
        message = f"error: the following arguments are required: ACTION\nnext:  run ops {verb} --help\n"
        assert message in capsys.readouterr().err


def test_a_rewind_needs_its_time(capsys: pytest.CaptureFixture[str]) -> None:
    assert _main("backup", "rewind") == 2
    assert "the following arguments are required: --at" in capsys.readouterr().err


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def _rotation_ends(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, stdin: io.StringIO, *more: str
) -> tuple[int, list[str]]:
    site = tmp_path / "site.json"
    site.write_text(json.dumps(fakes.site_document(host={"ssh_key": "k", "address": "192.0.2.9"})))
    outputs = {"public_address": "", "instance_id": "", "data_volume_id": "", "backup_bucket": "", "secret_names": {}}
    (tmp_path / ".state/test").mkdir(parents=True)
    (tmp_path / ".state/test/outputs.json").write_text(json.dumps(outputs))
    rotated: list[str] = []

    def rotate(*_: object, name: str, lock: Path) -> Report:
        assert lock == tmp_path / ".state/test/deploy.lock"
        rotated.append(name)
        return Report("secrets", True, "done")

    monkeypatch.setattr(secrets_rotate, "rotate", rotate)
    monkeypatch.setattr("sys.stdin", stdin)
    return _main("secrets", "rotate", "metrics-token", "--site", str(site), *more), rotated


def test_a_rotation_prints_what_it_interrupts_and_starts_when_the_site_s_name_is_typed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _rotation_ends(monkeypatch, tmp_path, _Terminal("test\n")) == (0, ["metrics-token"])
    assert "Gitea is restarted; a client that reads /metrics needs the new token\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    "stdin", [_Terminal("yes\n"), _Terminal(""), io.StringIO("test\n")], ids=["yes", "end", "pipe"]
)
def test_a_rotation_without_confirmation_changes_nothing(
    stdin: io.StringIO, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _rotation_ends(monkeypatch, tmp_path, stdin) == (4, [])
    step = "run the command again and type test" if stdin.isatty() else "pass --yes to agree beforehand"
    assert f"left:  nothing was changed\nnext:  {step}\n" in capsys.readouterr().err


def test_a_rotation_with_yes_needs_no_confirmation(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert _rotation_ends(monkeypatch, tmp_path, io.StringIO(), "--yes") == (0, ["metrics-token"])


@pytest.mark.parametrize(("deployed", "more"), [(False, []), (True, ["--yes"])])
def test_a_setting_s_secret_is_read_from_standard_input_and_asks_on_a_deployed_site(
    deployed: bool, more: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = fakes.site_document(host={"ssh_key": "k", "address": "192.0.2.9"})
    document["gitea"]["settings"] = {"email.incoming": {"PASSWORD": "secret:imap"}}
    (tmp_path / "site.json").write_text(json.dumps(document))
    if deployed:
        outputs = {
            "public_address": "",
            "instance_id": "",
            "data_volume_id": "",
            "backup_bucket": "",
            "secret_names": {},
        }
        (tmp_path / ".state/test").mkdir(parents=True)
        (tmp_path / ".state/test/outputs.json").write_text(json.dumps(outputs))
    stored: list[tuple[str, str, bool]] = []

    def set_value(_: object, __: object, host: object, *, name: str, value: Secret, lock: Path) -> Report:
        assert lock == tmp_path / ".state/test/deploy.lock"
        stored.append((name, value.reveal(), host is not None))
        return Report("secrets", True, "done")

    monkeypatch.setattr(setting_secrets, "set_value", set_value)
    monkeypatch.setattr("sys.stdin", io.StringIO("the password\n"))
    assert _main("secrets", "set", "setting-imap", "--site", str(tmp_path / "site.json"), *more) == 0
    assert stored == [("setting-imap", "the password", deployed)]
    assert ("Gitea is restarted with the new value" in capsys.readouterr().err) is deployed


@pytest.mark.parametrize(("name", "code"), [("gitea-secret-key", 4), ("no-such-secret", 2), ("", 2)])
def test_a_secret_that_cannot_be_rotated_is_refused_before_the_confirmation(name: str, code: int) -> None:
    assert _main("secrets", "rotate", *filter(None, [name]), "--site", str(EXAMPLE)) == code


@pytest.mark.parametrize(("given", "options"), [((), []), (("--",), []), (("--", "--site", "x"), ["--site", "x"])])
def test_options_after_two_dashes_are_passed_to_the_stage(given: tuple[str, ...], options: list[str]) -> None:
    assert arguments.parser().parse_args(["gate", "run", "deploy-e2e", *given]).options == options


@pytest.mark.parametrize("action", [["status"], ["promote", "1.2.3"], ["run", "lint"]])
def test_the_gate_takes_json_before_and_after_its_action(action: list[str]) -> None:
    asked = (["--json", *action], [*action, "--json"], action)
    assert [arguments.parser().parse_args(["gate", *each]).json for each in asked] == [True, True, False]


def test_no_message_has_a_command_with_two_verbs() -> None:
    (verbs,) = (each.choices for each in arguments.parser()._actions if isinstance(each, argparse._SubParsersAction))
    named = [
        (path.name, *words)
        for path in sorted(Path(main.__file__).parents[1].rglob("*.py"))
        for words in re.findall(r"\bops ([a-z]+)(?: ([a-z]+))?", path.read_text(encoding="utf-8"))
    ]
    assert len(named) > 50
    # An argument follows a verb, never another verb.
    assert [each for each in named if each[1] in verbs and each[2] in verbs] == []


@pytest.mark.parametrize(
    ("verb", "old", "new"),
    [
        (["backup", "take"], "--begin-anew", "--allow-empty-disk"),
        (["restore"], "--fetch", "--full-copy"),
        (["restore"], "--from-log", "--from-wal"),
        (["restore"], "--secret-key", "--export-secret-key"),
    ],
)
def test_a_renamed_switch_keeps_its_old_spelling_and_the_help_shows_the_new_one(
    verb: list[str], old: str, new: str, capsys: pytest.CaptureFixture[str]
) -> None:
    parse = arguments.parser().parse_args
    assert parse([*verb, old]) == parse([*verb, new]) != parse(verb)
    with pytest.raises(SystemExit):
        parse([*verb, "--help"])
    shown = capsys.readouterr().out.split()
    assert new in shown or f"[{new}]" in shown
    assert not {old, f"[{old}]"} & {*shown}


def test_an_error_prints_the_state_left_behind_and_the_next_step_on_two_lines() -> None:
    error = OpsError("m", "run ops health", left_as="nothing was changed")
    assert report.failure_as_text(error) == "error: m\nleft:  nothing was changed\nnext:  run ops health"
    document = json.loads(report.failure_as_json("deploy", error))
    assert (document["left_as"], document["next"]) == ("nothing was changed", "run ops health")


def _deployment_ends(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, change: Change, *more: str) -> tuple[int, bool]:
    """Run ops deploy without a terminal with this change in Terraform's plan; return its code, and whether it went on."""
    site, applied = tmp_path / "site.json", list[Change]()
    site.write_text(json.dumps(fakes.site_document(host={"ssh_key": str(tmp_path / "key")})))
    for name, content in zip(("key", "key.pub"), ssh_keys.pair(), strict=True):
        (tmp_path / name).write_bytes(content)

    def planned(*_: object, agree: Callable[[tuple[Change, ...]], None], **__: object) -> Report:
        agree((change,))
        applied.append(change)
        return Report("deploy", True, "done")

    monkeypatch.setattr(deploy, "_deploy", planned)
    monkeypatch.setattr("sys.stdin", io.StringIO("test\n"))
    return _main("deploy", "--site", str(site), *more), bool(applied)


def test_a_deployment_that_replaces_something_needs_consent_and_without_it_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    replaced = Change("aws_vpc.site", "aws_vpc", "replace", ('cidr_block: "10.0.0.0/16" -> "10.1.0.0/16"',))
    assert _deployment_ends(monkeypatch, tmp_path, replaced) == (4, False)
    assert 'replace aws_vpc.site\n  cidr_block: "10.0.0.0/16" -> "10.1.0.0/16"\n' in capsys.readouterr().err
    assert _deployment_ends(monkeypatch, tmp_path, replaced, "--yes") == (0, True)


def test_a_deployment_that_only_adds_or_updates_asks_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for action in ("create", "update"):
        assert _deployment_ends(monkeypatch, tmp_path, Change("aws_x.y", "aws_x", action)) == (0, True)


def test_a_time_that_cannot_be_read_is_quoted_with_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    assert _main("restore", "--at", "foo") == 2
    assert "'foo' is not a time; give one such as 2026-11-24T04:30Z" in capsys.readouterr().err


def test_a_rotation_without_a_name_asks_for_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert _main("secrets", "rotate", "--site", str(EXAMPLE)) == 2
    assert "error: no secret was named\nnext:  name one of " in capsys.readouterr().err
