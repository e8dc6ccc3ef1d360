"""Evidence says which images a stage ran on, and one run has one image set."""

from __future__ import annotations

import pytest

from ops.gate import evidence, image_sets
from ops.model import Circumstances, Verdict

DIGEST = {"gitea/gitea:28.1.0": "sha256:" + "ab" * 32}
JUNIT = b'<testsuite><testcase classname="a" name="test_b" time="1"/></testsuite>'


def verdict(stage: str, image_set: str, reason: str = "", *, proven: bool = True) -> Verdict:
    under = Circumstances(image_set, DIGEST, image_set_reason=reason)
    statement = evidence.statement_from(stage, "f" * 40, JUNIT, under)
    return Verdict(stage, proven, "1 tests passed", "", statement)


def test_a_release_says_which_stages_did_not_run_on_upstream_s_images_and_why() -> None:
    chain = [
        verdict("lint", ""),
        verdict("integration", "hermetic", "there is no route to Docker Hub"),
        verdict("deploy-e2e", "hermetic", "there is no route to Docker Hub"),
    ]
    assert image_sets.not_on_upstream(chain) == (
        "integration and deploy-e2e ran on the hermetic images, with a stand-in for Gitea: there is no route to Docker Hub"
    )


@pytest.mark.parametrize("last", [image_sets.UPSTREAM, evidence.OF_THE_SITE])
def test_a_release_on_upstream_s_images_has_nothing_to_say(last: str) -> None:
    assert image_sets.not_on_upstream([verdict("integration", image_sets.UPSTREAM), verdict("deploy-e2e", last)]) == ""


def test_evidence_of_before_has_no_reason_and_a_release_says_so() -> None:
    assert image_sets.not_on_upstream([verdict("integration", "hermetic")]).endswith(": the evidence has no reason")


@pytest.mark.parametrize(
    ("own", "this_run", "proven"),
    [
        ("hermetic", "upstream", False),
        ("upstream", "hermetic", False),
        ("upstream", "upstream", True),
        ("hermetic", "", True),
        ("", "upstream", True),
        (evidence.OF_THE_SITE, "upstream", True),
    ],
)
def test_a_stage_on_the_other_image_set_is_unproven_for_a_run(own: str, this_run: str, proven: bool) -> None:
    (judged,) = image_sets.of_image_set([verdict("integration", own)], this_run)
    assert judged.proven is proven
    if not proven:
        assert judged.reason == f"it ran on the {own} images, and this run is on the {this_run} ones"
        assert judged.remedy == "./noxw -s integration"


def test_an_unproven_stage_keeps_its_reason() -> None:
    failed = verdict("integration", "hermetic", proven=False)
    assert image_sets.of_image_set([failed], "upstream") == (failed,)
