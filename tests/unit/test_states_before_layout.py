"""States that commit f6721f2 wrote on a host, in a bucket and beside a site file: today's code reads and uses them as it did.

The files and how they were made: tests/data/before-layout/README.md.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from ops.config import load, monitoring_files, settings_file, tool_variables, workspace
from ops.deploy import host, infrastructure
from ops.errors import RolledBack
from ops.gate import evidence
from ops.images import pins
from ops.images.pins import pinned, variable_of
from ops.model import Circumstances
from ops.update.journal import Pending, pending_from
from ops.world.journal import Journal
from tests.support import fake_host, fakes
from tests.support.fake_host import RELEASES, FakeHost, Killed, Running
from tests.support.kept_states import (
    KEPT,
    NOW,
    ROOT,
    SITE,
    UPDATES,
    document,
    kept_world,
    text,
)

# Updates.


def pending(name: str) -> Pending:
    found = pending_from(Journal(KEPT / f"update/{name}/journal").records())
    assert found
    return found


def tags(found: Pending) -> tuple[str, str, str]:
    return found.planned.service, found.planned.current.tag, found.planned.target.tag


GITEA, POSTGRES, NGINX = ("gitea", "28.0.1", "28.1.0"), ("postgres", "17.11", "18.6"), ("nginx", "1.30.4", "1.30.5")
WITH_DATA, MAJOR = (
    ("stop", "picture", "pin", "up", "judge"),
    ("stop", "picture", "convert", "switch", "pin", "up", "judge"),
)


def until(steps: Sequence[str], last: str) -> tuple[str, ...]:
    return tuple(steps[: steps.index(last) + 1])


@pytest.mark.parametrize(
    ("name", "moved", "steps"),
    [
        *[(f"gitea-{step}", GITEA, until(WITH_DATA, step)) for step in WITH_DATA],
        *[(f"postgres-{step}", POSTGRES, until(MAJOR, step)) for step in MAJOR[1:]],
        ("gitea-back", ("gitea", "28.0.1", "28.1.1-broken"), WITH_DATA),
        ("rollback-back", GITEA, ()),
        ("nginx-up", NGINX, ("pin", "up")),
    ],
)
def test_a_journal_gives_the_update_and_the_steps_that_it_took(
    name: str, moved: tuple[str, str, str], steps: tuple[str, ...]
) -> None:
    found = pending(name)
    assert (tags(found), found.steps) == (moved, steps)
    assert found.planned.current.digest.startswith("sha256:")
    assert found.automatic is False
    assert bool(found.backup) == bool(found.canary) == (moved != NGINX)
    assert found.began.date() == NOW.date()
    assert (found.rollback, found.undoing) == (name == "rollback-back", name.endswith("-back"))
    assert (found.away_since is None) == (steps[-1:] == () and not found.undoing)
    assert found.planned.needs_pg_upgrade is (found.planned.service == "postgres")


def test_every_kept_journal_has_a_case() -> None:
    assert set(UPDATES) == {
        *(f"gitea-{step}" for step in (*WITH_DATA, "back")),
        *(f"postgres-{step}" for step in MAJOR[1:]),
        "rollback-back",
        "nginx-up",
    }


@pytest.mark.parametrize("name", UPDATES)
def test_the_unit_keeps_gitea_stopped_while_an_update_with_data_is_unfinished(name: str) -> None:
    """The unit's own expression decides, the old one and today's."""
    assert starts_gitea(KEPT / f"update/{name}/journal") is (name == "nginx-up")


@pytest.mark.parametrize("name", ["switch", "start", "one-repository"])
def test_the_unit_keeps_gitea_stopped_while_a_restore_is_unfinished(name: str) -> None:
    assert starts_gitea(KEPT / f"restore/{name}/journal") is False


def starts_gitea(journal: Path) -> bool:
    found = []
    for unit in (
        ROOT / "playbooks/roles/gitea/templates/gitea-suite.service.j2",
        KEPT / "host/systemd/gitea-suite.service",
    ):
        (expression,) = re.findall(r'--extended-regexp "(.+)" ', unit.read_text(encoding="utf-8"))
        argv = ["grep", "--quiet", "--null-data", "--extended-regexp", expression, str(journal)]
        found.append(subprocess.run(argv, check=False).returncode == 1)
    assert found[0] == found[1]
    return found[0]


def host_at(name: str, directory: Path) -> FakeHost:
    """Return a host in a kept state: its journal, pins, containers and the folders of the update."""
    found, state = pending(name), KEPT / f"update/{name}"
    machine = FakeHost(directory=directory, clock=fakes.FakeClock(found.began + timedelta(minutes=1)))
    assert machine.write("before")
    shutil.copy(state / "compose.env", machine.compose / ".env")
    for line in (state / "containers.txt").read_text(encoding="utf-8").splitlines():
        container, condition, image = line.split()
        service = container.removeprefix("gitea-suite-").removesuffix("-1")
        if service in machine.stack:
            machine.stack[service] = Running(image, condition)
    put_data(machine, found, (state / "files.txt").read_text(encoding="utf-8").split())
    if found.planned.with_data and machine.stack["gitea"].state != "running":
        machine.proxy.held = "all"
    machine.journals[machine.paths.data / ".update/journal"] = [
        dict(each) for each in Journal(state / "journal").records()
    ]
    return machine


def put_data(machine: FakeHost, found: Pending, folders: Sequence[str]) -> None:
    """Write data and database, their snapshots, and a copy of the database in another major version."""
    data, runs = machine.paths.data, machine.stack["gitea"].state == "running"
    (data / ".update").mkdir()
    was = {"migration": found.migration or 338, "writes": ["before"]}
    # The snapshots were taken before anything changed.
    fill(data / "postgresql", "17" if found.planned.needs_pg_upgrade else "18", was)
    for folder in ("before", "undone", "copy"):
        for part in ("gitea", "postgresql"):
            if f".update/{folder}/{part}" in folders:
                shutil.copytree(data / part, data / ".update" / folder / part)
    if ".update/anew/postgresql" in folders:
        (data / ".update/anew/postgresql").mkdir(parents=True)
    if found.planned.needs_pg_upgrade and "postgresql/18" in folders:
        # The copy and the database have changed places.
        fill(data / ".update/anew/postgresql", "17", was)
        fill(data / "postgresql", "18", was)
    # A running Gitea has migrated its database.
    now = was | ({"migration": RELEASES[machine.version()].migration} if runs else {})
    fill(data / "postgresql", (data / "postgresql/PG_VERSION").read_text(encoding="utf-8"), now)


def fill(folder: Path, version: str, database: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "PG_VERSION").write_text(version)
    (folder / "gitea").write_text(json.dumps(database))


def major(tag: str) -> str:
    return tag.partition(".")[0]


@pytest.mark.parametrize("boot", [False, True], ids=["by hand", "as the host boots"])
@pytest.mark.parametrize("name", UPDATES)
def test_an_interrupted_update_ends_as_the_old_code_ended_it(
    name: str, boot: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine, found, before = host_at(name, tmp_path), pending(name), document(f"update/{name}/resumed.json")
    # The commit of the canary repository, as the update read it at its begin.
    monkeypatch.setattr(fake_host, "CANARY", found.canary)
    (machine.paths.live / "canary").touch()
    if boot:
        machine.reboot()
    outcome = "rolled back"
    if before["exit_code"]:
        with pytest.raises(RolledBack):
            machine.resume()
    else:
        done = machine.resume()
        outcome = done.facts.get("outcome", "")
        assert (outcome, done.facts["service"]) == (before["outcome"], before["service"])
        assert (done.facts["from"], done.facts["to"]) == (before["from"], before["to"])
    if boot:
        machine.run(["docker", "compose", "up"])
    ends = found.planned.target if outcome == "updated" else found.planned.current
    assert (
        machine.stack[found.planned.service].image == str(ends) == machine.pinned_in_environment(found.planned.service)
    )
    assert machine.serves()
    assert machine.content() == ["before"]
    assert machine.journals[machine.paths.data / ".update/journal"] == []
    assert machine.resume().changed is False
    (entry,) = machine.history()
    assert (entry["service"], entry["outcome"], entry["backup"]) == (found.planned.service, outcome, found.backup)
    # The old code wrote the same key: it has the begin and the outcome.
    recorded = [key for key in machine.bucket if key.startswith("updates/history/")]
    assert len(recorded) == 1
    assert set(recorded) <= set(text("bucket-keys.txt").split())
    if outcome != "rolled back":
        assert pins.from_json(machine.bucket[pins.KEY])[found.planned.service] == ends


@pytest.mark.parametrize(
    ("name", "service", "to", "last"),
    [
        ("gitea-judge", "gitea", "28.1.0", "commit"),
        ("postgres-judge", "postgres", "19.0", "commit"),
        ("nginx-up", "nginx", "1.30.5", "judge"),
        ("gitea-back", "gitea", "28.1.1-broken", ""),
        ("rollback-back", "gitea", "28.1.0", ""),
    ],
)
def test_a_journal_is_written_with_the_same_steps_and_fields(
    name: str, service: str, to: str, last: str, tmp_path: Path
) -> None:
    def begun(folder: str, dies_before: int = -1) -> FakeHost:
        machine = FakeHost(directory=tmp_path / folder)
        if name == "rollback-back":
            machine.update(service, to)
            machine.actions.clear()
        machine.dies_before = dies_before
        with suppress(Killed, RolledBack):
            machine.rollback() if name == "rollback-back" else machine.update(service, to)
        return machine

    deeds = begun("whole").actions
    # Killed before the first record that the kept journal lacks, or after its last one.
    machine = begun("killed", deeds.index(f"record {last}") if last else deeds.index("record undo") + 1)
    kept = Journal(KEPT / f"update/{name}/journal").records()
    (written,) = [each for each in machine.journals.values() if each]
    assert [(each["step"], sorted(each)) for each in written] == [(each["step"], sorted(each)) for each in kept]


def test_the_update_history_is_read_and_new_entries_have_the_same_fields(tmp_path: Path) -> None:
    machine = FakeHost(directory=tmp_path)
    (machine.paths.data / ".update").mkdir()
    shutil.copy(KEPT / "update/history.jsonl", machine.paths.data / ".update/history.jsonl")
    kept = [json.loads(line) for line in text("update/history.jsonl").splitlines()]
    machine.update(to="28.1.0")
    *entries, added = machine.history()
    assert [without_course(each) for each in entries] == kept
    assert [each["course"]["steps"] for each in entries] == [each["durations"] for each in kept]
    assert list(without_course(added)) == list(kept[-1])
    old = document("update/history.json")["updates"]
    drawn = [without_labels(each["course"]) for each in json.loads(json.dumps(entries))]
    assert drawn == [without_labels(each["course"]) for each in old]
    ends = {(each["service"], each["outcome"]) for each in entries}
    assert {("gitea", "rolled back"), ("gitea", "updated"), ("gitea", "went back"), ("postgres", "updated")} <= ends


def without_labels(course: dict[str, Any]) -> dict[str, Any]:
    """Return a chart without the labels of its marks, which are drawn from the history and not kept in it."""
    return course | {"marks": [each["at"] for each in course["marks"]]}


def without_course(entry: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in entry.items() if name != "course"}


@pytest.mark.parametrize(
    ("name", "service", "tag"),
    [("update/gitea-judge/kept.json", "gitea", "28.0.1"), ("update/kept.json", "postgres", "17.11")],
)
def test_a_rollback_goes_back_to_the_kept_snapshots(name: str, service: str, tag: str, tmp_path: Path) -> None:
    machine = FakeHost(directory=tmp_path)
    kept = pending_from([document(name)])
    assert kept
    machine.clock = fakes.FakeClock(kept.began + timedelta(hours=1))
    data, old = machine.paths.data, {"migration": kept.migration, "writes": []}
    (data / ".update/before/gitea").mkdir(parents=True)
    (data / ".update/before/gitea/writes").write_text("")
    fill(data / ".update/before/postgresql", major(tag) if service == "postgres" else "18", old)
    shutil.copy(KEPT / name, data / ".update/kept.json")
    environment = pins.into_environment((machine.compose / ".env").read_text(), service, kept.planned.target)
    if service == "postgres":
        environment = pins.into_environment(environment, "gitea", pins.pin_from("gitea/gitea:28.1.0@sha256:28.1.0"))
    (machine.compose / ".env").write_text(environment)
    machine.run(["docker", "compose", "up"])
    assert machine.write("since the update")
    done = machine.rollback()
    assert (done.facts["service"], done.facts["to"]) == (service, str(kept.planned.current))
    assert (kept.planned.current.tag, machine.stack[service].image) == (tag, str(kept.planned.current))
    assert machine.serves()
    assert machine.content() == []
    assert (data / ".update/undone/gitea/writes").read_text() == "since the update\n"
    assert not (data / ".update/kept.json").exists()
    assert machine.history()[-1]["outcome"] == "went back"


def test_a_deployment_keeps_the_images_that_updates_have_proven() -> None:
    known = pins.from_json((KEPT / "bucket" / pins.KEY).read_bytes())
    environment = pins.from_environment(text("update/compose.env"))
    assert {service: environment[service] for service in known} == known
    chosen = pins.deployed(pinned(ROOT / "compose"), known)
    assert {service: chosen[pins.variable_of(service)] for service in ("gitea", "postgres")} == {
        service: str(known[service]) for service in ("gitea", "postgres")
    }
    assert host.update_pins(SITE, world_with_buckets()) == known
    assert json.loads(pins.to_json(known)) == document("bucket/updates/pins.json")


def world_with_buckets() -> Any:
    world = kept_world()
    world.aws.buckets = {SITE.backup.bucket, infrastructure.state_bucket(SITE)}
    return world


# Files that a deployment reads and writes.

# Keys and variables that are newer than the old site, with the values that it gets.
NEW_KEYS = {
    "gitea": {"transfer_limit_mib": 0, "settings": {}},
    "mail": {"manage_identity": True},
    "limits": {"ssh_logins": 200, "ssh_logins_per_address": 0, "ssh_penalties": False},
    "web": {"hold_seconds": 30, "drain_seconds": 60, "window_drain_seconds": 600},
    "monitoring": {
        "enabled": True,
        "retention_days": 15,
        "contacts": [],
        "webhook_url": "",
        "webhook_format": "alertmanager",
        "heartbeat_url": "",
        "interval_seconds": 60,
        "group_wait_seconds": 30,
        "grafana_path": False,
        "disk_free_percent": 10,
        "certificate_days": 10,
        "error_percent": 5,
        "latency_seconds": 5,
    },
}
NEW_VARIABLES = {
    "HOLD_SECONDS": "30",
    "TRANSFER_LIMIT_MIB": "0",
    "SSH_LOGINS": "200",
    "SSH_CONNECTIONS_PER_ADDRESS": "1000000",
    "SSH_CONNECTIONS_PER_MINUTE": "1000000",
    "METRICS_DAYS": "15",
    "METRICS_MIB": "2560",
    "METRICS_SECONDS": "60",
    "GRAFANA_PATH": "private",
    "GRAFANA_URL": "http://localhost:3000/-/grafana/",
    "GRAFANA_COOKIE_SECURE": "false",
    "GRAFANA_NETWORK": "monitoring",
}
# The images of services that are newer than the old site.
NEW_IMAGES = {"HAPROXY_IMAGE", *map(variable_of, monitoring_files.SERVICES)}


def test_the_old_site_file_is_read_and_gives_the_same_variables() -> None:
    key = document("operator/state/infra/terraform.tfvars.json")["ssh_public_key"]
    # Since then, a site may leave the SES identity to others; an old site manages its own.
    new = {"manage_mail_identity": True}
    assert tool_variables.terraform_variables(SITE, key) == new | document("operator/state/infra/terraform.tfvars.json")
    kept = document("host/site.json")
    grown = kept | {section: kept.get(section, {}) | added for section, added in NEW_KEYS.items()}
    assert json.loads(json.dumps(tool_variables.host_document(SITE))) == grown
    assert load.load(KEPT / "host/site.json") == replace(SITE, tls=replace(SITE.tls, acme_ca=""))
    said = dict(line.split("=", 1) for line in text("host/ops.env").splitlines() if "=" in line)
    assert tool_variables.ops_environment(SITE).items() <= said.items()


def test_the_environment_of_the_stack_has_the_same_variables() -> None:
    line = re.compile(r"([A-Z_]+)='(.*)'")
    kept = {found[1]: found[2] for found in map(line.fullmatch, text("host/compose.env").splitlines()) if found}
    made = tool_variables.compose_environment(SITE, {})
    assert made.items() <= (kept | NEW_VARIABLES).items()
    assert NEW_VARIABLES.items() <= made.items()
    # The title is in gitea-settings.json now, with the site's other settings of Gitea.
    assert set(kept) - set(made) == {"COMPOSE_FILE", "GITEA_TITLE", *pinned(ROOT / "compose")} - NEW_IMAGES
    assert kept["GITEA_TITLE"] == settings_file.chosen(SITE)["DEFAULT", "APP_NAME"]


def test_the_outputs_of_terraform_are_found_and_read(tmp_path: Path) -> None:
    outputs = infrastructure.outputs_from(document("operator/state/outputs.json"))
    assert outputs.backup_bucket == SITE.backup.bucket
    assert outputs.instance_id.startswith("i-")
    space = workspace.Workspace(ROOT, tmp_path, tmp_path)
    files = [each.partition("/")[2] for each in text("operator/files.txt").split()]
    for path in (space.outputs, space.known_hosts, space.lock):
        assert str(path.relative_to(tmp_path)) in files
    shutil.copy(KEPT / "operator/state/outputs.json", space.outputs)
    assert host.connection_of(SITE, space)["ansible_host"] == SITE.host.address


def test_every_systemd_unit_keeps_its_name_and_its_verb() -> None:
    roles = ROOT / "playbooks/roles"
    variables = "\n".join(each.read_text(encoding="utf-8") for each in roles.glob("*/vars/main.yml"))
    shipped = set(re.findall(r"/etc/systemd/system/(gitea-suite[a-z@-]*\.service)", variables))
    shipped |= {each.name.removesuffix(".j2") for each in roles.glob("*/templates/gitea-suite*.j2")}
    timers = yaml.safe_load((roles / "ops/vars/main.yml").read_text(encoding="utf-8"))["ops_timers"]
    shipped |= {f"gitea-suite-{each['name']}.{kind}" for each in timers for kind in ("service", "timer")}
    assert {line.split()[0] for line in text("host/units.txt").splitlines()} <= shipped
    for each in timers:
        unit = text(f"host/systemd/gitea-suite-{each['name']}.service")
        assert f"/usr/local/bin/ops {each['verb']}" in unit


# Evidence.


def test_old_evidence_is_read_and_would_be_written_the_same() -> None:
    envelope, key = (KEPT / "evidence/lint.json").read_bytes(), bytes.fromhex(text("evidence/key.hex").strip())
    # The file here has a final line feed; pytest writes none.
    junit = (KEPT / "evidence/lint.xml").read_bytes().removesuffix(b"\n")
    statement, cases = evidence.from_envelope(envelope, key), evidence.cases_from(junit)
    facts = evidence.facts_of(statement)
    assert evidence.to_envelope(statement, key) == envelope
    assert [each.name for each in cases if each.outcome == "passed"] == statement["predicate"]["passedTests"]
    assert (facts["stage"], facts["previous"], facts["seconds"]) == (
        "lint",
        "",
        round(sum(each.seconds for each in cases), 1),
    )
    again = evidence.statement_from(
        "lint",
        statement["subject"][0]["digest"]["gitTree"],
        junit,
        Circumstances(
            tools=evidence.tools_of(statement),
            started=facts["started"],
            finished=facts["finished"],
            command=tuple(facts["command"]),
        ),
    )
    assert again == statement
