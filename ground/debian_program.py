"""A program out of a Debian package that is not installed: for a package that this machine's release has not, or only older.

It runs where its shared libraries do: the packages that the suite takes so need only libc6 >= 2.34.
"""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from ground.base_images import debian_mirror
from ops.errors import Refused, Unavailable

Tell = Callable[[str], None]

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


def provide(package: str, suite: str, member: str, cache: Path, tell: Tell) -> Path:
    """Return a program of a package of a suite of Debian (forky), from ``cache``; the first call downloads it.

    Without a suite it is a package of this machine's own release. ``member`` is the program's path in the package. Processes
    that need the same program wait for each other. Needs no root. Raises Refused without a Debian mirror or apt, and
    Unavailable when the mirror does not answer.
    """
    folder = cache / "programs" / (suite or "own")
    program = folder / package
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{package}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not program.is_file():
            tell(f"unpacking {package} of {suite or 'this release'}")
            with tempfile.TemporaryDirectory() as temporary:
                unpacked = unpack(package, suite, member, Path(temporary))
                arriving = folder / f"{package}.new"
                shutil.copy2(unpacked, arriving)
                arriving.replace(program)
    return program


def unpack(package: str, suite: str, member: str, root: Path) -> Path:
    """Download a package of a suite into ``root``, unpack it there, and return the path of ``member``."""
    (root / "lists" / "partial").mkdir(parents=True)
    options = [f"-oDir::State::Lists={root}/lists", "-oDir::Cache::pkgcache=", "-oDir::Cache::srcpkgcache="]
    if suite:
        if not KEYRING.exists():
            raise Refused(
                "Debian's keyring is not on this machine", "run as root: apt-get install debian-archive-keyring"
            )
        (root / "sources.list").write_text(f"deb [signed-by={KEYRING}] {debian_mirror()} {suite} main\n")
        options += [f"-oDir::Etc::SourceList={root}/sources.list", "-oDir::Etc::SourceParts=/dev/null"]
    # Descriptions of desktop applications are as large as half of the list.
    options += ["-oAcquire::IndexTargets::deb::DEP-11::DefaultEnabled=false"]
    options += ["-oAPT::Sandbox::User=root", "-oAcquire::Check-Valid-Until=false", "-q"]
    checked(["apt-get", *options, "update"])
    checked(["apt-get", *options, "download", package], directory=root)
    (archive,) = root.glob(f"{package}_*.deb")
    checked(["dpkg-deb", "--extract", str(archive), str(root / "unpacked")])
    return root / "unpacked" / member


def checked(argv: Sequence[str], directory: Path | None = None) -> None:
    """Run a program; raises Refused when it is missing, and Unavailable with the end of its output when it fails."""
    try:
        done = subprocess.run(
            argv, cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
    except FileNotFoundError as error:
        raise Refused(
            f"{argv[0]} is not installed on this machine", f"run on Debian or Ubuntu: {' '.join(argv)}"
        ) from error
    if done.returncode:
        raise Unavailable(f"{' '.join(argv)} failed:\n{done.stdout[-2000:]}", f"run it by hand: {' '.join(argv)}")
