"""Each verb ends wrong files, standard input and secrets with exit code 2 to 8 and a message; a traceback is a bug."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from ops.cli import arguments, main, standard_input
from ops.cli.place import Place
from tests.support import fakes
from tests.support.ssh_keys import pair

VERBS = [
    "site", "deploy", "deploy --dry-run", "deploy --check", "deploy --replace-host", "destroy", "health",
    "health --address 192.0.2.1", "certs renew",
    "dashboards", "nginx replace", "haproxy replace", "stack recreate", "stack stop", "backup take", "backup list", "backup verify",
    "backup status", "backup stream", "backup prune", "backup rewind --at 2026-11-24T04:30Z", "restore", "restore --dry-run",
    "restore --drill", "restore --resume", "restore --export-secret-key", "restore --repository a/b", "update", "update --check",
    "update history", "update --resume", "rollback", "secrets fetch", "secrets apply", "secrets rotate metrics-token",
    "secrets rotate-smtp", "secrets set restic-password", "secrets set setting-imap", "settings apply", "settings apply --dry-run",
    "settings check", "settings resume", "accounts ensure-admin", "notify subject", "dashboards",
]  # fmt: skip
FILES = ["missing", "below a file", "loop", "long name", "folder", "pipe", "device", "empty", "huge", "latin", "utf-16",
         "mark", "nested", "numbers", "binary"]  # fmt: skip


def _no_line(folder: Path, kind: str) -> Path:
    """Return the path of a site file that is wrong in the given way."""
    path = folder / "site.toml"
    contents = {
        "empty": b"",
        "huge": b"#" * ((1 << 20) + 1),
        "latin": b'schema = 1\nname = "B\xfcro"\n',
        "utf-16": "schema = 1".encode("utf-16"),
        "mark": b"\xef\xbb\xbfschema = 1\n",
        "nested": b"a = " + b"[" * 50_000,
        "numbers": b"schema = 0x" + b"f" * 20_000,
        "binary": bytes(range(256)) * 16,
    }
    if kind in contents:
        path.write_bytes(contents[kind])
    elif kind == "below a file":
        (folder / "file").touch()
        path = folder / "file/site.toml"
    elif kind == "loop":
        path.symlink_to(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    return {"long name": folder / ("x" * 300), "device": Path("/dev/zero")}.get(kind, path)


# To build it takes longer than most of these tests.
PARSER = arguments.parser()


def _ended(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str]:
    """Run a verb in its place; return its exit code and the text on stderr, which is a message with a next step."""
    on_host = PARSER.parse_args(argv).place is Place.HOST
    with pytest.MonkeyPatch().context() as patch:
        patch.setenv("OPS_IMAGE", "gitea-suite/ops:1" if on_host else "")
        patch.setattr(main, "parser", lambda: PARSER)
        with pytest.raises(SystemExit) as ended:
            main.main([*argv, "--json"])
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    document = json.loads(captured.out)
    assert document["next"]
    assert 2 <= document["exit_code"] <= 8
    return int(str(ended.value.code)), captured.err


def test_every_verb_is_fed() -> None:
    (verbs,) = (each for each in PARSER._actions if each.dest == "command")
    assert {line.split()[0] for line in VERBS} == set(verbs.choices or ()) - {"gate"}


@pytest.mark.parametrize("verb", VERBS)
def test_a_wrong_site_file_is_exit_2_with_a_message(
    verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for kind in FILES:
        folder = tmp_path / kind
        folder.mkdir()
        code, message = _ended(capsys, *verb.split(), "--site", str(_no_line(folder, kind)))
        assert (
            code,
            kind in {"empty", "numbers"} or str(folder) in message or "site.toml" in message or "/dev/" in message,
        ) == (2, True)


@pytest.fixture
def site_file(tmp_path: Path) -> Path:
    return _site_file(tmp_path, {})


def _site_file(folder: Path, host: dict[str, Any], **changes: Any) -> Path:
    path = folder / "site.toml"
    document = fakes.site_document(host={"ssh_key": str(folder / "key"), **host}, **changes)
    path.write_text(tomli_w.dumps(document))
    return path


GOOD, PUBLIC = pair()
KEYS = [
    ("of another type", *pair(b"ssh-rsa"), "type ssh-rsa"),
    ("with a passphrase", *pair(cipher=b"aes256-ctr"), "passphrase"),
    ("of another format", b"-----BEGIN RSA PRIVATE KEY-----\nAAAA\n", PUBLIC, "OpenSSH"),
    ("encrypted", b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n", PUBLIC, "encrypted"),
    ("damaged", GOOD[:60] + b"!" + GOOD[61:], PUBLIC, "damaged"),
    ("cut off", b"-----BEGIN OPENSSH PRIVATE KEY-----\nb3Bl\n-----END OPENSSH PRIVATE KEY-----\n", PUBLIC, "damaged"),
    ("empty", b"", PUBLIC, "OpenSSH"),
    ("huge", b"x" * ((1 << 20) + 1), PUBLIC, "larger than 1 MiB"),
    ("public of another type", GOOD, pair(b"ssh-rsa")[1], "ssh-ed25519"),
    ("public of another key", GOOD, b"ssh-ed25519 AAAA me\n", "belongs to another key"),
    ("public without a key", GOOD, b"ssh-ed25519 \n", "write it again"),
    ("public of two lines", GOOD, PUBLIC * 2, "one line"),
    ("public that is not text", GOOD, b"\xff\xfe", "plain UTF-8"),
]


@pytest.mark.parametrize(("private", "public", "named"), [each[1:] for each in KEYS], ids=[each[0] for each in KEYS])
def test_an_ssh_key_that_terraform_or_ssh_would_refuse_is_exit_2(
    private: bytes, public: bytes, named: str, site_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site_file.with_name("key").write_bytes(private)
    site_file.with_name("key.pub").write_bytes(public)
    for verb in ("site", "deploy --dry-run"):
        code, message = _ended(capsys, *verb.split(), "--site", str(site_file))
        assert code == 2
        assert "host.ssh_key" in message
        assert named in message


def test_a_good_ssh_key_and_a_missing_one_are_accepted(site_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        with pytest.raises(SystemExit) as ended:
            main.main(["site", "--site", str(site_file)])
        assert ended.value.code == 0, capsys.readouterr().err
        site_file.with_name("key").write_bytes(GOOD)
        site_file.with_name("key.pub").write_bytes(PUBLIC)


@pytest.mark.parametrize("kind", ["folder", "pipe"])
@pytest.mark.parametrize("name", ["key", "key.pub"])
def test_an_ssh_key_that_is_no_file_is_exit_2(
    name: str, kind: str, site_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site_file.with_name("key").write_bytes(GOOD)
    site_file.with_name("key.pub").write_bytes(PUBLIC)
    site_file.with_name(name).unlink()
    Path.mkdir(site_file.with_name(name)) if kind == "folder" else os.mkfifo(site_file.with_name(name))
    assert _ended(capsys, "site", "--site", str(site_file))[0] == 2


@pytest.mark.parametrize("path", ["~nonesuch-user/key", "x" * 5000])
def test_a_path_that_this_machine_cannot_have_is_exit_2(
    path: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, message = _ended(capsys, "site", "--site", str(_site_file(tmp_path, {"ssh_key": path})))
    assert (code, "host.ssh_key" in message) == (2, True)


@pytest.mark.parametrize(
    ("content", "named"),
    [(None, "cannot read tls.acme_ca"), (b"", "no certificates"), (b"\xff", "UTF-8"), ("ä".encode(), "no certificates"),
     (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "no certificates"), (b"x" * 2**21, "1 MiB")],
)  # fmt: skip
def test_a_wrong_file_of_the_issuer_s_certificates_is_exit_2_for_each_verb(
    content: bytes | None, named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    authority = tmp_path / "authority.pem"
    if content is not None:
        authority.write_bytes(content)
    site_file = _site_file(tmp_path, {}, tls={"acme_ca": str(authority)})
    for verb in ("site", "deploy --dry-run", "health", "notify subject"):
        code, message = _ended(capsys, *verb.split(), "--site", str(site_file))
        assert code == 2
        assert "tls.acme_ca" in message
        assert named in message


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff", b"[" * 50_000, b"x" * 2**21, None])
@pytest.mark.parametrize(
    "verb", ["secrets rotate metrics-token --yes", "secrets set restic-password --yes", "deploy", "backup prune"]
)
def test_a_damaged_state_of_the_deployment_is_exit_4(
    verb: str, content: bytes | None, site_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outputs = site_file.parent / ".state/test/outputs.json"
    outputs.parent.mkdir(parents=True)
    if content is None:
        outputs.mkdir()
    else:
        outputs.write_bytes(content)
    code, message = _ended(capsys, *verb.split(), "--site", str(site_file))
    assert (code, "outputs.json is damaged" in message) == (4, True)


@pytest.mark.parametrize("address", ["a" * 300, "a b", "http://a", "", "ä", "-x"])
def test_a_wrong_address_of_the_health_check_is_exit_2(
    address: str, site_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if address:
        assert _ended(capsys, "health", f"--address={address}", "--site", str(site_file))[0] == 2


INPUTS = [b"", b"\n", b"\xff\xfe\n", b"two words\n", b"x" * 70_000, b"a\tb\n", "a\u2028b\n".encode()]


@pytest.mark.parametrize("content", INPUTS, ids=range(len(INPUTS)))
def test_an_odd_secret_on_standard_input_is_exit_2(
    content: bytes, site_file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    outputs = dict.fromkeys(_OUTPUTS, "")
    (site_file.parent / ".state/test").mkdir(parents=True)
    (site_file.parent / ".state/test/outputs.json").write_text(json.dumps(outputs))
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content), encoding="utf-8"))
    assert _ended(capsys, "secrets", "set", "restic-password", "--yes", "--site", str(site_file))[0] == 2


def _outputs() -> Iterator[str]:
    from ops.model import Outputs

    yield from Outputs.__dataclass_fields__


_OUTPUTS = list(_outputs())


def test_only_the_end_of_a_long_standard_input_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"x" * 3_000_000 + b"end\xc3"), encoding="utf-8"))
    kept = standard_input.end()
    assert len(kept) == 1 << 20
    assert kept.endswith("end\ufffd")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_name_that_the_terminal_cannot_show_is_printed_escaped(
    encoding: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr("sys.stdout", shown)
    standard_input.tolerate()
    print("数据")
    shown.flush()
    assert b"\\u6570" in shown.buffer.getvalue()


def test_a_closed_standard_input_is_an_empty_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", None)
    standard_input.tolerate()
    with sys.stdin:
        assert standard_input.end() == ""
