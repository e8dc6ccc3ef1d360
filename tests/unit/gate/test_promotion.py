"""A release needs every stage, the disaster tests with a drill, and the same images everywhere."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

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
    rehearsed,
    rehearsed_under,
)


def test_a_deployment_without_disaster_tests_is_proven_but_not_promoted() -> None:
    verdicts = evidence.check_chain(TREE, chain_through(4), KEY)
    assert all(verdict.proven for verdict in verdicts)
    with pytest.raises(Refused, match="rehearsed") as caught:
        evidence.manifest_from("1.2.3", "c", TREE, verdicts, {}, datetime.now(UTC))
    assert caught.value.hint == "run ./noxw -s deploy-e2e -- --rehearse"


@pytest.mark.parametrize(
    ("classname", "name"),
    [
        (b"tests.disaster.site.test_host_and_account_loss", b"test_a_drill_"),
        (b"tests.disaster.site.test_drill", b"test_a_backup_under_load"),
    ],
)
def test_nothing_is_promoted_without_a_restore_drill(classname: bytes, name: bytes) -> None:
    proofs = rehearsed()
    junit = junit_with("passed").replace(b"tests.a", classname).replace(b"test_0", name)
    proofs["deploy-e2e"] = proof_of("deploy-e2e", junit=junit, previous=evidence.previous_digest("deploy-e2e", proofs))
    with pytest.raises(Refused, match="no backup was restored: the restore drill") as caught:
        evidence.manifest_from("1.2.3", "c", TREE, evidence.check_chain(TREE, proofs, KEY), {}, datetime.now(UTC))
    assert caught.value.hint == "run ./noxw -s deploy-e2e -- --rehearse"


def test_a_failed_drill_proves_nothing() -> None:
    proofs = rehearsed()
    junit = (proofs["deploy-e2e"].junit or b"").replace(b"></testcase>", b"><failure/></testcase>")
    proofs["deploy-e2e"] = proof_of("deploy-e2e", junit=junit, previous=evidence.previous_digest("deploy-e2e", proofs))
    with pytest.raises(Refused, match="deploy-e2e is not proven for this tree: 1 of its tests failed"):
        evidence.manifest_from("1.2.3", "c", TREE, evidence.check_chain(TREE, proofs, KEY), {}, datetime.now(UTC))


def test_the_drill_exists_under_the_name_that_the_gate_expects() -> None:
    module, _, name = evidence.DRILL.partition("::")
    path = Path(__file__).parents[3] / f"{module.replace('.', '/')}.py"
    assert f"def {name}" in path.read_text()


def test_the_disaster_tests_are_in_the_folder_that_the_gate_expects() -> None:
    folder = Path(__file__).parents[3] / evidence.REHEARSALS.replace(".", "/")
    assert any("def test_" in path.read_text() for path in folder.glob("test_*.py"))


def test_an_external_site_with_images_of_its_own_registry_is_proven() -> None:
    command = (*evidence.COMMANDS["deploy-e2e"], "--site", "sites/production.toml")
    proofs = chain_through(3)
    own = replace(UNDER, image_set=evidence.OF_THE_SITE, images={"gitea/gitea:28.1.0": "sha256:" + "cd" * 32})
    previous = evidence.previous_digest("deploy-e2e", proofs)
    proofs["deploy-e2e"] = proof_of("deploy-e2e", previous=previous, under=own, command=command)
    verdicts = evidence.check_chain(TREE, proofs, KEY)
    assert [verdict.stage for verdict in verdicts if verdict.proven] == list(STAGES)
    # A release needs the disaster tests, which do not run on an external site.
    with pytest.raises(Refused, match="rehearsed") as caught:
        evidence.manifest_from("1.2.3", "c", TREE, verdicts, {}, datetime.now(UTC))
    assert caught.value.hint == "run ./noxw -s deploy-e2e -- --rehearse"


def test_a_release_needs_the_same_images_in_every_stage() -> None:
    rebuilt = replace(UNDER, images={**UNDER.images, "nginx:1.30.4": "sha256:" + "ef" * 32})
    verdicts = evidence.check_chain(TREE, rehearsed_under(rebuilt), KEY)
    assert evidence.manifest_from("1.2.3", "c", TREE, verdicts, {}, datetime.now(UTC))["images"] == dict(rebuilt.images)
    other = replace(UNDER, images={"gitea/gitea:28.1.0": "sha256:" + "cd" * 32})
    verdicts = evidence.check_chain(TREE, rehearsed_under(other), KEY)
    with pytest.raises(Refused, match=r"gitea/gitea:28\.1\.0 is another image in deploy-e2e than in lint") as caught:
        evidence.manifest_from("1.2.3", "c", TREE, verdicts, {}, datetime.now(UTC))
    assert caught.value.hint == "run ./noxw -s lint, then ./noxw -s deploy-e2e -- --rehearse"


def test_a_manifest_has_tree_commit_images_sites_and_evidence() -> None:
    verdicts = evidence.check_chain(TREE, rehearsed(), KEY)
    manifest = evidence.manifest_from(
        "1.2.3", "c0ffee", TREE, verdicts, {"lint": "00"}, datetime(2026, 11, 23, tzinfo=UTC)
    )
    assert (manifest["tree"], manifest["commit"], manifest["image_set"]) == (TREE, "c0ffee", "hermetic")
    assert manifest["images"] == dict(UNDER.images)
    assert manifest["sites"] == {"local": "sha256:" + "12" * 32}
    assert manifest["evidence"] == {"lint": "00"}


@pytest.mark.parametrize("through", range(4))
def test_nothing_is_promoted_while_a_stage_is_unproven(through: int) -> None:
    with pytest.raises(Refused, match=f"{STAGES[through]} is not proven"):
        evidence.manifest_from(
            "1.2.3", "c", TREE, evidence.check_chain(TREE, chain_through(through), KEY), {}, datetime.now(UTC)
        )


@pytest.mark.parametrize("version", ["", "1.2", "latest", "1.2.3; rm"])
def test_an_invalid_version_is_refused(version: str) -> None:
    with pytest.raises(Refused, match="is not a version"):
        evidence.manifest_from(
            version, "c", TREE, evidence.check_chain(TREE, chain_through(4), KEY), {}, datetime.now(UTC)
        )


def test_a_release_manifest_has_exactly_these_fields() -> None:
    made = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
    verdicts = evidence.check_chain(TREE, rehearsed(), KEY)
    assert evidence.manifest_from("v1.2.3", "c0ffee", TREE, verdicts, {"lint": "00"}, made) == {
        "schema": 1,
        "version": "v1.2.3",
        "commit": "c0ffee",
        "tree": TREE,
        "made": "2026-11-23T12:00:00+00:00",
        "sites": {"local": "sha256:" + "12" * 32},
        "image_set": "hermetic",
        "images": dict(UNDER.images),
        "evidence": {"lint": "00"},
    }


def test_a_release_manifest_has_the_image_set_and_the_sites_of_the_deployment() -> None:
    bare = replace(UNDER, image_set="", images={}, sites={})
    proofs: dict[str, Proof] = {}
    for stage in STAGES[:3]:
        proofs[stage] = proof_of(stage, previous=evidence.previous_digest(stage, proofs), under=bare)
    previous = evidence.previous_digest("deploy-e2e", proofs)
    proofs["deploy-e2e"] = proof_of("deploy-e2e", junit=rehearsed()["deploy-e2e"].junit, previous=previous)
    manifest = evidence.manifest_from(
        "1.2.3", "c", TREE, evidence.check_chain(TREE, proofs, KEY), {}, datetime.now(UTC)
    )
    assert (manifest["image_set"], manifest["images"]) == ("hermetic", dict(UNDER.images))
    assert manifest["sites"] == dict(UNDER.sites)
