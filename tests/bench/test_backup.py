"""Backups against the roadmap's backup.sh (pg_dump and a gzipped tar, copied whole to S3), on the same site in the same run.

The site is the local one, deployed from nothing; `ops` runs on its host as the host's timers run it. The test asserts ratios and
targets of the design; the seconds themselves depend on the machine.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from ops.gate.benchmarks import Figure
from ops.model import in_bytes
from tests.bench.host import Host, Memory, Run, percentile
from tests.bench.link import BASELINE_MBIT
from tests.bench.record import record
from tests.bench.site import SCRIPTS, Site, compared, grow

_GITEA = "gitea-suite-gitea-1"
_UNCHANGED, _PAUSES = 3, 20
_LOCAL = "/var/backups/gitea-suite"
_MIB = 2**20


# Eight gigabytes are copied several times.
pytestmark = pytest.mark.timeout(3 * 60 * 60)


@dataclass
class Taken:
    """The measurements at a size: the first backup, unchanged backups, one after a change, the pauses of writes, memory."""

    gigabytes: float
    first: Run
    touched: Run
    again: list[Run] = field(default_factory=list)
    pauses: list[float] = field(default_factory=list)
    memory: Memory = field(default_factory=Memory)


def test_backups_against_a_full_copy_of_dump_and_tar(site: Site, sizes: list[float]) -> None:
    measured: list[Taken] = []
    figures: list[Figure] = []
    details: dict[str, Any] = {"load": os.getloadavg()}
    for gigabytes in sizes:
        grow(site, gigabytes)
        delete_backups(site)
        script = [run_script(site)] if gigabytes == compared(sizes) else []
        taken = take(site, gigabytes)
        if script:
            script.append(run_script(site))
            details["script"] = [asdict(each) for each in script]
            figures += against_the_script(taken, script)
        measure_pauses(site, taken)
        if script:
            restored = restore(site)
            details["restore"] = {name: asdict(each) for name, each in restored.items()}
            figures += of_restores(restored)
        measured.append(taken)
    figures = [*of_pauses(measured), *figures, *of_memory(measured)]
    record("backup", figures, details | {"sizes": [asdict(each) for each in measured]})
    assert [each.what for each in figures if not each.met] == []


def delete_backups(site: Site) -> None:
    """Delete every backup, on the host and in the bucket."""
    site.host.shell(f"rm -rf {_LOCAL}/*")
    pages = site.storage.get_paginator("list_object_versions").paginate(Bucket=site.bucket)
    for page in pages:
        found = [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
        chosen = [{"Key": each["Key"], "VersionId": each["VersionId"]} for each in found]
        if chosen:
            site.storage.delete_objects(Bucket=site.bucket, Delete={"Objects": chosen}, BypassGovernanceRetention=True)
    assert not site.storage.list_objects_v2(Bucket=site.bucket).get("Contents")


def run_script(site: Site) -> Run:
    """Run backup.sh; a second run does the same work as the first."""
    image = site.host.shell("grep -o 'gitea-suite/ops:[0-9a-f]*' /usr/local/bin/ops | head -1").strip()
    script = (Path(__file__).parent / "backup.sh").read_text(encoding="utf-8")
    site.host.shell(f"cat > /usr/local/bin/backup.sh <<'END'\n{script}END")
    return _print_run(f"backup.sh, {image}", site.host.timed(f"sh /usr/local/bin/backup.sh {SCRIPTS} {image}"))


def take(site: Site, gigabytes: float) -> Taken:
    with site.host.memory() as memory:
        first = _print_run(f"first backup of {gigabytes} GB", site.host.ops("backup take"))
        again = [_print_run("unchanged", site.host.ops("backup take")) for _ in range(_UNCHANGED)]
        site.host.shell(f"docker exec {_GITEA} sh -c 'date > /data/bench && rm /data/bench'")
        touched = _print_run("one folder touched", site.host.ops("backup take"))
    return Taken(gigabytes, first, touched, again, memory=memory)


def measure_pauses(site: Site, taken: Taken) -> None:
    """Take backups while a process writes a few megabytes a second."""
    with writing(site.host), site.host.frozen(_GITEA) as taken.pauses:
        for _ in range(_PAUSES):
            site.host.ops("backup take")
    assert len(taken.pauses) == _PAUSES
    print(f"writes paused: {', '.join(f'{each:.3f}' for each in sorted(taken.pauses))} s", flush=True)


@contextmanager
def writing(host: Host) -> Iterator[None]:
    """A process in Gitea's container that writes to its data until the block ends."""
    script = (
        "mkdir -p /data/bench; n=0; while [ -d /data/bench ]; do n=$(( (n + 1) % 20 ));"
        " head -c 100000 /dev/urandom > /data/bench/$n || true; sleep 0.03; done"
    )
    argv = f"docker exec {_GITEA} sh -c '{script}'"
    writer = threading.Thread(target=host.shell, args=(argv,))
    writer.start()
    try:
        yield
    finally:
        host.shell(
            f"docker exec {_GITEA} sh -c 'while [ -d /data/bench ]; do rm -rf /data/bench 2>/dev/null || true; done'"
        )
        writer.join()


