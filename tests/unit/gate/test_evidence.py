"""Evidence counts only when it is valid and unaltered."""

from __future__ import annotations

import base64
import hmac
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.errors import ConfigError
from ops.gate import evidence
from ops.model import Case, Circumstances, Proof
from tests.support.evidence_samples import (
    KEY,
    TREE,
    UNDER,
    junit_with,
    proof_of,
)


def test_a_stage_with_valid_evidence_for_this_tree_is_proven() -> None:
    verdict = evidence.check_stage("lint", TREE, proof_of(), KEY)
    assert (verdict.proven, verdict.reason, verdict.remedy) == (True, "2 tests passed", "")
    assert verdict.cases[0] == Case("tests.a::test_0", "passed", 0.5)


@pytest.mark.parametrize(
    ("proof", "reason"),
    [
        (Proof(None, None), "has not run for this tree"),
        (proof_of(tree="0" * 40), "about another tree"),
        (proof_of(stage="unit"), "about unit"),
        (proof_of(previous="00"), "an earlier stage's evidence that no longer exists"),
        (proof_of(command=("-m", "pytest", "tests/lint", "-k", "one")), "from another command than the stage's own"),
        (proof_of(command=(*evidence.COMMANDS["lint"], "-k", "one")), "from another command than the stage's own"),
        (proof_of(key=bytes(32)), "altered, or made in another checkout"),
        (Proof(proof_of().envelope, None), "JUnit file is missing"),
        (Proof(proof_of().envelope, junit_with("passed")), "JUnit file was altered"),
        (proof_of(junit=junit_with()), "ran no test"),
        (proof_of(junit=junit_with("passed", "skipped")), "1 of its tests skipped: tests.a::test_1"),
        (proof_of(junit=junit_with("failed")), "1 of its tests failed: tests.a::test_0"),
        (proof_of(junit=junit_with("passed", "error")), "1 of its tests failed: tests.a::test_1"),
        (Proof(b"{}", junit_with("passed")), "not a signed statement"),
        (Proof(b"\xff", junit_with("passed")), "not a signed statement"),
    ],
)
def test_invalid_evidence_proves_nothing_and_the_verdict_names_the_reason(proof: Proof, reason: str) -> None:
    verdict = evidence.check_stage("lint", TREE, proof, KEY)
    assert not verdict.proven
    assert reason in verdict.reason
    assert verdict.remedy == "./noxw -s lint"


@pytest.mark.parametrize(
    "other",
    [
        {"_type": "https://in-toto.io/Statement/v0.1"},
        {"predicateType": "https://in-toto.io/attestation/test-result/v9"},
        {"subject": []},
        {"predicate": {}},
        {"predicate": {"configuration": [{"name": "stage:lint"}]}},
    ],
)
def test_a_signed_statement_in_another_format_proves_nothing(other: dict[str, object]) -> None:
    statement = evidence.statement_from("lint", TREE, junit_with("passed"), UNDER) | other
    verdict = evidence.check_stage("lint", TREE, Proof(evidence.to_envelope(statement, KEY), junit_with("passed")), KEY)
    assert (verdict.proven, verdict.reason) == (False, "its evidence has another format than this gate's")


def test_a_signed_list_proves_nothing() -> None:
    verdict = evidence.check_stage("lint", TREE, Proof(evidence.to_envelope([], KEY), junit_with("passed")), KEY)  # type: ignore[arg-type]
    assert not verdict.proven


@pytest.mark.parametrize("stage", ["lint", "unit", "integration"])
def test_a_part_of_a_stage_is_refused_and_the_hint_has_the_command_for_a_part(stage: str) -> None:
    with pytest.raises(ConfigError, match=f"{stage} takes no options, but got -k one") as caught:
        evidence.command_of(stage, ("-k", "one"))
    assert f"tests/{stage} -k one" in caught.value.hint
    assert evidence.command_of(stage, ()) == evidence.COMMANDS[stage]


