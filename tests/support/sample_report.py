"""A sample of the gate's report page, for the screenshot in the README, which ``docs/pictures/render`` makes.

`python -m tests.support.sample_report` prints the page; with the name of a PNG file it adds the page's digest to the file.

The gate's own code makes the page from evidence. The results are a sample: only the numbers of tests and the times of the
stages were measured, on two cores on 2026-12-01.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from xml.sax.saxutils import quoteattr

from ops.backup.records import Drill
from ops.gate import evidence, html_report
from ops.model import Circumstances, Proof
from ops.restore import drill
from ops.timeline_chart import PROPERTY, to_document
from tests.support import fakes, png

BEGAN = datetime(2026, 12, 1, 6, 0, tzinfo=UTC)
# The number of tests of each stage, and its seconds.
STAGES: Mapping[str, tuple[int, int]] = {
    "lint": (45, 21),
    "unit": (2776, 12),
    "integration": (395, 253),
    "deploy-e2e": (149, 3014),
}
DRILL = Drill(
    BEGAN,
    "20261201T054500Z",
    rto_seconds=16.8,
    rpo_seconds=412,
    durations={"fetch": 5.9, "database": 3.1, "start": 7.8, "compare": 1.6, "check": 9.4},
)
# The test that records the chart of a drill.
MEASURED_BY = "test_a_drill_restores_the_newest_backup_into_a_scratch_site_and_removes_it"
_KEY = bytes(32)
_TREE, _COMMIT = (hashlib.sha1(each, usedforsecurity=False).hexdigest() for each in (b"tree", b"commit"))


def page() -> str:
    """Return the page as HTML; the same in each run."""
    proofs: dict[str, Proof] = {}
    began, previous = BEGAN, ""
    for stage, (number, seconds) in STAGES.items():
        junit = _junit(number - 1, chart=stage == "deploy-e2e")
        ended = began + timedelta(seconds=seconds)
        under = Circumstances(
            "hermetic", started=began.isoformat(), finished=ended.isoformat(), command=evidence.COMMANDS[stage]
        )
        statement = evidence.statement_from(stage, _TREE, junit, under, previous)
        proofs[stage] = Proof(evidence.to_envelope(statement, _KEY), junit)
        began, previous = ended, evidence.digest(proofs[stage].envelope or b"")
    return html_report.page_from(evidence.check_chain(_TREE, proofs, _KEY), _TREE, _COMMIT, (), began)


def _junit(number: int, *, chart: bool) -> bytes:
    """A JUnit file with that many tests, and one more, which may have recorded the chart of a drill."""
    cases = "".join(f'<testcase classname="a" name="test_{each}" time="0"/>' for each in range(number))
    course = quoteattr(json.dumps(to_document(drill.course_of(DRILL, fakes.site()))))
    recorded = f'<properties><property name="{PROPERTY}" value={course}/></properties>' if chart else ""
    last = f'<testcase classname="a" name="{MEASURED_BY}" time="31">{recorded}</testcase>'
    return f"<testsuite>{cases}{last}</testsuite>".encode()


def source() -> str:
    """Return the text in a screenshot that says which page it shows."""
    return f"sample_report.py, sha256 {hashlib.sha256(page().encode()).hexdigest()}"


if __name__ == "__main__":
    for each in map(Path, sys.argv[1:]):
        each.write_bytes(png.with_source(each.read_bytes(), source()))
    if not sys.argv[1:]:
        sys.stdout.write(page())
