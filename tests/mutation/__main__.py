"""Mutate the modules of modules.toml, or only the named ones: python -m tests.mutation [ops/MODULE.py ...]."""

from __future__ import annotations

import gc
import json
import os
import sys
import tempfile
import time
import tomllib
from collections.abc import Collection, Sequence
from pathlib import Path

from tests.mutation import outcome
from tests.mutation.mutants import mutants
from tests.mutation.outcome import Key, Result
from tests.mutation.runner import Module, Suite

ROOT = Path(__file__).parents[2]
MODULES = Path(__file__).parent / "modules.toml"
SURVIVORS = ROOT / "docs/reference/mutation.md"
RESULTS = ROOT / "reports/mutation.json"
_PROGRESS = 25


def main(names: Sequence[str]) -> int:
    """Print the results and write them to reports/mutation.json. Return 1 for a failure, 2 for an unknown module."""
    declared = tomllib.loads(MODULES.read_text(encoding="utf-8"))
    modules = [Module(each["source"], tuple(each["tests"]), tuple(each.get("skip", ()))) for each in declared["module"]]
    if unknown := sorted(set(names) - {each.source for each in modules}):
        print(f"not in {MODULES.relative_to(ROOT)}: {', '.join(unknown)}", file=sys.stderr)
        return 2
    accepted = outcome.accepted_from(SURVIVORS.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory(prefix="mutation-") as folder:
        results = [
            _result(each, accepted.get(each.source, ()), Path(folder))
            for each in modules
            if not names or each.source in names
        ]
    RESULTS.parent.mkdir(exist_ok=True)
    document = outcome.document(results, accepted, declared["floor"])
    RESULTS.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    print("\n".join(outcome.table(results, accepted)))
    found = outcome.failures(results, accepted, declared["floor"])
    print("\n".join(found), file=sys.stderr)
    return 1 if found else 0


def _result(module: Module, accepted: Collection[Key], folder: Path) -> Result:
    began = time.monotonic()
    made = mutants((ROOT / module.source).read_text(encoding="utf-8"), module.skip)
    tests = Suite(module, ROOT, folder)
    gc.collect()
    gc.freeze()  # the collector of a child would copy the parent's pages
    survived = []
    for number, each in enumerate(made, 1):
        if not tests.kill(each.source):
            survived.append(each.key)
            if each.key not in accepted:
                print(f"{module.source}: survived: {outcome.entry(each.key)}", flush=True)
        if number % _PROGRESS == 0 or number == len(made):
            print(f"{module.source}: {number} of {len(made)} mutants, {len(survived)} survived", flush=True)
    return Result(module.source, len(made), tuple(survived), time.monotonic() - began)


if __name__ == "__main__":
    # The order of a set of strings decides on some mutants; it has to be the same in each run.
    if os.environ.get("PYTHONHASHSEED") != "0":
        command = [sys.executable, "-m", "tests.mutation", *sys.argv[1:]]
        os.execve(sys.executable, command, {**os.environ, "PYTHONHASHSEED": "0"})
    sys.exit(main(sys.argv[1:]))
