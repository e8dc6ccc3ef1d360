"""The gate: evidence for exactly this tree proves a stage, and the next stage refuses to start without it.

Evidence is an in-toto Statement (https://in-toto.io/Statement/v1) with the test-result predicate
(https://in-toto.io/attestation/test-result/v0.1), in a DSSE envelope (https://github.com/secure-systems-lab/dsse) that is
signed with a key of this checkout. A file that was edited by hand has no valid signature.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from defusedxml import ElementTree

from ops.errors import ConfigError, Refused
from ops.gate import stage_options
from ops.model import Case, Circumstances, Proof, Verdict

# The command of each stage, for Python. Only the complete command proves a stage. The disaster tests, which take minutes,
# belong to the last stage.
COMMANDS: Mapping[str, tuple[str, ...]] = {
    "lint": ("-m", "pytest", "tests/lint", "-n", "2", "--dist=worksteal"),
    "unit": (
        *("-m", "pytest", "tests/unit", "--disable-socket", "--allow-unix-socket"),
        # No unit test logs or runs programs with output to capture, and being ready for that costs time in every test.
        *("-p", "no:logging", "--capture=sys"),
        *("-n", "2", "--dist=worksteal"),
    ),
    "integration": (
        *("-m", "pytest", "tests/integration"),
        *("-n", "3", "--dist=loadfile", "--no-loadscope-reorder"),
    ),
    "deploy-e2e": ("-m", "ground", "deploy-e2e"),
}
STAGES = tuple(COMMANDS)
_WITH_OPTIONS = "deploy-e2e"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
# The disaster tests of deploy-e2e, which take minutes: for nightly runs and releases.
REHEARSALS = "tests.disaster.site."
# The restore drill: a release needs proof that a site can be restored.
DRILL = f"{REHEARSALS}test_drill::test_a_drill_"
# The image set of a deployment onto an external site: the images that the site's registry has for the pins.
OF_THE_SITE = "site"
PREDICATE_TYPE = "https://in-toto.io/attestation/test-result/v0.1"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
KEY_ID = "gitea-suite-checkout"
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_VERSION = re.compile(r"v?\d+\.\d+\.\d+")


_NOTHING = Proof(None, None)


def command_of(stage: str, options: Sequence[str]) -> tuple[str, ...]:
    """Return Python's arguments for a stage; raises ConfigError for options of a stage that takes no options."""
    if options and stage != _WITH_OPTIONS:
        complete = f"./noxw -s {stage}"
        part = f".nox/{stage}/bin/python -m pytest tests/{stage} {' '.join(options)}"
        raise ConfigError(
            f"{stage} takes no options, but got {' '.join(options)}: a part of it proves nothing",
            f"run {complete}, or for a part without evidence {part}",
        )
    return (*COMMANDS[stage], *options)


def cases_from(junit: bytes) -> tuple[Case, ...]:
    """Return the tests of a JUnit file; raises ValueError for bytes that are not a JUnit file."""
    try:
        root = ElementTree.fromstring(junit)
    except ElementTree.ParseError as error:
        raise ValueError(f"not a JUnit file: {error}") from error
    return tuple(_case(element) for element in root.iter("testcase"))


def statement_from(
    stage: str, tree: str, junit: bytes, circumstances: Circumstances, previous: str = ""
) -> dict[str, Any]:
    """Return the in-toto Statement of the JUnit file's results for the git tree.

    ``previous`` is the digest of the previous stage's evidence. Facts without a field in the predicate are resource
    descriptors of its configuration, with annotations, as the specification allows. Raises ValueError for bytes that are
    not a JUnit file, and for an invalid image digest.
    """
    cases = cases_from(junit)
    passed, skipped, failed = (
        [case.name for case in cases if case.outcome == outcome] for outcome in ("passed", "skipped", "failed")
    )
    return {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": "git+tree", "digest": {"gitTree": tree}}],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "result": "FAILED" if failed else "WARNED" if skipped else "PASSED",
            "configuration": [
                _stage_descriptor(stage, junit, cases, circumstances, previous),
                *(_descriptor("image", name, digest) for name, digest in sorted(circumstances.images.items())),
                *(_descriptor("site", name, digest) for name, digest in sorted(circumstances.sites.items())),
                *(_tool(name, version) for name, version in sorted(circumstances.tools.items())),
            ],
            "passedTests": passed,
            "warnedTests": skipped,
            "failedTests": failed,
        },
    }


