"""Each stage depends on the evidence of the one before, on the same tree and with the same image set."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ops.errors import Refused
from ops.gate import evidence
from ops.gate.evidence import STAGES
from ops.model import Proof
from tests.support.evidence_samples import (
    KEY,
    TREE,
    UNDER,
    chain_through,
    junit_with,
    proof_of,
    proven_in,
    rehearsed_under,
)


def test_each_stage_depends_on_the_evidence_of_the_one_before() -> None:
    assert proven_in(chain_through(4)) == list(STAGES)
    again = chain_through(4) | {
        "unit": proof_of(
            "unit", junit=junit_with("passed"), previous=evidence.previous_digest("unit", chain_through(4))
        )
    }
    assert proven_in(again) == ["lint", "unit", "deploy-e2e"]
    assert evidence.missing_before("deploy-e2e", evidence.check_chain(TREE, again, KEY)) == ("integration",)


@pytest.mark.parametrize(
    ("through", "missing"), [(0, STAGES[:3]), (1, STAGES[1:3]), (2, STAGES[2:3]), (3, ()), (4, ())]
)
def test_a_deployment_needs_the_first_unproven_stage_and_all_after_it(through: int, missing: tuple[str, ...]) -> None:
    assert evidence.missing_before("deploy-e2e", evidence.check_chain(TREE, chain_through(through), KEY)) == missing


def test_a_stage_refuses_to_start_after_an_unproven_one_and_names_its_command() -> None:
    with pytest.raises(Refused) as caught:
        evidence.require_start("integration", evidence.check_chain(TREE, chain_through(1), KEY), ())
    assert caught.value.exit_code == 4
    assert "integration needs unit" in caught.value.message
    assert caught.value.hint == "run ./noxw -s unit"


@pytest.mark.parametrize("stage", ["integration", "deploy-e2e"])
def test_integration_and_deployment_refuse_a_changed_tree(stage: str) -> None:
    with pytest.raises(Refused, match=r"changed: a\.py"):
        evidence.require_start(stage, evidence.check_chain(TREE, chain_through(4), KEY), ("a.py",))


@pytest.mark.parametrize("stage", ["lint", "unit"])
def test_lint_and_unit_start_on_a_changed_tree_without_raising(stage: str) -> None:
    evidence.require_start(stage, evidence.check_chain(TREE, {}, KEY), ("a.py",))


def test_the_first_stage_starts_without_evidence_and_does_not_raise() -> None:
    evidence.require_start("lint", evidence.check_chain(TREE, {}, KEY), ())


def test_a_deployment_with_another_image_set_than_the_tests_proves_nothing() -> None:
    *before, last = evidence.check_chain(TREE, rehearsed_under(replace(UNDER, image_set="upstream")), KEY)
    assert all(verdict.proven for verdict in before)
    assert not last.proven
    assert last.reason == "it ran on the upstream images, and lint on the hermetic ones"
    assert last.remedy == "./noxw -s lint"


def test_a_stage_without_images_has_no_image_set() -> None:
    proofs = chain_through(1) | {"lint": proof_of("lint", under=replace(UNDER, image_set="", images={}))}
    proofs["unit"] = proof_of("unit", previous=evidence.previous_digest("unit", proofs))
    assert proven_in(proofs) == ["lint", "unit"]


def test_the_previous_evidence_is_that_of_the_previous_stage() -> None:
    proofs = chain_through(2)
    lint, unit = proofs["lint"].envelope, proofs["unit"].envelope
    assert lint
    assert unit
    assert [evidence.previous_digest(stage, proofs) for stage in STAGES] == [
        "",
        evidence.digest(lint),
        evidence.digest(unit),
        "",
    ]
    assert evidence.previous_digest("unit", {"lint": Proof(None, None)}) == ""
    assert evidence.digest(b"") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_up_to_five_changed_files_are_named() -> None:
    verdicts = evidence.check_chain(TREE, chain_through(4), KEY)
    for count, ending in ((5, "1, 2, 3, 4, 5"), (6, "1, 2, 3, 4, 5 ...")):
        with pytest.raises(Refused) as caught:
            evidence.require_start("integration", verdicts, [str(number) for number in range(1, count + 1)])
        assert caught.value.message.endswith(f": {ending}")


def test_a_stage_starts_on_a_clean_tree_after_all_earlier_stages_are_proven() -> None:
    evidence.require_start("deploy-e2e", evidence.check_chain(TREE, chain_through(3), KEY), ())
    with pytest.raises(Refused, match="unit needs lint"):
        evidence.require_start("unit", evidence.check_chain(TREE, {}, KEY), ())
    # The stage itself and later ones need not be proven.
    assert evidence.missing_before("lint", evidence.check_chain(TREE, {}, KEY)) == ()
    assert evidence.missing_before("integration", evidence.check_chain(TREE, chain_through(2), KEY)) == ()


@pytest.mark.parametrize("own", ["", "hermetic", "upstream", evidence.OF_THE_SITE])
@pytest.mark.parametrize("before", ["", "hermetic"])
def test_two_stages_disagree_only_on_two_different_image_sets_of_the_suite(own: str, before: str) -> None:
    proofs = {"lint": proof_of("lint", under=replace(UNDER, image_set=before))}
    proofs["unit"] = proof_of(
        "unit", previous=evidence.previous_digest("unit", proofs), under=replace(UNDER, image_set=own)
    )
    disagree = (before, own) == ("hermetic", "upstream")
    assert proven_in(proofs) == (["lint"] if disagree else ["lint", "unit"])


def test_an_unproven_stage_keeps_its_reason_on_another_image_set() -> None:
    proofs = {"lint": proof_of("lint")}
    previous = evidence.previous_digest("unit", proofs)
    failed = proof_of("unit", previous=previous, junit=junit_with("failed"), under=replace(UNDER, image_set="upstream"))
    verdict = evidence.check_chain(TREE, proofs | {"unit": failed}, KEY)[1]
    assert (verdict.proven, verdict.reason) == (False, "1 of its tests failed: tests.a::test_0")
