"""The test environment: its stand-ins behave like the originals, runs clean up after themselves, and errors name their cause."""

from __future__ import annotations

import os
import re
import signal
import smtplib
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import docker
import pytest
import requests
from docker.errors import ImageNotFound, NotFound

from ground import base_images, disk_space, image_set, prerequisites, run_registry
from ground import registry as ground_registry
from ground.__main__ import main
from ground.acme import Acme
from ground.container import RUN_LABEL, RunContext, create, wait
from ground.image_set import ImageSet
from ground.mail import Mailbox
from ops.errors import OpsError, Refused, Unavailable
from ops.world.containers import Containers
from ops.world.registry import Registry
from tests.support.fakes import FakeRegistry
from tests.support.misbehaving import CONNECTION_CUT, Fault, faulty_proxy

DOOR = image_set.pinned()["DOOR_IMAGE"]


def test_compose_supports_up_with_wait() -> None:
    assert prerequisites.compose_works()


def test_the_registry_serves_images_under_upstream_s_names(mirror: str) -> None:
    registry = Registry(mirror)
    assert registry.digest("somebody/mail:1.0") == registry.digest("mail:1.0")
    assert registry.digest("mail:1.0").startswith("sha256:")


@pytest.fixture
def other_run(docker_client: docker.DockerClient, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunContext]:
    """A second run at the same time, as of another work tree; its caches are removed with it."""
    made, _, lock = run_registry.new_run(docker_client, lambda _: None)
    monkeypatch.setattr(ground_registry, "CACHE_PREFIX", f"{made.run}-cache")
    yield made
    run_registry.remove(docker_client, made.run)
    for each in docker_client.volumes.list(filters={"name": f"{made.run}-cache"}):
        each.remove()
    lock.close()


def test_two_runs_with_different_images_do_not_set_each_other_s_tags(
    mirror: str, other_run: RunContext, built: ImageSet
) -> None:
    before = Registry(mirror).digest("mail:1.0")
    url = ground_registry.start(other_run, built.local("registry"), {"mail:1.0": built.local(DOOR)})
    assert Registry(url).digest("mail:1.0") == Registry(mirror).digest(DOOR) != before
    assert Registry(mirror).digest("mail:1.0") == before


def test_a_container_without_an_address_takes_none_of_a_host_that_is_switched_off(
    docker_client: docker.DockerClient, other_run: RunContext, built: ImageSet
) -> None:
    create(other_run, "host", built.local(DOOR), command=["sleep", "60"]).kill()
    labels = {RUN_LABEL: other_run.run}
    options: dict[str, Any] = {"network": other_run.network, "detach": True, "labels": labels}
    started = [docker_client.containers.run(built.local(DOOR), ["sleep", "60"], **options) for _ in range(20)]
    docker_client.containers.get(other_run.name("host")).start()
    for each in started:
        each.remove(force=True)


def test_a_start_removes_the_older_caches_and_leaves_one_that_another_run_uses(
    docker_client: docker.DockerClient, other_run: RunContext, built: ImageSet
) -> None:
    oldest = docker_client.volumes.create(f"{other_run.run}-cache-1")
    create(other_run, "aws", built.local(DOOR), volumes={oldest.name: {"bind": "/cache", "mode": "rw"}})
    for number in range(2, 5):
        # Docker records whole seconds.
        time.sleep(1)
        docker_client.volumes.create(f"{other_run.run}-cache-{number}")
    references = {"door:1.0": built.local(DOOR)}
    ground_registry.start(other_run, built.local("registry"), references)
    caches = {each.name for each in docker_client.volumes.list(filters={"name": f"{other_run.run}-cache"})}
    assert caches == {
        ground_registry.cache_volume(references),
        *(f"{other_run.run}-cache-{number}" for number in (1, 3, 4)),
    }


def test_an_error_for_a_missing_tag_names_it(mirror: str) -> None:
    with pytest.raises(OpsError, match=r"somebody/mail:9.9 is not in the registry"):
        Registry(mirror).digest("somebody/mail:9.9")


