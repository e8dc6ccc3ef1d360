"""Evidence counts only when it is valid and unaltered."""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.errors import ConfigError, Refused
from ops.gate import evidence
from ops.gate.evidence import STAGES
from ops.model import Case, Circumstances, Proof

KEY = bytes(range(32))
TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
UNDER = Circumstances(
    "hermetic",
    {"gitea/gitea:28.1.0": "sha256:" + "ab" * 32},
    {"terraform": "1.11.4"},
    "2026-11-23T12:00:00+00:00",
    "2026-11-23T12:01:00+00:00",
    sites={"local": "sha256:" + "12" * 32},
)


def _junit(*outcomes: str) -> bytes:
    bodies = {"passed": "", "failed": "<failure/>", "error": "<error/>", "skipped": "<skipped/>"}
    cases = "".join(
        f'<testcase classname="tests.a" name="test_{number}" time="0.5">{bodies[each]}</testcase>'
        for number, each in enumerate(outcomes)
    )
    return f'<?xml version="1.0"?><testsuites><testsuite name="pytest">{cases}</testsuite></testsuites>'.encode()


def _proof(
    stage: str = "lint",
    tree: str = TREE,
    junit: bytes | None = None,
    previous: str = "",
    key: bytes = KEY,
    under: Circumstances = UNDER,
    command: tuple[str, ...] = (),
) -> Proof:
    content = _junit("passed", "passed") if junit is None else junit
    ran = replace(under, command=command or evidence.COMMANDS[stage])
    return Proof(evidence.to_envelope(evidence.statement_from(stage, tree, content, ran, previous), key), content)


def _chain(through: int) -> dict[str, Proof]:
    proofs: dict[str, Proof] = {}
    for stage in STAGES[:through]:
        proofs[stage] = _proof(stage, previous=evidence.previous_digest(stage, proofs))
    return proofs


def _proven(proofs: Mapping[str, Proof]) -> list[str]:
    return [verdict.stage for verdict in evidence.check_chain(TREE, proofs, KEY) if verdict.proven]


def test_a_stage_with_valid_evidence_for_this_tree_is_proven() -> None:
    verdict = evidence.check_stage("lint", TREE, _proof(), KEY)
    assert (verdict.proven, verdict.reason, verdict.remedy) == (True, "2 tests passed", "")
    assert verdict.cases[0] == Case("tests.a::test_0", "passed", 0.5)


