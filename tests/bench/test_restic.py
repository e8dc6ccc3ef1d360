"""restic's settings against its defaults, on the same files in the same run: the measurements behind ADR 0019."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pytest

from ground import aws, environment, run_registry
from ground.container import RUN_LABEL, RunContext
from ground.disk_space import require_space
from ground.image_set import OPS_BASE
from ops.config import load
from ops.gate.benchmarks import Figure
from ops.images import ops_image
from ops.world import World
from tests.bench import content
from tests.bench.record import record

# 25,000 files and half a gigabyte.
_REPOSITORIES = 50
_NEEDED_GIB = 16
_MEASURED = """
import json, os, resource, subprocess, sys, time
began = time.monotonic()
done = subprocess.run(["restic", "--option", "s3.bucket-lookup=path", *sys.argv[1:]], stdout=subprocess.DEVNULL)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([round(time.monotonic() - began, 2), round(used.ru_utime + used.ru_stime, 2), used.ru_maxrss // 1024]))
sys.exit(done.returncode)
"""


pytestmark = pytest.mark.timeout(60 * 60)


@dataclass(frozen=True)
class Took:
    """One run of restic: its seconds, its processor seconds, and its peak memory in MiB."""

    seconds: float
    processor: float
    memory: int


@dataclass(frozen=True)
class Bench:
    """A folder with files and repositories, and S3."""

    folder: Path
    endpoint: str
    restic: Callable[..., Took]

    def local(self, name: str) -> list[str]:
        return ["--repo", f"/bench/{name}"]

    def remote(self, name: str) -> list[str]:
        return ["--repo", f"s3:{self.endpoint}/bench/{name}"]

    def size(self, name: str) -> tuple[int, int]:
        """Return the bytes and the number of packs of a repository in the folder."""
        packs = [each.stat().st_size for each in (self.folder / name / "data").rglob("*") if each.is_file()]
        return sum(packs), len(packs)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that is removed after the test; pytest keeps its own temporary folders."""
    with tempfile.TemporaryDirectory() as made:
        yield Path(made)


@pytest.fixture
def bench(folder: Path) -> Iterator[Bench]:
    require_space(print, needed_gib=_NEEDED_GIB)
    client, built = environment.prepare(print, only=("localstack", "metadata"))
    run_context, _, lock = run_registry.new_run(client, print)
    try:
        endpoint = aws.start(run_context, built).endpoint_url
        storage = aws.client(endpoint, "s3")
        storage.create_bucket(Bucket="bench", CreateBucketConfiguration={"LocationConstraint": aws.REGION})
        os.environ["OPS_BASE_IMAGE"] = built.local(OPS_BASE)
        site = load.load(run_registry.REPOSITORY / "sites/local.toml")
        made = ops_image.ensure(run_registry.REPOSITORY, run_registry.CACHE, World(site, print))
        (folder / "files").mkdir()
        content.make(folder / "files", range(_REPOSITORIES))
        (folder / "password").write_text("bench")
        yield Bench(folder, endpoint, _restic(run_context, made.reference, folder))
    finally:
        run_registry.remove(client, run_context.run)
        lock.close()


def _restic(run_context: RunContext, reference: str, folder: Path) -> Callable[..., Took]:
    def restic(*arguments: str, **environment: str) -> Took:
        defaults = {**aws.CREDENTIALS, "RESTIC_PASSWORD_FILE": "/bench/password", "RESTIC_CACHE_DIR": "/bench/cache"}
        settings = [f"--env={name}={value}" for name, value in {**defaults, **environment}.items()]
        where = [
            "--network",
            run_context.network,
            "--label",
            f"{RUN_LABEL}={run_context.run}",
            "--volume",
            f"{folder}:/bench",
        ]
        where += ["--user", f"{os.getuid()}:{os.getgid()}"]
        argv = ["docker", "run", "--rm", *where, *settings, "--entrypoint", "python3", reference, "-c", _MEASURED]
        done = subprocess.run([*argv, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{arguments}\n{done.stderr[-2000:]}"
        return Took(*json.loads(done.stdout.splitlines()[-1]))

    return restic


@dataclass(frozen=True)
class Notes:
    """The measurements by name, and the bytes and packs of repositories."""

    bench: Bench
    took: dict[str, Took] = field(default_factory=dict)
    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)

    def back_up(self, name: str, *options: str, keep: bool = False, **environment: str) -> None:
        """Back up the files into a new repository, and remove it again unless ``keep`` is set."""
        where = self.bench.local(name)
        self.bench.restic(*where, "init")
        took = self.bench.restic(*where, "backup", *options, "/bench/files", **environment)
        self.sizes[name] = self.bench.size(name)
        self.note(name, took)
        if not keep:
            shutil.rmtree(self.bench.folder / name)

    def copy(self, name: str, origin: str, *options: str) -> None:
        """Copy a repository of the folder to a new one in S3."""
        source = ["--from-repo", f"/bench/{origin}", "--from-password-file", "/bench/password"]
        where = self.bench.remote(name)
        self.bench.restic(*where, "init", *source, "--copy-chunker-params")
        self.note(name, self.bench.restic(*where, *options, "copy", *source))

    def note(self, name: str, took: Took) -> None:
        self.took[name] = took
        print(name, took, self.sizes.get(name, ""), flush=True)


def test_settings_of_restic_against_its_defaults(bench: Bench) -> None:
    notes = Notes(bench)
    # The first run reads the files from the disk, the others from the page cache.
    notes.back_up("first", keep=True)
    _of_backups(notes)
    _of_copies(notes)
    again = [*bench.local("first"), "backup", "/bench/files"]
    notes.note("unchanged", bench.restic(*again))
    notes.note("unchanged-no-scan", bench.restic(*again, "--no-scan"))
    notes.note("open", bench.restic(*bench.local("first"), "cat", "config"))
    details = {name: {**asdict(each), "stored": notes.sizes.get(name, ())} for name, each in notes.took.items()}
    record("restic", [_figure(name, base, notes.took) for name, base in _PAIRS.items()], details)
    stored = {name: size for name, (size, _) in notes.sizes.items()}
    assert stored["compression-max"] <= stored["compression-auto"] < stored["compression-off"]


def _of_backups(notes: Notes) -> None:
    notes.back_up("default")
    for setting in ("auto", "off", "max"):
        notes.back_up(f"compression-{setting}", "--compression", setting)
    for setting in ("1", "4", "8"):
        notes.back_up(f"read-concurrency-{setting}", "--read-concurrency", setting)
    for setting in ("20", "50", "200"):
        notes.back_up(f"gogc-{setting}", GOGC=setting)


def _of_copies(notes: Notes) -> None:
    for setting in ("16", "64", "128"):
        notes.back_up(f"packs-of-{setting}", "--pack-size", setting, keep=True)
        notes.copy(f"copy-packs-of-{setting}", f"packs-of-{setting}", "--pack-size", setting)
    for setting in ("2", "5", "10", "20"):
        notes.copy(f"copy-connections-{setting}", "packs-of-16", "--option", f"s3.connections={setting}")
    for setting in ("16", "64", "128"):
        name = f"packs-of-{setting}"
        out_of = [*notes.bench.remote(f"copy-{name}"), "restore", "latest", "--target", f"/bench/restored-{setting}"]
        notes.note(f"restore-{name}", notes.bench.restic(*out_of))


_PAIRS: Mapping[str, str] = {
    "compression-off": "compression-auto",
    "compression-max": "compression-auto",
    "read-concurrency-1": "default",
    "read-concurrency-4": "default",
    "read-concurrency-8": "default",
    "gogc-20": "default",
    "gogc-50": "default",
    "gogc-200": "default",
    "copy-packs-of-64": "copy-packs-of-16",
    "copy-packs-of-128": "copy-packs-of-16",
    "restore-packs-of-64": "restore-packs-of-16",
    "restore-packs-of-128": "restore-packs-of-16",
    "copy-connections-2": "copy-connections-5",
    "copy-connections-10": "copy-connections-5",
    "copy-connections-20": "copy-connections-5",
    "unchanged-no-scan": "unchanged",
}


def _figure(name: str, base: str, took: Mapping[str, Took]) -> Figure:
    """Compare a setting with another one, without a target."""
    mine, other = took[name], took[base]
    measured = f"{mine.seconds:.1f} s, {mine.processor:.1f} s of processor, {mine.memory} MiB"
    against = f"{base}: {other.seconds:.1f} s, {other.processor:.1f} s, {other.memory} MiB"
    return Figure(name.replace("-", " "), measured, against, round(mine.seconds / other.seconds, 3), "", met=True)