def to_envelope(statement: Mapping[str, Any], key: bytes) -> bytes:
    """Return the statement in a DSSE envelope, signed with HMAC-SHA256."""
    payload = json.dumps(statement, sort_keys=True, separators=(",", ":")).encode()
    signature = {"keyid": KEY_ID, "sig": base64.b64encode(_signature(payload, key)).decode()}
    envelope = {"payloadType": PAYLOAD_TYPE, "payload": base64.b64encode(payload).decode(), "signatures": [signature]}
    return json.dumps(envelope, indent=2).encode() + b"\n"


def from_envelope(envelope: bytes, key: bytes) -> dict[str, Any]:
    """Return the statement in an envelope; raises ValueError unless the envelope was signed with the key and is unchanged."""
    try:
        document = json.loads(envelope)
        payload = base64.b64decode(document["payload"], validate=True)
        signature = base64.b64decode(document["signatures"][0]["sig"], validate=True)
        statement: dict[str, Any] = json.loads(payload)
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise ValueError("it is not a signed statement") from error
    if not hmac.compare_digest(signature, _signature(payload, key)) or to_envelope(statement, key) != envelope:
        raise ValueError("its signature is invalid: it was altered, or made in another checkout")
    return statement


def check_stage(stage: str, tree: str, proof: Proof, key: bytes, previous: str = "") -> Verdict:
    """Return whether the proof proves the stage for this tree.

    It does when the envelope is valid, names this stage and this tree, refers to the evidence whose digest is
    ``previous``, and its JUnit file has the recorded digest and at least one test, all passed and none skipped.
    Valid evidence of a failed run proves nothing, but the verdict has its tests, for the report.
    """
    remedy = f"./noxw -s {stage}"
    try:
        statement, cases = _examine(stage, tree, proof, key, previous)
    except ValueError as error:
        return Verdict(stage, False, str(error), remedy)
    if reason := _why_unproven(cases):
        return Verdict(stage, False, reason, remedy, statement, cases)
    return Verdict(stage, True, f"{len(cases)} tests passed", "", statement, cases)


def check_chain(tree: str, proofs: Mapping[str, Proof], key: bytes) -> tuple[Verdict, ...]:
    """Return the verdict on every stage in order. Each depends on the one before and must have run on the same image set.

    An external site has the images of its own registry, whatever images the tests ran on.
    """
    verdicts: tuple[Verdict, ...] = ()
    for stage in STAGES:
        verdict = check_stage(stage, tree, proofs.get(stage, _NOTHING), key, previous_digest(stage, proofs))
        verdicts += (_check_image_set(verdict, verdicts),)
    return verdicts


def previous_digest(stage: str, proofs: Mapping[str, Proof]) -> str:
    """Return the digest of the evidence that a stage depends on; "" for the first stage and without evidence."""
    position = STAGES.index(stage)
    envelope = proofs.get(STAGES[position - 1], _NOTHING).envelope if position else None
    return digest(envelope) if envelope else ""


def missing_before(stage: str, verdicts: Sequence[Verdict]) -> tuple[str, ...]:
    """Return the earlier stages that have to run first: the first unproven one and all after it."""
    before = STAGES[: STAGES.index(stage)]
    unproven = [verdict.stage for verdict in verdicts if verdict.stage in before and not verdict.proven]
    return before[before.index(unproven[0]) :] if unproven else ()


def require_start(stage: str, verdicts: Sequence[Verdict], changed_files: Sequence[str]) -> None:
    """Raise Refused when the stage may not start: an earlier one is unproven, or the work tree differs from the commit.

    The first two stages may run on a changed tree, because that is normal during development; they leave no evidence then.
    """
    if stage in STAGES[:2] and changed_files:
        return
    if changed_files:
        named = ", ".join(changed_files[:5]) + (" ..." if len(changed_files) > 5 else "")
        raise Refused(
            f"{stage} runs only on a committed tree, and these files are changed: {named}",
            "commit the changes, then run it again",
        )
    if missing := missing_before(stage, verdicts):
        verdict = next(each for each in verdicts if each.stage == missing[0])
        raise Refused(
            f"{stage} needs {missing[0]}, which is not proven for this tree: {verdict.reason}", f"run {verdict.remedy}"
        )


