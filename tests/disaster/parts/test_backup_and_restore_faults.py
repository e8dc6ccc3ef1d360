"""Faults during backups and restores: each ends without data loss and with the correct exit code."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from ipaddress import ip_network
from pathlib import Path

import pytest

from ground import aws
from ground.container import RUN_LABEL, RunContext
from ops.images.ops_image import OpsImage
from tests.support import misbehaving
from tests.support.compose_stack import lay_out
from tests.support.misbehaving import Fault, FaultyProxy
from tests.support.small_site import KEEPER, REPOSITORY, SmallSite, running_small_site

_LARGE = 1_000_000
_STRANDED = Path(__file__).parents[3] / "docs/runbooks/stranded.md"


@pytest.fixture(scope="module")
def running(
    run_context: RunContext,
    aws_endpoint: str,
    ops_image: OpsImage,
    images: Mapping[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[SmallSite]:
    """The small site, shared by all tests of this module."""
    stack = lay_out(run_context.run, "small", tmp_path_factory.mktemp("small"), images)
    with running_small_site(run_context, stack, ops_image.reference, aws_endpoint) as site:
        yield site


@pytest.fixture
def site(running: SmallSite) -> SmallSite:
    """The small site without backups."""
    return running.with_new_bucket()


@pytest.fixture
def proxy(run_context: RunContext, aws_endpoint: str) -> Iterator[FaultyProxy]:
    """The bucket's S3 behind a proxy whose faults the test chooses."""
    gateway = str(next(ip_network(run_context.subnet).hosts()))
    with misbehaving.faulty_proxy(aws_endpoint, gateway) as started:
        yield started


@pytest.fixture
def ballast(running: SmallSite) -> Iterator[Path]:
    """A file of 6 MB in Gitea's data."""
    path = running.data / "gitea/gitea/attachments/ballast"
    where = f"mkdir -p {path.parent} && head -c 6000000 /dev/urandom > {path} && chown -R 1000:1000 {path.parent}"
    running.shell(where)
    yield path
    running.shell(f"rm -f {path}")


def until(ready: Callable[[], bool], seconds: float = 30) -> None:
    """Wait until ``ready`` returns true."""
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def after_the_first_pack(
    fault: Fault, first: Callable[[], object] = lambda: None, *, method: str = "PUT"
) -> Callable[[str, str], Fault]:
    """Return a fault function: no fault until the first pack is stored (or read), then ``first()`` and ``fault`` each time."""
    faulted: list[str] = []

    def fault_for(asked: str, path: str) -> Fault:
        if asked == method and "/restic/data/" in path:
            if not faulted:
                first()
            faulted.append(path)
        return fault if faulted else misbehaving.NO_FAULT

    return fault_for


def delayed() -> tuple[Callable[[str, str], Fault], threading.Event]:
    """Return a fault function that delays every request until the event is set, and the event."""
    released = threading.Event()

    def fault_for(method: str, path: str) -> Fault:
        assert method
        assert path
        released.wait(60)
        return misbehaving.NO_FAULT

    return fault_for, released


def _requested_since(proxy: FaultyProxy, count: int) -> bool:
    return len(proxy.seen) > count


def large_packs(site: SmallSite) -> list[Path]:
    """Return the packs of the local repository that are larger than those of folders and small files."""
    return [pack for pack in map(Path, site.packs()) if pack.stat().st_size > _LARGE]


