"""Terraform in a deployment: state bucket, variables, apply, outputs."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ops.config import tool_variables
from ops.config.schema import Site
from ops.config.workspace import Workspace
from ops.deploy import mail_identity, orphaned_instance, preflight, security_groups
from ops.errors import Refused
from ops.model import Change, Outputs
from ops.world import World
from ops.world.aws_clients import ENDPOINT_ATTEMPTS
from ops.world.terraform import Terraform, identities_from, with_override


def public_key(private: Path) -> str:
    """Return the public key next to a private ssh key; raises Refused when one of the two is missing."""
    public = private.with_name(f"{private.name}.pub")
    if not (private.is_file() and public.is_file()):
        raise Refused(f"no ssh key pair at {private}", f"run ssh-keygen -t ed25519 -f {private}")
    return public.read_text(encoding="utf-8")


def outputs_from(values: Mapping[str, Any]) -> Outputs:
    """Return the outputs that the suite uses from Terraform's output values."""
    return Outputs(**{name: values[name] for name in Outputs.__dataclass_fields__})


def first_changes(site: Site, world: World, workspace: Workspace, variables: Path) -> tuple[Change, ...]:
    """Return what Terraform would create for a site whose state bucket does not exist yet."""
    # Without a state bucket, both roots are planned with a local state that is thrown away.
    with tempfile.TemporaryDirectory() as folder:
        bootstrap = _terraform(world, workspace.repository / "infra/bootstrap", Path(folder) / "bootstrap", site)
        bootstrap.init({"path": f"{folder}/bootstrap.tfstate"})
        first = bootstrap.changes(_write(Path(folder) / "bootstrap.json", _bootstrap_variables(site)))
        with with_override(workspace.repository / "infra", 'terraform {\n  backend "local" {}\n}\n') as root:
            whole = _terraform(world, root, Path(folder) / "infra", site)
            whole.init({"path": f"{folder}/infra.tfstate"})
            return first + whole.changes(variables)


def prepared(site: Site, world: World, workspace: Workspace, root: Path | None = None) -> tuple[Terraform, Path]:
    """Return the initialized adapter to the site's Terraform root (or to ``root``, a copy of it), and its variables file."""
    terraform = _terraform(world, root or workspace.repository / "infra", workspace.state / "infra", site)
    terraform.init(backend(site))
    return terraform, write_variables(site, workspace, public_key(Path(site.host.ssh_key).expanduser()))


def infrastructure(site: Site, world: World, workspace: Workspace, key: str, *options: str) -> Outputs:
    """Create or change the resources in AWS and return Terraform's outputs; ``key`` is the operator's public ssh key.

    ``options`` are Terraform's own. A second run continues one that was cut off. The operator is not asked. Raises Locked,
    Unavailable or OpsError with Terraform's output, and for a new site Refused with every reason why the account cannot
    take it.
    """
    return apply_infrastructure(site, world, workspace, key, options, agree=lambda _: None)[0]


def apply_infrastructure(
    site: Site,
    world: World,
    workspace: Workspace,
    key: str,
    options: Sequence[str],
    *,
    agree: Callable[[tuple[Change, ...]], None],
) -> tuple[Outputs, bool]:
    """Apply the site's Terraform root and return its outputs and whether anything changed.

    ``agree`` is called with the planned changes before the first of them, and raises Refused to stop.
    """
    ensure_state_bucket(site, world, workspace)
    terraform = terraform_of(site, world, workspace)
    terraform.init(backend(site))
    state = mail_identity.prepare(site, world, state_bucket(site), terraform)
    orphaned_instance.require_none(state, world)
    changed = terraform.apply_if_agreed(write_variables(site, workspace, key), *options, agree=agree, state=state)
    closed = security_groups.close(terraform, world)
    values = terraform.outputs()
    _forget_old_host_key(workspace, values)
    _write(workspace.outputs, values)
    return outputs_from(values), changed or closed


