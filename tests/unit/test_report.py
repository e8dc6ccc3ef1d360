"""Reports of verbs as JSON documents."""

from __future__ import annotations

import json

import pytest

from ops import report
from ops.model import Report


def test_the_document_has_the_facts_beside_the_keys_of_every_report() -> None:
    document = json.loads(report.as_json(Report("settings", True, "done", {"settings": ["APP_NAME"]})))
    assert document == {
        "verb": "settings",
        "ok": True,
        "changed": True,
        "exit_code": 0,
        "summary": "done",
        "settings": ["APP_NAME"],
    }


def test_a_fact_cannot_replace_a_key_that_the_playbook_reads() -> None:
    with pytest.raises(ValueError, match="facts named as keys of every report: changed"):
        Report("settings", True, "done", {"changed": ["APP_NAME"]})