def test_the_evidence_of_a_deployment_has_its_options() -> None:
    command = evidence.command_of("deploy-e2e", ("--site", "sites/production.toml"))
    proof = proof_of("deploy-e2e", command=command)
    verdict = evidence.check_stage("deploy-e2e", TREE, proof, KEY)
    assert verdict.proven
    assert evidence.facts_of(verdict.statement)["command"] == list(command)


def test_the_verdict_of_a_failed_stage_has_its_tests() -> None:
    verdict = evidence.check_stage("lint", TREE, proof_of(junit=junit_with("passed", "failed")), KEY)
    assert [case.outcome for case in verdict.cases] == ["passed", "failed"]


@given(st.data())
def test_a_changed_byte_of_the_evidence_is_detected(data: st.DataObject) -> None:
    proof = proof_of()
    assert proof.envelope is not None
    assert proof.junit is not None
    envelope = _with_one_byte_changed(proof.envelope, data)
    junit = _with_one_byte_changed(proof.junit, data)
    assert not evidence.check_stage("lint", TREE, Proof(envelope, proof.junit), KEY).proven
    assert not evidence.check_stage("lint", TREE, Proof(proof.envelope, junit), KEY).proven


def _with_one_byte_changed(content: bytes, data: st.DataObject) -> bytes:
    position = data.draw(st.integers(0, len(content) - 1))
    other = (content[position] + data.draw(st.integers(1, 255))) % 256
    return content[:position] + bytes([other]) + content[position + 1 :]


def test_a_statement_is_read_back_unchanged_from_its_envelope() -> None:
    statement = evidence.statement_from("lint", TREE, junit_with("passed"), UNDER)
    assert evidence.from_envelope(evidence.to_envelope(statement, KEY), KEY) == statement


def test_the_statement_has_in_toto_s_fields_images_tools_and_junit_digest() -> None:
    statement = evidence.statement_from("lint", TREE, junit_with("passed", "failed", "skipped"), UNDER)
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["subject"] == [{"name": "git+tree", "digest": {"gitTree": TREE}}]
    predicate = statement["predicate"]
    assert predicate["result"] == "FAILED"
    assert evidence.statement_from("lint", TREE, junit_with("passed"), UNDER)["predicate"]["result"] == "PASSED"
    assert (
        evidence.statement_from("lint", TREE, junit_with("passed", "skipped"), UNDER)["predicate"]["result"] == "WARNED"
    )
    assert predicate["failedTests"] == ["tests.a::test_1"]
    assert predicate["warnedTests"] == ["tests.a::test_2"]
    assert evidence.images_of(statement) == dict(UNDER.images)
    assert evidence.tools_of(statement) == {"terraform": "1.11.4"}
    assert evidence.facts_of(statement)["image_set"] == "hermetic"


def test_each_descriptor_has_the_identification_that_in_toto_demands() -> None:
    statement = evidence.statement_from("lint", TREE, junit_with("passed"), UNDER)
    configuration = statement["predicate"]["configuration"]
    assert [each for each in configuration if not {"uri", "digest", "content"} & set(each)] == []
    assert "pkg:generic/terraform@1.11.4" in [each.get("uri") for each in configuration]


@pytest.mark.parametrize("digest", ["hermetic/gitea:3b448a12f7988947", "", "ab" * 32, "sha256:" + "ab" * 31])
def test_an_image_s_tag_is_not_accepted_as_its_digest(digest: str) -> None:
    under = Circumstances("hermetic", {"gitea/gitea:28.1.0": digest})
    with pytest.raises(ValueError, match="is not a digest of gitea/gitea"):
        evidence.statement_from("lint", TREE, junit_with("passed"), under)


def test_the_envelope_has_dsse_s_payload_type_and_encoding() -> None:
    envelope = json.loads(evidence.to_envelope({"a": 1}, KEY))
    assert envelope["payloadType"] == "application/vnd.in-toto+json"
    assert base64.b64decode(envelope["payload"]) == b'{"a":1}'


def test_the_evidence_uses_the_names_of_in_toto_and_dsse() -> None:
    assert evidence.STATEMENT_TYPE == "https://in-toto.io/Statement/v1"
    assert evidence.PREDICATE_TYPE == "https://in-toto.io/attestation/test-result/v0.1"
    assert evidence.PAYLOAD_TYPE == "application/vnd.in-toto+json"
    assert (evidence.KEY_ID, evidence.OF_THE_SITE) == ("gitea-suite-checkout", "site")


