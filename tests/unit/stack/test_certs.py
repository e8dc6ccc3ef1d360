"""A certificate is issued, renewed when due, and nginx is reloaded only when it changed."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ops.errors import Degraded, OpsError, Unavailable
from ops.model import Report
from ops.stack import certificate_files, certs
from ops.stack.certificate_files import CertificateFiles
from ops.world.containers import Ran
from ops.world.process import Finished
from tests.support import fakes

DOMAIN = "git.example.org"


def _world(
    certbot: Callable[[Sequence[str]], Finished], nginx: Callable[[Sequence[str]], Ran] = lambda _: Ran(0, "")
) -> fakes.FakeWorld:
    return fakes.FakeWorld(
        processes=fakes.FakeProcesses(certbot), containers=fakes.FakeContainers(answers={"nginx": nginx})
    )


def _renew(world: Any, folder: Path) -> Report:
    return certs.renew(fakes.site(), world, live=folder / "live", compose=folder)


def _writes(folder: Path, content: str) -> Callable[[Sequence[str]], Finished]:
    """certbot that stores an issue with this fullchain.pem, unless the newest one has it already."""

    def certbot(argv: Sequence[str]) -> Finished:
        present = folder / "live" / DOMAIN / "fullchain.pem"
        if not present.exists() or present.read_text() != content:
            issue(folder, DOMAIN, fullchain=content)
        return Finished(0, "")

    return certbot


def issue(folder: Path, name: str, *, fullchain: str = "", age: timedelta = timedelta(0)) -> int:
    """Store one more issue as certbot does: numbered files in the archive, links in live, and the settings."""
    archive, live = folder / "archive" / name, folder / "live" / name
    archive.mkdir(parents=True, exist_ok=True)
    live.mkdir(parents=True, exist_ok=True)
    number = len(list(archive.glob("cert*.pem"))) + 1
    certificate = made(age)
    for kind in certificate_files.KINDS:
        text = fullchain if kind == "fullchain" and fullchain else f"{kind} {number} of {name}"
        (archive / f"{kind}{number}.pem").write_bytes(certificate if kind == "cert" else text.encode())
        (live / f"{kind}.pem").unlink(missing_ok=True)
        (live / f"{kind}.pem").symlink_to(f"../../archive/{name}/{kind}{number}.pem")
    (folder / "renewal").mkdir(exist_ok=True)
    settings = folder / "renewal" / f"{name}.conf"
    if not settings.exists():
        paths = [f"{kind} = /etc/letsencrypt/live/{name}/{kind}.pem" for kind in certificate_files.KINDS]
        head = ["version = 5.8.0", f"archive_dir = /etc/letsencrypt/archive/{name}", *paths]
        issuer = fakes.site().tls.acme_directory
        settings.write_text("\n".join([*head, "[renewalparams]", "account = abc", f"server = {issuer}", ""]))
    return number


def made(age: timedelta) -> bytes:
    """A certificate that was issued this long ago."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([])
    since = datetime(2026, 11, 20, tzinfo=UTC) - age
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(since)
        .not_valid_after(since + timedelta(days=90))
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )


def with_copies(folder: Path) -> None:
    """Replace the links in live by copies, as a copying program does that follows links."""
    for link in (folder / "live" / DOMAIN).iterdir():
        content = link.read_bytes()
        link.unlink()
        link.write_bytes(content)


def served(folder: Path) -> str:
    """What nginx reads."""
    return (folder / "live" / DOMAIN / "fullchain.pem").read_text()


def not_due(_: Sequence[str]) -> Finished:
    """certbot that finds a certificate that is not due."""
    return Finished(0, "Certificate not yet due for renewal")


def test_the_first_certificate_switches_nginx_to_tls_and_reloads_it(tmp_path: Path) -> None:
    world = _world(_writes(tmp_path, "first"))
    assert _renew(world, tmp_path).changed is True
    assert [argv[-1] for _, argv, _ in world.containers.executed] == [
        "/docker-entrypoint.d/40-select-stage.sh",
        "-t",
        "reload",
    ]


def test_a_certificate_that_is_not_due_leaves_nginx_alone(tmp_path: Path) -> None:
    _renew(_world(_writes(tmp_path, "same")), tmp_path)
    world = _world(_writes(tmp_path, "same"))
    assert _renew(world, tmp_path).changed is False
    assert world.containers.executed == []


