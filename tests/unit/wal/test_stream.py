"""The WAL stream: after a kill at any point, every file arrives in the bucket once and whole."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ops.config.paths import HostPaths
from ops.errors import OpsError, Unavailable
from ops.wal import encryption, recovery, segments, stream
from ops.wal.base_backups import WalSource
from ops.wal.segments import Segment, Waiting
from tests.support import fakes

SITE = fakes.site()
SYSTEM = "7345"
KEY = encryption.key_from("a password of 43 letters and digits, as made")
NAMES = [Segment(number, 1).name() for number in range(1, 4)]


class Killed(BaseException):
    """The process was killed."""


@dataclass
class Bucket:
    """A bucket that records uploads. Before or after each, it can kill the process or be unreachable."""

    content: dict[str, bytes] = field(default_factory=dict)
    uploads: list[str] = field(default_factory=list)
    before: Callable[[], None] = lambda: None
    after: Callable[[], None] = lambda: None

    def objects(self, bucket: str, prefix: str, *, after: str = "") -> tuple[str, ...]:
        return tuple(sorted(key for key in self.content if key.startswith(prefix) and key > after))

    def read_object(self, bucket: str, key: str) -> bytes:
        return self.content[key]

    def write_object(self, bucket: str, key: str, content: bytes) -> None:
        self.before()
        self.content[key] = content
        self.uploads.append(key)
        self.after()


@dataclass
class Host(fakes.FakeWorld):
    """A host that received three whole segments and a part of a fourth."""

    aws: Any = field(default_factory=Bucket)


@pytest.fixture
def paths(tmp_path: Path) -> HostPaths:
    return HostPaths(
        tmp_path / "data", tmp_path / "secrets", tmp_path / "backup/restic", lock=tmp_path / "operation.lock"
    )


@pytest.fixture
def waiting(paths: HostPaths) -> Waiting:
    made = stream.waiting_for(paths, SYSTEM)
    for number, name in enumerate(NAMES):
        (made.received / name).write_bytes(bytes([number]) * 1000)
    (made.received / f"{Segment(4, 1).name()}.partial").write_bytes(b"half")
    return made


def ship(host: Host, waiting: Waiting) -> None:
    """Ship as a run does at first, when it compares the leftovers with the bucket."""
    paths = HostPaths(local=waiting.folder.parent.with_name("restic"))
    stream.ship_left_behind(SITE, host, paths, KEY)  # type: ignore[arg-type]


def content(host: Host) -> dict[str, bytes]:
    return {
        segments.name_from(key): encryption.decompressed(encryption.decrypt(encrypted, KEY, key))
        for key, encrypted in host.aws.content.items()
    }


def test_finished_segments_are_uploaded_and_the_partial_one_waits(waiting: Waiting) -> None:
    host = Host()
    arrived: list[tuple[str, str]] = []

    def note(system: str, name: str) -> None:
        arrived.append((system, name))

    stream.ship(SITE, host, waiting, SYSTEM, KEY, on_arrival=note)  # type: ignore[arg-type]
    assert arrived == [(SYSTEM, name) for name in NAMES]
    assert content(host) == {name: bytes([number]) * 1000 for number, name in enumerate(NAMES)}
    assert [each.name for each in waiting.received.iterdir()] == [f"{Segment(4, 1).name()}.partial"]
    assert list(waiting.encrypted.iterdir()) == []
    stream.ship(SITE, host, waiting, SYSTEM, KEY, on_arrival=note)  # type: ignore[arg-type]
    assert len(arrived) == 3
    assert len(host.aws.uploads) == 3


def test_files_wait_encrypted_while_the_bucket_is_unreachable(waiting: Waiting) -> None:
    def unreachable() -> None:
        raise Unavailable("the bucket is unreachable")

    host = Host(aws=Bucket(before=unreachable))
    with pytest.raises(Unavailable):
        ship(host, waiting)
    assert sorted(each.name for each in waiting.encrypted.iterdir()) == NAMES
    host.aws.before = lambda: None
    ship(host, waiting)
    assert sorted(content(host)) == NAMES


def test_a_lost_answer_causes_no_second_upload(waiting: Waiting) -> None:
    def lost() -> None:
        raise Unavailable("no answer came")

    host = Host(aws=Bucket(after=lost))
    for _ in NAMES:
        with pytest.raises(Unavailable):
            ship(host, waiting)
    ship(host, waiting)
    assert host.aws.uploads == [segments.key_of(SYSTEM, name) for name in NAMES]


@pytest.mark.parametrize("call", range(30))
def test_after_a_kill_anywhere_the_next_run_ships_the_rest_and_no_file_twice(
    waiting: Waiting, monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    done = 0

    def dying(function: Callable[..., Any]) -> Callable[..., Any]:
        def do(*arguments: Any, **named: Any) -> Any:
            nonlocal done
            if done == call:
                raise Killed
            done += 1
            return function(*arguments, **named)

        return do

    host = Host()
    with monkeypatch.context() as patch:
        for name in ("unlink", "replace", "open"):
            patch.setattr(Path, name, dying(getattr(Path, name)))
        host.aws.before = host.aws.after = dying(lambda: None)
        try:
            ship(host, waiting)
        except Killed:
            assert done == call
    host.aws.before = host.aws.after = lambda: None
    ship(host, waiting)
    assert content(host) == {name: bytes([number]) * 1000 for number, name in enumerate(NAMES)}
    assert len(host.aws.uploads) == 3
    assert not [each for each in waiting.received.iterdir() if segments.is_finished(each.name)]


def test_an_object_with_the_same_name_and_other_content_is_uploaded_again(waiting: Waiting, paths: HostPaths) -> None:
    host = Host()
    key = segments.key_of(SYSTEM, NAMES[0])
    host.aws.content[key] = encryption.encrypt(b"of an abandoned history", KEY, key)
    host.aws.content[segments.key_of(SYSTEM, NAMES[1])] = encryption.encrypt(
        bytes([1]) * 1000, KEY, segments.key_of(SYSTEM, NAMES[1])
    )
    stream.ship_left_behind(SITE, host, paths, KEY)  # type: ignore[arg-type]
    assert content(host) == {name: bytes([number]) * 1000 for number, name in enumerate(NAMES)}
    assert host.aws.uploads == [key, segments.key_of(SYSTEM, NAMES[2])]


def test_after_a_reset_the_stream_has_the_usual_time_before_it_is_late(waiting: Waiting, paths: HostPaths) -> None:
    asked = list[str]()
    host: Any = Host()
    session: Any = SimpleNamespace(ask=asked.append)
    stream._reset(host, session, paths, waiting, SYSTEM)
    assert [*waiting.received.iterdir(), *waiting.encrypted.iterdir()] == []
    assert "pg_drop_replication_slot" in asked[-1]
    found = stream.state_of(paths)
    assert found
    assert segments.check_stream(found, host.clock.now()).healthy
    assert not segments.check_stream(found, host.clock.now() + segments.LATE + timedelta(seconds=1)).healthy


def test_receiving_continues_while_the_bucket_is_unreachable_and_all_files_arrive_later(
    waiting: Waiting, paths: HostPaths
) -> None:
    def unreachable() -> None:
        raise OpsError("AWS says AccessDenied")

    host: Any = Host(aws=Bucket(before=unreachable))
    (paths.wal / "state.json").write_text(segments.state_to_json(segments.Streamed(SYSTEM, host.clock.now(), "")))
    uploader = stream._Uploader(
        SITE, host, paths, WalSource(SYSTEM, 1, segments.SEGMENT_BYTES), waiting, KEY, Segment(4, 1)
    )
    assert [uploader.upload() for _ in range(3)] == [None, None, None]
    # It is tried again after a while, not at every poll.
    assert len(host.progress) == 1
    found = stream.state_of(paths)
    assert found
    assert found.trouble == "AWS says AccessDenied"
    host.aws.before = lambda: None
    host.clock.sleep(10)
    assert uploader.upload() == NAMES[-1]
    assert content(host) == {name: bytes([number]) * 1000 for number, name in enumerate(NAMES)}
    # A later failure is reported as well, and the last upload is not forgotten.
    host.aws.before = unreachable
    (waiting.received / Segment(4, 1).name()).write_bytes(b"four")
    assert uploader.upload() is None
    assert uploader.last == NAMES[-1]


def uploader_from(host: Any, paths: HostPaths, waiting: Waiting, first: Segment) -> stream._Uploader:
    """The uploads of a run that began to receive in segment ``first``."""
    return stream._Uploader(SITE, host, paths, WalSource(SYSTEM, 1, segments.SEGMENT_BYTES), waiting, KEY, first)


def test_a_segment_that_ends_before_the_first_upload_counts_as_uploaded(waiting: Waiting, paths: HostPaths) -> None:
    # A slow host: the run began in the third segment, which was switched and received before the leftovers were uploaded.
    assert uploader_from(Host(), paths, waiting, Segment(3, 1)).upload() == NAMES[2]


def test_a_segment_that_was_uploaded_before_an_upload_failed_counts_as_uploaded(
    waiting: Waiting, paths: HostPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = Host()
    uploader = uploader_from(host, paths, waiting, Segment(3, 1))
    listed, complete = 0, host.aws.objects

    def failing_at_the_second_listing(bucket: str, prefix: str, *, after: str = "") -> tuple[str, ...]:
        nonlocal listed
        listed += 1
        if listed == 2:
            raise Unavailable("the bucket is unreachable")
        found: tuple[str, ...] = complete(bucket, prefix, after=after)
        return found

    monkeypatch.setattr(host.aws, "objects", failing_at_the_second_listing)
    assert uploader.upload() is None
    assert sorted(content(host)) == NAMES
    host.clock.sleep(10)
    assert uploader.upload() == NAMES[2]


def test_segments_of_an_abandoned_history_in_the_bucket_do_not_count_as_uploaded(
    waiting: Waiting, paths: HostPaths
) -> None:
    host = Host()
    for abandoned in (Segment(9, 1), Segment(2, 7)):
        host.aws.content[segments.key_of(SYSTEM, abandoned.name())] = b"of an abandoned history"
    assert uploader_from(host, paths, waiting, Segment(3, 1)).upload() == NAMES[2]
    for name in (Segment(9, 1).name(), Segment(2, 7).name()):
        assert host.aws.content[segments.key_of(SYSTEM, name)] == b"of an abandoned history"


def test_a_stream_without_a_database_retries_and_records_the_error(
    paths: HostPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = Host()
    paths.wal.mkdir(parents=True)
    state = segments.Streamed(SYSTEM, host.clock.now(), NAMES[0])
    (paths.wal / "state.json").write_text(segments.state_to_json(state))

    class Engine:
        def name(self, project: str, service: str) -> str:
            if host.clock.monotonic() > 60:
                raise Killed
            raise OpsError("postgres is not running")

    host.containers = Engine()  # type: ignore[assignment]
    with pytest.raises(Killed):
        stream.stream(SITE, host, paths=paths)  # type: ignore[arg-type]
    assert len(host.progress) > 5
    found = stream.state_of(paths)
    assert found
    assert (found.covered, found.trouble) == (state.covered, "postgres is not running")


def test_the_wal_files_on_this_host_include_the_partial_segment(waiting: Waiting) -> None:
    (waiting.encrypted / "00000002.history").touch()
    assert recovery.unshipped_names(waiting) == {*NAMES, Segment(4, 1).name(), "00000002.history"}
    assert recovery.unshipped_names(Waiting(waiting.folder / "nothing")) == frozenset()