def test_a_statement_has_exactly_these_fields() -> None:
    under = replace(UNDER, command=("-m", "pytest"), images={"b": "sha256:" + "ab" * 32, "a": "sha256:" + "cd" * 32})
    junit = junit_with("passed", "skipped", "failed")
    assert evidence.statement_from("unit", TREE, junit, under, "00ff") == {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "git+tree", "digest": {"gitTree": TREE}}],
        "predicateType": "https://in-toto.io/attestation/test-result/v0.1",
        "predicate": {
            "result": "FAILED",
            "configuration": [
                {
                    "name": "stage:unit",
                    "digest": {"sha256": evidence.digest(junit)},
                    "annotations": {
                        "stage": "unit",
                        "command": ["-m", "pytest"],
                        "previous": "00ff",
                        "image_set": "hermetic",
                        "started": "2026-11-23T12:00:00+00:00",
                        "finished": "2026-11-23T12:01:00+00:00",
                        "seconds": 1.5,
                    },
                },
                {"name": "image:a", "digest": {"sha256": "cd" * 32}},
                {"name": "image:b", "digest": {"sha256": "ab" * 32}},
                {"name": "site:local", "digest": {"sha256": "12" * 32}},
                {
                    "name": "tool:terraform",
                    "uri": "pkg:generic/terraform@1.11.4",
                    "annotations": {"version": "1.11.4"},
                },
            ],
            "passedTests": ["tests.a::test_0"],
            "warnedTests": ["tests.a::test_1"],
            "failedTests": ["tests.a::test_2"],
        },
    }


def test_an_envelope_is_dsse_to_the_byte() -> None:
    envelope = evidence.to_envelope({"b": [1, 2], "a": 1}, KEY)
    payload = b'{"a":1,"b":[1,2]}'
    signed = b"DSSEv1 28 application/vnd.in-toto+json 17 " + payload
    signature = base64.b64encode(hmac.digest(KEY, signed, "sha256")).decode()
    document = {
        "payloadType": "application/vnd.in-toto+json",
        "payload": base64.b64encode(payload).decode(),
        "signatures": [{"keyid": "gitea-suite-checkout", "sig": signature}],
    }
    assert envelope == json.dumps(document, indent=2).encode() + b"\n"


def test_invalid_base64_does_not_count_as_an_envelope() -> None:
    document = json.loads(evidence.to_envelope({"a": 1}, KEY))
    for changed in (
        document | {"payload": document["payload"] + "*"},
        document | {"signatures": [{**document["signatures"][0], "sig": "*" + document["signatures"][0]["sig"]}]},
    ):
        with pytest.raises(ValueError, match="not a signed statement"):
            evidence.from_envelope(json.dumps(changed).encode(), KEY)


def test_the_signature_and_the_format_of_an_envelope_are_both_checked() -> None:
    statement = {"a": 1}
    document = json.loads(evidence.to_envelope(statement, KEY))
    # The signature is valid, the format is not.
    with pytest.raises(ValueError, match="its signature is invalid"):
        evidence.from_envelope(json.dumps(document).encode(), KEY)
    foreign = json.loads(evidence.to_envelope(statement, bytes(32)))
    with pytest.raises(ValueError, match="its signature is invalid"):
        evidence.from_envelope(json.dumps(foreign, indent=2).encode() + b"\n", KEY)


def test_a_junit_file_gives_each_test_with_its_properties() -> None:
    junit = (
        b'<testsuites><testsuite><testcase classname="a" name="one" time="1.25"><properties>'
        b'<property name="course" value="x"/><property/></properties></testcase>'
        b'<testcase/><testcase name="three"><skipped/><failure/></testcase></testsuite></testsuites>'
    )
    assert evidence.cases_from(junit) == (
        Case("a::one", "passed", 1.25, {"course": "x", "": ""}),
        Case("::", "passed", 0.0),
        Case("::three", "failed", 0.0),
    )
    with pytest.raises(ValueError, match="not a JUnit file"):
        evidence.cases_from(b"no")


