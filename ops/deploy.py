"""Deploy a site: what must exist in AWS, then what the host must be, then whether it is well. Every step converges."""

from __future__ import annotations

import json
import shlex
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ops import cost, firewall, health, image, images, inputs, pins, preflight, rotation, stray
from ops.config import Site
from ops.errors import Degraded, Refused
from ops.image import OpsImage
from ops.model import Agree, Change, Outputs, Report
from ops.pins import Pin
from ops.secrets import NAMES
from ops.timeline import Timeline
from ops.workspace import Workshop
from ops.world import World
from ops.world.ansible import Played, play
from ops.world.lock import exclusive
from ops.world.terraform import Terraform, altered


def deploy(
    site: Site,
    world: World,
    *,
    workshop: Workshop,
    replace: Agree | None = None,
    session_manager: bool = False,
) -> Report:
    """Make the site what its file says, from nothing or from whatever a broken-off run left.

    ``replace`` has Terraform put a new machine in the host's place, once it has agreed: it is given the site's name and
    what is lost, and raises Refused otherwise. With ``session_manager`` the host is reached that way, whoever may reach its
    port: for an operator whose new address its firewall is to be told of.

    Raises Refused for a precondition, the account's, this machine's or the host's; Locked when another deployment of the
    site is under way or the host itself updates or restores, Unavailable when something is out of reach, Degraded when the
    site is deployed but not well.
    """
    key = public_key(Path(site.host.ssh_key).expanduser())
    require_way_in(site, world, session_manager=session_manager)
    options = []
    if replace:
        replace(site.name, REPLACED)
        options = ["-replace=aws_instance.host"]
    with exclusive(workshop.lock, world.clock.now()):
        return _deploy(site, world, workshop, key, options, session_manager=session_manager)


REPLACED = (
    "the host is ended, and a new machine takes its place",
    "lost: its root disk, and all that is on it; the site is away for some minutes",
    "kept: the data disk with database and repositories, the address, the name, the backups",
)


def public_key(private: Path) -> str:
    """Return the public half that lies beside a private ssh key; raises Refused when one of the two is missing."""
    public = private.with_name(f"{private.name}.pub")
    if not (private.is_file() and public.is_file()):
        raise Refused(f"no ssh key pair at {private}", f"ssh-keygen -t ed25519 -f {private}")
    return public.read_text(encoding="utf-8")


def outputs_from(values: Mapping[str, Any]) -> Outputs:
    """Return Terraform's output values as a value of their own."""
    return Outputs(**{name: values[name] for name in Outputs.__dataclass_fields__})


def _deploy(
    site: Site, world: World, workshop: Workshop, key: str, options: Sequence[str], *, session_manager: bool
) -> Report:
    timeline = Timeline(world)
    with timeline.step("images"):
        material = material_of(site, world, workshop)
        for line in material.waiting:
            world.tell(line)
    with timeline.step("infrastructure"):
        outputs, built = _infrastructure(site, world, workshop, key, options)
    with timeline.step("mail"):
        world.tell(rotation.ensure_smtp(site, world).summary)
    with timeline.step("host"):
        if proven(site, world) != material.proven:
            world.tell("an update has proven another image meanwhile")
            material = material_of(site, world, workshop)
        played = host(site, world, workshop, outputs, material, session_manager=session_manager)
    address = site.host.address or outputs.public_address
    with timeline.step("health"):
        wellness = health.health_from_outside(site, world, address=address)
    facts = {
        "address": address,
        "url": f"https://{site.domain}/",
        "images": {**material.pins, "OPS_IMAGE": f"{material.ops.reference}@{material.ops.identity}"},
        "seconds": timeline.seconds,
        "infrastructure_changed": built,
        "host_changes": list(played.changed),
        "slowest_tasks": [list(each) for each in played.slowest],
        "health": wellness.facts,
    }
    if wellness.exit_code:
        raise Degraded(
            f"deployed, but {wellness.summary}\n" + "\n".join(wellness.lines), "mend what is red and deploy again"
        )
    changed = built or bool(played.changed)
    said = "is deployed and healthy" if changed else "is as it was: nothing was changed, and it is healthy"
    return Report("deploy", changed, f"https://{site.domain}/ {said}", facts, _story(timeline))