def manifest_from(
    version: str, commit: str, tree: str, verdicts: Sequence[Verdict], digests: Mapping[str, str], made: datetime
) -> dict[str, Any]:
    """Return the release manifest of a tree that every stage has proven, including the disaster tests.

    Raises Refused for an unproven stage, for two stages that ran on different images of one name, and for an invalid version.
    """
    if not _VERSION.fullmatch(version):
        raise Refused(f"{version!r} is not a version", "give one such as 1.2.3")
    if unproven := [verdict for verdict in verdicts if not verdict.proven]:
        raise Refused(
            f"{unproven[0].stage} is not proven for this tree: {unproven[0].reason}", f"run {unproven[0].remedy}"
        )
    if not any(case.name.startswith(REHEARSALS) for case in verdicts[-1].cases):
        raise Refused(
            "deploy-e2e ran without its disaster tests: neither a change by hand nor the loss of the host was rehearsed",
            "run ./noxw -s deploy-e2e -- --rehearse",
        )
    if not any(case.name.startswith(DRILL) for case in verdicts[-1].cases):
        raise Refused(
            "no backup was restored: the restore drill is not among the disaster tests that ran",
            "run ./noxw -s deploy-e2e -- --rehearse",
        )
    _require_same_images(verdicts)
    last = facts_of(verdicts[-1].statement)
    return {
        "schema": 1,
        "version": version,
        "commit": commit,
        "tree": tree,
        "made": made.isoformat(),
        "sites": sites_of(verdicts[-1].statement),
        "image_set": last["image_set"],
        "images": images_of(verdicts[-1].statement),
        "evidence": dict(digests),
    }


def digest(content: bytes) -> str:
    """Return the SHA-256 of the content in hex."""
    return hashlib.sha256(content).hexdigest()


def facts_of(statement: Mapping[str, Any]) -> dict[str, Any]:
    """Return a statement's facts about its stage: stage, command, previous, image_set, started, finished, seconds."""
    return next((dict(each["annotations"]) for each in _described("stage", statement).values()), {})


def images_of(statement: Mapping[str, Any]) -> dict[str, str]:
    """Return the images of a statement, reference to digest."""
    return _digests_of("image", statement)


def sites_of(statement: Mapping[str, Any]) -> dict[str, str]:
    """Return the sites of a statement, name to the digest of the site file, which may be outside the tree."""
    return _digests_of("site", statement)


def tools_of(statement: Mapping[str, Any]) -> dict[str, str]:
    """Return the tools of a statement, name to version."""
    return {name: each["annotations"]["version"] for name, each in _described("tool", statement).items()}


def _digests_of(kind: str, statement: Mapping[str, Any]) -> dict[str, str]:
    return {name: f"sha256:{each['digest']['sha256']}" for name, each in _described(kind, statement).items()}


def _described(kind: str, statement: Mapping[str, Any]) -> dict[str, Any]:
    descriptors = statement.get("predicate", {}).get("configuration", [])
    named = ((str(each.get("name", "")).partition(":"), each) for each in descriptors)
    return {name: each for (prefix, _, name), each in named if prefix == kind}


def _case(element: Any) -> Case:
    outcome = "passed"
    if element.find("failure") is not None or element.find("error") is not None:
        outcome = "failed"
    elif element.find("skipped") is not None:
        outcome = "skipped"
    name = f"{element.get('classname', '')}::{element.get('name', '')}"
    recorded = {each.get("name", ""): each.get("value", "") for each in element.iterfind("properties/property")}
    return Case(name, outcome, float(element.get("time") or 0.0), recorded)


def _stage_descriptor(
    stage: str, junit: bytes, cases: Sequence[Case], circumstances: Circumstances, previous: str
) -> dict[str, Any]:
    annotations = {
        "stage": stage,
        "command": list(circumstances.command),
        "previous": previous,
        "image_set": circumstances.image_set,
        "started": circumstances.started,
        "finished": circumstances.finished,
        "seconds": round(sum(case.seconds for case in cases), 1),
    }
    return {"name": f"stage:{stage}", "digest": {"sha256": digest(junit)}, "annotations": annotations}


def _descriptor(kind: str, name: str, identity: str) -> dict[str, Any]:
    if not _DIGEST.fullmatch(identity):
        raise ValueError(f"{identity!r} is not a digest of {name}")
    return {"name": f"{kind}:{name}", "digest": {"sha256": identity.removeprefix("sha256:")}}


