"""The verbs of the gate: run a stage, print the status of all stages, promote a proven tree."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ops.errors import OpsError, Refused
from ops.gate import benchmarks, evidence, stage_options
from ops.gate.html_report import page_from
from ops.model import Circumstances, Report, Verdict
from ops.world.clock import Clock
from ops.world.evidence import NOTE_VARIABLE, Evidence
from ops.world.git import Git
from ops.world.process import Processes, Tell
from ops.world.tools import versions


@dataclass(frozen=True)
class GateContext:
    """The dependencies of the gate: the checkout, its evidence, other programs, the clock, and the versions of the tools."""

    root: Path
    git: Git
    evidence: Evidence
    processes: Processes
    clock: Clock
    tell: Tell
    tools: Callable[[], Mapping[str, str]]

    @classmethod
    def of(cls, root: Path, tell: Tell) -> GateContext:
        """Return the context of a checkout."""
        git = Git(root)
        return cls(root, git, Evidence(root / "reports", git.directory()), Processes(), Clock(), tell, versions)


def run(context: GateContext, *, stage: str, options: Sequence[str]) -> Report:
    """Run a stage's command if all earlier stages are proven for this tree, and store evidence if it passes.

    deploy-e2e runs the unproven stages first. Raises Refused when the stage may not start, ConfigError for a wrong option
    or site file, before anything runs; the report has the command's exit code.
    """
    command = evidence.command_of(stage, options)
    stage_options.require(options, context.root)
    if stage == "deploy-e2e" and (missing := evidence.missing_before(stage, verdicts(context))):
        _run_before(context, missing)
    # Read again, because the earlier stages may have taken minutes.
    changed = context.git.changed_files()
    evidence.require_start(stage, verdicts(context), changed)
    attempt = _begin(context, stage, command, clean=not changed)
    code = context.processes.passthrough([sys.executable, *command], attempt.environment)
    if code:
        _record_failure(context, attempt)
        _write_page(context)
        return Report("gate", False, f"{stage} failed", {"stage": stage}, exit_code=code)
    return _record(context, attempt)


@dataclass(frozen=True)
class _Attempt:
    """A run of a stage: its tree, whether the work tree was clean, and the paths of its files."""

    stage: str
    command: tuple[str, ...]
    tree: str
    clean: bool
    junit: Path
    started: str
    environment: Mapping[str, str]


def _begin(context: GateContext, stage: str, command: tuple[str, ...], *, clean: bool) -> _Attempt:
    tree, started = context.git.tree(), context.clock.now().isoformat(timespec="seconds")
    if clean:
        context.evidence.forget(stage, tree)
    junit = context.evidence.begin(stage)
    # pytest reads its options from here wherever the stage runs it, and splits them like a shell.
    environment = {
        "PYTEST_ADDOPTS": shlex.quote(f"--junitxml={junit}"),
        NOTE_VARIABLE: str(context.evidence.note_path(stage)),
    }
    return _Attempt(stage, command, tree, clean, junit, started, environment)


def status(context: GateContext) -> Report:
    """Report whether each stage is proven for the tree that is checked out. Exit code 3 when a stage is not proven."""
    chain = verdicts(context)
    page = _write_page(context)
    lines = tuple(_line(verdict) for verdict in chain)
    proven = all(verdict.proven for verdict in chain)
    changed = context.git.changed_files()
    facts = {
        "tree": context.git.tree(),
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


def promote(context: GateContext, *, version: str) -> Report:
    """Write the release manifest of the proven tree and tag its commit; raises Refused when a stage is unproven."""
    if changed := context.git.changed_files():
        raise Refused(
            f"these files are changed: {', '.join(changed[:5])}", "commit the changes, then run ./noxw -s deploy-e2e"
        )
    chain = verdicts(context)
    tree, commit = context.git.tree(), context.git.commit()
    proofs = context.evidence.proofs(tree, evidence.STAGES)
    digests = {stage: evidence.digest(proof.envelope) for stage, proof in proofs.items() if proof.envelope}
    manifest = evidence.manifest_from(version, commit, tree, chain, digests, context.clock.now())
    tag = f"v{version.removeprefix('v')}"
    if context.git.tag_exists(tag):
        raise Refused(f"tag {tag} already exists", "choose the next version")
    text = json.dumps(manifest, indent=2, sort_keys=True) + "\n"
    path = context.evidence.write(f"release-{tag}.json", text)
    try:
        context.git.tag(tag, text)
    except BaseException:
        context.evidence.drop(path.name)
        raise
    return Report("gate", True, f"{tag} is promoted; its manifest is {path}", {"manifest": manifest})


def verdicts(context: GateContext) -> tuple[Verdict, ...]:
    """Return the verdict on every stage for the tree that is checked out."""
    tree = context.git.tree()
    return evidence.check_chain(tree, context.evidence.proofs(tree, evidence.STAGES), context.evidence.key())


def _run_before(context: GateContext, missing: Sequence[str]) -> None:
    if context.git.changed_files():
        return  # require_start refuses it: these stages would leave no evidence
    context.tell(f"running the stages that are not proven for this tree first: {', '.join(missing)}")
    if code := context.processes.passthrough([str(context.root / "noxw"), "-s", *missing]):
        error = OpsError("a stage before deploy-e2e failed", "look at its output above")
        error.exit_code = code
        raise error


def _record(context: GateContext, attempt: _Attempt) -> Report:
    stage = attempt.stage
    if not _is_still_clean(context, attempt):
        context.tell(f"{stage} passed, but the work tree differs from the commit: no evidence is stored")
        return Report("gate", False, f"{stage} passed, without evidence", {"stage": stage})
    _keep(context, attempt, _read_junit(attempt))
    _write_page(context)
    verdict = next(each for each in verdicts(context) if each.stage == stage)
    if not verdict.proven:
        raise Refused(
            f"{stage} passed, but proves nothing: {verdict.reason}", "fix the test named above, then run it again"
        )
    summary = f"{stage} is proven for tree {attempt.tree[:12]}: {verdict.reason}"
    return Report("gate", True, summary, {"stage": stage, "tree": attempt.tree})


def _read_junit(attempt: _Attempt) -> bytes:
    try:
        junit = attempt.junit.read_bytes()
        evidence.cases_from(junit)
    except (FileNotFoundError, ValueError) as error:
        message = f"{attempt.stage} passed, but left no readable JUnit file"
        raise Refused(message, f"check {attempt.junit}, then run it again") from error
    return junit


def _record_failure(context: GateContext, attempt: _Attempt) -> None:
    """Store a failed run's test results, so that the page shows them; not when all its tests passed, which would mislead."""
    if not attempt.junit.is_file() or not _is_still_clean(context, attempt):
        return
    junit = attempt.junit.read_bytes()
    with suppress(ValueError):
        if any(case.outcome == "failed" for case in evidence.cases_from(junit)):
            _keep(context, attempt, junit)


