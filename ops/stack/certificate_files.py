"""certbot's files of one certificate: check them, and repair what makes certbot request another certificate in each run.

certbot knows a certificate by ``renewal/NAME.conf``, by links in ``live/NAME``, and by numbered files in ``archive/NAME`` ("Where
are my certificates?" in its User Guide). When a link is a file instead, certbot skips the certificate: each run requests
another one, stores it as ``NAME-0001``, ``NAME-0002`` and so on, and exits with 0. nginx goes on serving ``live/NAME``.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509

KINDS = ("cert", "chain", "fullchain", "privkey")
# What a repair replaces is kept here, one copy per certificate.
REPLACED = "replaced-by-ops"
_REQUIRED, _SINCE = "[renewalparams]", "since"


@dataclass(frozen=True)
class Issued:
    """One complete issue in an archive: its certificate's name for certbot, its number, and when it was issued."""

    name: str
    number: int
    since: datetime


@dataclass(frozen=True)
class CertificateFiles:
    """The files of the certificate ``name`` in certbot's folder."""

    folder: Path
    name: str

    @property
    def live(self) -> Path:
        """The folder from which nginx reads."""
        return self.folder / "live" / self.name

    @property
    def archive(self) -> Path:
        """The folder of all issues."""
        return self.folder / "archive" / self.name

    @property
    def settings(self) -> Path:
        """Certbot's settings of this certificate."""
        return self.folder / "renewal" / f"{self.name}.conf"

    @property
    def replaced(self) -> Path:
        """The folder with the files that the last repair replaced."""
        return self.folder / REPLACED / self.name

    def duplicates(self) -> list[CertificateFiles]:
        """Return the certificates that certbot stored beside this one, by number."""
        pattern = re.compile(rf"{re.escape(self.name)}-\d{{4}}")
        found = {path.name.removesuffix(".conf") for part in ("renewal", "live", "archive") for path in self._in(part)}
        return [CertificateFiles(self.folder, name) for name in sorted(found) if pattern.fullmatch(name)]

    def exists(self) -> bool:
        """Return whether certbot has any file of it."""
        return any(os.path.lexists(path) for path in (self.live, self.archive, self.settings))

    def problems(self) -> list[str]:
        """Return what is wrong with the files; an empty list when they are sound, or when there are none at all."""
        found = [f"{each.name} is a second certificate for the same domain" for each in self.duplicates()]
        if not self.exists():
            return found
        if not self.has_settings():
            found.append(f"{self.settings} is missing or incomplete")
        newest = self.newest()
        if newest is None:
            return [*found, f"{self.archive} has no complete certificate"]
        return [*found, *(problem for kind in KINDS for problem in self._link_problems(kind, newest.number))]

    def has_settings(self) -> bool:
        """Return whether certbot accepts the settings: it skips a certificate whose settings lack one of the four files."""
        if not self.settings.is_file():
            return False
        text = self.settings.read_text(encoding="utf-8", errors="replace")
        return _REQUIRED in text and all(re.search(rf"^{kind} = \S+$", text, re.MULTILINE) for kind in KINDS)

    def newest(self) -> Issued | None:
        """Return the complete issue with the highest number in the archive; None without any."""
        numbers = (re.fullmatch(r"cert(\d+)\.pem", path.name) for path in self._in(f"archive/{self.name}"))
        for number in sorted((int(match[1]) for match in numbers if match), reverse=True):
            since = self._issued_at(number)
            if since is not None:
                return Issued(self.name, number, since)
        return None

    def issue(self, kind: str, number: int) -> Path:
        """Return the path of one file of an issue."""
        return self.archive / f"{kind}{number}.pem"

    def remove(self) -> None:
        """Remove all files; the settings first, so that certbot does not meet half of them."""
        self.settings.unlink(missing_ok=True)
        for folder in (self.live, self.archive):
            shutil.rmtree(folder, ignore_errors=True)

    def _issued_at(self, number: int) -> datetime | None:
        paths = [self.issue(kind, number) for kind in KINDS]
        try:
            complete = all(path.is_file() and path.stat().st_size for path in paths)
            return x509.load_pem_x509_certificate(paths[0].read_bytes()).not_valid_before_utc if complete else None
        except (OSError, ValueError):
            return None

    def _link_problems(self, kind: str, number: int) -> Iterator[str]:
        link = self.live / f"{kind}.pem"
        if not link.is_symlink():
            yield f"{link} is {'not a link' if link.exists() else 'missing'}"
        elif link.resolve() != self.issue(kind, number).resolve():
            yield f"{link} does not lead to the newest certificate"

    def _in(self, part: str) -> list[Path]:
        folder = self.folder / part
        return list(folder.iterdir()) if folder.is_dir() else []


