"""``python -m ground up|down|deploy-e2e``: what the nox sessions of these names call."""

from __future__ import annotations

import argparse
import hashlib
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import docker
from docker.errors import DockerException

from ground import aws, environment, host, image_set, prerequisites, run_registry
from ground.environment import Environment
from ground.image_set import OPS_BASE
from ops import report
from ops.config import load
from ops.errors import OpsError, Refused, Unavailable
from ops.gate import evidence as gate_evidence
from ops.images import ops_image
from ops.images.pins import resolve
from ops.world import World, evidence
from ops.world.process import Processes, interrupt_code, signals_unwind

_LOCAL = run_registry.REPOSITORY / "sites/local.toml"


def main(argv: Sequence[str] | None = None) -> None:
    """Run one command and exit with the design's code."""
    arguments = _parser().parse_args(argv)
    try:
        with signals_unwind():
            code = arguments.function(arguments)
    except OpsError as error:
        _tell(report.failure_as_text(error))
        code = error.exit_code
    except KeyboardInterrupt as interrupt:
        code = interrupt_code(interrupt)
    sys.exit(code)


def up(_: argparse.Namespace) -> int:
    """Deploy the local site and leave it running."""
    return _on_ground(_LOCAL, keep=True, then=lambda _: 0)


def down(_: argparse.Namespace) -> int:
    """Remove every run that no living process owns, those kept on purpose too."""
    try:
        client = docker.from_env()
    except DockerException as error:
        raise Unavailable(f"no Docker engine answers: {error}", "start it; its containers are not gone") from error
    removed = run_registry.remove_leftovers(client, _tell, kept_too=True)
    _tell(f"removed {', '.join(removed)}" if removed else "nothing to remove")
    return 0


def cut_power(arguments: argparse.Namespace) -> int:
    """End a host as a loss of power does, and give the power back."""
    host.cut_power(docker.from_env(), arguments.host)
    return 0


def lose_account(arguments: argparse.Namespace) -> int:
    """Have AWS forget the account, and be one in which nothing was ever made but the zone of the domain."""
    aws.lose_account(docker.from_env(), arguments.aws, arguments.zone)
    return 0


def deploy_e2e(arguments: argparse.Namespace) -> int:
    """Deploy a site from nothing and run the e2e suite on it: on ground of its own, unless the site stands elsewhere."""
    if arguments.site.resolve() != _LOCAL.resolve():
        if arguments.rehearse:
            raise Refused(
                f"rehearsals empty a site's database and end its host and disk: not on that of {arguments.site}",
                "rehearse on the local site: leave out --site",
            )
        world = World(load.load(arguments.site), _tell)
        prerequisites.ensure(run_registry.CACHE, _tell)
        if code := _deploy(arguments.site):
            return code
        evidence.note(image_set=gate_evidence.OF_THE_SITE, images=_pinned_digests(world))
        _note_site(arguments.site, world)
        return _e2e(arguments.site, {"E2E_AUTHORITIES": world.site.tls.acme_ca}, rehearse=arguments.rehearse)
    return _on_ground(
        arguments.site,
        keep=arguments.keep,
        then=lambda ground: _e2e(ground.site_file, _facts(ground), rehearse=arguments.rehearse),
    )


def _on_ground(template: Path, *, keep: bool, then: Callable[[Environment], int]) -> int:
    deployed: list[bool] = []
    with environment.running(template, _tell, keep=lambda: keep and bool(deployed)) as ground:
        evidence.note(image_set=ground.images.name, images=image_set.digests(ground.run_context.client, ground.images))
        os.environ.update(aws.CREDENTIALS, OPS_BASE_IMAGE=ground.images.local(OPS_BASE))
        code = _deploy(ground.site_file)
        if code:
            return code
        _note_site(template, World(load.load(ground.site_file), _tell))
        deployed.append(True)
        code = then(ground)
        if keep:
            _tell(_directions(ground))
        return code


def _deploy(site_file: Path) -> int:
    return _python("-m", "ops", "deploy", "--site", str(site_file))


def _e2e(site_file: Path, facts: dict[str, str], *, rehearse: bool) -> int:
    chosen = ("tests/disaster",) if rehearse else ()
    return _python("-m", "pytest", "tests/e2e", *chosen, environment={"E2E_SITE": str(site_file), **facts})


def _facts(ground: Environment) -> dict[str, str]:
    return {
        "E2E_AUTHORITIES": str(ground.authorities),
        "E2E_INBOX": ground.inbox,
        "E2E_CUT_POWER": _command("cut-power", ground.run_context.name("host")),
        "E2E_LOSE_ACCOUNT": _command("lose-account", ground.run_context.name("aws"), load.load(ground.site_file).zone),
    }


def _command(*arguments: str) -> str:
    return shlex.join([sys.executable, "-m", "ground", *arguments])


def _python(*arguments: str, environment: dict[str, str] | None = None) -> int:
    return Processes().passthrough([sys.executable, *arguments], environment)


def _pinned_digests(world: World) -> dict[str, str]:
    """The digests that the site's registry has for the pins, as the deployment looked them up."""
    return dict(each.split("@", 1) for each in resolve(image_set.pinned(), world.registry).values())


def _note_site(written: Path, world: World) -> None:
    """Note the site by the file that describes it, and the very image of ``ops`` that was brought to its host."""
    made = ops_image.ensure(run_registry.REPOSITORY, run_registry.CACHE, world)
    described = f"sha256:{hashlib.sha256(written.read_bytes()).hexdigest()}"
    evidence.note(images={made.reference: made.identity}, sites={world.site.name: described})


def _directions(ground: Environment) -> str:
    site = load.load(ground.site_file)
    ops = f"OPS_SITE={ground.site_file}"
    return f"""
  {site.gitea.title} is up, and stays up until `./noxw -s down`.

  address        https://{site.domain}/ at {site.host.address}
                 echo '{site.host.address} {site.domain}' | sudo tee -a /etc/hosts
  trust          curl --cacert {ground.authorities} --resolve {site.domain}:443:{site.host.address} https://{site.domain}/
                 git -c http.sslCAInfo={ground.authorities} clone https://{site.domain}/OWNER/NAME.git
  administrator  {site.gitea.admin_username}; the password is in Secrets Manager of this ground:
                 AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test AWS_ENDPOINT_URL={site.aws.endpoint_url} AWS_REGION={site.aws.region} \\
                 aws secretsmanager get-secret-value --secret-id {site.name}/admin-password
  host           ssh -i {site.host.ssh_key} {site.host.ssh_user}@{site.host.address}
  mails          {ground.inbox}
  ops            {ops} ./noxw -s ops -- health --address {site.host.address}
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="ground")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("up").set_defaults(function=up)
    commands.add_parser("down").set_defaults(function=down)
    power = commands.add_parser("cut-power")
    power.add_argument("host", help="the container of the host that loses its power, and has it again")
    power.set_defaults(function=cut_power)
    account = commands.add_parser("lose-account")
    account.add_argument("aws", help="the container that stands for AWS, and forgets all that was made in it")
    account.add_argument("zone", help="the domain's hosted zone, which the next account has from the start, too")
    account.set_defaults(function=lose_account)
    whole = commands.add_parser("deploy-e2e")
    whole.add_argument("--site", type=Path, default=_LOCAL, help="the site file (default: sites/local.toml)")
    whole.add_argument("--keep", action="store_true", help="leave the local site running and say how to reach it")
    whole.add_argument(
        "--rehearse",
        action="store_true",
        help="faults, attack, drift and loss, too, on the local site; a release needs it",
    )
    whole.set_defaults(function=deploy_e2e)
    return parser


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
