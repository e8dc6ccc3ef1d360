"""The log on its way to the bucket: killed at any deed, it arrives once and whole."""

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
from ops.wal.base_backups import Log
from ops.wal.segments import Segment, Waiting
from tests.support import fakes

SITE = fakes.site()
SYSTEM = "7345"
KEY = encryption.key_from("a password of 43 letters and digits, as made")
NAMES = [Segment(number, 1).name() for number in range(1, 4)]


class Killed(BaseException):
    """The process is gone."""


@dataclass
class Bucket:
    """A bucket that counts what it is given, and before or after taking it may end the process or be away."""

    content: dict[str, bytes] = field(default_factory=dict)
    given: list[str] = field(default_factory=list)
    before: Callable[[], None] = lambda: None
    after: Callable[[], None] = lambda: None

    def objects(self, bucket: str, prefix: str, *, after: str = "") -> tuple[str, ...]:
        return tuple(sorted(key for key in self.content if key.startswith(prefix) and key > after))

    def read_object(self, bucket: str, key: str) -> bytes:
        return self.content[key]

    def write_object(self, bucket: str, key: str, content: bytes) -> None:
        self.before()
        self.content[key] = content
        self.given.append(key)
        self.after()


@dataclass
class Host(fakes.FakeWorld):
    """A host on which three segments were received wholly and a fourth in part."""

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
    """Ship as a run does first, which looks at what is in the bucket of what is left."""
    paths = HostPaths(local=waiting.folder.parent.with_name("restic"))
    stream.ship_left_behind(SITE, host, paths, KEY)  # type: ignore[arg-type]


def content(host: Host) -> dict[str, bytes]:
    return {
        segments.name_from(key): encryption.unpacked(encryption.decrypt(sealed, KEY, key))
        for key, sealed in host.aws.content.items()
    }


def test_what_is_whole_arrives_and_what_is_not_waits(waiting: Waiting) -> None:
    host = Host()
    assert stream.ship(SITE, host, waiting, SYSTEM, KEY) == NAMES[-1]  # type: ignore[arg-type]
    assert content(host) == {name: bytes([number]) * 1000 for number, name in enumerate(NAMES)}
    assert [each.name for each in waiting.received.iterdir()] == [f"{Segment(4, 1).name()}.partial"]
    assert list(waiting.sealed.iterdir()) == []
    assert stream.ship(SITE, host, waiting, SYSTEM, KEY) == ""  # type: ignore[arg-type]
    assert len(host.aws.given) == 3


def test_a_bucket_that_is_away_costs_nothing_but_time_and_little_room(waiting: Waiting) -> None:
    def away() -> None:
        raise Unavailable("the bucket is away")

    host = Host(aws=Bucket(before=away))
    with pytest.raises(Unavailable):
        ship(host, waiting)
    assert sorted(each.name for each in waiting.sealed.iterdir()) == NAMES
    host.aws.before = lambda: None
    ship(host, waiting)
    assert sorted(content(host)) == NAMES


def test_an_answer_that_was_lost_makes_no_second_version(waiting: Waiting) -> None:
    def lost() -> None:
        raise Unavailable("no answer came")

    host = Host(aws=Bucket(after=lost))
    for _ in NAMES:
        with pytest.raises(Unavailable):
            ship(host, waiting)
    ship(host, waiting)
    assert host.aws.given == [segments.key_of(SYSTEM, name) for name in NAMES]


@pytest.mark.parametrize("deed", range(30))
def test_wherever_it_is_killed_the_next_run_ships_the_rest_and_nothing_twice(
    waiting: Waiting, monkeypatch: pytest.MonkeyPatch, deed: int
) -> None:
    done = 0

    def dying(function: Callable[..., Any]) -> Callable[..., Any]:
        def do(*arguments: Any, **named: Any) -> Any:
            nonlocal done
            if done == deed:
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
            assert done == deed
    host.aws.before = host.aws.after = lambda: None
    ship(host, waiting)
    assert content(host) == {name: bytes([number]) * 1000 for number, name in enumerate(NAMES)}
    assert len(host.aws.given) == 3
    assert not [each for each in waiting.received.iterdir() if segments.is_finished(each.name)]


