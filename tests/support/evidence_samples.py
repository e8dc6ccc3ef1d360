"""JUnit files and signed evidence of stages, for the tests of the gate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ops.gate import evidence
from ops.gate.evidence import STAGES
from ops.model import Circumstances, Proof

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


def junit_with(*outcomes: str) -> bytes:
    """Return a JUnit file with a test of each outcome: passed, failed, error, skipped."""
    bodies = {"passed": "", "failed": "<failure/>", "error": "<error/>", "skipped": "<skipped/>"}
    cases = "".join(
        f'<testcase classname="tests.a" name="test_{number}" time="0.5">{bodies[each]}</testcase>'
        for number, each in enumerate(outcomes)
    )
    return f'<?xml version="1.0"?><testsuites><testsuite name="pytest">{cases}</testsuite></testsuites>'.encode()


def proof_of(
    stage: str = "lint",
    tree: str = TREE,
    junit: bytes | None = None,
    previous: str = "",
    key: bytes = KEY,
    under: Circumstances = UNDER,
    command: tuple[str, ...] = (),
) -> Proof:
    """Return the signed evidence of a stage; by default of two passed tests."""
    content = junit_with("passed", "passed") if junit is None else junit
    ran = replace(under, command=command or evidence.COMMANDS[stage])
    return Proof(evidence.to_envelope(evidence.statement_from(stage, tree, content, ran, previous), key), content)


def chain_through(through: int) -> dict[str, Proof]:
    """Return the proofs of that many stages, each on the evidence of the one before."""
    proofs: dict[str, Proof] = {}
    for stage in STAGES[:through]:
        proofs[stage] = proof_of(stage, previous=evidence.previous_digest(stage, proofs))
    return proofs


def proven_in(proofs: Mapping[str, Proof]) -> list[str]:
    """Return the stages that the proofs prove."""
    return [verdict.stage for verdict in evidence.check_chain(TREE, proofs, KEY) if verdict.proven]


def rehearsed() -> dict[str, Proof]:
    """Return the proofs of all stages, the last one with a restore drill."""
    proofs = chain_through(3)
    junit = junit_with("passed").replace(b"tests.a", b"tests.disaster.site.test_drill")
    junit = junit.replace(b'"test_0"', b'"test_a_drill_makes_a_site"')
    proofs["deploy-e2e"] = proof_of("deploy-e2e", junit=junit, previous=evidence.previous_digest("deploy-e2e", proofs))
    return proofs


def rehearsed_under(circumstances: Circumstances) -> dict[str, Proof]:
    """Return the same, with the last stage under other circumstances."""
    proofs = rehearsed()
    junit = proofs["deploy-e2e"].junit
    previous = evidence.previous_digest("deploy-e2e", proofs)
    return proofs | {"deploy-e2e": proof_of("deploy-e2e", junit=junit, previous=previous, under=circumstances)}
