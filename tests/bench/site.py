"""The local site of the benchmarks, deployed from nothing and grown to a size."""

from __future__ import annotations

import ssl
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ground import aws
from ground.environment import Environment
from ops.config import load
from ops.world.process import Processes
from tests.bench import content
from tests.bench.host import Host
from tests.bench.link import limited_to_baseline

SCRIPTS = "bench-scripts"


@dataclass(frozen=True)
class Site:
    """A running site: its host, its bucket with an S3 client, the slow link (``slow``), and the address for its visitors."""

    host: Host
    bucket: str
    storage: Any
    slow: Callable[[], AbstractContextManager[None]]
    domain: str
    address: str
    trust: ssl.SSLContext


def on(ground: Environment) -> Site:
    """Return the site that is deployed in a test environment, and make a second bucket for the script.

    The timers and the WAL stream are stopped, so that only a backup sends data.
    """
    known = load.load(ground.site_file)
    host, storage = Host(ground.run_context.name("host")), aws.client(known.aws.endpoint_url, "s3")
    host.shell("systemctl stop 'gitea-suite-*.timer' 'gitea-suite-wal*'")
    host.shell("while systemctl is-active --quiet gitea-suite-backup.service; do sleep 0.2; done")
    where = {"LocationConstraint": aws.REGION}
    storage.create_bucket(Bucket=SCRIPTS, CreateBucketConfiguration=where)
    trust = ssl.create_default_context(cafile=ground.authorities)
    slow = partial(limited_to_baseline, ground.run_context.name("aws"), ground.images.local("host"))
    return Site(host, known.backup.bucket, storage, slow, known.domain, known.host.address, trust)


def compared(sizes: list[float]) -> float:
    """Return the size at which benchmarks compare: 2 GB, or the largest chosen size."""
    return 2.0 if 2.0 in sizes else sizes[-1]


def grow(site: Site, gigabytes: float) -> None:
    """Grow the site to a size; existing data stays."""
    count = int(site.host.shell("ls /srv/gitea/gitea/git/repositories/bench 2>/dev/null | wc -l || true"))
    wanted = round(gigabytes * 100)
    with tempfile.TemporaryDirectory() as folder:
        for begin in range(count, wanted, 50):
            part = Path(folder, "part")
            part.mkdir()
            content.make(part, range(begin, min(begin + 50, wanted)))
            site.host.put(part, "/srv/gitea/gitea")
            Processes().run(["rm", "-r", str(part)])
    rows = round(gigabytes * 200_000)
    table = (
        f"DROP TABLE IF EXISTS bench; CREATE TABLE bench AS SELECT i, md5(i::text) FROM generate_series(1, {rows}) i"
    )
    site.host.shell(f'docker exec gitea-suite-postgres-1 psql -q -U gitea gitea -c "{table}"; sync')
    files, size = site.host.shell(
        "cd /srv/gitea/gitea; find . -type f | wc -l; du --apparent-size --summarize --bytes . | cut -f1"
    ).split()
    print(f"the site has {int(files):,} files and {int(size) / 1e9:.2f} GB", flush=True)