def repair(files: CertificateFiles, now: datetime) -> None:
    """Make the newest issue, of this certificate or of a duplicate, the one that certbot renews and nginx serves.

    Requests nothing. Without a complete issue and settings, all files are moved to ``replaced``, and certbot's next run
    requests one certificate. An interrupted repair is completed by the next one.
    """
    issue, settings = _newest_issue(files), _settings(files)
    if issue is None or settings is None:
        _set_aside(files, now)
    else:
        _adopt(files, issue, settings)
    for duplicate in files.duplicates():
        duplicate.remove()


def needs_a_request(files: CertificateFiles) -> bool:
    """Return whether a repair leaves certbot no certificate: no complete issue is left, or no settings to renew it."""
    return _newest_issue(files) is None or _settings(files) is None


def last_set_aside(files: CertificateFiles) -> datetime | None:
    """Return when a repair last left certbot no certificate."""
    try:
        return datetime.fromisoformat((files.replaced / _SINCE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _newest_issue(files: CertificateFiles) -> Issued | None:
    issues = [newest for each in [files, *files.duplicates()] if (newest := each.newest())]
    return max(issues, key=lambda each: (each.since, each.name), default=None)


def _settings(files: CertificateFiles) -> CertificateFiles | None:
    return next((each for each in [files, *files.duplicates()] if each.has_settings()), None)


def _adopt(files: CertificateFiles, issue: Issued, settings: CertificateFiles) -> None:
    number = _archived(files, issue)
    if settings != files:
        # certbot writes absolute paths.
        text = settings.settings.read_text(encoding="utf-8")
        _write(
            files.settings, re.sub(rf"/{re.escape(settings.name)}(?=/|$)", f"/{files.name}", text, flags=re.MULTILINE)
        )
    files.live.mkdir(mode=0o755, parents=True, exist_ok=True)
    for kind in KINDS:
        link = files.live / f"{kind}.pem"
        if link.is_file() and not link.is_symlink():
            files.replaced.mkdir(mode=0o700, parents=True, exist_ok=True)
            shutil.copy2(link, files.replaced / link.name)
        _link(link, f"../../archive/{files.name}/{kind}{number}.pem")


def _archived(files: CertificateFiles, issue: Issued) -> int:
    """Return the number of an issue in the certificate's own archive; a duplicate's is copied there."""
    if issue.name == files.name:
        return issue.number
    own = files.newest()
    number = max((int(digits) for digits in re.findall(r"\d+", " ".join(_names(files.archive)))), default=0) + 1
    source = CertificateFiles(files.folder, issue.name)
    files.archive.mkdir(mode=0o700, parents=True, exist_ok=True)
    if own and files.issue("cert", own.number).read_bytes() == source.issue("cert", issue.number).read_bytes():
        return own.number
    for kind in KINDS:
        target = files.issue(kind, number)
        shutil.copy2(source.issue(kind, issue.number), target.with_suffix(".new"))
        target.with_suffix(".new").replace(target)
    return number


def _set_aside(files: CertificateFiles, now: datetime) -> None:
    shutil.rmtree(files.replaced, ignore_errors=True)
    files.replaced.mkdir(mode=0o700, parents=True)
    (files.replaced / _SINCE).write_text(now.isoformat(), encoding="utf-8")
    for path in (files.settings, files.live, files.archive):
        if os.path.lexists(path):
            path.rename(files.replaced / f"{path.parent.name}-{path.name}")


def put_back(files: CertificateFiles) -> None:
    """Move the files that the repair set aside back to their places, when no new certificate has taken them."""
    if files.exists() or last_set_aside(files) is None:
        return
    for path in (files.settings, files.live, files.archive):
        kept = files.replaced / f"{path.parent.name}-{path.name}"
        if os.path.lexists(kept):
            path.parent.mkdir(parents=True, exist_ok=True)
            kept.rename(path)
    shutil.rmtree(files.replaced)


def _link(link: Path, target: str) -> None:
    new = link.with_suffix(".new")
    new.unlink(missing_ok=True)
    new.symlink_to(target)
    new.replace(link)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(".new")
    new.write_text(text, encoding="utf-8")
    new.replace(path)


def _names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()] if folder.is_dir() else []
