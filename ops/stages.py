"""The verbs of the gate: run a stage, say how the chain stands, promote a proven tree."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ops import gate
from ops.errors import OpsError, Refused
from ops.model import Report, Verdict
from ops.report_page import page_from
from ops.world.clock import Clock
from ops.world.evidence import Evidence
from ops.world.git import Git
from ops.world.process import Processes, Tell


@dataclass(frozen=True)
class Gatehouse:
    """What the gate works with: the checkout, its evidence, other programs, and time."""

    root: Path
    git: Git
    evidence: Evidence
    processes: Processes
    clock: Clock
    tell: Tell

    @classmethod
    def of(cls, root: Path, tell: Tell) -> Gatehouse:
        """Return the gatehouse of a checkout."""
        git = Git(root)
        return cls(root, git, Evidence(root / "reports", git.directory()), Processes(), Clock(), tell)


def run(house: Gatehouse, *, stage: str, command: Sequence[str]) -> Report:
    """Run a stage's command if the chain before it is proven for this tree, and leave evidence if it passes.

    deploy-e2e runs the unproven stages first. Raises Refused when the stage may not start; the report carries the
    command's own exit code.
    """
    changed = house.git.changed_files()
    if stage == "deploy-e2e" and not changed and (missing := gate.missing_before(stage, verdicts(house))):
        house.tell(f"not yet proven for this tree, so run first: {', '.join(missing)}")
        _run_before(house, missing)
    gate.require_start(stage, verdicts(house), changed)
    tree, started = house.git.tree(), house.clock.now()
    junit = house.evidence.begin(stage, tree)
    # pytest takes this wherever in the stage it runs.
    code = house.processes.passthrough([sys.executable, *command], {"PYTEST_ADDOPTS": f"--junitxml={junit}"})
    if code:
        _write_page(house)
        return Report("gate", False, f"{stage} failed", {"stage": stage}, exit_code=code)
    return _record(house, stage, tree, junit, started.isoformat(timespec="seconds"))


def status(house: Gatehouse) -> Report:
    """Say of every stage whether it is proven for the tree that is checked out. Exit code 3 when one is not."""
    chain = verdicts(house)
    page = _write_page(house)
    lines = tuple(_line(verdict) for verdict in chain)
    proven = all(verdict.proven for verdict in chain)
    changed = house.git.changed_files()
    facts = {
        "tree": house.git.tree(),
        "changed_files": list(changed),
        "stages": [{"stage": each.stage, "proven": each.proven, "reason": each.reason} for each in chain],
        "page": str(page),
    }
    summary = "every stage is proven for this tree" if proven else "not every stage is proven for this tree"
    return Report(
        "gate",
        False,
        summary + (f" ({len(changed)} files are changed)" if changed else ""),
        facts,
        lines,
        0 if proven else 3,
    )


def promote(house: Gatehouse, *, version: str) -> Report:
    """Write the release manifest of the proven tree and tag its commit; raises Refused when a stage is unproven."""
    if changed := house.git.changed_files():
        raise Refused(f"these files are changed: {', '.join(changed[:5])}", "git commit, then ./noxw -s deploy-e2e")
    chain = verdicts(house)
    tree, commit = house.git.tree(), house.git.commit()
    proofs = house.evidence.proofs(tree, gate.STAGES)
    digests = {stage: gate.digest(proof.envelope) for stage, proof in proofs.items() if proof.envelope}
    manifest = gate.manifest_from(version, commit, tree, chain, digests, house.clock.now())
    tag = f"v{version.removeprefix('v')}"
    if house.git.tag_exists(tag):
        raise Refused(f"tag {tag} is taken", "choose the next version")
    text = json.dumps(manifest, indent=2, sort_keys=True) + "\n"
    path = house.evidence.write(f"release-{tag}.json", text)
    house.git.tag(tag, text)
    return Report("gate", True, f"{tag} is promoted; its manifest is {path}", {"manifest": manifest})


def verdicts(house: Gatehouse) -> tuple[Verdict, ...]:
    """Return the verdict on every stage for the tree that is checked out."""
    tree = house.git.tree()
    return gate.judge_chain(tree, house.evidence.proofs(tree, gate.STAGES), house.evidence.key())


def _run_before(house: Gatehouse, missing: Sequence[str]) -> None:
    arguments = [each for stage in missing for each in ("-s", stage)]
    if code := house.processes.passthrough([str(house.root / "noxw"), *arguments]):
        error = OpsError("a stage that deploy-e2e stands on did not pass", "read its output above")
        error.exit_code = code
        raise error


def _record(house: Gatehouse, stage: str, tree: str, junit: Path, started: str) -> Report:
    if house.git.changed_files() or house.git.tree() != tree:
        house.tell(f"{stage} passed, but the work tree is not what is committed: no evidence is left")
        return Report("gate", False, f"{stage} passed, without evidence", {"stage": stage})
    circumstances = house.evidence.circumstances(started, house.clock.now().isoformat(timespec="seconds"))
    content, before = junit.read_bytes(), house.evidence.proofs(tree, gate.STAGES)
    previous = gate.previous_digest(stage, before)
    statement = gate.statement_from(stage, tree, content, circumstances, previous)
    house.evidence.keep(stage, tree, content, gate.sealed(statement, house.evidence.key()))
    _write_page(house)
    verdict = next(each for each in verdicts(house) if each.stage == stage)
    if not verdict.proven:
        raise Refused(f"{stage} passed, but proves nothing: {verdict.reason}", "mend the test named")
    return Report(
        "gate", True, f"{stage} is proven for tree {tree[:12]}: {verdict.reason}", {"stage": stage, "tree": tree}
    )


def _write_page(house: Gatehouse) -> Path:
    tree, commit = house.git.tree(), house.git.commit()
    return house.evidence.write(
        "index.html", page_from(verdicts(house), tree, commit, house.git.changed_files(), house.clock.now())
    )


def _line(verdict: Verdict) -> str:
    mark = "proven  " if verdict.proven else "UNPROVEN"
    return f"{mark} {verdict.stage}: {verdict.reason}" + (f" -> {verdict.remedy}" if verdict.remedy else "")
