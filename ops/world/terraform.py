"""The adapter for Terraform: one root with its own data directory and backend."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ops.errors import Locked, OpsError, Unavailable
from ops.model import Change
from ops.world.process import Finished, Processes
from ops.world.terraform_mirror import cli_configuration, discover
from ops.world.terraform_program import command

Tell = Callable[[str], None]
_SHORT = 80
_LOCKING = ("-lock=true", "-lock-timeout=20s")
_MOVES_NOT_RECORDED = "Moved resource instances excluded by targeting"
_WORTH_TELLING = re.compile(
    r"^(aws_\S+|data\.\S+|ephemeral\.\S+|module\.\S+): (Creation complete|Destruction complete|Modifi)|^(Apply|Plan|Error)"
)
# Once these exist, only a wait remains. Other resources may lack steps (a security group its rules) and are made again.
_WHOLE_ONCE_MADE = frozenset({"aws_ebs_volume", "aws_s3_bucket", "aws_secretsmanager_secret"})


class Terraform:
    """Applies one Terraform root. ``data`` is Terraform's data directory; ``environment`` is added to its programs' environment."""

    def __init__(
        self, processes: Processes, root: Path, data: Path, environment: Mapping[str, str], tell: Tell
    ) -> None:
        self._processes, self._root, self._tell = processes, root, tell
        data.mkdir(parents=True, exist_ok=True)
        self.environment = {
            **environment,
            **_provider_source(data),
            "TF_DATA_DIR": str(data / "terraform"),
            "TF_IN_AUTOMATION": "1",
            # Go's garbage collector takes a seventh of each command's time and saves a tenth of a third of a gigabyte.
            "GOGC": "400",
        }

    def init(self, backend: Mapping[str, str]) -> None:
        """Initialize the root with the given backend settings; changed settings replace the old ones."""
        options = [f"-backend-config={key}={value}" for key, value in sorted(backend.items())]
        # Otherwise Terraform would write further hashes of a registry into the tree under test.
        self._run(["init", "-input=false", "-no-color", "-reconfigure", "-lockfile=readonly", *options])

    def apply(self, variables: Path, *options: str, state: Mapping[str, Any] | None = None) -> bool:
        """Apply the root and return whether that changed anything.

        Raises Locked when another run holds the state, OpsError when a resource fails.

        Resources of an interrupted apply are kept and finished where that is safe. ``state`` is a recent result of ``state()``,
        to save a second call.
        """
        self._keep_what_was_begun(self.state() if state is None else state)
        done = self._run(
            [
                "apply",
                "-input=false",
                "-no-color",
                "-auto-approve",
                "-lock-timeout=20s",
                f"-var-file={variables}",
                *options,
            ]
        )
        return _changed(done)

    def apply_if_agreed(
        self,
        variables: Path,
        *options: str,
        agree: Callable[[tuple[Change, ...]], None],
        state: Mapping[str, Any] | None = None,
    ) -> bool:
        """Plan, call ``agree`` with the changes, then apply exactly that plan; return and raise as ``apply`` does.

        What ``agree`` raises ends it before the first change.
        """
        self._keep_what_was_begun(self.state() if state is None else state)
        with tempfile.TemporaryDirectory() as folder:
            planned = Path(folder) / "plan"
            changes = self._planned(planned, variables, *_LOCKING, *options)
            agree(changes)
            done = self._run(["apply", "-input=false", "-no-color", *_LOCKING, str(planned)])
        return _changed(done)

    def destroy(self, variables: Path, *options: str) -> None:
        """Destroy all resources of the root, or those that ``options`` name; raises as apply does."""
        common = ["-input=false", "-no-color", "-auto-approve", "-lock-timeout=20s", f"-var-file={variables}"]
        try:
            self._run(["destroy", *common, *options])
        except OpsError as error:
            if _MOVES_NOT_RECORDED not in str(error):
                raise
            # A state of an older layout: Terraform refuses -target until the moves to the new addresses are recorded.
            self._run(["apply", *common, "-refresh-only"])
            self._run(["destroy", *common, *options])

    def forget(self, *addresses: str) -> None:
        """Remove resources from the state; they stay as they are."""
        self._run(["state", "rm", "-lock-timeout=20s", *addresses])

    def import_resource(self, address: str, identity: str, variables: Path) -> None:
        """Record an existing resource in the state."""
        self._run(
            ["import", "-input=false", "-no-color", "-lock-timeout=20s", f"-var-file={variables}", address, identity]
        )

    def plan(self, variables: Path, *options: str) -> bool:
        """Print what apply would do; returns whether it would change anything."""
        argv = [
            "plan",
            "-input=false",
            "-no-color",
            "-detailed-exitcode",
            "-lock=false",
            f"-var-file={variables}",
            *options,
        ]
        return self._run(argv, success=(0, 2)).code == 2

    def changes(self, variables: Path, *options: str) -> tuple[Change, ...]:
        """Return what apply would do, resource by resource; changes nothing."""
        with tempfile.TemporaryDirectory() as folder:
            return self._planned(Path(folder) / "plan", variables, *options)

    def state(self) -> dict[str, Any]:
        """Return the root's state in Terraform's format; empty without a state."""
        document: dict[str, Any] = json.loads(self._output("state", "pull") or "{}")
        return document

    def outputs(self) -> dict[str, Any]:
        """Return the root's output values by name."""
        return {name: each["value"] for name, each in json.loads(self._output("output", "-json") or "{}").items()}

    def _planned(self, path: Path, variables: Path, *options: str) -> tuple[Change, ...]:
        """Save a plan and return its changes."""
        if not self.plan(variables, f"-out={path}", *options):
            return ()
        return changes_from(json.loads(self._output("show", "-json", str(path))))

    def _keep_what_was_begun(self, state: Mapping[str, Any]) -> None:
        # Terraform would destroy and recreate it. That is forbidden for the data disk, and a secret's name stays in use for weeks.
        for address in unfinished_from(state):
            self._run(["untaint", "-no-color", "-lock-timeout=20s", address])
            self._tell(f"terraform: {address}: keeping the resource that an interrupted run created")

    def _output(self, *arguments: str) -> str:
        argv = [*command(), *arguments]
        return self._processes.output(argv, directory=self._root, environment=self.environment).output

    def _run(self, arguments: list[str], success: tuple[int, ...] = (0,)) -> Finished:
        argv = [*command(), *arguments]
        finished = self._processes.run(argv, directory=self._root, environment=self.environment, tell=self._hear)
        if finished.code not in success:
            raise failure_from(arguments[0], finished.output, self._by_hand())
        return finished

    def _by_hand(self) -> str:
        """The command of a person who runs Terraform on this root."""
        data = shlex.quote(self.environment["TF_DATA_DIR"])
        return f"TF_DATA_DIR={data} ./noxw -s terraform -- -chdir={shlex.quote(str(self._root))}"

    def _hear(self, line: str) -> None:
        if _WORTH_TELLING.match(line):
            self._tell(f"terraform: {line}")