def flipped(content: bytes) -> bytes:
    """Return the content with one flipped bit in the middle."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def test_backups_that_cannot_be_uploaded_stay_on_the_host_and_the_next_run_uploads_them(
    site: SmallSite, proxy: FaultyProxy
) -> None:
    site.shell(f"touch {site.data}/.backed-up")
    faults = {
        "from the beginning": lambda _, __: misbehaving.CONNECTION_CUT,
        "in the middle": after_the_first_pack(misbehaving.INTERNAL_ERROR),
        "credentials expired": after_the_first_pack(misbehaving.EXPIRED),
    }
    for number, (name, fault_for) in enumerate(faults.items(), 1):
        proxy.fault_for = fault_for
        ended = site.ops("backup", "take", endpoint=proxy.url)
        assert ended.code == 7, (name, ended)
        assert "kept on this host" in ended.text
        assert (site.gitea_state(), site.manifests(), len(site.snapshots())) == ("running", [], number * 3)
    proxy.fault_for = after_the_first_pack(misbehaving.CONNECTION_CUT, first=site.kill)
    process = site.start("backup", "take", endpoint=proxy.url)
    process.communicate(timeout=60)
    assert (process.returncode, site.manifests()) == (137, [])
    # A slow bucket makes the backup slow, not the site.
    proxy.fault_for = lambda method, path: Fault(wait=0.05)
    taken = site.ops("backup", "take", endpoint=proxy.url)
    assert taken.code == 0, taken
    assert taken.document["paused"] < 5
    identities = site.manifests()
    assert (len(identities), identities[-1]) == (5, taken.document["identity"])
    assert site.shell(f"ls {site.backups}/pending") == ""
    assert site.ops("restore", identities[0], "--dry-run").code == 0


def test_a_restore_from_a_failing_bucket_changes_nothing_and_one_from_a_slow_bucket_succeeds(
    site: SmallSite, proxy: FaultyProxy, ballast: Path
) -> None:
    site.take()
    content = ballast.read_bytes()
    site.write_issue("later")
    site.shell(f"mv {site.backups}/restic {site.backups}/away && rm -rf {site.backups}/cache")
    faults = {
        "from the beginning": lambda _, __: misbehaving.CONNECTION_CUT,
        "in the middle": after_the_first_pack(misbehaving.INTERNAL_ERROR, method="GET"),
        "credentials expired": after_the_first_pack(misbehaving.EXPIRED, method="GET"),
    }
    for name, fault_for in faults.items():
        proxy.fault_for = fault_for
        ended = site.ops("restore", "--yes", endpoint=proxy.url)
        assert ended.code == 7, (name, ended)
        assert (site.gitea_state(), "later" in site.issues()) == ("running", True)
        assert "gitea_restored" not in site.databases()
        assert site.shell(f"ls {site.data}/.restore 2>/dev/null || true") == ""
    site.shell(f"rm -f {ballast}")
    proxy.fault_for = lambda method, path: Fault(wait=0.05)
    ended = site.ops("restore", "--yes", endpoint=proxy.url)
    assert ended.code == 0, ended
    assert "later" not in site.issues()
    assert ballast.read_bytes() == content


def test_another_password_is_refused_and_nothing_is_changed(running: SmallSite) -> None:
    site = running.with_new_bucket("quite another password")
    for verb in (("backup", "take"), ("restore", "--yes")):
        ended = site.ops(*verb)
        assert ended.code == 4, ended
        assert "made with another password" in ended.text
    assert site.packs() == set()
    assert site.storage.list_objects_v2(Bucket=site.bucket)["KeyCount"] == len(site.remote.files)


def test_a_backup_that_fills_the_disk_frees_the_space_again_and_the_next_one_is_complete(
    site: SmallSite, ballast: Path
) -> None:
    assert ballast
    disk = site.backups / "restic"
    with site.small_disk(disk, "3m"):
        before = site.shell(f"df --output=avail {disk}")
        ended = site.ops("backup", "take")
        assert ended.code == 5, ended
        assert "no backup was made" in ended.text
        assert "the disk is full" in ended.text
        assert site.shell(f"df --output=avail {disk}") == before
        assert (site.packs(), site.manifests(), site.gitea_state()) == (set(), [], "running")
        site.shell(f"mount -o remount,size=64m {disk}")
        made = site.take()
        snapshots = site.snapshots()
    # Data without snapshots is copied while the site runs; the changes of that time are copied while it is paused.
    stored = site.manifest(made)
    assert stored["photographed"] is False
    assert 0 < stored["paused"] < 5
    # This first backup's data has a parent all the same: the pass while the site ran, which belongs to no backup and is removed.
    (data,) = [each for each in snapshots if "data" in each["tags"]]
    assert data["parent"] not in {each["id"] for each in snapshots}
    assert data["summary"]["data_added"] < 1_000_000 < data["summary"]["total_bytes_processed"]
    assert len([each for each in snapshots if made in each["tags"]]) == 3


def test_a_restore_without_space_or_intact_packs_is_refused_and_an_intact_copy_is_restored(
    site: SmallSite, ballast: Path
) -> None:
    # A hook with a program's path on another host.
    hook = f"{site.data}/gitea/git/repositories/{KEEPER}/{REPOSITORY}.git/hooks/post-receive.d/gitea"
    site.shell(f"echo 'exec /elsewhere/gitea hook' > {hook}")
    site.take()
    content, owners = ballast.read_bytes(), site.owners()
    site.write_issue("later")
    # No space on the disk.
    staging = site.data / ".restore"
    with site.small_disk(staging, "3m"):
        ended = site.ops("restore", "--yes")
        assert ended.code == 5, ended
        assert "fetch: the disk is full" in ended.text
        assert site.shell(f"ls {staging}") == ""
    assert "later" in site.issues()
    assert "gitea_restored" not in site.databases()
    # The host's packs have a flipped bit, and leftovers of earlier runs and a wrong owner are in the way.
    for pack in large_packs(site):
        site.put(pack, flipped(pack.read_bytes()))
    site.shell(f"mkdir -p {staging}/gitea/left {staging}/before/left && chown -R 4242 {site.data}/gitea/git")
    site.sql("CREATE DATABASE gitea_restored")
    ended = site.ops("restore", "--yes")
    assert ended.code == 0, ended
    assert "from the bucket" in ended.progress
    assert "later" not in site.issues()
    assert (ballast.read_bytes(), site.owners()) == (content, owners)
    assert "/usr/local/bin/gitea hook" in site.shell(f"cat {hook}")
    # The bucket's packs have a flipped bit, too.
    site.write_issue("later still")
    objects = site.storage.list_objects_v2(Bucket=site.bucket, Prefix="restic/data/")["Contents"]
    for key in (each["Key"] for each in objects if each["Size"] > _LARGE):
        intact = site.storage.get_object(Bucket=site.bucket, Key=key)["Body"].read()
        site.storage.put_object(Bucket=site.bucket, Key=key, Body=flipped(intact))
    ended = site.ops("restore", "--yes")
    assert ended.code == 5, ended
    assert "later still" in site.issues()


def test_a_held_lock_is_reported_and_a_stale_one_does_not_block_backups(
    site: SmallSite,
) -> None:
    now = datetime.now(UTC)
    held, content = site.remote.lock(now - timedelta(minutes=2), "another-host", exclusive=True)
    site.storage.put_object(Bucket=site.bucket, Key=f"restic/{held}", Body=content)
    ended = site.ops("backup", "take")
    assert ended.code == 8, ended
    assert "another-host" in ended.text
    assert "kept on this host" in ended.text
    # Half an hour later; and a run on this host was killed a moment ago.
    site.storage.delete_object(Bucket=site.bucket, Key=f"restic/{held}")
    stale, content = site.remote.lock(now - timedelta(minutes=31), "another-host", exclusive=True)
    site.storage.put_object(Bucket=site.bucket, Key=f"restic/{stale}", Body=content)
    killed, content = site.local.lock(now, "this-host", exclusive=True)
    site.put(site.backups / "restic" / killed, content)
    site.take()
    assert len(site.manifests()) == 2


def test_a_backup_leaves_the_lock_of_another_running_container_alone_and_removes_it_once_that_was_killed(
    site: SmallSite,
) -> None:
    with site.holder_of_a_lock() as kill_holder:
        until(lambda: len(_locks(site)) == 1)
        (lock,) = _locks(site)
        # Same host name, and no process of this container has the holder's id: restic's own rule takes the holder for gone.
        site.take()
        assert _locks(site) == [lock]
        refused = site.ops("backup", "unlock")
        assert (refused.code, _locks(site)) == (8, [lock]), refused
        kill_holder()
    assert _locks(site) == [lock]
    taken = site.ops("backup", "take")
    assert taken.code == 0, taken
    assert "removed the lock of a killed run" in taken.progress
    assert _locks(site) == []


def test_a_backup_with_a_truncated_manifest_is_broken_and_falling_back_to_an_older_one_is_reported(
    site: SmallSite,
) -> None:
    first = site.take()
    newer = "20990101T000000Z"
    intact = site.storage.get_object(Bucket=site.bucket, Key=f"manifests/{first}.json")["Body"].read()
    for content in (intact[:-100], b""):
        site.storage.put_object(Bucket=site.bucket, Key=f"manifests/{newer}.json", Body=content)
        planned = site.ops("restore", "--dry-run")
        assert (planned.code, planned.document["identity"]) == (0, first)
        assert any(
            f"{newer} is newer, but broken: its manifest is truncated" in each
            for each in planned.document["passed_over"]
        )
    refused = site.ops("restore", newer, "--yes")
    assert refused.code == 4, refused
    assert f"backup {newer} is broken" in refused.text


def test_two_operations_do_not_overlap_and_the_second_one_names_the_first(site: SmallSite, proxy: FaultyProxy) -> None:
    conflicts = {
        ("backup", "take"): [("backup", "take"), ("restore", "--yes")],
        ("restore", "--dry-run"): [("backup", "take")],
    }
    for first, others in conflicts.items():
        proxy.fault_for, released = delayed()
        process = site.start(*first, endpoint=proxy.url)
        until(partial(_requested_since, proxy, len(proxy.seen)))
        for second in others:
            ended = site.ops(*second)
            assert ended.code == 8, ended
            assert f"ops {'backup take' if 'take' in first else 'restore'}, process" in ended.text
        released.set()
        process.communicate(timeout=120)
        assert process.returncode == 0
    assert len(site.manifests()) == 1


def test_a_new_backup_is_the_newest_although_the_clock_was_set_back(site: SmallSite) -> None:
    first = site.take()
    before = site.manifest(first)
    ended = site.ops("backup", "take", SMALL_SITE_CLOCK_BEHIND="3600")
    assert ended.code == 3, ended
    assert 3500 < ended.document["clock_behind"] < 3600
    second = ended.document["identity"]
    assert site.manifests() == [first, second]
    assert site.manifest(first) == before
    assert site.ops("restore", "--dry-run").document["identity"] == second


def test_a_killed_run_s_lock_does_not_stop_reading_and_is_removed_once_its_holder_is_gone(site: SmallSite) -> None:
    taken = site.take()
    now = datetime.now(UTC)
    held, content = site.remote.lock(now - timedelta(minutes=2), "another-host", exclusive=True)
    site.storage.put_object(Bucket=site.bucket, Key=f"restic/{held}", Body=content)
    for verb in (
        ("backup", "list"),
        ("backup", "status"),
        ("restore", "--dry-run"),
        ("restore", "--full-copy", "--yes"),
    ):
        ended = site.ops(*verb)
        # Without a replica, a drill and a verification the status is red.
        assert ended.code in ({3} if "status" in verb else {0}), ended
        assert "is locked" not in ended.progress
    refused = site.ops("backup", "unlock")
    assert refused.code == 8, refused
    assert "process 4242 on another-host" in refused.text
    assert _locks(site) == [f"restic/{held}"]
    site.storage.delete_object(Bucket=site.bucket, Key=f"restic/{held}")
    stale, content = site.remote.lock(now - timedelta(minutes=31), "another-host", exclusive=True)
    site.storage.put_object(Bucket=site.bucket, Key=f"restic/{stale}", Body=content)
    assert site.ops("backup", "unlock").document["changed"] is True
    assert _locks(site) == []
    assert site.ops("restore", taken, "--dry-run").code == 0


def _locks(site: SmallSite) -> list[str]:
    found = site.storage.list_objects_v2(Bucket=site.bucket, Prefix="restic/locks/").get("Contents", [])
    return [each["Key"] for each in found if not each["Key"].endswith("/")]


def test_a_backup_with_a_role_that_no_longer_exists_is_restored_and_its_grants_are_reported(site: SmallSite) -> None:
    for statement in (
        "CREATE ROLE metrics_ro",
        "CREATE EXTENSION IF NOT EXISTS pg_trgm",
        "CREATE TABLE report (id int)",
        "ALTER TABLE report OWNER TO metrics_ro",
        "GRANT SELECT ON ALL TABLES IN SCHEMA public TO metrics_ro",
    ):
        site.sql(statement)
    taken = site.take()
    for statement in ("DROP TABLE report", "DROP OWNED BY metrics_ro", "DROP ROLE metrics_ro"):
        site.sql(statement)
    site.write_issue("since the grants")
    restored = site.ops("restore", taken, "--yes")
    assert restored.code == 0, restored
    assert "since the grants" not in site.issues()
    assert site.sql("SELECT tableowner FROM pg_tables WHERE tablename = 'report'").strip() == "gitea"
    assert site.sql("SELECT count(*) FROM pg_extension WHERE extname = 'pg_trgm'").strip() == "1"
    left_out = restored.document["not_restored"]
    assert "GRANT SELECT ON TABLE public.issue TO metrics_ro;" in left_out
    assert "ALTER TABLE public.report OWNER TO metrics_ro;" in left_out
    site.sql("DROP TABLE report")


def test_what_the_restore_of_one_repository_replaced_is_not_in_the_next_backup(site: SmallSite) -> None:
    site.take()
    before = site.manifest(site.take())["repositories"]
    restored = site.ops("restore", "--repository", f"{KEEPER}/{REPOSITORY}", "--yes")
    assert restored.code == 0, restored
    assert [each["name"] for each in site.ask("GET", f"/repos/{KEEPER}/{REPOSITORY}/branches")] == ["main"]
    assert site.shell(f"ls -A {site.data}/gitea | grep -c restored || true").strip() == "0"
    assert "HEAD" in site.shell(f"ls {site.data}/.restore/repository").split()
    assert site.manifest(site.take())["repositories"] == before


def _page(pattern: str) -> list[str]:
    """The commands of the last resort that begin with a pattern, with the lines that continue them."""
    text = _STRANDED.read_text().replace("\\\n", " ")
    return [re.sub(" +", " ", each) for each in re.findall(rf"(?m)^{pattern}.*", text)]


def test_the_commands_of_the_last_resort_get_everything_out_of_the_bucket(site: SmallSite) -> None:
    site.write_issue("to be rescued")
    parts = site.manifest(site.take())["parts"]
    values = {name.upper(): part["remote"] for name, part in parts.items()}
    commands = [
        re.sub(r"\b(DATABASE|DATA|CONFIGURATION)\b", lambda found: values[found[0]], each) for each in _page("restic ")
    ]
    assert len(commands) == 4
    variables = {
        "RESTIC_PASSWORD": site.shell(f"cat {site.stack.folder}/secrets/restic-password").strip(),
        "RESTIC_REPOSITORY": f"s3:{site.endpoint}/{site.bucket}/restic",
        **aws.CREDENTIALS,
    }
    exported = "\n".join(f"export {name}={value}" for name, value in variables.items())
    rescued = f"{site.data}/rescued"
    script = f"mkdir {rescued} && cd {rescued}\n{exported}\n" + "\n".join(commands)
    assert parts["data"]["remote"][:8] in site.shell(script)
    postgres, gitea = site.stack.container("postgres"), site.stack.container("gitea")
    # As the page loads the dump, here into the site's own server.
    (load,) = _page("pg_restore --no-owner")
    into = load.replace("--dbname gitea gitea.dump", "--username gitea --dbname rescued")
    site.sql("CREATE DATABASE rescued")
    site.shell(f"docker exec --interactive {postgres} {into} < {rescued}/gitea.dump")
    asked = 'psql --username gitea --dbname rescued --tuples-only --command "SELECT name FROM issue"'
    assert "to be rescued" in site.shell(f"docker exec {postgres} {asked}")
    site.sql("DROP DATABASE rescued")
    # As the page clones a repository, with Gitea's git.
    (clone,) = _page("git clone --mirror")
    name = f"{KEEPER}/{REPOSITORY}.git"
    folder = f"{rescued}/data{site.data}/gitea/git/repositories"
    command = re.sub(r"data/\S+/OWNER/NAME.git", f"/tmp/rescued/{name} /tmp/rescued/clone", clone)
    inside = f"mkdir /tmp/rescued && tar -x -C /tmp/rescued && {command} && git -C /tmp/rescued/clone fsck && rm -r /tmp/rescued"
    site.shell(f"tar -c -C {folder} {name} | docker exec --interactive --user git {gitea} sh -ec '{inside}'")
    assert "SECRET_KEY" in site.shell(f"cat {rescued}/data{site.data}/gitea/gitea/conf/app.ini")
    assert "small" in site.shell(f"cat $(find {rescued}/configuration -name site.toml)")
    site.shell(f"rm -r {rescued}")


def test_the_commands_of_the_last_resort_read_the_host_s_own_repository(site: SmallSite) -> None:
    data = site.manifest(site.take())["parts"]["data"]["local"]
    (command,) = _page("sudo docker run --rm --network none")
    replaced = {
        "/srv/gitea/rescued": f"{site.data}/rescued",
        "/srv/gitea:/srv/gitea": f"{site.data}:{site.data}",
        "/var/backups/gitea-suite": str(site.backups),
        "/run/gitea-suite/secrets": f"{site.stack.folder}/secrets",
        '"$ops_image"': site.image,
        " DATA ": f" {data} ",
        "sudo ": "",
    }
    for old, new in replaced.items():
        command = command.replace(old, new)
    site.shell(command)
    assert "ref:" in site.shell(
        f"cat {site.data}/rescued{site.data}/gitea/git/repositories/{KEEPER}/{REPOSITORY}.git/HEAD"
    )
    site.shell(f"rm -r {site.data}/rescued")


def test_the_commands_of_the_last_resort_make_a_dump_of_the_database_s_files(
    site: SmallSite, run_context: RunContext
) -> None:
    postgres, name = site.stack.container("postgres"), f"{site.stack.project}-rescue"
    # A copy while nothing writes replaces the snapshot: this data is not on btrfs.
    copy = f"docker pause {postgres} && cp -a {site.data}/postgresql {site.data}/rescue; docker unpause {postgres}"
    site.shell(copy)
    (start,) = _page("sudo docker run --detach --name rescue")
    start = start.replace("sudo ", "").replace("--name rescue", f"--name {name} --label {RUN_LABEL}={run_context.run}")
    start = start.replace("/srv/gitea/rescue:", f"{site.data}/rescue:").replace(
        "IMAGE", site.stack.images["POSTGRES_IMAGE"]
    )
    ready, dump = (
        each.replace("sudo ", "").replace(" rescue ", f" {name} ") for each in _page("sudo docker exec rescue")
    )
    site.shell(start)
    try:
        until(lambda: "accepting" in site.shell(f"{ready.partition('#')[0]} || true"))
        site.shell(dump.replace("gitea.dump", f"{site.data}/rescue.dump"))
        listed = site.shell(f"docker exec --interactive {postgres} pg_restore --list < {site.data}/rescue.dump")
    finally:
        site.shell(f"docker rm --force --volumes {name}; rm -rf {site.data}/rescue {site.data}/rescue.dump")
    assert "TABLE DATA public repository" in listed
