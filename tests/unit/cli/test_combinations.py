"""An option without effect in its combination is refused: the message names both options, and nothing runs."""

from __future__ import annotations

import json

import pytest

from ops.cli import arguments, combinations, main
from ops.errors import ConfigError


def _refused(capsys: pytest.CaptureFixture[str], command: str) -> str:
    with pytest.raises(SystemExit) as ended:
        main.main([*command.split(), "--json"])
    document = json.loads(capsys.readouterr().out)
    assert (ended.value.code, document["exit_code"], document["left_as"]) == (2, 2, "nothing was changed")
    assert "give " in document["next"] or "leave out " in document["next"]
    return str(document["summary"])


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("restore --when-due", "--when-due has no effect without --drill"),
        ("restore --accept", "--accept has no effect without --drill"),
        ("restore --dry-run --when-due", "--when-due has no effect with --dry-run"),
        ("restore 20261124T041500Z --drill", "BACKUP has no effect with --drill"),
        ("restore --drill --at 2026-11-24", "--at has no effect with --drill"),
        ("restore --drill --repository a/b", "--repository has no effect with --drill"),
        ("restore --drill --full-copy", "--full-copy has no effect with --drill"),
        ("restore --resume --from-wal", "--from-wal has no effect with --resume"),
        ("restore 20261124T041500Z --resume", "BACKUP has no effect with --resume"),
        ("restore --export-secret-key --newest-database", "--newest-database has no effect with --export-secret-key"),
        ("restore 20261124T041500Z --at 2026-11-24", "--at has no effect with BACKUP"),
        ("restore --repository a/b --full-copy", "--full-copy has no effect with --repository"),
        ("restore --repository a/b --from-wal", "--from-wal has no effect with --repository"),
        ("restore --repository a/b --newest-database --dry-run", "--newest-database has no effect with --repository"),
        ("update --to 28.1.0", "--to has no effect without SERVICE"),
        ("update gitea --check", "SERVICE has no effect with --check"),
        ("update --check --without-drill", "--without-drill has no effect with --check"),
        ("update gitea --resume", "SERVICE has no effect with --resume"),
        ("update --resume --accept-loss issue", "--accept-loss has no effect with --resume"),
        ("update gitea --to 28.1.0 --automatic", "--to has no effect with --automatic"),
        ("update history --check", "--check has no effect with history"),
        ("update history --automatic", "--automatic has no effect with history"),
        ("update history --to 28.1.0", "--to has no effect with history"),
        ("deploy --dry-run --session-manager", "--session-manager has no effect with --dry-run"),
        ("deploy --check --session-manager", "--session-manager has no effect with --check"),
    ],
)
def test_an_option_without_effect_is_refused_and_both_are_named(
    command: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _refused(capsys, command) == message


@pytest.mark.parametrize(
    "command",
    [
        "restore --drill --when-due --accept",
        "restore --at 2026-11-24 --from-wal --full-copy --dry-run",
        "restore 20261124T041500Z --newest-database --yes",
        "restore 20261124T041500Z --export-secret-key",
        "restore --at 2026-11-24 --export-secret-key",
        "restore --repository a/b --at 2026-11-24 --dry-run",
        # Consent may be given where no question is asked: scripts append it to every command.
        "restore --resume --yes",
        "update --resume --yes",
        "update --automatic --yes",
        "update gitea --automatic --without-drill",
        "update gitea --to 28.1.0 --accept-loss issue --dry-run",
        "update history",
        "update --check",
        "deploy --replace-host --session-manager --yes",
        "deploy --dry-run --yes",
        "destroy --with-backups --without-verified-backup",
        "health --address 192.0.2.9",
        "gate status",
    ],
)
def test_options_that_have_an_effect_together_raise_nothing(command: str) -> None:
    combinations.require(arguments.parser().parse_args(command.split()))


def test_every_option_of_a_verb_with_modes_is_in_a_mode_or_given_anywhere() -> None:
    (verbs,) = (each.choices for each in arguments.parser()._actions if each.dest == "command")
    assert isinstance(verbs, dict)
    for name, modes in combinations.MODES.items():
        options = {each.dest for each in verbs[name]._actions} - {"help", "site", "json", "yes", *modes}
        assert options == set().union(*modes.values()), name


def test_the_first_option_without_effect_is_named_with_a_way_out() -> None:
    with pytest.raises(ConfigError) as caught:
        combinations.require(arguments.parser().parse_args(["restore", "--when-due"]))
    assert caught.value.hint == "give --drill, or leave out --when-due"
    with pytest.raises(ConfigError) as caught:
        combinations.require(arguments.parser().parse_args(["restore", "--drill", "--at", "2026-11-24"]))
    assert caught.value.hint == "leave out --at or --drill"