def rehearse(site: Site, world: World, *, workshop: Workshop) -> Report:
    """Return what a deployment would make and change in AWS, and what the site costs a month; touches nothing.

    Raises Refused with every reason why the account cannot take a site that is not there yet.
    """
    variables = _variables(site, workshop, public_key(Path(site.host.ssh_key).expanduser()))
    unknown: tuple[str, ...] = ()
    if world.aws.bucket_exists(state_bucket(site)):
        terraform = terraform_of(site, world, workshop)
        terraform.init(backend(site))
        changes = terraform.changes(variables)
    else:
        unknown = preflight.require(site, world, buckets=(state_bucket(site), site.backup.bucket))
        changes = _first_changes(site, world, workshop, variables)
    charges = cost.monthly(site, secrets=len(NAMES))
    lines = [
        f"{each.action:8} {each.address}" + "".join(f"\n{'':11}{one}" for one in each.differences) for each in changes
    ]
    facts = {
        "resources": [vars(each) for each in changes],
        "monthly_usd": {line.what: line.dollars for line in charges},
        "prices_of": cost.PRICES_OF,
        "not_checked": list(unknown),
    }
    summary = f"{len(changes)} resource(s) would change" if changes else "nothing to do in AWS"
    told = (*lines, *(f"not checked: {each}" for each in unknown), *cost.as_lines(charges))
    return Report("deploy", changed=False, summary=summary, facts=facts, lines=told)


def _first_changes(site: Site, world: World, workshop: Workshop, variables: Path) -> tuple[Change, ...]:
    # The state's bucket is not there yet: both roots are planned with a state that is thrown away.
    with tempfile.TemporaryDirectory() as folder:
        bootstrap = _terraform(world, workshop.repository / "infra/bootstrap", Path(folder) / "bootstrap", site)
        bootstrap.init({"path": f"{folder}/bootstrap.tfstate"})
        first = bootstrap.changes(_write(Path(folder) / "bootstrap.json", _bootstrap_variables(site)))
        with altered(workshop.repository / "infra", 'terraform {\n  backend "local" {}\n}\n') as root:
            whole = _terraform(world, root, Path(folder) / "infra", site)
            whole.init({"path": f"{folder}/infra.tfstate"})
            return first + whole.changes(variables)


def prepared(site: Site, world: World, workshop: Workshop, root: Path | None = None) -> tuple[Terraform, Path]:
    """Return the door to the site's Terraform root (or to ``root``, a copy of it), ready for use, and its variables' file."""
    terraform = _terraform(world, root or workshop.repository / "infra", workshop.state / "infra", site)
    terraform.init(backend(site))
    return terraform, _variables(site, workshop, public_key(Path(site.host.ssh_key).expanduser()))


def infrastructure(site: Site, world: World, workshop: Workshop, key: str, *options: str) -> Outputs:
    """Make what must exist in AWS and return what Terraform says of it; ``key`` is the administrator's public ssh key.

    ``options`` are Terraform's own. Raises Locked, Unavailable or OpsError with Terraform's words; run again, it goes on
    where it stopped. A site that is not there yet is refused for every reason that the account gives.
    """
    return _infrastructure(site, world, workshop, key, options)[0]


def _infrastructure(
    site: Site, world: World, workshop: Workshop, key: str, options: Sequence[str]
) -> tuple[Outputs, bool]:
    ensure_state_bucket(site, world, workshop)
    terraform = terraform_of(site, world, workshop)
    terraform.init(backend(site))
    state = terraform.state()
    stray.refuse(state, world)
    changed = terraform.apply(_variables(site, workshop, key), *options, state=state)
    closed = firewall.close(terraform, world)
    values = terraform.outputs()
    _forget_another_machine(workshop, values)
    _write(workshop.outputs, values)
    return outputs_from(values), changed or closed