def test_an_issuer_that_refuses_is_reported_with_certbot_s_output_and_nginx_is_not_reloaded(tmp_path: Path) -> None:
    world = _world(lambda _: Finished(1, "log\nDetail: no valid A records found\n"))
    with pytest.raises(Unavailable, match="no valid A records found"):
        _renew(world, tmp_path)
    assert world.containers.executed == []


def test_nginx_is_not_reloaded_with_an_invalid_configuration(tmp_path: Path) -> None:
    world = _world(_writes(tmp_path, "new"), lambda argv: Ran(int("-t" in argv), "emerg"))
    with pytest.raises(OpsError, match="emerg"):
        _renew(world, tmp_path)
    assert all("reload" not in argv for _, argv, _ in world.containers.executed)


def test_the_next_run_repeats_a_failed_reload_although_no_renewal_is_due(tmp_path: Path) -> None:
    with pytest.raises(OpsError, match="emerg"):
        _renew(_world(_writes(tmp_path, "new"), lambda argv: Ran(int("-t" in argv), "emerg")), tmp_path)
    world = _world(_writes(tmp_path, "new"))
    assert _renew(world, tmp_path).changed is True
    assert [argv[-1] for _, argv, _ in world.containers.executed][-1] == "reload"
    assert _renew(_world(_writes(tmp_path, "new")), tmp_path).changed is False


def test_a_certificate_of_another_issuer_is_replaced_at_once(tmp_path: Path) -> None:
    issue(tmp_path, DOMAIN)
    settings = tmp_path / "renewal/git.example.org.conf"
    ours, other = fakes.site().tls.acme_directory, "https://acme-staging-v02.api.letsencrypt.org/directory"
    for server, requested in ((other, {"CERTBOT_WHEN": "--force-renewal"}), (ours, {})):
        settings.write_text(settings.read_text().replace(ours, server).replace(other, server))
        world = _world(_writes(tmp_path, server))
        _renew(world, tmp_path)
        assert world.processes.given == [requested]


def test_links_that_were_replaced_by_files_become_links_again_before_certbot_runs(tmp_path: Path) -> None:
    issue(tmp_path, DOMAIN, fullchain="first", age=timedelta(days=60))
    _renew(_world(not_due), tmp_path)
    with_copies(tmp_path)

    def certbot(_: Sequence[str]) -> Finished:
        assert CertificateFiles(tmp_path, DOMAIN).problems() == []
        return not_due(())

    report = _renew(_world(certbot), tmp_path)
    assert report.summary == "certbot's files were repaired; the certificate is not due yet"
    assert served(tmp_path) == "first"
    # A hand-made certificate is not lost.
    assert (tmp_path / certificate_files.REPLACED / DOMAIN / "fullchain.pem").read_text() == "first"
    assert _renew(_world(not_due), tmp_path).changed is False


def test_the_newest_of_certbot_s_duplicates_is_served_and_renewed_from_then_on(tmp_path: Path) -> None:
    issue(tmp_path, DOMAIN, fullchain="served", age=timedelta(days=80))
    for number, age in ((1, 50), (2, 20), (3, 30)):
        issue(tmp_path, f"{DOMAIN}-000{number}", fullchain=f"duplicate {number}", age=timedelta(days=age))
    with_copies(tmp_path)
    world = _world(not_due, lambda _: Ran(0, ""))
    report = _renew(world, tmp_path)
    assert report.summary == "certbot's files were repaired; the certificate changed, nginx was reloaded"
    assert served(tmp_path) == "duplicate 2"
    assert (tmp_path / "live" / DOMAIN / "privkey.pem").read_text() == f"privkey 1 of {DOMAIN}-0002"
    assert sorted(path.name for part in ("renewal", "live", "archive") for path in (tmp_path / part).iterdir()) == [
        DOMAIN,
        DOMAIN,
        f"{DOMAIN}.conf",
    ]
    assert _renew(_world(not_due), tmp_path).summary == "the certificate is not due yet"