def restore(site: Site) -> dict[str, Run]:
    """Restore the whole site from the bucket alone, as on a new host, from the host's own copy and from its snapshot.

    The alternatives to compare with are plain copying and the script. Copying and the restore from the bucket are measured twice:
    without a link, which is faster than S3 ever is, and over a slow link.
    """
    host = site.host
    measured = {"copying": copying(site), "the script's": restore_of_the_script(site)}
    with site.slow():
        measured["copying over a link"] = copying(site)
    host.shell(f"mv {_LOCAL}/restic {_LOCAL}/away")
    with host.memory() as memory:
        measured["bucket"] = restore_out_of_the_bucket(host)
    measured["bucket"].document["memory"] = vars(memory)
    with site.slow():
        measured["bucket over a link"] = restore_out_of_the_bucket(host)
    host.shell(f"mv {_LOCAL}/away {_LOCAL}/restic")
    measured["here"] = host.ops("restore --full-copy --yes")
    measured["picture"] = host.ops("restore --yes")
    # The files written during the newest backup, which the restore brought back.
    host.shell(f"docker exec {_GITEA} rm -r /data/bench")
    from_snapshot = {name: each.document["picture"] for name, each in measured.items() if "picture" in each.document}
    assert from_snapshot == {"bucket": False, "bucket over a link": False, "here": False, "picture": True}
    for name, each in measured.items():
        _print_run(f"restore: {name}", each)
    return measured


def restore_out_of_the_bucket(host: Host) -> Run:
    """Restore without a local repository or cache, as on a new host."""
    host.shell(f"rm -rf {_LOCAL}/cache")
    return host.ops("restore --full-copy --yes")


def copying(site: Site) -> Run:
    """Copy the site's bytes as one uncompressed object from S3 to the data disk."""
    image = site.host.shell("grep -o 'gitea-suite/ops:[0-9a-f]*' /usr/local/bin/ops | head -1").strip()
    client = f"docker run --rm --interactive --network host --env-file /etc/gitea-suite/ops.env --volume /srv/gitea:/srv/gitea --entrypoint python3 {image} -c"
    site.host.shell(
        f"tar --create --directory /srv/gitea gitea | {client} \"import boto3, sys; boto3.client('s3').upload_fileobj(sys.stdin.buffer, '{SCRIPTS}', 'data.tar')\""
    )
    fetch = (
        f"{client} \"import boto3; boto3.client('s3').download_file('{SCRIPTS}', 'data.tar', '/srv/gitea/bench.tar')\""
    )
    taken = site.host.timed(f"{fetch}; sync --file-system /srv/gitea")
    site.host.shell("rm /srv/gitea/bench.tar")
    return taken


def restore_of_the_script(site: Site) -> Run:
    """Restore the folder and the database from the files of backup.sh."""
    image = site.host.shell("grep -o 'gitea-suite/ops:[0-9a-f]*' /usr/local/bin/ops | head -1").strip()
    client = f"docker run --rm --network host --env-file /etc/gitea-suite/ops.env --volume /var/backups:/var/backups --entrypoint python3 {image} -c"
    fetch = " && ".join(
        f"{client} \"import boto3; boto3.client('s3').download_file('{SCRIPTS}', '{each}', '/var/backups/{each}')\""
        for each in ("data.tar.gz", "database.sql.gz")
    )
    postgres = "docker exec --interactive gitea-suite-postgres-1"
    taken = site.host.timed(
        f"{fetch}; mkdir /srv/gitea/bench; tar --extract --gzip --file /var/backups/data.tar.gz --directory /srv/gitea/bench;"
        f"{postgres} createdb --username gitea bench; gunzip --stdout /var/backups/database.sql.gz | {postgres} psql --quiet --username gitea bench >/dev/null;"
        "sync --file-system /srv/gitea"
    )
    site.host.shell(
        f"rm -r /srv/gitea/bench /var/backups/data.tar.gz /var/backups/database.sql.gz; {postgres} dropdb --username gitea bench"
    )
    return taken