def _is_still_clean(context: GateContext, attempt: _Attempt) -> bool:
    return attempt.clean and context.git.tree() == attempt.tree and not context.git.changed_files()


def _keep(context: GateContext, attempt: _Attempt, junit: bytes) -> None:
    stage, tree, finished = attempt.stage, attempt.tree, context.clock.now().isoformat(timespec="seconds")
    under = Circumstances(tools=context.tools(), started=attempt.started, finished=finished, command=attempt.command)
    circumstances = context.evidence.circumstances(stage, under)
    previous = evidence.previous_digest(stage, context.evidence.proofs(tree, evidence.STAGES))
    statement = evidence.statement_from(stage, tree, junit, circumstances, previous)
    context.evidence.keep(stage, tree, junit, evidence.to_envelope(statement, context.evidence.key()))


def _write_page(context: GateContext) -> Path:
    tree, commit = context.git.tree(), context.git.commit()
    measured = benchmarks.from_json(context.evidence.measured())
    page = page_from(verdicts(context), tree, commit, context.git.changed_files(), context.clock.now(), measured)
    return context.evidence.write("index.html", page)


def _line(verdict: Verdict) -> str:
    mark = "proven  " if verdict.proven else "UNPROVEN"
    return f"{mark} {verdict.stage}: {verdict.reason}" + (f" -> {verdict.remedy}" if verdict.remedy else "")