@pytest.mark.parametrize(
    ("changed", "at"),
    [
        ({"digest": "text"}, "subject"),
        ({"annotations": []}, "stage"),
        ({"digest": {"sha256": 7}}, "stage"),
        ({"digest": {}}, "stage"),
        ({"digest": []}, "stage"),
        ({"name": "tool:lint"}, "stage"),
    ],
)
def test_a_statement_with_parts_of_another_type_has_another_format(changed: dict[str, object], at: str) -> None:
    statement = evidence.statement_from("lint", TREE, junit_with("passed"), UNDER)
    part = statement["subject"][0] if at == "subject" else statement["predicate"]["configuration"][0]
    part.update(changed)
    verdict = evidence.check_stage("lint", TREE, Proof(evidence.to_envelope(statement, KEY), junit_with("passed")), KEY)
    assert verdict.reason == "its evidence has another format than this gate's"


def test_a_statement_about_two_stages_has_another_format() -> None:
    statement = evidence.statement_from("lint", TREE, junit_with("passed"), UNDER)
    configuration = statement["predicate"]["configuration"]
    configuration.append(configuration[0])
    verdict = evidence.check_stage("lint", TREE, Proof(evidence.to_envelope(statement, KEY), junit_with("passed")), KEY)
    assert verdict.reason == "its evidence has another format than this gate's"


def test_missing_parts_of_a_statement_are_empty() -> None:
    assert (evidence.facts_of({}), evidence.images_of({}), evidence.sites_of({}), evidence.tools_of({})) == (
        {},
        {},
        {},
        {},
    )
    assert evidence.images_of({"predicate": {}}) == evidence.images_of({"predicate": {"configuration": [{}]}}) == {}


def test_each_kind_of_descriptor_is_found_by_its_name() -> None:
    statement = evidence.statement_from("lint", TREE, junit_with("passed"), UNDER)
    assert evidence.images_of(statement) == {"gitea/gitea:28.1.0": "sha256:" + "ab" * 32}
    assert evidence.sites_of(statement) == {"local": "sha256:" + "12" * 32}
    assert evidence.tools_of(statement) == {"terraform": "1.11.4"}


def test_only_a_deployment_takes_options_and_they_follow_its_command() -> None:
    own = list(evidence.COMMANDS["deploy-e2e"])
    for command, proven in (
        ([*own, "--keep"], True),
        ([*own, "--site", "sites/production.toml"], True),
        (own, True),
        ([*own, "-k", "one"], False),
        ([*own, "--rehearse", "pytest"], False),
        (own[:-1], False),
        (["-x", *own], False),
    ):
        verdict = evidence.check_stage("deploy-e2e", TREE, proof_of("deploy-e2e", command=tuple(command)), KEY)
        assert verdict.proven is proven
    assert evidence.command_of("deploy-e2e", ("--keep",)) == (*own, "--keep")
    statement = evidence.statement_from("deploy-e2e", TREE, junit_with("passed"), UNDER)
    statement["predicate"]["configuration"][0]["annotations"]["command"] = "-m ground deploy-e2e"
    verdict = evidence.check_stage(
        "deploy-e2e", TREE, Proof(evidence.to_envelope(statement, KEY), junit_with("passed")), KEY
    )
    assert verdict.reason == "its evidence is from another command than the stage's own"


def test_failed_tests_are_reported_before_skipped_ones() -> None:
    verdict = evidence.check_stage("lint", TREE, proof_of(junit=junit_with("skipped", "failed", "failed")), KEY)
    assert verdict.reason == "2 of its tests failed: tests.a::test_1"
    assert verdict.statement["predicate"]["result"] == "FAILED"


def test_seconds_are_rounded_to_a_tenth() -> None:
    junit = junit_with("passed").replace(b'time="0.5"', b'time="0.26"')
    statement = evidence.statement_from("lint", TREE, junit, UNDER)
    assert evidence.facts_of(statement)["seconds"] == 0.3
