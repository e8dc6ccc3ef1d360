"""The test environment of one run: started in parallel, described by a site file, and removed completely."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker

from ground import acme, aws, disk_space, host, image_set, instance_watcher, mail, prerequisites, registry, run_registry
from ground.acme import Acme
from ground.container import RunContext
from ground.image_set import ImageSet
from ops.config import load

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Environment:
    """A run's test environment, ready for a deployment."""

    run_context: RunContext
    folder: Path
    site_file: Path
    images: ImageSet
    authorities: Path
    inbox: str


def prepare(tell: Tell, only: tuple[str, ...] = ()) -> tuple[docker.DockerClient, ImageSet]:
    """Provide engine, tools, disk space and images; raises Refused or Unavailable with the missing ones."""
    disk_space.require_space(tell)
    client = prerequisites.ensure(run_registry.CACHE, tell, bases=image_set.makes_bases())
    return client, image_set.build(client, run_registry.CACHE, tell, only)


@contextmanager
def running(template: Path, tell: Tell, *, keep: Callable[[], bool] = lambda: False) -> Iterator[Environment]:
    """Start the test environment for the length of the block, then remove it, also when its start fails half-way.

    ``keep`` is called at the end: True leaves everything running until `./noxw -s down`.
    """
    client, built = prepare(tell)
    run_context, folder, lock = run_registry.new_run(client, tell)
    with ExitStack() as undo:
        undo.callback(lock.close)
        undo.callback(lambda: run_registry.keep(folder) if keep() else _remove(client, run_context.run, tell))
        tell(f"starting the test environment {run_context.run} ({built.name} images)")
        environment = _start(run_context, folder, built, template, tell)
        undo.enter_context(_follow_instance(environment, tell))
        yield environment


def _remove(client: docker.DockerClient, name: str, tell: Tell) -> None:
    tell(f"removing the test environment {name}")
    run_registry.remove(client, name)


def _start(run_context: RunContext, folder: Path, built: ImageSet, template: Path, tell: Tell) -> Environment:
    site = load.load(template)
    key = run_registry.write_key(folder)
    public_key = key.with_suffix(".pub").read_text(encoding="utf-8")
    with joined_pool() as pool:
        cloud = pool.submit(_start_aws, run_context, built, site.zone)
        mirror = pool.submit(_start_registry, run_context, built)
        issuer = pool.submit(acme.start, run_context, built.local("pebble"))
        mailbox = pool.submit(mail.start, run_context, built.local("mail"))
        machine = pool.submit(_start_host, run_context, built, public_key)
    acme.add_record(issuer.result(), site.domain, machine.result().address)
    authorities = folder / "authorities.pem"
    authorities.write_text(issuer.result().authorities + mailbox.result().authority, encoding="utf-8")
    changes: Mapping[str, Mapping[str, Any]] = {
        "aws": {"endpoint_url": cloud.result().endpoint_url},
        "network": {"admin_cidrs": [run_context.subnet]},
        "host": _host_keys(machine.result().address, key, mirror.result(), cloud.result().ami),
        "tls": _issuer_keys(issuer.result(), authorities),
        "mail": {"smtp_host": mailbox.result().smtp_host, "smtp_port": mailbox.result().smtp_port},
    }
    tell(f"the test environment is running: host {machine.result().address}, AWS {cloud.result().endpoint_url}")
    return Environment(
        run_context,
        folder,
        run_registry.write_site(template, folder, changes),
        built,
        authorities,
        mailbox.result().inbox,
    )


@contextmanager
def joined_pool() -> Iterator[ThreadPoolExecutor]:
    """Run the block with a thread pool and wait for all its threads, also when an interrupt ends the block.

    The pool itself does not know a thread whose start was interrupted: it would create its container after the removal.
    """
    prefix = f"start-{secrets.token_hex(4)}"
    try:
        with ThreadPoolExecutor(thread_name_prefix=prefix) as pool:
            yield pool
    finally:
        for thread in threading.enumerate():
            if thread.name.startswith(prefix):
                thread.join()


def _start_aws(run_context: RunContext, built: ImageSet, zone: str) -> aws.AwsEndpoint:
    cloud = aws.start(run_context, built)
    aws.seed(cloud.endpoint_url, zone)
    return cloud


def _start_registry(run_context: RunContext, built: ImageSet) -> list[str]:
    if built.name == "upstream":
        return []
    published = {image: built.local(image) for image in image_set.published(built)}
    return [registry.start(run_context, built.local("registry"), published)]


def _start_host(run_context: RunContext, built: ImageSet, public_key: str) -> host.HostContainer:
    return host.start(
        run_context.client,
        network=run_context.network,
        run_id=run_context.run,
        image=built.local("host"),
        public_key=public_key,
        metadata_address=run_context.address("metadata"),
        address=run_context.address("host"),
    )


def _follow_instance(environment: Environment, tell: Tell) -> AbstractContextManager[None]:
    """Replace the host container whenever Terraform replaces the instance."""
    site = load.load(environment.site_file)
    public_key = Path(site.host.ssh_key).with_suffix(".pub").read_text(encoding="utf-8")
    machine = host.HostContainer(environment.run_context.name("host"), site.host.address)

    def power_off() -> None:
        tell("test environment: the instance was terminated; removing its host container, keeping the data volume")
        host.power_off(environment.run_context.client, machine)

    def power_on(same_disk: bool) -> None:
        tell("test environment: there is a new instance; starting a bare host container for it")
        if not same_disk:
            tell("test environment: its data volume was deleted as well; the host gets a blank one")
            host.blank_disk(environment.run_context.client, environment.run_context.run)
        _start_host(environment.run_context, environment.images, public_key)

    return instance_watcher.watching(site.aws.endpoint_url, site.name, power_off=power_off, power_on=power_on)


def _host_keys(address: str, key: Path, mirrors: list[str], ami: str) -> dict[str, Any]:
    return {"address": address, "ssh_key": str(key), "registry_mirrors": mirrors, "ami": ami}


def _issuer_keys(issuer: Acme, authorities: Path) -> dict[str, str]:
    return {"acme_directory": issuer.directory, "acme_ca": str(authorities)}
