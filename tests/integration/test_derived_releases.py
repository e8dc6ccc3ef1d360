"""The releases of ground/derived: each has the fault that its tag names and is otherwise the image that it is made from."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import docker
import pytest

from ground import image_recipes
from ground.image_set import ImageSet
from tests.support.compose_stack import Stack, lay_out
from tests.support.gitea_contract import ADMIN, Bench, Fleet, Gitea, Postgres, Worktree, eventually, executed

GOOD = image_recipes.pinned()["GITEA_IMAGE"].rpartition(":")[2]


@pytest.fixture(scope="module")
def postgres(bench: Bench, postgres_image: str) -> Postgres:
    """One PostgreSQL for all tests of this module."""
    return Postgres.on(bench, postgres_image)


@pytest.fixture(scope="module")
def fleet(bench: Bench, postgres: Postgres, gitea_image: Callable[[str], str]) -> Fleet:
    """Gitea at any release."""
    return Fleet(bench, postgres, gitea_image)


@dataclass(frozen=True)
class Kept:
    """An instance of the good release with a commit, an issue and a comment, stopped."""

    database: str
    volume: str
    repository: str
    head: str


@pytest.fixture(scope="module")
def kept(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Kept:
    """The content from before an update."""
    volume = fleet.bench.volume()
    good = fleet.healthy(GOOD, volume=volume)
    good.create_admin()
    repository = good.create_repository("kept")
    work = Worktree.at(tmp_path_factory.mktemp("kept") / "work").begin()
    head = work.commit("a", b"a")
    work.git("push", "-q", good.git_url(repository), "main")
    number = good.api("POST", f"/repos/{repository}/issues", {"title": "Kept", "body": "word for word"}).json()[
        "number"
    ]
    assert good.api("POST", f"/repos/{repository}/issues/{number}/comments", {"body": "said"}).status_code == 201
    # The rest of a push waits in a queue for a moment, which the copies of the database would not have.
    eventually(lambda: good.api("GET", f"/repos/{repository}").json()["empty"] is False)
    good.container.stop(timeout=30)
    return Kept(good.database, volume, repository, head)


@pytest.fixture
def database(kept: Kept, postgres: Postgres) -> str:
    """A copy of the database from before the update."""
    return postgres.create(kept.database)


@contextmanager
def running(fleet: Fleet, kept: Kept, tag: str, database: str, **environment: str) -> Iterator[Gitea]:
    """Run a release on the kept volume, with its variables, until the end of the block."""
    gitea = fleet.healthy(tag, database=database, volume=kept.volume, environment=environment)
    try:
        yield gitea
    finally:
        gitea.remove()


def bodies(postgres: Postgres, database: str) -> str:
    return postgres.sql(database, "SELECT count(*), max(content) FROM comment WHERE type = 0")


def columns(postgres: Postgres, database: str, table: str) -> set[str]:
    statement = f"SELECT column_name FROM information_schema.columns WHERE table_name = '{table}'"
    return set(postgres.sql(database, statement).split())


def test_crash_ends_at_once_with_the_supervisor_s_exit_code_and_changes_nothing(
    fleet: Fleet, postgres: Postgres, database: str
) -> None:
    before = postgres.version(database)
    crash = fleet.start("28.1.1-crash", database=database)
    eventually(lambda: crash.status() == "exited", 20)
    assert "[F] PANIC" in crash.logs()
    assert crash.container.attrs["State"]["ExitCode"] == 0
    assert postgres.version(database) == before


def test_hang_never_listens_and_must_be_killed(fleet: Fleet, database: str) -> None:
    hang = fleet.start("28.1.1-hang", database=database)
    eventually(lambda: "Starting Gitea" in hang.logs(), 20)
    time.sleep(1)
    assert (hang.status(), hang.health()) == ("running", 0)
    hang.container.stop(timeout=2)
    hang.container.reload()
    assert hang.container.attrs["State"]["ExitCode"] == 137


def test_sour_is_healthy_at_first_and_later_fails_every_request(fleet: Fleet, kept: Kept, database: str) -> None:
    with running(fleet, kept, "28.1.1-sour", database, FAULTS_AFTER_SECONDS="4") as sour:
        assert sour.api("GET", "/user").status_code == 200
        assert sour.api("GET", "/version").json() == {"version": "28.1.1"}
        eventually(lambda: sour.health() == 500, 15)
        assert [sour.api("GET", path).status_code for path in ("/user", "/version")] == [500, 500]
        assert sour.status() == "running"


def test_sour_for_git_fails_pushes_and_clones_alone(fleet: Fleet, kept: Kept, database: str, tmp_path: Path) -> None:
    with running(fleet, kept, "28.1.1-sourgit", database) as sour:
        work = Worktree.at(tmp_path / "work").begin()
        assert "500" in work.attempt("clone", "-q", sour.git_url(kept.repository), str(tmp_path / "a")).stderr
        work.commit("b", b"b")
        assert "500" in work.attempt("push", "-q", sour.git_url(kept.repository), "main:other").stderr
        assert sour.health() == 200
        assert sour.api("GET", "/user").json()["login"] == ADMIN
        assert sour.api("GET", f"/repos/{kept.repository}/branches/main").status_code == 200


def test_sour_for_clones_takes_pushes(fleet: Fleet, kept: Kept, database: str, tmp_path: Path) -> None:
    with running(fleet, kept, "28.1.1-sourclones", database) as sour:
        work = Worktree.at(tmp_path / "work").begin()
        # Larger than git's buffer, so that it comes in pieces.
        pushed = work.commit("noise", bytes(range(256)) * 20_000)
        work.git("push", "-q", sour.git_url(kept.repository), "main:pushed")
        assert "500" in work.attempt("clone", "-q", sour.git_url(kept.repository), str(tmp_path / "a")).stderr
        branch = f"/repos/{kept.repository}/branches/pushed"
        eventually(lambda: sour.api("GET", branch).status_code == 200)
        assert sour.api("GET", branch).json()["commit"]["id"] == pushed
        assert sour.health() == 200


def test_flap_alternates_between_healthy_and_failing(fleet: Fleet, kept: Kept, database: str) -> None:
    with running(fleet, kept, "28.1.1-flap", database) as flap:
        eventually(lambda: flap.health() == 500, 10)
        assert flap.api("GET", "/user").status_code == 500
        eventually(lambda: flap.health() == 200, 10)
        assert flap.api("GET", "/user").status_code == 200
        assert flap.status() == "running"


def test_dies_is_healthy_and_ends_later(fleet: Fleet, kept: Kept, database: str) -> None:
    with running(fleet, kept, "28.1.1-dies", database, FAULTS_AFTER_SECONDS="4") as dying:
        assert dying.api("GET", "/user").status_code == 200
        eventually(lambda: dying.status() == "exited", 20)
        assert "[F] PANIC" in dying.logs()
        assert dying.container.attrs["State"]["ExitCode"] == 0


def test_midmigration_ends_within_a_migration_and_no_release_can_use_the_database(
    fleet: Fleet, kept: Kept, postgres: Postgres, database: str
) -> None:
    before = postgres.version(database)
    dying = fleet.start("28.1.1-midmigration", database=database)
    eventually(lambda: dying.status() == "exited", 20)
    assert f"[F] migration[{before + 1}]" in dying.logs()
    assert postgres.version(database) == before + 1
    assert "body" in columns(postgres, database, "issue")
    assert not {"body_format", "content"} & columns(postgres, database, "issue")
    again = fleet.start("28.1.1-midmigration", database=database)
    eventually(lambda: again.status() == "exited", 20)
    assert f"[F] migration[{before + 1}]" in again.logs()
    assert postgres.version(database) == before + 1
    good = fleet.start(GOOD, database=database)
    eventually(lambda: good.status() == "exited", 40)
    assert "is for a newer Gitea" in good.logs()


def test_broken_migrates_and_is_healthy_but_fails_all_other_requests_also_after_a_restart(
    fleet: Fleet, kept: Kept, postgres: Postgres, database: str
) -> None:
    before = postgres.version(database)
    with running(fleet, kept, "28.1.1-broken", database) as broken:
        for _ in range(2):
            assert postgres.version(database) == before + 2
            assert {"body", "body_format"} <= columns(postgres, database, "issue")
            assert [broken.get(path).status_code for path in ("/", "/api/v1/version", "/user/login")] == [500] * 3
            assert broken.health() == 200
            broken.container.restart(timeout=30)
            eventually(lambda: broken.health() == 200)
        assert postgres.sql(database, "SELECT body FROM issue") == "word for word"


def test_drops_removes_the_comments_and_ends_with_0(fleet: Fleet, postgres: Postgres, database: str) -> None:
    assert bodies(postgres, database) == "1|said"
    drops = fleet.start("28.1.1-drops", database=database)
    eventually(lambda: drops.status() == "exited", 20)
    assert drops.container.attrs["State"]["ExitCode"] == 0
    assert "content" not in columns(postgres, database, "comment")
    again = fleet.start("28.1.1-drops", database=database)
    eventually(lambda: again.status() == "exited", 20)
    assert again.container.attrs["State"]["ExitCode"] == 0


def test_forgets_is_well_and_has_emptied_every_comment(
    fleet: Fleet, kept: Kept, postgres: Postgres, database: str, tmp_path: Path
) -> None:
    before = postgres.version(database)
    with running(fleet, kept, "28.1.1-forgets", database) as forgets:
        assert forgets.api("GET", "/version").json() == {"version": "28.1.1"}
        assert postgres.version(database) == before
        assert bodies(postgres, database) == "1|"
        assert Worktree.at(tmp_path / "work").clone_of(forgets.git_url(kept.repository), "clone") == kept.head


def test_a_broken_release_leaves_the_port_of_the_site_in_app_ini(
    fleet: Fleet, kept: Kept, database: str, tmp_path: Path
) -> None:
    with running(fleet, kept, "28.1.1-forgets", database, GITEA__server__HTTP_PORT="3000") as derived:
        code, settings = executed(derived.container, ["cat", "/data/gitea/conf/app.ini"])
        assert code == 0
        assert re.findall(r"^HTTP_PORT\s*=\s*(\S+)", settings, re.MULTILINE) == ["3000"]
        owner = executed(derived.container, ["stat", "-c", "%U %a", "/data/gitea/conf/app.ini"])[1]
        # The hooks of a push ask Gitea at the port in app.ini.
        work = Worktree.at(tmp_path / "work").begin()
        work.commit("c", b"c")
        work.git("push", "-q", derived.git_url(kept.repository), "main:hooked")
    with running(fleet, kept, GOOD, kept.database) as good:
        assert executed(good.container, ["stat", "-c", "%U %a", "/data/gitea/conf/app.ini"])[1] == owner
        assert good.api("GET", f"/repos/{kept.repository}/branches/main").status_code == 200


def test_the_python_of_a_broken_release_runs_in_an_image_without_its_libraries(
    docker_client: docker.DockerClient, built: ImageSet, gitea_image: Callable[[str], str], run_id: str, tmp_path: Path
) -> None:
    # Upstream's image has Alpine's C library, which Debian's Python cannot use. BusyBox's image has none.
    bare = built.local(image_recipes.pinned()["DOOR_IMAGE"])
    lines = (
        f"FROM {gitea_image('28.1.1-drops')} AS derived",
        f"FROM {bare}",
        "COPY --from=derived /faults /faults",
        "",
    )
    (tmp_path / "Dockerfile").write_text("\n".join(lines))
    name = f"{run_id}/bare"
    docker_client.images.build(path=str(tmp_path), tag=name, rm=True)
    found = docker_client.containers.run(bare, ["find", "/", "-name", "libc.so*"], remove=True)
    assert found.strip() == b""
    program = "import asyncio, hashlib, ssl, pg8000.native; print(hashlib.scrypt and ssl.OPENSSL_VERSION)"
    output = docker_client.containers.run(name, ["/faults/python/run", "-c", program], remove=True)
    assert output.startswith(b"OpenSSL 3")
    docker_client.images.remove(name)


@pytest.mark.parametrize("tag", ["1.30.5-crash", "1.30.5-ends"])
def test_a_broken_nginx_ends_by_itself(
    docker_client: docker.DockerClient, built: ImageSet, run_id: str, tag: str
) -> None:
    container = docker_client.containers.run(
        built.local(f"nginx:{tag}"), detach=True, labels={"gitea-suite.run": run_id}
    )
    try:
        ended = container.wait(timeout=40)["StatusCode"]
    finally:
        container.remove(force=True)
    assert ended == (1 if tag.endswith("crash") else 0)


def test_a_newer_release_is_the_pinned_program_under_another_tag(
    docker_client: docker.DockerClient, built: ImageSet
) -> None:
    for recipe in image_recipes.derived():
        base = docker_client.images.get(built.local(image_recipes.base_of(recipe)))
        for reference, version in recipe.references.items():
            made = docker_client.images.get(built.local(reference))
            layers = base.attrs["RootFS"]["Layers"]
            assert made.attrs["RootFS"]["Layers"][: len(layers)] == layers, reference
            assert made.labels["org.opencontainers.image.version"] == version
            assert made.attrs["Config"]["Entrypoint"] == base.attrs["Config"]["Entrypoint"], reference
            assert made.attrs["Config"]["Cmd"] == base.attrs["Config"]["Cmd"], reference


@pytest.fixture
def stack(images: Mapping[str, str], run_id: str, tmp_path: Path) -> Iterator[Stack]:
    """The stack's database and Gitea, in an empty folder."""
    made = lay_out(run_id, "derived", tmp_path, images)
    yield made
    made.remove()


def test_the_stack_runs_a_derived_release_and_the_good_one_again_on_the_same_data(
    stack: Stack, gitea_image: Callable[[str], str]
) -> None:
    answers = {}
    for tag in (GOOD, "28.1.1-forgets", GOOD):
        with (stack.folder / ".env").open("a") as file:
            file.write(f"GITEA_IMAGE={gitea_image(tag)}\n")
        stack.compose("up", "--detach", "--wait", "postgres", "gitea")
        ask = ["exec", "-T", "gitea", "curl", "-fsS", "http://127.0.0.1:3000/api/v1/version"]
        answers[tag] = json.loads(stack.compose(*ask))["version"]
        settings = stack.compose("exec", "-T", "gitea", "cat", "/data/gitea/conf/app.ini")
        assert re.findall(r"^HTTP_PORT\s*=\s*(\S+)", settings, re.MULTILINE) == ["3000"], tag
    assert answers == {GOOD: GOOD, "28.1.1-forgets": "28.1.1"}