@pytest.mark.parametrize(
    ("proof", "reason"),
    [
        (Proof(None, None), "has not run for this tree"),
        (_proof(tree="0" * 40), "about another tree"),
        (_proof(stage="unit"), "about unit"),
        (_proof(previous="00"), "an earlier stage's evidence that no longer exists"),
        (_proof(command=("-m", "pytest", "tests/lint", "-k", "one")), "from another command than the stage's own"),
        (_proof(command=(*evidence.COMMANDS["lint"], "-k", "one")), "from another command than the stage's own"),
        (_proof(key=bytes(32)), "altered, or made in another checkout"),
        (Proof(_proof().envelope, None), "JUnit file is missing"),
        (Proof(_proof().envelope, _junit("passed")), "JUnit file was altered"),
        (_proof(junit=_junit()), "ran no test"),
        (_proof(junit=_junit("passed", "skipped")), "1 of its tests skipped: tests.a::test_1"),
        (_proof(junit=_junit("failed")), "1 of its tests failed: tests.a::test_0"),
        (_proof(junit=_junit("passed", "error")), "1 of its tests failed: tests.a::test_1"),
        (Proof(b"{}", _junit("passed")), "not a signed statement"),
        (Proof(b"\xff", _junit("passed")), "not a signed statement"),
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
    statement = evidence.statement_from("lint", TREE, _junit("passed"), UNDER) | other
    verdict = evidence.check_stage("lint", TREE, Proof(evidence.to_envelope(statement, KEY), _junit("passed")), KEY)
    assert (verdict.proven, verdict.reason) == (False, "its evidence has another format than this gate's")


def test_a_signed_list_proves_nothing() -> None:
    verdict = evidence.check_stage("lint", TREE, Proof(evidence.to_envelope([], KEY), _junit("passed")), KEY)  # type: ignore[arg-type]
    assert not verdict.proven


@pytest.mark.parametrize("stage", ["lint", "unit", "integration"])
def test_a_part_of_a_stage_is_refused_and_the_hint_has_the_command_for_a_part(stage: str) -> None:
    with pytest.raises(ConfigError, match=f"{stage} takes no options") as caught:
        evidence.command_of(stage, ("-k", "one"))
    assert f"tests/{stage} -k one" in caught.value.hint
    assert evidence.command_of(stage, ()) == evidence.COMMANDS[stage]


def test_the_evidence_of_a_deployment_has_its_options() -> None:
    command = evidence.command_of("deploy-e2e", ("--site", "sites/production.toml"))
    proof = _proof("deploy-e2e", command=command)
    verdict = evidence.check_stage("deploy-e2e", TREE, proof, KEY)
    assert verdict.proven
    assert evidence.facts_of(verdict.statement)["command"] == list(command)


def test_the_verdict_of_a_failed_stage_has_its_tests() -> None:
    verdict = evidence.check_stage("lint", TREE, _proof(junit=_junit("passed", "failed")), KEY)
    assert [case.outcome for case in verdict.cases] == ["passed", "failed"]


@given(st.data())
def test_a_changed_byte_of_the_evidence_is_detected(data: st.DataObject) -> None:
    proof = _proof()
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
    statement = evidence.statement_from("lint", TREE, _junit("passed"), UNDER)
    assert evidence.from_envelope(evidence.to_envelope(statement, KEY), KEY) == statement


def test_the_statement_has_in_toto_s_fields_images_tools_and_junit_digest() -> None:
    statement = evidence.statement_from("lint", TREE, _junit("passed", "failed", "skipped"), UNDER)
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["subject"] == [{"name": "git+tree", "digest": {"gitTree": TREE}}]
    predicate = statement["predicate"]
    assert predicate["result"] == "FAILED"
    assert evidence.statement_from("lint", TREE, _junit("passed"), UNDER)["predicate"]["result"] == "PASSED"
    assert evidence.statement_from("lint", TREE, _junit("passed", "skipped"), UNDER)["predicate"]["result"] == "WARNED"
    assert predicate["failedTests"] == ["tests.a::test_1"]
    assert predicate["warnedTests"] == ["tests.a::test_2"]
    assert evidence.images_of(statement) == dict(UNDER.images)
    assert evidence.tools_of(statement) == {"terraform": "1.11.4"}
    assert evidence.facts_of(statement)["image_set"] == "hermetic"


def test_each_descriptor_has_the_identification_that_in_toto_demands() -> None:
    statement = evidence.statement_from("lint", TREE, _junit("passed"), UNDER)
    configuration = statement["predicate"]["configuration"]
    assert [each for each in configuration if not {"uri", "digest", "content"} & set(each)] == []
    assert "pkg:generic/terraform@1.11.4" in [each.get("uri") for each in configuration]


@pytest.mark.parametrize("digest", ["hermetic/gitea:3b448a12f7988947", "", "ab" * 32, "sha256:" + "ab" * 31])
def test_an_image_s_tag_is_not_accepted_as_its_digest(digest: str) -> None:
    under = Circumstances("hermetic", {"gitea/gitea:28.1.0": digest})
    with pytest.raises(ValueError, match="is not a digest of gitea/gitea"):
        evidence.statement_from("lint", TREE, _junit("passed"), under)


def test_the_envelope_has_dsse_s_payload_type_and_encoding() -> None:
    envelope = json.loads(evidence.to_envelope({"a": 1}, KEY))
    assert envelope["payloadType"] == "application/vnd.in-toto+json"
    assert base64.b64decode(envelope["payload"]) == b'{"a":1}'


def test_each_stage_depends_on_the_evidence_of_the_one_before() -> None:
    assert _proven(_chain(4)) == list(STAGES)
    again = _chain(4) | {
        "unit": _proof("unit", junit=_junit("passed"), previous=evidence.previous_digest("unit", _chain(4)))
    }
    assert _proven(again) == ["lint", "unit", "deploy-e2e"]
    assert evidence.missing_before("deploy-e2e", evidence.check_chain(TREE, again, KEY)) == ("integration",)


@pytest.mark.parametrize(
    ("through", "missing"), [(0, STAGES[:3]), (1, STAGES[1:3]), (2, STAGES[2:3]), (3, ()), (4, ())]
)
def test_a_deployment_needs_the_first_unproven_stage_and_all_after_it(through: int, missing: tuple[str, ...]) -> None:
    assert evidence.missing_before("deploy-e2e", evidence.check_chain(TREE, _chain(through), KEY)) == missing


def test_a_stage_refuses_to_start_after_an_unproven_one_and_names_its_command() -> None:
    with pytest.raises(Refused) as caught:
        evidence.require_start("integration", evidence.check_chain(TREE, _chain(1), KEY), ())
    assert caught.value.exit_code == 4
    assert "integration needs unit" in caught.value.message
    assert caught.value.hint == "run ./noxw -s unit"


@pytest.mark.parametrize("stage", ["integration", "deploy-e2e"])
def test_integration_and_deployment_refuse_a_changed_tree(stage: str) -> None:
    with pytest.raises(Refused, match=r"changed: a\.py"):
        evidence.require_start(stage, evidence.check_chain(TREE, _chain(4), KEY), ("a.py",))


@pytest.mark.parametrize("stage", ["lint", "unit"])
def test_lint_and_unit_start_on_a_changed_tree_without_raising(stage: str) -> None:
    evidence.require_start(stage, evidence.check_chain(TREE, {}, KEY), ("a.py",))


def test_the_first_stage_starts_without_evidence_and_does_not_raise() -> None:
    evidence.require_start("lint", evidence.check_chain(TREE, {}, KEY), ())


def _rehearsed() -> dict[str, Proof]:
    proofs = _chain(3)
    junit = _junit("passed").replace(b"tests.a", b"tests.disaster.site.test_drill")
    junit = junit.replace(b'"test_0"', b'"test_a_drill_makes_a_site"')
    proofs["deploy-e2e"] = _proof("deploy-e2e", junit=junit, previous=evidence.previous_digest("deploy-e2e", proofs))
    return proofs


def test_a_deployment_without_disaster_tests_is_proven_but_not_promoted() -> None:
    verdicts = evidence.check_chain(TREE, _chain(4), KEY)
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
    proofs = _rehearsed()
    junit = _junit("passed").replace(b"tests.a", classname).replace(b"test_0", name)
    proofs["deploy-e2e"] = _proof("deploy-e2e", junit=junit, previous=evidence.previous_digest("deploy-e2e", proofs))
    with pytest.raises(Refused, match="no backup was restored: the restore drill") as caught:
        evidence.manifest_from("1.2.3", "c", TREE, evidence.check_chain(TREE, proofs, KEY), {}, datetime.now(UTC))
    assert caught.value.hint == "run ./noxw -s deploy-e2e -- --rehearse"


def test_a_failed_drill_proves_nothing() -> None:
    proofs = _rehearsed()
    junit = (proofs["deploy-e2e"].junit or b"").replace(b"></testcase>", b"><failure/></testcase>")
    proofs["deploy-e2e"] = _proof("deploy-e2e", junit=junit, previous=evidence.previous_digest("deploy-e2e", proofs))
    with pytest.raises(Refused, match="deploy-e2e is not proven for this tree: 1 of its tests failed"):
        evidence.manifest_from("1.2.3", "c", TREE, evidence.check_chain(TREE, proofs, KEY), {}, datetime.now(UTC))


def test_the_drill_exists_under_the_name_that_the_gate_expects() -> None:
    module, _, name = evidence.DRILL.partition("::")
    path = Path(__file__).parents[3] / f"{module.replace('.', '/')}.py"
    assert f"def {name}" in path.read_text()


def test_the_disaster_tests_are_in_the_folder_that_the_gate_expects() -> None:
    folder = Path(__file__).parents[3] / evidence.REHEARSALS.replace(".", "/")
    assert any("def test_" in path.read_text() for path in folder.glob("test_*.py"))


def _rehearsed_under(circumstances: Circumstances) -> dict[str, Proof]:
    proofs = _rehearsed()
    junit = proofs["deploy-e2e"].junit
    previous = evidence.previous_digest("deploy-e2e", proofs)
    return proofs | {"deploy-e2e": _proof("deploy-e2e", junit=junit, previous=previous, under=circumstances)}


def test_a_deployment_with_another_image_set_than_the_tests_proves_nothing() -> None:
    *before, last = evidence.check_chain(TREE, _rehearsed_under(replace(UNDER, image_set="upstream")), KEY)
    assert all(verdict.proven for verdict in before)
    assert not last.proven
    assert last.reason == "it ran on the upstream images, and lint on the hermetic ones"
    assert last.remedy == "./noxw -s lint"


def test_an_external_site_with_images_of_its_own_registry_is_proven() -> None:
    command = (*evidence.COMMANDS["deploy-e2e"], "--site", "sites/production.toml")
    proofs = _chain(3)
    own = replace(UNDER, image_set=evidence.OF_THE_SITE, images={"gitea/gitea:28.1.0": "sha256:" + "cd" * 32})
    previous = evidence.previous_digest("deploy-e2e", proofs)
    proofs["deploy-e2e"] = _proof("deploy-e2e", previous=previous, under=own, command=command)
    verdicts = evidence.check_chain(TREE, proofs, KEY)
    assert [verdict.stage for verdict in verdicts if verdict.proven] == list(STAGES)
    # A release needs the disaster tests, which do not run on an external site.
    with pytest.raises(Refused, match="rehearsed") as caught:
        evidence.manifest_from("1.2.3", "c", TREE, verdicts, {}, datetime.now(UTC))
    assert caught.value.hint == "run ./noxw -s deploy-e2e -- --rehearse"


def test_a_stage_without_images_has_no_image_set() -> None:
    proofs = _chain(1) | {"lint": _proof("lint", under=replace(UNDER, image_set="", images={}))}
    proofs["unit"] = _proof("unit", previous=evidence.previous_digest("unit", proofs))
    assert _proven(proofs) == ["lint", "unit"]


def test_a_release_needs_the_same_images_in_every_stage() -> None:
    rebuilt = replace(UNDER, images={**UNDER.images, "nginx:1.30.4": "sha256:" + "ef" * 32})
    verdicts = evidence.check_chain(TREE, _rehearsed_under(rebuilt), KEY)
    assert evidence.manifest_from("1.2.3", "c", TREE, verdicts, {}, datetime.now(UTC))["images"] == dict(rebuilt.images)
    other = replace(UNDER, images={"gitea/gitea:28.1.0": "sha256:" + "cd" * 32})
    verdicts = evidence.check_chain(TREE, _rehearsed_under(other), KEY)
    with pytest.raises(Refused, match=r"gitea/gitea:28\.1\.0 is another image in deploy-e2e than in lint") as caught:
        evidence.manifest_from("1.2.3", "c", TREE, verdicts, {}, datetime.now(UTC))
    assert caught.value.hint == "run ./noxw -s lint, then ./noxw -s deploy-e2e -- --rehearse"


def test_a_manifest_has_tree_commit_images_sites_and_evidence() -> None:
    verdicts = evidence.check_chain(TREE, _rehearsed(), KEY)
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
            "1.2.3", "c", TREE, evidence.check_chain(TREE, _chain(through), KEY), {}, datetime.now(UTC)
        )


@pytest.mark.parametrize("version", ["", "1.2", "latest", "1.2.3; rm"])
def test_an_invalid_version_is_refused(version: str) -> None:
    with pytest.raises(Refused, match="is not a version"):
        evidence.manifest_from(version, "c", TREE, evidence.check_chain(TREE, _chain(4), KEY), {}, datetime.now(UTC))


def test_the_evidence_uses_the_names_of_in_toto_and_dsse() -> None:
    assert evidence.STATEMENT_TYPE == "https://in-toto.io/Statement/v1"
    assert evidence.PREDICATE_TYPE == "https://in-toto.io/attestation/test-result/v0.1"
    assert evidence.PAYLOAD_TYPE == "application/vnd.in-toto+json"
    assert (evidence.KEY_ID, evidence.OF_THE_SITE) == ("gitea-suite-checkout", "site")


def test_a_statement_has_exactly_these_fields() -> None:
    under = replace(UNDER, command=("-m", "pytest"), images={"b": "sha256:" + "ab" * 32, "a": "sha256:" + "cd" * 32})
    junit = _junit("passed", "skipped", "failed")
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
                        "image_set_reason": "",
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
    statement = evidence.statement_from("lint", TREE, _junit("passed"), UNDER)
    part = statement["subject"][0] if at == "subject" else statement["predicate"]["configuration"][0]
    part.update(changed)
    verdict = evidence.check_stage("lint", TREE, Proof(evidence.to_envelope(statement, KEY), _junit("passed")), KEY)
    assert verdict.reason == "its evidence has another format than this gate's"


def test_a_statement_about_two_stages_has_another_format() -> None:
    statement = evidence.statement_from("lint", TREE, _junit("passed"), UNDER)
    configuration = statement["predicate"]["configuration"]
    configuration.append(configuration[0])
    verdict = evidence.check_stage("lint", TREE, Proof(evidence.to_envelope(statement, KEY), _junit("passed")), KEY)
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
    statement = evidence.statement_from("lint", TREE, _junit("passed"), UNDER)
    assert evidence.images_of(statement) == {"gitea/gitea:28.1.0": "sha256:" + "ab" * 32}
    assert evidence.sites_of(statement) == {"local": "sha256:" + "12" * 32}
    assert evidence.tools_of(statement) == {"terraform": "1.11.4"}


def test_only_a_deployment_takes_options_and_they_follow_its_command() -> None:
    own = list(evidence.COMMANDS["deploy-e2e"])
    for command, proven in (
        ([*own, "--keep"], True),
        (own, True),
        (own[:-1], False),
        (["-x", *own], False),
    ):
        verdict = evidence.check_stage("deploy-e2e", TREE, _proof("deploy-e2e", command=tuple(command)), KEY)
        assert verdict.proven is proven
    assert evidence.command_of("deploy-e2e", ("--keep",)) == (*own, "--keep")
    statement = evidence.statement_from("deploy-e2e", TREE, _junit("passed"), UNDER)
    statement["predicate"]["configuration"][0]["annotations"]["command"] = "-m ground deploy-e2e"
    verdict = evidence.check_stage(
        "deploy-e2e", TREE, Proof(evidence.to_envelope(statement, KEY), _junit("passed")), KEY
    )
    assert verdict.reason == "its evidence is from another command than the stage's own"


def test_the_previous_evidence_is_that_of_the_previous_stage() -> None:
    proofs = _chain(2)
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
    verdicts = evidence.check_chain(TREE, _chain(4), KEY)
    for count, ending in ((5, "1, 2, 3, 4, 5"), (6, "1, 2, 3, 4, 5 ...")):
        with pytest.raises(Refused) as caught:
            evidence.require_start("integration", verdicts, [str(number) for number in range(1, count + 1)])
        assert caught.value.message.endswith(f": {ending}")


def test_a_stage_starts_on_a_clean_tree_after_all_earlier_stages_are_proven() -> None:
    evidence.require_start("deploy-e2e", evidence.check_chain(TREE, _chain(3), KEY), ())
    with pytest.raises(Refused, match="unit needs lint"):
        evidence.require_start("unit", evidence.check_chain(TREE, {}, KEY), ())
    # The stage itself and later ones need not be proven.
    assert evidence.missing_before("lint", evidence.check_chain(TREE, {}, KEY)) == ()
    assert evidence.missing_before("integration", evidence.check_chain(TREE, _chain(2), KEY)) == ()


@pytest.mark.parametrize("own", ["", "hermetic", "upstream", evidence.OF_THE_SITE])
@pytest.mark.parametrize("before", ["", "hermetic"])
def test_two_stages_disagree_only_on_two_different_image_sets_of_the_suite(own: str, before: str) -> None:
    proofs = {"lint": _proof("lint", under=replace(UNDER, image_set=before))}
    proofs["unit"] = _proof(
        "unit", previous=evidence.previous_digest("unit", proofs), under=replace(UNDER, image_set=own)
    )
    disagree = (before, own) == ("hermetic", "upstream")
    assert _proven(proofs) == (["lint"] if disagree else ["lint", "unit"])


def test_an_unproven_stage_keeps_its_reason_on_another_image_set() -> None:
    proofs = {"lint": _proof("lint")}
    previous = evidence.previous_digest("unit", proofs)
    failed = _proof("unit", previous=previous, junit=_junit("failed"), under=replace(UNDER, image_set="upstream"))
    verdict = evidence.check_chain(TREE, proofs | {"unit": failed}, KEY)[1]
    assert (verdict.proven, verdict.reason) == (False, "1 of its tests failed: tests.a::test_0")


def test_a_release_manifest_has_exactly_these_fields() -> None:
    made = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
    verdicts = evidence.check_chain(TREE, _rehearsed(), KEY)
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


def test_failed_tests_are_reported_before_skipped_ones() -> None:
    verdict = evidence.check_stage("lint", TREE, _proof(junit=_junit("skipped", "failed", "failed")), KEY)
    assert verdict.reason == "2 of its tests failed: tests.a::test_1"
    assert verdict.statement["predicate"]["result"] == "FAILED"


def test_seconds_are_rounded_to_a_tenth() -> None:
    junit = _junit("passed").replace(b'time="0.5"', b'time="0.26"')
    statement = evidence.statement_from("lint", TREE, junit, UNDER)
    assert evidence.facts_of(statement)["seconds"] == 0.3


def test_a_release_manifest_has_the_image_set_and_the_sites_of_the_deployment() -> None:
    bare = replace(UNDER, image_set="", images={}, sites={})
    proofs: dict[str, Proof] = {}
    for stage in STAGES[:3]:
        proofs[stage] = _proof(stage, previous=evidence.previous_digest(stage, proofs), under=bare)
    previous = evidence.previous_digest("deploy-e2e", proofs)
    proofs["deploy-e2e"] = _proof("deploy-e2e", junit=_rehearsed()["deploy-e2e"].junit, previous=previous)
    manifest = evidence.manifest_from(
        "1.2.3", "c", TREE, evidence.check_chain(TREE, proofs, KEY), {}, datetime.now(UTC)
    )
    assert (manifest["image_set"], manifest["images"]) == ("hermetic", dict(UNDER.images))
    assert manifest["sites"] == dict(UNDER.sites)