def _changed(done: Finished) -> bool:
    return "Resources: 0 added, 0 changed, 0 destroyed" not in done.output


def unfinished_from(state: Mapping[str, Any]) -> list[str]:
    """Return the addresses of resources whose creation was interrupted and that can be kept.

    ``state`` is the output of `terraform state pull`; Terraform calls such resources tainted.
    """
    return [
        _address(resource, instance)
        for resource in state.get("resources", [])
        for instance in resource["instances"]
        if instance.get("status") == "tainted" and resource["type"] in _WHOLE_ONCE_MADE
    ]


def resources_from(state: Mapping[str, Any]) -> list[str]:
    """Return the addresses of all resources that Terraform manages, in the state's order."""
    return [
        _address(resource, instance)
        for resource in state.get("resources", [])
        for instance in resource["instances"]
        if resource["mode"] == "managed"
    ]


def identities_from(state: Mapping[str, Any], kind: str) -> frozenset[str]:
    """Return the ids of all managed resources of a type."""
    return frozenset(
        str(instance["attributes"]["id"])
        for resource in state.get("resources", [])
        if resource["mode"] == "managed" and resource["type"] == kind
        for instance in resource["instances"]
    )


def changes_from(plan: Mapping[str, Any]) -> tuple[Change, ...]:
    """Return the changes of a plan; ``plan`` is the output of `terraform show -json` (format version 1).

    Sensitive attributes are named without their values.
    """
    return tuple(
        Change(each["address"], each["type"], _ACTIONS[tuple(sorted(each["change"]["actions"]))], _differences(each))
        for each in plan.get("resource_changes", [])
        if each["mode"] == "managed" and each["change"]["actions"] != ["no-op"]
    )


