"""Deploy a site: what must exist in AWS, then what the host must be, then whether it is well. Every step converges."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ops import health, image, images, inputs
from ops.config import Site
from ops.errors import Degraded, Refused
from ops.image import OpsImage
from ops.model import Outputs, Report
from ops.world import World
from ops.world.ansible import Played, play
from ops.world.lock import exclusive
from ops.world.terraform import Terraform


@dataclass(frozen=True)
class Workshop:
    """Where a deployment reads its sources and keeps what it must remember of the site between runs."""

    repository: Path
    state: Path
    cache: Path

    @property
    def outputs(self) -> Path:
        """The file that keeps Terraform's outputs."""
        return self.state / "outputs.json"


@dataclass
class _Timeline:
    """How long each step took, in seconds."""

    world: World
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        self.world.tell(f"== {name}")
        began = self.world.clock.monotonic()
        yield
        self.seconds[name] = round(self.world.clock.monotonic() - began, 1)
        self.world.tell(f"== {name}: {self.seconds[name]} s")


def deploy(site: Site, world: World, *, workshop: Workshop, dry_run: bool = False) -> Report:
    """Make the site what its file says, from nothing or from whatever a broken-off run left.

    ``dry_run`` stops after Terraform's plan and touches nothing. Raises Refused for a precondition, Locked when another
    deployment of the site is under way, Unavailable when something is out of reach, Degraded when the site is deployed
    but not well.
    """
    key = public_key(Path(site.host.ssh_key).expanduser())
    if dry_run:
        return _plan(site, world, workshop, key)
    with exclusive(workshop.state / "deploy.lock", world.clock.now()):
        return _deploy(site, world, workshop, key)


def public_key(private: Path) -> str:
    """Return the public half that lies beside a private ssh key; raises Refused when one of the two is missing."""
    public = private.with_name(f"{private.name}.pub")
    if not (private.is_file() and public.is_file()):
        raise Refused(f"no ssh key pair at {private}", f"ssh-keygen -t ed25519 -f {private}")
    return public.read_text(encoding="utf-8")


def outputs_from(values: Mapping[str, Any]) -> Outputs:
    """Return Terraform's output values as a value of their own."""
    return Outputs(**{name: values[name] for name in Outputs.__dataclass_fields__})


def _deploy(site: Site, world: World, workshop: Workshop, key: str) -> Report:
    timeline = _Timeline(world)
    with timeline.step("images"):
        pins = images.resolve(images.pinned(workshop.repository / "compose"), world.registry)
        ops_image = image.ensure(workshop.repository, workshop.cache, world)
    with timeline.step("infrastructure"):
        outputs = infrastructure(site, world, workshop, key)
    with timeline.step("host"):
        played = _host(site, world, workshop, outputs, pins, ops_image)
    address = site.host.address or outputs.public_address
    with timeline.step("health"):
        wellness = health.health_from_outside(site, world, address=address)
    facts = {
        "address": address,
        "url": f"https://{site.domain}/",
        "images": {**pins, "OPS_IMAGE": f"{ops_image.reference}@{ops_image.identity}"},
        "seconds": timeline.seconds,
        "host_changes": list(played.changed),
        "slowest_tasks": [list(each) for each in played.slowest],
        "health": wellness.facts,
    }
    if wellness.exit_code:
        raise Degraded(
            f"deployed, but {wellness.summary}\n" + "\n".join(wellness.lines), "mend what is red and deploy again"
        )
    return Report(
        "deploy", bool(played.changed), f"https://{site.domain}/ is deployed and healthy", facts, _story(timeline)
    )


def _plan(site: Site, world: World, workshop: Workshop, key: str) -> Report:
    terraform = terraform_of(site, world, workshop)
    terraform.init(backend(site))
    planned = terraform.plan(_variables(site, workshop, key))
    return Report(
        "deploy", False, "Terraform would change something" if planned else "nothing to do", {"planned": planned}
    )


def infrastructure(site: Site, world: World, workshop: Workshop, key: str) -> Outputs:
    """Make what must exist in AWS and return what Terraform says of it; ``key`` is the administrator's public ssh key.

    Raises Locked, Unavailable or OpsError with Terraform's words; run again, it goes on where it stopped.
    """
    ensure_state_bucket(site, world, workshop)
    terraform = terraform_of(site, world, workshop)
    terraform.init(backend(site))
    terraform.apply(_variables(site, workshop, key))
    values = terraform.outputs()
    _write(workshop.outputs, values)
    return outputs_from(values)


def ensure_state_bucket(site: Site, world: World, workshop: Workshop) -> None:
    """Make the bucket of Terraform's state if it is not there.

    The bucket that keeps Terraform's state cannot itself be in that state: it has a root of its own, applied once.
    """
    if world.aws.bucket_exists(state_bucket(site)):
        return
    root = _terraform(world, workshop.repository / "infra/bootstrap", workshop.state / "bootstrap", site)
    root.init({"path": str(workshop.state / "bootstrap/terraform.tfstate")})
    variables = {"name": site.name, "region": site.aws.region, "bucket": state_bucket(site)}
    root.apply(_write(workshop.state / "bootstrap/terraform.tfvars.json", variables))


def state_bucket(site: Site) -> str:
    """Return the name of the bucket that keeps the Terraform state: the backup bucket's, which is unique, and a word."""
    return f"{site.backup.bucket[:49]}-terraform"


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


def _host(
    site: Site, world: World, workshop: Workshop, outputs: Outputs, pins: Mapping[str, str], ops_image: OpsImage
) -> Played:
    variables = inputs.ansible_variables(
        site,
        pins,
        data_volume_id=outputs.data_volume_id,
        compose_source=workshop.repository / "compose",
        image_archive=ops_image.archive,
        image_id=ops_image.identity,
        image_name=ops_image.reference,
    )
    host = connection(site, outputs, workshop.state / "known_hosts")
    return play(
        workshop.repository / "playbooks",
        "site.yml",
        state=workshop.state / "ansible",
        host=host,
        variables=variables,
        tell=world.tell,
    )


def connection(site: Site, outputs: Outputs, known_hosts: Path) -> dict[str, Any]:
    """Return Ansible's connection variables for the host. Its key is learnt at the first contact and held to from then on."""
    return {
        "ansible_host": site.host.address or outputs.public_address,
        "ansible_port": site.host.ssh_port,
        "ansible_user": site.host.ssh_user,
        "ansible_ssh_private_key_file": str(Path(site.host.ssh_key).expanduser().absolute()),
        "ansible_ssh_common_args": f"-o UserKnownHostsFile={known_hosts} -o StrictHostKeyChecking=accept-new -o IdentitiesOnly=yes",
    }


def _write(path: Path, document: Mapping[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(dict(document), indent=2, sort_keys=True), encoding="utf-8")
    return path


def _story(timeline: _Timeline) -> tuple[str, ...]:
    return tuple(f"{name}: {seconds} s" for name, seconds in timeline.seconds.items())