def test_a_name_that_the_bucket_has_with_other_content_is_sent_again(waiting: Waiting, paths: HostPaths) -> None:
    host = Host()
    key = segments.key_of(SYSTEM, NAMES[0])
    host.aws.content[key] = encryption.encrypt(b"of a history that was abandoned", KEY, key)
    host.aws.content[segments.key_of(SYSTEM, NAMES[1])] = encryption.encrypt(
        bytes([1]) * 1000, KEY, segments.key_of(SYSTEM, NAMES[1])
    )
    stream.ship_left_behind(SITE, host, paths, KEY)  # type: ignore[arg-type]
    assert content(host) == {name: bytes([number]) * 1000 for number, name in enumerate(NAMES)}
    assert host.aws.given == [key, segments.key_of(SYSTEM, NAMES[2])]


def test_a_log_that_begins_anew_is_not_late_until_it_had_its_time(waiting: Waiting, paths: HostPaths) -> None:
    asked = list[str]()
    host: Any = Host()
    session: Any = SimpleNamespace(ask=asked.append)
    stream._abandon(host, session, paths, waiting, SYSTEM)
    assert [*waiting.received.iterdir(), *waiting.sealed.iterdir()] == []
    assert "pg_drop_replication_slot" in asked[-1]
    known = stream.state_of(paths)
    assert known
    assert segments.check_stream(known, host.clock.now()).healthy
    assert not segments.check_stream(known, host.clock.now() + segments.LATE + timedelta(seconds=1)).healthy


def test_a_bucket_that_is_away_keeps_no_one_from_receiving_and_gets_all_of_it_later(
    waiting: Waiting, paths: HostPaths
) -> None:
    def away() -> None:
        raise OpsError("AWS says AccessDenied")

    host: Any = Host(aws=Bucket(before=away))
    (paths.wal / "state.json").write_text(segments.state_to_json(segments.Streamed(SYSTEM, host.clock.now(), "")))
    way = stream._Way(SITE, host, paths, Log(SYSTEM, 1, segments.SEGMENT_BYTES), waiting, KEY, Segment(4, 1))
    asked = [way.bring() for _ in range(3)]
    assert asked == [None, None, None]
    # It is asked again after a while, and not at every look.
    assert len(host.progress) == 1
    known = stream.state_of(paths)
    assert known
    assert known.trouble == "AWS says AccessDenied"
    host.aws.before = lambda: None
    host.clock.sleep(10)
    assert way.bring() == NAMES[-1]
    assert content(host) == {name: bytes([number]) * 1000 for number, name in enumerate(NAMES)}
    # One that is barred later is told of as well, and what has arrived is not forgotten.
    host.aws.before = away
    (waiting.received / Segment(4, 1).name()).write_bytes(b"four")
    assert way.bring() is None
    assert way.last == NAMES[-1]


def test_a_stream_without_a_database_goes_on_trying_and_says_what_hinders_it(
    paths: HostPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = Host()
    paths.wal.mkdir(parents=True)
    said = segments.Streamed(SYSTEM, host.clock.now(), NAMES[0])
    (paths.wal / "state.json").write_text(segments.state_to_json(said))

    class Engine:
        def name(self, project: str, service: str) -> str:
            if host.clock.monotonic() > 60:
                raise Killed
            raise OpsError("postgres is not running")

    host.containers = Engine()  # type: ignore[assignment]
    with pytest.raises(Killed):
        stream.stream(SITE, host, paths=paths)  # type: ignore[arg-type]
    assert len(host.progress) > 5
    known = stream.state_of(paths)
    assert known
    assert (known.covered, known.trouble) == (said.covered, "postgres is not running")


def test_what_this_host_has_of_a_log_is_found_even_if_it_is_not_whole(waiting: Waiting) -> None:
    (waiting.sealed / "00000002.history").touch()
    assert recovery.left_in(waiting) == {*NAMES, Segment(4, 1).name(), "00000002.history"}
    assert recovery.left_in(Waiting(waiting.folder / "nothing")) == frozenset()