def _tool(name: str, version: str) -> dict[str, Any]:
    # A descriptor needs a URI, a digest or content; a package URL is a URI of a name and a version.
    return {"name": f"tool:{name}", "uri": f"pkg:generic/{name}@{version}", "annotations": {"version": version}}


def _signature(payload: bytes, key: bytes) -> bytes:
    kind = PAYLOAD_TYPE.encode()
    # DSSE's pre-authentication encoding: the signed bytes include the payload's type and lengths.
    return hmac.digest(key, b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload), "sha256")


def _examine(stage: str, tree: str, proof: Proof, key: bytes, previous: str) -> tuple[dict[str, Any], tuple[Case, ...]]:
    if proof.envelope is None:
        raise ValueError("it has not run for this tree")
    statement = from_envelope(proof.envelope, key)
    if not _is_of_this_form(statement):
        raise ValueError("its evidence has another format than this gate's")
    facts = facts_of(statement)
    if statement["subject"][0]["digest"].get("gitTree") != tree:
        raise ValueError("its evidence is about another tree")
    if facts.get("stage") != stage:
        raise ValueError(f"its evidence is about {facts.get('stage')}")
    if not _is_command_of(stage, facts.get("command")):
        raise ValueError("its evidence is from another command than the stage's own")
    if facts.get("previous", "") != previous:
        raise ValueError("its evidence refers to an earlier stage's evidence that no longer exists")
    return statement, _examine_junit(statement, proof)


def _is_command_of(stage: str, command: Any) -> bool:
    own = list(COMMANDS[stage])
    if stage != _WITH_OPTIONS or not isinstance(command, list):
        return bool(command == own)
    return command[: len(own)] == own and stage_options.are_valid(command[len(own) :])


def _is_of_this_form(statement: Any) -> bool:
    try:
        subject, about = statement["subject"][0]["digest"], _stage_descriptor_of(statement)
        return (
            (statement["_type"], statement["predicateType"]) == (STATEMENT_TYPE, PREDICATE_TYPE)
            and isinstance(subject, dict)
            and isinstance(about["annotations"], dict)
            and isinstance(about["digest"]["sha256"], str)
        )
    except (KeyError, IndexError, TypeError, ValueError):
        return False


def _stage_descriptor_of(statement: Mapping[str, Any]) -> Mapping[str, Any]:
    """The descriptor of the stage and its JUnit file; raises ValueError unless there is exactly one."""
    (found,) = (each for each in statement["predicate"]["configuration"] if each["name"].startswith("stage:"))
    return dict(found)


def _examine_junit(statement: Mapping[str, Any], proof: Proof) -> tuple[Case, ...]:
    if proof.junit is None:
        raise ValueError("its JUnit file is missing")
    if _stage_descriptor_of(statement)["digest"]["sha256"] != digest(proof.junit):
        raise ValueError("its JUnit file was altered")
    return cases_from(proof.junit)


def _check_image_set(verdict: Verdict, before: Sequence[Verdict]) -> Verdict:
    own = facts_of(verdict.statement).get("image_set")
    if own == OF_THE_SITE:
        return verdict
    for earlier in before:
        other = facts_of(earlier.statement).get("image_set")
        if verdict.proven and own and other and own != other:
            reason = f"it ran on the {own} images, and {earlier.stage} on the {other} ones"
            return replace(verdict, proven=False, reason=reason, remedy=f"./noxw -s {earlier.stage}")
    return verdict


def _require_same_images(verdicts: Sequence[Verdict]) -> None:
    first: dict[str, tuple[str, str]] = {}
    for verdict in verdicts:
        for name, identity in images_of(verdict.statement).items():
            stage, earlier = first.setdefault(name, (verdict.stage, identity))
            if identity != earlier:
                raise Refused(
                    f"{name} is another image in {verdict.stage} than in {stage}",
                    f"run ./noxw -s {stage}, then ./noxw -s deploy-e2e -- --rehearse",
                )


def _why_unproven(cases: Sequence[Case]) -> str:
    for outcome in ("failed", "skipped"):
        if names := [case.name for case in cases if case.outcome == outcome]:
            return f"{len(names)} of its tests {outcome}: {names[0]}"
    return "" if cases else "it ran no test"