@pytest.mark.parametrize("kind", ["fake", "real"])
def test_a_registry_returns_tags_and_the_creation_time_of_an_image(
    kind: str, mirror: str, built: ImageSet, docker_client: docker.DockerClient
) -> None:
    created = docker_client.images.get(built.local("mail")).attrs["Created"]
    made = datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", created))
    registry: Registry | FakeRegistry = Registry(mirror)
    if kind == "fake":
        registry = FakeRegistry({"somebody/mail:1.0": "sha256:0"}, {"somebody/mail:1.0": made})
    assert "1.0" in registry.tags("somebody/mail")
    assert registry.made("somebody/mail:1.0") == made
    with pytest.raises(OpsError, match="somebody/nothing is not in the registry"):
        registry.tags("somebody/nothing")


def test_an_unreachable_registry_is_unavailable() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(Unavailable, match="out of reach"):
            Registry(f"http://127.0.0.1:{taken.getsockname()[1]}").digest("a/b:1")


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault(429, "TOOMANYREQUESTS"), "answers 429"),
        (Fault(503, "UNAVAILABLE"), "answers 503"),
        # For example the login page of a network.
        (Fault(200, "OK"), "does not answer with JSON"),
        (Fault(wait=3), "out of reach"),
        (CONNECTION_CUT, "out of reach"),
    ],
    ids=["rate limit", "down", "not a registry", "slow", "closes the connection"],
)
def test_a_registry_with_an_unusable_answer_is_unavailable(mirror: str, fault: Fault, words: str) -> None:
    with faulty_proxy(mirror, "127.0.0.1") as proxy:
        proxy.fault_for = lambda method, path: fault
        registry = Registry(proxy.url, patience=0.5)
        with pytest.raises(Unavailable, match=words):
            registry.tags("somebody/mail")
        if fault.status != 200:
            with pytest.raises(Unavailable, match=words):
                registry.digest("somebody/mail:1.0")


def test_a_pull_of_an_image_that_is_missing_in_the_registry_is_unavailable(
    run_context: RunContext, mirror: str
) -> None:
    assert mirror
    port = run_context.client.containers.get(run_context.name("registry")).attrs["NetworkSettings"]["Ports"][
        "5000/tcp"
    ][0]
    with pytest.raises(Unavailable, match="cannot be pulled"):
        Containers().pull(f"127.0.0.1:{port['HostPort']}/somebody/mail", f"sha256:{'0' * 64}")


def test_hermetic_images_have_no_upstream_name_in_the_user_s_engine(
    docker_client: docker.DockerClient, mirror: str
) -> None:
    assert mirror
    tags = {tag for image in docker_client.images.list(all=True) for tag in image.tags}
    assert not {"somebody/mail:1.0", "mail:1.0", "gitea/gitea:28.1.0"} & tags


def test_the_anonymous_volumes_of_a_container_are_removed_with_it(
    docker_client: docker.DockerClient, images: Mapping[str, str], tmp_path: Path
) -> None:
    shown = "grep ' /etc/letsencrypt ' /proc/self/mountinfo"
    done = Containers().run_script(images["CERTBOT_IMAGE"], shown, folder=tmp_path, target="/mnt", user="0:0")
    (volume,) = re.findall(r"/volumes/(\w+)/_data", done.output)
    with pytest.raises(NotFound):
        docker_client.volumes.get(volume)


class _Hub:
    """An engine with one base image, whose registry has another."""

    def __init__(self) -> None:
        self.images, self.local, self.pulled = self, {"debian:trixie-slim"}, list[str]()

    def get(self, reference: str) -> None:
        if reference not in self.local:
            raise ImageNotFound(reference)

    def pull(self, name: str, tag: str) -> None:
        if tag == "forky-slim":
            raise NotFound("manifest unknown")
        self.pulled.append(f"{name}:{tag}")


def test_upstream_base_images_are_pulled_without_a_debian_mirror() -> None:
    engine: Any = _Hub()
    made = base_images.upstream_bases(engine, {"DEBIAN_TRIXIE", "DEBIAN_BOOKWORM"}, print)
    assert made == {"DEBIAN_TRIXIE": "debian:trixie-slim", "DEBIAN_BOOKWORM": "debian:bookworm-slim"}
    assert engine.pulled == ["debian:bookworm-slim"]
    with pytest.raises(Unavailable, match="debian:forky-slim cannot be pulled: manifest unknown"):
        base_images.upstream_bases(engine, {"DEBIAN_FORKY"}, print)