def test_settings_that_were_lost_are_taken_from_a_duplicate_under_the_certificate_s_name(tmp_path: Path) -> None:
    issue(tmp_path, DOMAIN)
    issue(tmp_path, f"{DOMAIN}-0001", fullchain="duplicate", age=-timedelta(days=1))
    (tmp_path / "renewal" / f"{DOMAIN}.conf").write_text("")
    _renew(_world(not_due), tmp_path)
    settings = (tmp_path / "renewal" / f"{DOMAIN}.conf").read_text()
    assert f"archive_dir = /etc/letsencrypt/archive/{DOMAIN}\n" in settings
    assert f"fullchain = /etc/letsencrypt/live/{DOMAIN}/fullchain.pem\n" in settings
    assert f"{DOMAIN}-0001" not in settings
    assert served(tmp_path) == "duplicate"


def test_links_to_an_older_issue_lead_to_the_newest_complete_one(tmp_path: Path) -> None:
    issue(tmp_path, DOMAIN, fullchain="old")
    issue(tmp_path, DOMAIN, fullchain="new")
    issue(tmp_path, DOMAIN, fullchain="incomplete")
    (tmp_path / "archive" / DOMAIN / "privkey3.pem").unlink()
    _renew(_world(not_due), tmp_path)
    assert served(tmp_path) == "new"


def test_a_certificate_that_certbot_stored_beside_the_served_one_is_taken_over_in_the_same_run(tmp_path: Path) -> None:
    issue(tmp_path, DOMAIN, fullchain="served", age=timedelta(days=80))

    def certbot(_: Sequence[str]) -> Finished:
        issue(tmp_path, f"{DOMAIN}-0001", fullchain="new")
        return Finished(0, "")

    report = _renew(_world(certbot, lambda _: Ran(0, "")), tmp_path)
    assert (report.changed, served(tmp_path)) == (True, "new")
    assert CertificateFiles(tmp_path, DOMAIN).duplicates() == []


def test_without_any_complete_issue_one_certificate_is_requested_and_not_another_within_a_week(tmp_path: Path) -> None:
    def lose() -> None:
        for path in (tmp_path / "archive" / DOMAIN).glob("privkey*.pem"):
            path.unlink()

    issue(tmp_path, DOMAIN, fullchain="first")
    lose()
    world = _world(_writes(tmp_path, "second"), lambda _: Ran(0, ""))
    assert _renew(world, tmp_path).changed is True
    assert (len(world.processes.ran), served(tmp_path)) == (1, "second")
    lose()
    refused = _world(_writes(tmp_path, "third"))
    with pytest.raises(Degraded, match="are broken again") as caught:
        _renew(refused, tmp_path)
    assert refused.processes.ran == []
    assert (caught.value.exit_code, caught.value.hint.startswith("find the program")) == (3, True)
    later = _world(_writes(tmp_path, "third"), lambda _: Ran(0, ""))
    later.clock.sleep(timedelta(days=8).total_seconds())
    assert _renew(later, tmp_path).changed is True


def test_an_issuer_that_refuses_leaves_the_files_that_nginx_reads(tmp_path: Path) -> None:
    issue(tmp_path, DOMAIN, fullchain="served")
    with_copies(tmp_path)
    (tmp_path / "archive" / DOMAIN / "cert1.pem").unlink()
    for _ in range(2):
        with pytest.raises(Unavailable, match="too many certificates"):
            _renew(_world(lambda _: Finished(1, "too many certificates already issued")), tmp_path)
        assert served(tmp_path) == "served"


def test_a_certbot_that_stores_nothing_is_no_success(tmp_path: Path) -> None:
    with pytest.raises(Degraded, match="without a certificate"):
        _renew(_world(not_due), tmp_path)


@pytest.mark.parametrize("steps", range(12))
def test_a_repair_that_is_cut_off_anywhere_is_completed_by_the_next_one(
    tmp_path: Path, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    issue(tmp_path, DOMAIN, fullchain="served", age=timedelta(days=80))
    issue(tmp_path, f"{DOMAIN}-0001", fullchain="new")
    with_copies(tmp_path)
    left = steps

    def cut(function: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any) -> Any:
            nonlocal left
            left -= 1
            if left < 0:
                raise KeyboardInterrupt
            return function(*arguments)

        return step

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", cut(Path.replace))
        patch.setattr(shutil, "copy2", cut(shutil.copy2))
        with pytest.raises(KeyboardInterrupt):
            _renew(_world(not_due), tmp_path)
    _renew(_world(not_due, lambda _: Ran(0, "")), tmp_path)
    assert served(tmp_path) == "new"
    assert CertificateFiles(tmp_path, DOMAIN).problems() == []