def _forget_another_machine(workshop: Workshop, values: Mapping[str, Any]) -> None:
    """A machine that Terraform itself put in another's place has another key by right."""
    if workshop.outputs.is_file():
        before = json.loads(workshop.outputs.read_text(encoding="utf-8"))
        if before.get("instance_id") != values["instance_id"]:
            workshop.known_hosts.unlink(missing_ok=True)


def ensure_state_bucket(site: Site, world: World, workshop: Workshop) -> None:
    """Make the bucket of Terraform's state if it is not there; before that, nothing of the site is, and the account is asked.

    The bucket that keeps Terraform's state cannot itself be in that state: it has a root of its own, applied once.
    """
    if world.aws.bucket_exists(state_bucket(site)):
        if not world.account.versioned(state_bucket(site)):
            world.account.keep_versions(state_bucket(site))
            world.tell(f"{state_bucket(site)}: versioning was off and is on again")
        return
    for each in preflight.require(site, world, buckets=(state_bucket(site), site.backup.bucket)):
        world.tell(f"pre-flight: not checked: {each}")
    root = _terraform(world, workshop.repository / "infra/bootstrap", workshop.state / "bootstrap", site)
    root.init({"path": str(workshop.state / "bootstrap/terraform.tfstate")})
    root.apply(_write(workshop.state / "bootstrap/terraform.tfvars.json", _bootstrap_variables(site)))


def _bootstrap_variables(site: Site) -> dict[str, str]:
    return {"name": site.name, "region": site.aws.region, "bucket": state_bucket(site)}


def state_bucket(site: Site) -> str:
    """Return the name of the bucket that keeps the Terraform state: the backup bucket's, which is unique, and a word."""
    return f"{site.backup.bucket[:49]}-terraform"


def replica_bucket(site: Site) -> str:
    """Return the name of the backups' replica in the second region, as infra/storage.tf makes it."""
    return f"{site.backup.bucket[:55]}-replica"


def backend(site: Site) -> dict[str, str]:
    """Return the settings of Terraform's S3 backend for the site."""
    return {"bucket": state_bucket(site), "key": f"{site.name}/terraform.tfstate", "region": site.aws.region}


def terraform_of(site: Site, world: World, workshop: Workshop) -> Terraform:
    """Return the door to the site's Terraform root."""
    return _terraform(world, workshop.repository / "infra", workshop.state / "infra", site)


def _terraform(world: World, root: Path, data: Path, site: Site) -> Terraform:
    environment = inputs.ops_environment(site) | {"AWS_MAX_ATTEMPTS": "4", "AWS_S3_USE_PATH_STYLE": "true"}
    return Terraform(world.processes, root, data, environment, world.tell)


def _variables(site: Site, workshop: Workshop, key: str) -> Path:
    return _write(workshop.state / "infra/terraform.tfvars.json", inputs.terraform_variables(site, key))


@dataclass(frozen=True)
class Material:
    """What is brought to the host: every image by its digest, and the image of ``ops`` itself.

    ``waiting`` names what is newer in the suite than on the host, and is left to ``ops update``; ``proven`` is what updates had
    proven when that was decided.
    """

    pins: Mapping[str, str]
    ops: OpsImage
    waiting: tuple[str, ...] = ()
    proven: Mapping[str, Pin] = field(default_factory=dict)


def material_of(site: Site, world: World, workshop: Workshop) -> Material:
    """Look up the digests of the pinned images, and build the image of ``ops`` where it is not built yet.

    An image that an update has proven on the host stays.
    """
    shipped, known = images.pinned(workshop.repository / "compose"), proven(site, world)
    resolved = images.resolve(pins.deployed(shipped, known), world.registry)
    made = image.ensure(workshop.repository, workshop.cache, world)
    return Material(resolved, made, pins.waiting(shipped, known), known)