def test_the_issuer_s_own_certificate_is_signed_by_the_authority_it_names(issuer: Acme, tmp_path: Path) -> None:
    authorities = tmp_path / "authorities.pem"
    authorities.write_text(issuer.authorities)
    assert "newOrder" in requests.get(issuer.directory, verify=str(authorities), timeout=5).json()


def test_a_mail_without_tls_or_credentials_is_refused_as_by_ses(mailbox: Mailbox) -> None:
    with smtplib.SMTP(mailbox.smtp_host, mailbox.smtp_port, timeout=5) as server:
        assert server.mail("a@gitea.test")[0] == 530
        assert not server.has_extn("auth")
        server.starttls(context=ssl.create_default_context(cadata=mailbox.authority))
        server.ehlo()
        assert server.mail("a@gitea.test")[0] == 530
        # SES offers LOGIN, too, after PLAIN.
        assert server.esmtp_features["auth"].split() == ["PLAIN"]


def test_the_error_for_a_container_that_ends_at_start_has_its_last_log_lines(
    run_context: RunContext, built: ImageSet
) -> None:
    container = create(run_context, "host", built.local("mail"), command=["sh", "-c", "echo the reason; exit 1"])
    with pytest.raises(Unavailable, match="the reason"):
        wait(container, lambda: False, 10)
    container.remove(force=True, v=True)


def test_disaster_tests_are_refused_on_every_site_but_the_local_one(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["deploy-e2e", "--rehearse", "--site", "sites/production.example.toml"])
    assert ended.value.code == 4
    assert "destroy its host and disk: not on sites/production.example.toml" in capfd.readouterr().err


def test_a_full_disk_is_refused() -> None:
    with pytest.raises(Refused, match=r"GiB are free below .*, a run needs 1000000"):
        disk_space.require_space(print, needed_gib=10**6)


def _labelled(client: docker.DockerClient, name: str) -> list[str]:
    filters = {"label": f"{RUN_LABEL}={name}"}
    found = [*client.containers.list(all=True, filters=filters), *client.networks.list(filters=filters)]
    return [each.name for each in [*found, *client.volumes.list(filters=filters)]]


_HOLDER = """
import sys, time, docker
from ground import run_registry
from ground.container import create
client = docker.from_env()
run_context, folder, lock = run_registry.new_run(client, print)
create(run_context, "mail", sys.argv[1])
print(run_context.run, flush=True)
time.sleep(120)
"""


@pytest.fixture
def killed(docker_client: docker.DockerClient, built: ImageSet) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A run in a separate process, which the test kills."""
    environment = {**os.environ, "PYTHONPATH": str(run_registry.REPOSITORY)}
    argv = [sys.executable, "-c", _HOLDER, built.local("mail")]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout
        name = next(line.strip() for line in process.stdout if line.startswith("ground-"))
        yield name, process
        process.kill()
    run_registry.remove(docker_client, name)


def test_two_parallel_runs_do_not_remove_each_other(
    docker_client: docker.DockerClient, killed: tuple[str, subprocess.Popen[str]], run_context: RunContext
) -> None:
    other, _ = killed
    assert {other, run_context.run}.isdisjoint(run_registry.leftovers(docker_client, kept_too=True))
    run_registry.remove_leftovers(docker_client, print)
    assert _labelled(docker_client, other)
    assert _labelled(docker_client, run_context.run)


def test_the_leftovers_of_a_killed_run_are_removed_by_the_next_run(
    docker_client: docker.DockerClient, killed: tuple[str, subprocess.Popen[str]]
) -> None:
    name, process = killed
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    assert _labelled(docker_client, name)
    assert name in run_registry.remove_leftovers(docker_client, print)
    assert _labelled(docker_client, name) == []
    assert not (run_registry.RUNS / name).exists()


def test_a_kept_run_stays_until_kept_runs_are_removed(
    docker_client: docker.DockerClient, killed: tuple[str, subprocess.Popen[str]]
) -> None:
    name, process = killed
    run_registry.keep(run_registry.RUNS / name)
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    assert name not in run_registry.remove_leftovers(docker_client, print)
    assert name in run_registry.leftovers(docker_client, kept_too=True)
