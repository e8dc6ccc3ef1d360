"""A notice is mailed to the operator, and a failure to send it raises nothing."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from ops.cli import main
from ops.model import Report
from ops.stack import notify
from ops.world import World
from tests.support import fakes

STORED = json.dumps({"username": "AKIASTORED", "password": "in-secrets-manager"})


def _world(mail: fakes.FakeMail | None = None) -> fakes.FakeWorld:
    return fakes.FakeWorld(aws=fakes.FakeAws({"test/smtp-credentials": STORED}), mail=mail or fakes.FakeMail())


def _notify(world: fakes.FakeWorld, directory: Path, subject: str = "a subject", text: str = "a text") -> Report:
    return notify.notify(fakes.site(), world, subject=subject, text=text, directory=directory)  # type: ignore[arg-type]


def test_the_contact_gets_a_mail_from_the_site_s_sender(tmp_path: Path) -> None:
    world = _world()
    assert _notify(world, tmp_path).exit_code == 0
    wanted = fakes.Letter("AKIASTORED", "gitea@example.org", "keeper@example.org", "[test] a subject", "a text")
    assert world.mail.taken == [wanted]


def test_the_host_s_own_credentials_are_used_first_and_work_while_aws_is_out_of_reach(tmp_path: Path) -> None:
    (tmp_path / "smtp-username").write_text("AKIAFILED")
    (tmp_path / "smtp-password").write_text("in-a-file")
    world = _world(fakes.FakeMail(lambda credentials: credentials.password.reveal() == "in-a-file"))
    world.aws.secrets.clear()
    assert _notify(world, tmp_path).exit_code == 0
    assert world.mail.taken[0].username == "AKIAFILED"


@pytest.mark.parametrize(
    "mail", [fakes.FakeMail(None), fakes.FakeMail(lambda _: False)], ids=["out of reach", "refusing"]
)
def test_a_mail_that_cannot_be_sent_is_reported_and_raises_nothing(mail: fakes.FakeMail, tmp_path: Path) -> None:
    world = _world(mail)
    report = _notify(world, tmp_path)
    assert (report.exit_code, report.changed) == (3, False)
    assert world.progress == [
        f"no mail was sent to keeper@example.org: {report.summary.removeprefix('no mail was sent: ')}"
    ]


def test_missing_credentials_are_reported_and_raise_nothing(tmp_path: Path) -> None:
    world = _world()
    world.aws.secrets.clear()
    assert _notify(world, tmp_path).exit_code == 3
    assert "smtp-credentials" in world.progress[0]


def test_a_subject_is_one_line_whatever_the_unit_s_name() -> None:
    assert (
        notify.subject_from("test", "backup\nBcc: everyone@example.org ") == "[test] backup Bcc: everyone@example.org"
    )
    assert len(notify.subject_from("test", "x" * 500)) == 200


def test_a_long_text_is_cut_to_its_end() -> None:
    cut = notify.text_from("x" * 200_000 + "the reason")
    assert cut.startswith("[...]\n")
    assert cut.endswith("the reason")
    assert len(cut) < 110_000


def test_the_command_reads_the_text_from_its_standard_input(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    received: dict[str, str] = {}

    def record(_site: object, _world: World, *, subject: str, text: str) -> Report:
        received.update(subject=subject, text=text)
        return Report("notify", False, "no mail was sent: away", exit_code=3)

    monkeypatch.setenv("OPS_IMAGE", "gitea-suite/ops:1")
    monkeypatch.setattr(notify, "notify", record)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"last words\xc3")))
    example = Path(__file__).parents[3] / "sites/production.example.toml"
    with pytest.raises(SystemExit) as ended:
        main.main(["notify", "backup failed", "--site", str(example)])
    assert ended.value.code == 3
    assert received == {"subject": "backup failed", "text": "last words\ufffd"}
    assert capsys.readouterr().out == "no mail was sent: away\n"
