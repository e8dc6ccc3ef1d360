"""The canary holds one of everything, and a part that does not come back as it was is found."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from ops.errors import OpsError
from ops.images.versions import Release, release_from
from ops.model import Secret
from ops.update import canary
from ops.update.canary import PARTS, Written
from ops.world.https import Answer
from tests.support import fakes
from tests.support.fake_gitea import COMMIT, FakeGitea

SITE = fakes.site()
TOKEN = Secret("t")
NEW = release_from("28.1.0")
OWN = "/api/v1/repos/keeper/ops-canary"


class Served:
    """A site that answers with a fake Gitea, and the requests that it got."""

    def __init__(self, *not_served: str) -> None:
        self.gitea = FakeGitea(not_served=list(not_served))
        self.asked: list[tuple[str, str, str]] = []
        # Paths that are answered with this status instead.
        self.failing: dict[str, int] = {}
        world: Any = fakes.FakeWorld(https=fakes.FakeHttps(self._handle))
        self.world = world

    def _handle(self, method: str, path: str, headers: Any, document: Any) -> Answer:
        self.asked.append((method, path, headers["Authorization"].partition(" ")[0]))
        if path in self.failing:
            return Answer(self.failing[path])
        if path == f"{OWN}/branches/main":
            return Answer(200, body=b'{"commit": {"id": "%b"}}' % COMMIT.encode())
        status, body = self.gitea.answer(method, path, document)
        return Answer(status, body=body)

    def write(self, release: Release | None = NEW) -> Written:
        assert release
        return canary.write(SITE, self.world, TOKEN, release)


def test_the_canary_has_one_of_everything_and_comes_back_as_it_was() -> None:
    served = Served()
    written = served.write()
    assert (written.commit, [part.name for part in written.parts], written.skipped) == (COMMIT, list(PARTS), {})
    assert canary.compare(SITE, served.world, TOKEN, written.parts) == canary.Compared((), lost=False)
    assert {
        "organization",
        "file",
        "label",
        "issue",
        "comment",
        "attachment",
        "release",
        "release file",
        "pull request",
        "wiki page",
        "LFS object",
        "package",
        "public key",
    } == set(PARTS)


@pytest.mark.parametrize("name", PARTS)
@pytest.mark.parametrize("how", ["changed", "gone", "emptied"])
def test_a_part_that_changed_or_is_gone_is_lost_data(name: str, how: str) -> None:
    served = Served()
    written = served.write()
    (part,) = [each for each in written.parts if each.name == name]
    if part.path in served.gitea.files:
        served.gitea.files[part.path] = "" if how == "emptied" else "AAAA"
    else:
        for value in part.values:
            *steps, last = value.split(".")
            found = served.gitea.documents[part.path]
            for step in steps:
                found = found[int(step) if step.isdigit() else step]
            found[last] = "" if how == "emptied" else "other"
    if how == "gone":
        served.gitea.files.pop(part.path, None)
        served.gitea.documents.pop(part.path, None)
    compared = canary.compare(SITE, served.world, TOKEN, written.parts)
    assert compared.lost
    assert any(each.startswith(f"{name}: ") for each in compared.findings)
    assert all(("answers 404" in each) is (how == "gone") for each in compared.findings)


@pytest.mark.parametrize("status", [401, 500, 503])
def test_a_part_that_is_not_served_for_the_moment_is_a_finding_and_no_lost_data(status: int) -> None:
    served = Served()
    written = served.write()
    path = next(part.path for part in written.parts if part.name == "comment")
    served.failing = {path: status}
    compared = canary.compare(SITE, served.world, TOKEN, written.parts)
    assert compared == canary.Compared((f"comment: {path} answers {status}",), lost=False)


@pytest.mark.parametrize(
    ("not_served", "skipped"),
    [
        ("/wiki/", {"wiki page"}),
        ("/info/lfs/", {"LFS object"}),
        ("/api/v1/orgs$", {"organization", "package"}),
        ("/issues$", {"label", "issue", "comment", "attachment"}),
        ("/contents/", {"file", "pull request"}),
        ("/assets", {"attachment", "release file"}),
    ],
)
def test_a_feature_that_is_switched_off_is_left_out_and_named(not_served: str, skipped: set[str]) -> None:
    written = Served(not_served).write()
    assert set(written.skipped) == skipped
    assert {part.name for part in written.parts} == set(PARTS) - skipped
    assert all(why.startswith(("Gitea answers 404 to ", "it needs the ")) for why in written.skipped.values())


def test_a_version_older_than_every_recorded_one_is_asked_for_no_part_and_each_is_named() -> None:
    written = Served().write(release_from("1.21.11"))
    assert (written.parts, set(written.skipped)) == ((), set(PARTS))
    assert set(written.skipped.values()) == {"Gitea 1.21.11 is older than its first known version"}


def test_a_part_that_the_running_version_does_not_return_is_left_out_and_not_blamed_on_the_next_one() -> None:
    served = Served()
    answer = served.gitea.answer
    served.gitea.answer = (  # type: ignore[method-assign]
        lambda method, path, document: (200, b"{}") if "/issues/comments/" in path else answer(method, path, document)
    )
    written = served.write()
    assert written.skipped == {"comment": "the running version does not return it"}
    assert {part.name for part in written.parts} == set(PARTS) - {"comment"}
    # What is eventual has its time.
    assert served.world.clock.monotonic() >= 10


@pytest.mark.parametrize(
    ("status", "why"),
    [
        (500, f"Gitea answers 500 to POST {OWN}/wiki/new"),
        (422, f"Gitea answers 422 to POST {OWN}/wiki/new"),
        (201, "Gitea's answer is not understood: JSONDecodeError("),
    ],
)
def test_a_part_that_the_running_version_cannot_store_does_not_hinder_the_update(status: int, why: str) -> None:
    served = Served()
    served.failing = {f"{OWN}/wiki/new": status}
    written = served.write()
    assert list(written.skipped) == ["wiki page"]
    assert written.skipped["wiki page"].startswith(why)


def test_without_a_repository_there_is_no_update() -> None:
    served = Served()
    served.failing = {"/api/v1/user/repos": 500}
    with pytest.raises(OpsError, match="Gitea answers 500 to the creation of keeper/ops-canary"):
        served.write()


def test_removing_the_canary_leaves_nothing_and_writing_it_removes_an_older_one() -> None:
    served = Served()
    first = served.write()
    again = served.write()
    assert first.parts != again.parts
    assert len([path for path in served.gitea.documents if "/keys/" in path]) == 1
    canary.remove(SITE, served.world, TOKEN)
    assert (served.gitea.documents, served.gitea.files) == ({}, {})
    canary.remove(SITE, served.world, TOKEN)


def test_the_canary_s_key_is_found_behind_many_others() -> None:
    served = Served()
    for number in range(60):
        served.gitea.documents[f"/api/v1/user/keys/9{number}"] = {"id": f"9{number}", "title": f"laptop {number}"}
    served.write()
    canary.remove(SITE, served.world, TOKEN)
    assert len(served.gitea.documents) == 60


def test_an_organization_of_that_name_that_is_not_the_canary_stays() -> None:
    served = Served()
    served.gitea.documents["/api/v1/orgs/ops-canary"] = {"description": "birds"}
    written = served.write()
    assert written.skipped == {
        "organization": "an organization ops-canary exists that is not the canary's",
        "package": "it needs the organization",
    }
    canary.remove(SITE, served.world, TOKEN)
    assert served.gitea.documents == {"/api/v1/orgs/ops-canary": {"description": "birds"}}


def test_a_part_that_cannot_be_removed_is_named() -> None:
    served = Served()
    served.write()
    served.failing = {OWN: 500}
    with pytest.raises(OpsError, match=f"Gitea answers 500 to the removal of the canary at {OWN}"):
        canary.remove(SITE, served.world, TOKEN)


def test_lfs_is_used_as_git_does_and_all_else_by_token() -> None:
    served = Served()
    served.write()
    assert {path.split("/")[3] for _, path, kind in served.asked if kind == "Basic"} == {"info"}


def test_no_two_canaries_have_the_same_content_and_the_texts_are_long() -> None:
    one, other = Served().write(), Served().write()
    for mine, others in zip(one.parts, other.parts, strict=True):
        assert mine.values != others.values or mine.name == "pull request"
    comment = next(part for part in one.parts if part.name == "comment")
    assert len(comment.values["body"]) > 2000
    assert dataclasses.asdict(comment)["basic"] is False