_ACTIONS = {
    ("create",): "create",
    ("update",): "update",
    ("delete",): "destroy",
    ("create", "delete"): "replace",
    ("forget",): "forget",
}


def _differences(resource: Mapping[str, Any]) -> tuple[str, ...]:
    change = resource["change"]
    before, after = change["before"], change["after"]
    if before is None or after is None:
        return ()
    unknown = _marks(change.get("after_unknown"))
    hidden = {**_marks(change.get("before_sensitive")), **_marks(change.get("after_sensitive"))}
    differing = (name for name in sorted({*before, *after}) if before.get(name) != after.get(name))
    return tuple(
        f"{name}: (hidden)"
        if hidden.get(name)
        else f"{name}: {_short(before.get(name))} -> {'(known afterwards)' if unknown.get(name) else _short(after.get(name))}"
        for name in differing
    )


def _marks(marks: Any) -> Mapping[str, Any]:
    return marks if isinstance(marks, dict) else {}


def _short(value: Any) -> str:
    text = json.dumps(value, sort_keys=True)
    return text if len(text) <= _SHORT else f"{text[:_SHORT]}..."


def rules_from(state: Mapping[str, Any]) -> dict[str, frozenset[str]]:
    """Return the id of each security group in the state, with the ids of its rules that Terraform manages."""
    found: dict[str, set[str]] = {}
    for resource in state.get("resources", []):
        for instance in resource["instances"] if resource["mode"] == "managed" else []:
            attributes = instance["attributes"]
            if resource["type"] in {"aws_security_group", "aws_default_security_group"}:
                found.setdefault(attributes["id"], set())
            elif resource["type"] in {"aws_vpc_security_group_ingress_rule", "aws_vpc_security_group_egress_rule"}:
                found.setdefault(attributes["security_group_id"], set()).add(attributes["id"])
    return {group: frozenset(rules) for group, rules in found.items()}


@contextmanager
def with_override(root: Path, override: str) -> Iterator[Path]:
    """Yield a temporary copy of a root, with ``override`` as the text of an override file."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "root"
        shutil.copytree(root, copy)
        (copy / "altered_override.tf").write_text(override, encoding="utf-8")
        yield copy


def _address(resource: Mapping[str, Any], instance: Mapping[str, Any]) -> str:
    module = f"{resource['module']}." if "module" in resource else ""
    key = f"[{json.dumps(instance['index_key'])}]" if "index_key" in instance else ""
    return f"{module}{resource['type']}.{resource['name']}{key}"


def failure_from(verb: str, output: str, by_hand: str) -> OpsError:
    """Return the error in Terraform's output, with its own message: Locked, Unavailable or a plain OpsError.

    ``by_hand`` is the command that runs Terraform on the same root, for the hint of a lock that a killed run left.
    """
    start = output.find("Error:")
    message = output[start:].strip() if start >= 0 else output.strip()[-1500:]
    if "Error acquiring the state lock" in output:
        # At the start of a line: the message of S3 has a RequestID before it.
        held = re.search(r"^\W*ID:\s+(\S+)", output, re.MULTILINE)
        unlock = f"{by_hand} force-unlock {held.group(1) if held else 'ID'}"
        return Locked(
            f"another run holds the Terraform state:\n{message}", f"wait for it; if it was killed, run {unlock}"
        )
    if "Saved plan is stale" in output:
        return Locked(
            f"another run changed the Terraform state after the plan was made:\n{message}", "run ops deploy again"
        )
    if re.search(r"no such host|connection refused|connect: |i/o timeout|Failed to query available provider", output):
        return Unavailable(
            f"terraform {verb} cannot reach a service:\n{message}",
            "check network and endpoints, then run the command again",
        )
    return OpsError(
        f"terraform {verb} failed:\n{message}",
        "fix the cause, then run the command again: it continues where it stopped",
    )


def _provider_source(data: Path) -> dict[str, str]:
    """Configure Terraform for a provider mirror on this machine, or for its own registry without a mirror."""
    mirror = discover()
    named = os.environ.get("TF_CLI_CONFIG_FILE", "")
    if mirror is None:
        return {"TF_CLI_CONFIG_FILE": ""} if named and not Path(named).is_file() else {}
    configuration = data / "terraform.rc"
    configuration.write_text(cli_configuration(mirror), encoding="utf-8")
    return {"TF_CLI_CONFIG_FILE": str(configuration)}