def against_the_script(taken: Taken, script: list[Run]) -> list[Figure]:
    seconds, sent = median(each.seconds for each in script), median(each.sent for each in script)
    unchanged = median(each.seconds for each in taken.again)
    bytes_again = round(median(each.sent for each in taken.again))
    size = f"{taken.gigabytes:g} GB"
    return [
        _ratio(f"first backup of {size}", f"{taken.first.seconds:.1f} s", f"backup.sh: {seconds:.1f} s", taken.first.seconds / seconds, 1),
        _ratio(f"unchanged backup of {size}: time", f"{unchanged:.1f} s", f"backup.sh: {seconds:.1f} s", unchanged / seconds, 0.1),
        # After any change restic scans every file.
        _ratio(f"backup of {size} after one change: time", f"{taken.touched.seconds:.1f} s", f"backup.sh: {seconds:.1f} s", taken.touched.seconds / seconds, 0.5),
        _ratio(f"unchanged backup of {size}: sent", in_bytes(bytes_again), f"backup.sh: {in_bytes(round(sent))}", bytes_again / sent, 0.01),
    ]  # fmt: skip


def of_restores(restored: dict[str, Run]) -> list[Figure]:
    """Compare the restores, each up to a healthy site. Without a link the two processors are the limit, so there is no target."""
    copied, script, over = (restored[each].seconds for each in ("copying", "the script's", "copying over a link"))
    bucket, linked, own_copy, snapshot = (
        restored[each].seconds for each in ("bucket", "bucket over a link", "here", "picture")
    )
    copying_them = f"copying its bytes: {copied:.1f} s"
    return [
        _ratio("restore of the newest backup in place", f"{snapshot:.1f} s", copying_them, snapshot / copied, 1.2),
        _ratio(f"restore from the bucket, over {BASELINE_MBIT} Mbit/s", f"{linked:.1f} s", f"copying its bytes over it: {over:.1f} s", linked / over, 1.2),
        _ratio("restore from the bucket, without the link", f"{bucket:.1f} s", copying_them, bucket / copied),
        _ratio("restore from the host's own copy", f"{own_copy:.1f} s", copying_them, own_copy / copied),
        _ratio("restore from the bucket, without the link", f"{bucket:.1f} s", f"the script's, unchecked: {script:.1f} s", bucket / script),
    ]  # fmt: skip


def of_pauses(measured: list[Taken]) -> list[Figure]:
    figures = []
    for taken in measured:
        slow = percentile(taken.pauses, 0.95)
        words = f"writes pause, {taken.gigabytes:g} GB, 95th percentile"
        figures.append(Figure(words, f"{slow:.2f} s", "", None, "at most 0.5 s", met=slow <= 0.5))
    small, large = (median(each.pauses) for each in (measured[0], measured[-1]))
    factor = measured[-1].gigabytes / measured[0].gigabytes
    if factor > 1:
        words = f"writes pause with {factor:g} times the data, median"
        figures.append(
            _ratio(words, f"{large:.3f} s", f"{measured[0].gigabytes:g} GB: {small:.3f} s", large / small, 2)
        )
    return figures


def of_memory(measured: list[Taken]) -> list[Figure]:
    return [
        Figure(
            f"memory of ops beside restic, {taken.gigabytes:g} GB",
            f"{taken.memory.ops / _MIB:.0f} MiB",
            f"restic beside it: {taken.memory.restic / _MIB:.0f} MiB",
            None,
            "at most 150 MB",
            met=taken.memory.ops <= 150e6,
        )
        for taken in measured
    ]


def _ratio(what: str, measured: str, against: str, ratio: float, most: float | None = None) -> Figure:
    target = "" if most is None else f"at most {most:g}"
    return Figure(what, measured, against, round(ratio, 5), target, met=most is None or ratio <= most)


def _print_run(what: str, taken: Run) -> Run:
    steps = taken.document.get("durations", {})
    print(f"{what}: {taken.seconds} s, {in_bytes(taken.sent)} sent {steps}", flush=True)
    return taken