def proven(site: Site, world: World) -> dict[str, Pin]:
    """Return the pins that updates have proven, as the bucket keeps them; none where there is no bucket or no record yet."""
    bucket = site.backup.bucket
    stands = world.aws.bucket_exists(state_bucket(site)) and world.aws.bucket_exists(bucket)
    if not stands or pins.KEY not in world.aws.objects(bucket, pins.KEY):
        return {}
    return pins.read(world.aws.read_object(bucket, pins.KEY))


def host(
    site: Site,
    world: World,
    workshop: Workshop,
    outputs: Outputs,
    material: Material,
    *,
    check: bool = False,
    session_manager: bool = False,
) -> Played:
    """Make the host what it must be and return what changed; with ``check``, what would change."""
    variables = inputs.ansible_variables(
        site,
        material.pins,
        data_volume_id=outputs.data_volume_id,
        compose_source=workshop.repository / "compose",
        image_archive=material.ops.archive,
        image_id=material.ops.identity,
        image_name=material.ops.reference,
    )
    return play(
        workshop.repository / "playbooks",
        "site.yml",
        state=workshop.state / "ansible",
        host=connection(site, outputs, workshop.known_hosts, session_manager=session_manager),
        variables=variables,
        tell=world.tell,
        check=check,
        # Its key is not known yet: a machine that was made a moment ago, and boots.
        boot_seconds=20 if workshop.known_hosts.exists() else 240,
    )


def connection(site: Site, outputs: Outputs, known_hosts: Path, *, session_manager: bool = False) -> dict[str, Any]:
    """Return Ansible's connection variables for the host. Its key is learnt at the first contact and held to from then on.

    Where no address may reach the host's ssh port, and where that is wished for, ssh goes
    through Session Manager (AWS Systems Manager User Guide, "Allow
    and control permissions for SSH connections through Session Manager").
    """
    options = [f"UserKnownHostsFile={known_hosts}", "StrictHostKeyChecking=accept-new", "IdentitiesOnly=yes"]
    session_manager = session_manager or not site.network.admin_cidrs
    if session_manager:
        options.append(f"ProxyCommand={SESSION_MANAGER} --region {site.aws.region}")
    return {
        "ansible_host": outputs.instance_id if session_manager else (site.host.address or outputs.public_address),
        "ansible_port": site.host.ssh_port,
        "ansible_user": site.host.ssh_user,
        "ansible_ssh_private_key_file": str(Path(site.host.ssh_key).expanduser().absolute()),
        "ansible_ssh_common_args": shlex.join(part for option in options for part in ("-o", option)),
    }


SESSION_MANAGER = "aws ssm start-session --target %h --document-name AWS-StartSSHSession --parameters portNumber=%p"


def require_way_in(site: Site, world: World, *, session_manager: bool = False) -> None:
    """Raise Refused when the host is to be reached through Session Manager and this machine has not its programs."""
    direct = site.network.admin_cidrs and not session_manager
    needed = () if direct else ("aws", "session-manager-plugin")
    missing = [program for program in needed if not world.processes.installed(program)]
    if missing:
        raise Refused(
            f"{'the' if site.network.admin_cidrs else 'network.admin_cidrs is empty, and the'} way through Session Manager needs "
            f"{' and '.join(missing)}",
            "install the AWS CLI and its Session Manager plugin, or name your address in network.admin_cidrs",
        )


def connection_of(site: Site, workshop: Workshop) -> dict[str, Any]:
    """Return Ansible's connection variables for the host of a site that was deployed from here; raises Refused otherwise."""
    if not workshop.outputs.is_file():
        raise Refused(f"site {site.name} was not deployed from here", "ops deploy")
    outputs = outputs_from(json.loads(workshop.outputs.read_text(encoding="utf-8")))
    return connection(site, outputs, workshop.known_hosts)


def _write(path: Path, document: Mapping[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(dict(document), indent=2, sort_keys=True), encoding="utf-8")
    return path


def _story(timeline: Timeline) -> tuple[str, ...]:
    return tuple(f"{name}: {seconds} s" for name, seconds in timeline.seconds.items())
