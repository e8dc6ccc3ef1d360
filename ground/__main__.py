"""The commands ``python -m ground up|down|deploy-e2e|image-set``, called by the nox sessions."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import docker
from docker.errors import DockerException

from ground import aws, host, image_set, prerequisites, run_registry, set_choice
from ground.directions import directions
from ground.environment import Environment, running
from ground.image_set import OPS_BASE
from ground.outline import Outline
from ops import report
from ops.config import load
from ops.errors import OpsError, Refused, Unavailable
from ops.gate import evidence as gate_evidence
from ops.images import ops_image
from ops.images.pins import resolve
from ops.secrets.store import secret_name
from ops.world import World, evidence
from ops.world.process import Processes, interrupt_code, signals_unwind

_LOCAL = run_registry.REPOSITORY / "sites/local.toml"


def main(argv: Sequence[str] | None = None) -> None:
    """Run one command and exit with the code that docs/reference/ops.md gives."""
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
    """Deploy the local site, leave it running, and print how to reach it, with the administrator's password."""
    outline = Outline(_tell)
    outline.begin()
    return _with_environment(_LOCAL, keep=True, outline=outline, releases=False, then=lambda _: 0)


def down(_: argparse.Namespace) -> int:
    """Remove every run that no living process owns, including the runs that were kept."""
    try:
        client = docker.from_env()
    except DockerException as error:
        raise Unavailable(
            f"no Docker engine answers: {error}",
            "start Docker, then run ./noxw -s down again",
            left_as="the containers of the runs still exist",
        ) from error
    removed = run_registry.remove_leftovers(client, _tell, kept_too=True)
    _tell(f"removed {', '.join(removed)}" if removed else "nothing to remove")
    return 0


def choose_images(_: argparse.Namespace) -> int:
    """Choose the image set of this run and print the environment variables that pass the choice on, as JSON."""
    print(json.dumps(set_choice.choose().variables()))
    return 0


def cut_power(arguments: argparse.Namespace) -> int:
    """Kill a host container without a shutdown, as a power failure does, and start it again."""
    host.cut_power(docker.from_env(), arguments.host)
    return 0


def lose_account(arguments: argparse.Namespace) -> int:
    """Replace the AWS account with a new one that has nothing but the hosted zone of the domain."""
    aws.lose_account(docker.from_env(), arguments.aws, arguments.zone)
    return 0


def deploy_e2e(arguments: argparse.Namespace) -> int:
    """Deploy a site from nothing and run the e2e suite on it.

    The local site gets a test environment of its own; any other site is deployed where its site file says.
    """
    if arguments.site.resolve() != _LOCAL.resolve():
        if arguments.rehearse:
            raise Refused(
                f"the disaster tests empty a site's database and destroy its host and disk: not on {arguments.site}",
                "run them on the local site: leave out --site",
                left_as="nothing was changed",
            )
        world = World(load.load(arguments.site), _tell)
        prerequisites.ensure(run_registry.CACHE, _tell)
        if code := _deploy(arguments.site):
            return code
        evidence.note(image_set=gate_evidence.OF_THE_SITE, images=_pinned_digests(world))
        _note_site(arguments.site, world)
        return _e2e(arguments.site, {"E2E_AUTHORITIES": world.site.tls.acme_ca}, rehearse=arguments.rehearse)
    return _with_environment(
        arguments.site,
        keep=arguments.keep,
        then=lambda environment: _e2e(environment.site_file, _variables(environment), rehearse=arguments.rehearse),
    )


def _with_environment(
    template: Path,
    *,
    keep: bool,
    then: Callable[[Environment], int],
    outline: Outline | None = None,
    releases: bool = True,
) -> int:
    """Deploy the site into a test environment of its own. With ``outline`` a person follows: the password is printed, too."""
    deployed: list[bool] = []
    with running(
        template, _tell, keep=lambda: keep and bool(deployed), outline=outline, releases=releases
    ) as environment:
        images = environment.images
        digests = image_set.digests(environment.run_context.client, images)
        evidence.note(image_set=images.name, reason=images.reason, images=digests)
        os.environ.update(aws.CREDENTIALS, OPS_BASE_IMAGE=images.local(OPS_BASE))
        with (outline or Outline.silent()).part("site"):
            code = _deploy(environment.site_file)
        if code:
            return code
        _note_site(template, World(load.load(environment.site_file), _tell))
        deployed.append(True)
        code = then(environment)
        if keep:
            if outline:
                outline.end()
            _tell(_directions(environment, prints_password=outline is not None))
        return code


def _deploy(site_file: Path) -> int:
    return _python("-m", "ops", "deploy", "--site", str(site_file))


def _e2e(site_file: Path, variables: dict[str, str], *, rehearse: bool) -> int:
    chosen = ("tests/disaster",) if rehearse else ()
    return _python("-m", "pytest", "tests/e2e", *chosen, environment={"E2E_SITE": str(site_file), **variables})


def _variables(environment: Environment) -> dict[str, str]:
    """The environment variables that tests/e2e and tests/disaster read."""
    name = environment.run_context.name
    return {
        "E2E_AUTHORITIES": str(environment.authorities),
        "E2E_INBOX": environment.inbox,
        "E2E_CUT_POWER": _command("cut-power", name("host")),
        "E2E_LOSE_ACCOUNT": _command("lose-account", name("aws"), load.load(environment.site_file).zone),
    }


def _command(*arguments: str) -> str:
    return shlex.join([sys.executable, "-m", "ground", *arguments])


def _python(*arguments: str, environment: dict[str, str] | None = None) -> int:
    return Processes().passthrough([sys.executable, *arguments], environment)


def _pinned_digests(world: World) -> dict[str, str]:
    """The digests of the pins in the site's registry, as the deployment resolved them."""
    return dict(each.split("@", 1) for each in resolve(image_set.pinned(), world.registry).values())


def _note_site(site_file: Path, world: World) -> None:
    """Record the digests of the site file and of the ``ops`` image on the site's host as evidence."""
    made = ops_image.ensure(run_registry.REPOSITORY, run_registry.CACHE, world)
    digest = f"sha256:{hashlib.sha256(site_file.read_bytes()).hexdigest()}"
    evidence.note(images={made.reference: made.identity}, sites={world.site.name: digest})


def _directions(environment: Environment, *, prints_password: bool) -> str:
    site = load.load(environment.site_file)
    aws_adapter = World(site, _tell).aws
    return directions(
        site,
        site_file=environment.site_file,
        authorities=environment.authorities,
        inbox=environment.inbox,
        images=environment.images,
        password=aws_adapter.secret(secret_name(site, "admin-password")) if prints_password else None,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="ground")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("up").set_defaults(function=up)
    commands.add_parser("down").set_defaults(function=down)
    commands.add_parser("image-set").set_defaults(function=choose_images)
    power = commands.add_parser("cut-power")
    power.add_argument("host", help="the host container to kill and start again")
    power.set_defaults(function=cut_power)
    account = commands.add_parser("lose-account")
    account.add_argument("aws", help="the LocalStack container to empty")
    account.add_argument("zone", help="the hosted zone to create in the new account")
    account.set_defaults(function=lose_account)
    deploy = commands.add_parser("deploy-e2e")
    deploy.add_argument("--site", type=Path, default=_LOCAL, help="the site file (default: sites/local.toml)")
    deploy.add_argument("--keep", action="store_true", help="leave the local site running and print how to reach it")
    deploy.add_argument(
        "--rehearse",
        action="store_true",
        help="also run the disaster tests (faults, attack, drift, loss) on the local site; a release needs this",
    )
    deploy.set_defaults(function=deploy_e2e)
    return parser


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