def changes(site: Site, world: World, terraform: Terraform, variables: Path) -> tuple[Change, ...]:
    """Return the changes that a deployment of an existing site would make; nothing is changed.

    Raises Refused when the deployment would take over an SES identity of others.
    """
    kept = mail_identity.to_forget(site, world, state_bucket(site), terraform.state())
    return mail_identity.as_planned(terraform.changes(variables), kept)


def _forget_old_host_key(workspace: Workspace, values: Mapping[str, Any]) -> None:
    """Delete the stored host key when Terraform replaced the machine: the new one has another key."""
    if workspace.outputs.is_file():
        before = json.loads(workspace.outputs.read_text(encoding="utf-8"))
        if before.get("instance_id") != values["instance_id"]:
            workspace.known_hosts.unlink(missing_ok=True)


def ensure_state_bucket(site: Site, world: World, workspace: Workspace) -> None:
    """Make the bucket of Terraform's state if it is missing, and apply its root again if the bucket lacks a setting.

    Without the bucket the site is new, and the account is checked first; raises Refused as ``preflight.require`` does, and
    OpsError for a bucket of another account. The bucket cannot be in the state that it holds: it has a Terraform root of
    its own. A bucket without its settings is one whose first apply was cut off, or that was changed by hand.
    """
    bucket = state_bucket(site)
    exists = world.aws.bucket_exists(bucket)
    if exists:
        missing = world.aws_account.missing_settings(bucket)
        if not missing:
            return
        world.tell(f"{bucket}: {', '.join(missing)} off: applied again")
    else:
        for each in preflight.require(site, world, buckets=(bucket, site.backup.bucket)):
            world.tell(f"pre-flight: not checked: {each}")
    root = _terraform(world, workspace.repository / "infra/bootstrap", workspace.state / "bootstrap", site)
    root.init({"path": str(workspace.state / "bootstrap/terraform.tfstate")})
    variables = _write(workspace.state / "bootstrap/terraform.tfvars.json", _bootstrap_variables(site))
    if exists and bucket not in identities_from(root.state(), "aws_s3_bucket"):
        root.import_resource("module.state.aws_s3_bucket.permanent[0]", bucket, variables)
    root.apply(variables)


def _bootstrap_variables(site: Site) -> dict[str, str]:
    return {"name": site.name, "region": site.aws.region, "bucket": state_bucket(site)}


def state_bucket(site: Site) -> str:
    """Return the name of the bucket for the Terraform state: the backup bucket's unique name and a suffix."""
    return f"{site.backup.bucket[:49]}-terraform"


def replica_bucket(site: Site) -> str:
    """Return the name of the replica bucket in the second region; infra/storage.tf uses the same rule."""
    return f"{site.backup.bucket[:55]}-replica"


def backend(site: Site) -> dict[str, str]:
    """Return the settings of Terraform's S3 backend for the site."""
    return {"bucket": state_bucket(site), "key": f"{site.name}/terraform.tfstate", "region": site.aws.region}


def terraform_of(site: Site, world: World, workspace: Workspace) -> Terraform:
    """Return the adapter to the site's Terraform root."""
    return _terraform(world, workspace.repository / "infra", workspace.state / "infra", site)


def _terraform(world: World, root: Path, data: Path, site: Site) -> Terraform:
    environment = tool_variables.ops_environment(site) | {"AWS_S3_USE_PATH_STYLE": "true"}
    if site.aws.endpoint_url:
        environment["AWS_MAX_ATTEMPTS"] = str(ENDPOINT_ATTEMPTS)
    return Terraform(world.processes, root, data, environment, world.tell)


def write_variables(site: Site, workspace: Workspace, key: str) -> Path:
    """Write the site's Terraform variables to a file and return its path."""
    return _write(workspace.state / "infra/terraform.tfvars.json", tool_variables.terraform_variables(site, key))


def _write(path: Path, document: Mapping[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(dict(document), indent=2, sort_keys=True), encoding="utf-8")
    return path
