"""The playbook turns a bare machine in any state into a host, and does not touch foreign data."""

from __future__ import annotations

import json
import os
import shlex
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import docker
import jinja2
import pytest
import testinfra
import yaml
from testinfra.host import Host

from ground import host as ground_host
from ground import image_set, run_registry
from ground.container import RunContext
from tests.support.bare_machine import VARIABLES, Machine, bare_machine, reasons
from tests.support.ssh_multiplexing import end, one_connection

SSH_OPTIONS = "-o UserKnownHostsFile=/dev/null -o StrictHostKeyChecking=no -o LogLevel=ERROR"
DOOR = image_set.pinned()["DOOR_IMAGE"]
PULLED_AHEAD, UNAVAILABLE = (DOOR, "mail:1.0"), "nowhere.invalid/none:1"
STACK = {
    "gitea_compose_source": str(run_registry.REPOSITORY / "compose"),
    "gitea_environment": {"DOMAIN": "git.gitea.test"},
}


@pytest.fixture(scope="module")
def machine(
    docker_client: docker.DockerClient,
    run_context: RunContext,
    host_image: str,
    mirror: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Machine]:
    """A machine after the first run of the playbook."""
    with bare_machine(docker_client, run_context, host_image, tmp_path_factory.mktemp("host")) as bare:
        wanted = {"docker_registry_mirrors": [mirror], "docker_images": [UNAVAILABLE, *PULLED_AHEAD]}
        made = replace(bare, variables=VARIABLES | wanted)
        first = made.play()
        assert first.rc == 0, reasons(first)
        yield made


@pytest.fixture(scope="module")
def host(machine: Machine) -> Iterator[Host]:
    """The machine over ssh, with sudo."""
    where = f"ssh://{ground_host.SSH_USER}@{machine.host.address}"
    with one_connection() as path:
        yield testinfra.get_host(
            where, ssh_identity_file=str(machine.key), ssh_extra_args=SSH_OPTIONS, sudo=True, controlpath=path
        )


def test_a_second_run_changes_nothing(machine: Machine) -> None:
    second = machine.play()
    assert second.rc == 0, reasons(second)
    assert second.stats["changed"] == {}


def test_the_engine_is_running_and_enabled(host: Host) -> None:
    assert host.service("docker").is_running
    assert host.service("docker").is_enabled


def test_compose_supports_up_with_wait(host: Host) -> None:
    assert host.run("docker compose up --wait --help").rc == 0


def test_the_engine_uses_the_mirror_and_live_restore(host: Host, mirror: str) -> None:
    info = json.loads(host.check_output("docker info --format '{{json .}}'"))
    assert info["RegistryConfig"]["Mirrors"] == [f"{mirror}/"]
    assert info["LiveRestoreEnabled"] is True


def test_images_are_pulled_ahead_and_an_unavailable_one_does_not_stop_the_run(host: Host) -> None:
    pulled = host.run(f"timeout 60 sh -c 'until docker image inspect {shlex.join(PULLED_AHEAD)}; do sleep 0.2; done'")
    assert pulled.rc == 0, pulled.stderr
    assert host.run(f"docker image inspect {UNAVAILABLE}").rc == 1


def test_a_paused_container_stops_writing_until_it_is_unpaused(host: Host) -> None:
    writing = "while :; do cat /proc/uptime >/out/now; sleep 0.01; done"
    script = f"""
        docker run --detach --rm --name frozen --user 0 --volume /run/frozen:/out --entrypoint sh {DOOR} -c '{writing}'
        trap 'docker rm --force frozen' EXIT
        timeout 10 sh -c 'until test -s /run/frozen/now; do sleep 0.1; done'
        docker pause frozen
        cp /run/frozen/now /run/frozen/then; sleep 0.3; cmp /run/frozen/now /run/frozen/then
        docker unpause frozen
        sleep 0.3; ! cmp --silent /run/frozen/now /run/frozen/then"""
    # Backups depend on this. An engine that freezes the wrong cgroup reports no error.
    done = host.run(f"bash -ec {shlex.quote(script)}")
    assert done.rc == 0, f"{done.stdout}\n{done.stderr}"


# Instead of the program in the image of ops: writes when it begins and ends, and the stream holds its lock as the real one does.
_FAKE_OPS = """
import fcntl, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
verb = " ".join(sys.argv[1:])
def note(event):
    with open("/srv/gitea/runs", "a") as file:
        file.write(f"{verb}: {event}\\n")
if verb == "backup stream":
    lock = open("/run/gitea-suite/wal.lock", "w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        sys.exit(8)
note("began")
time.sleep(3600 if verb == "backup stream" else 15)
note("ended")
"""
_ROLE = run_registry.REPOSITORY / "playbooks/roles/ops"
_BACKUP = {"verb": "backup take", "description": "backup", "timeout": 120}
# Without /etc/gitea-suite, which the role base made: the firewall's table is in it.
_FOLDERS = "/opt/gitea-suite /var/backups/gitea-suite /run/gitea-suite"
_OPS_ENVIRONMENT = "/etc/gitea-suite/ops.env"


@pytest.fixture
def units(host: Host) -> Iterator[Host]:
    """The machine with /usr/local/bin/ops and two of its units; ops itself is a fake."""
    templates = jinja2.Environment(loader=jinja2.FileSystemLoader(_ROLE / "templates"), trim_blocks=True)
    templates.filters["dirname"] = os.path.dirname
    defaults = yaml.safe_load((_ROLE / "defaults/main.yml").read_text())
    variables = {**defaults, "ops_image_reference": "gitea-suite/ops:fake", "item": {"timer": _BACKUP}}
    files = {
        "ops.sh.j2": "/usr/local/bin/ops",
        "tmpfiles.conf.j2": "/etc/tmpfiles.d/gitea-suite.conf",
        "wal.service.j2": "/etc/systemd/system/gitea-suite-wal.service",
        "scheduled.service.j2": "/etc/systemd/system/gitea-suite-backup.service",
    }
    host.check_output(f"mkdir -p {_FOLDERS} && touch {_OPS_ENVIRONMENT}")
    for template, path in files.items():
        text = templates.get_template(template).render(variables)
        host.check_output("printf %%s %s >%s && chmod 0755 %s", text, path, path)
    host.check_output("printf %%s %s >/root/ops.py", _FAKE_OPS)
    host.check_output(
        "docker create --name fake mail:1.0 && docker cp /root/ops.py fake:/usr/lib/python3/dist-packages/ops.py"
        ' && docker commit --change \'USER root\' --change \'ENTRYPOINT ["python3", "-m", "ops"]\' fake gitea-suite/ops:fake'
        " && docker rm fake && systemctl daemon-reload"
    )
    yield host
    host.run("systemctl stop gitea-suite-wal gitea-suite-backup; systemctl reset-failed")
    host.run("docker rm --force $(docker ps --all --quiet --filter label=gitea-suite.verb)")
    host.check_output(
        f"rm -rf {' '.join(files.values())} {_FOLDERS} {_OPS_ENVIRONMENT} /srv/gitea/runs && systemctl daemon-reload"
    )


def await_on(host: Host, condition: str, seconds: int = 60) -> None:
    """Wait until a shell condition holds on the host."""
    script = f"until {condition}; do sleep 0.3; done"
    done = host.run(f"timeout {seconds} sh -c {shlex.quote(script)}")
    assert done.rc == 0, (
        f"{condition}\n{host.run('cat /srv/gitea/runs; docker ps --all; systemctl status gitea-suite-*').stdout}"
    )


def test_units_recover_from_a_restart_of_the_engine(units: Host) -> None:
    units.check_output("systemctl start gitea-suite-wal && systemctl start --no-block gitea-suite-backup")
    await_on(units, "grep -q 'take: began' /srv/gitea/runs && grep -q 'stream: began' /srv/gitea/runs")
    units.check_output("systemctl restart docker")
    # The stream that outlived its client is ended, and the unit streams again.
    await_on(units, "test $(grep -c 'stream: began' /srv/gitea/runs) = 2 && systemctl is-active gitea-suite-wal")
    running = (
        "docker ps --filter label=gitea-suite.unit=gitea-suite-wal --format '{{.Label \"gitea-suite.invocation\"}}'"
    )
    invocation = units.check_output("readlink /run/systemd/units/invocation:gitea-suite-wal.service")
    assert units.check_output(running).split() == [invocation]
    # The backup that outlived its client ends in its own time; the unit's next run waits for it.
    assert units.check_output("docker ps --quiet --filter name=ops-gitea-suite-backup-backup")
    units.check_output("systemctl start gitea-suite-backup")
    took = [line for line in units.check_output("cat /srv/gitea/runs").splitlines() if line.startswith("backup take")]
    assert took == ["backup take: began", "backup take: ended"] * 2


def test_a_run_without_its_client_ends_at_its_deadline(units: Host) -> None:
    settings = "--setenv OPS_UNIT=cut --setenv OPS_DEADLINE=4"
    units.check_output(f"systemd-run --quiet --unit cut {settings} /usr/local/bin/ops backup take")
    await_on(units, "grep -q 'take: began' /srv/gitea/runs")
    units.check_output("systemctl kill --signal KILL cut")
    await_on(units, 'test -z "$(docker ps --quiet --filter label=gitea-suite.verb=backup)"', seconds=12)
    assert units.check_output("cat /srv/gitea/runs") == "backup take: began"


def test_the_engine_does_not_listen_on_tcp(host: Host) -> None:
    listening = host.check_output("ss --listening --tcp --numeric --processes")
    assert "sshd" in listening
    assert "dockerd" not in listening


def test_sshd_accepts_keys_only(machine: Machine) -> None:
    where = f"{ground_host.SSH_USER}@{machine.host.address}"
    argv = ["ssh", *SSH_OPTIONS.split(), "-o", "BatchMode=yes", "-o", "PubkeyAuthentication=no", where, "true"]
    refused = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert refused.returncode == 255
    assert "Permission denied (publickey)." in refused.stderr


def test_sshd_offers_modern_algorithms_only(host: Host) -> None:
    offered = dict(line.split(" ", 1) for line in host.check_output("sshd -T").splitlines())
    assert "aes256-gcm@openssh.com" in offered["ciphers"]
    old = ("cbc", "aes128-ctr", "umac-64", "sha1", "ecdsa", "diffie", "nistp")
    kinds = ("ciphers", "macs", "kexalgorithms", "hostkeyalgorithms")
    assert [(kind, each) for kind in kinds for each in old if each in offered[kind]] == []


def test_the_firewall_opens_only_the_site_s_ports_and_ssh(machine: Machine, host: Host) -> None:
    for port in ("8080", "80"):
        host.check_output("systemd-run --quiet --unit listener-%s python3 -m http.server %s", port, port)
    host.check_output(
        "timeout 10 sh -c 'until ss -Hlt sport = :80 | grep -q . && ss -Hlt sport = :8080 | grep -q .; do sleep 0.1; done'"
    )
    address = machine.host.address
    socket.create_connection((address, 80), timeout=5).close()
    socket.create_connection((address, 22), timeout=5).close()
    with pytest.raises(TimeoutError):
        socket.create_connection((address, 8080), timeout=2)
    assert host.run("curl --silent --max-time 5 http://127.0.0.1:8080/").rc == 0
    host.check_output("systemctl stop listener-8080 listener-80")


def test_the_firewall_does_not_touch_docker_s_tables_and_is_complete_after_a_restart(host: Host) -> None:
    before = host.check_output("nft list tables")
    assert "table ip nat" in before
    host.check_output("systemctl restart gitea-suite-firewall")
    assert sorted(host.check_output("nft list tables").splitlines()) == sorted(before.splitlines())
    assert host.check_output("nft list table inet gitea_suite").count("chain ") == 2


def test_a_firewall_without_its_rules_names_the_missing_file_and_keeps_the_table(host: Host) -> None:
    rules, folder, aside = "/etc/gitea-suite/firewall.nft", "/etc/gitea-suite", "/root/aside"
    cursor = host.check_output("journalctl --lines 0 --show-cursor").partition("cursor: ")[2].strip()
    # Without the folder, nft ends with 1 and says nothing.
    host.check_output("mv %s %s", folder, aside)
    started = host.run("systemctl restart gitea-suite-firewall")
    # All lines since then: journald may not find out the unit of a process that has already ended.
    logged = host.check_output("journalctl --sync && journalctl --output cat --after-cursor %s", cursor)
    chains = host.check_output("nft list table inet gitea_suite").count("chain ")
    host.check_output("mv %s %s && systemctl restart gitea-suite-firewall", aside, folder)
    assert started.rc != 0
    assert any(rules in line and "No such file or directory" in line for line in logged.splitlines()), logged
    assert chains == 2


def test_fail2ban_guards_sshd_and_ignores_the_networks_of_operators(host: Host) -> None:
    assert "Currently banned" in host.check_output("fail2ban-client status sshd")
    assert "10.0.0.0/8" in host.check_output("fail2ban-client get sshd ignoreip")


def test_the_kernel_neither_accepts_nor_sends_icmp_redirects(host: Host) -> None:
    assert host.sysctl("net.ipv4.conf.all.accept_redirects") == 0
    assert host.sysctl("net.ipv4.conf.all.send_redirects") == 0


def test_security_updates_are_automatic_and_reboots_have_a_fixed_time(host: Host) -> None:
    settings = host.check_output("apt-config dump")
    assert 'Unattended-Upgrade::Automatic-Reboot-Time "04:30";' in settings
    assert 'APT::Periodic::Unattended-Upgrade "1";' in settings
    assert host.service("apt-daily-upgrade.timer").is_enabled
    planned = host.check_output("unattended-upgrade --dry-run --debug 2>&1")
    assert "Allowed origins are" in planned
    assert "Security" in planned.split("Allowed origins are")[1].splitlines()[0]


def test_the_data_disk_is_btrfs_and_supports_snapshots(host: Host) -> None:
    assert host.mount_point("/srv/gitea").filesystem == "btrfs"
    assert host.run("btrfs subvolume snapshot -r /srv/gitea /srv/gitea/snapshot").rc == 0
    assert host.run("btrfs subvolume delete /srv/gitea/snapshot").rc == 0


def test_a_reboot_restores_name_disk_and_engine_and_a_grown_disk_is_used_completely(
    machine: Machine, host: Host
) -> None:
    host.check_output("touch /srv/gitea/mark && truncate --size +1G /var/lib/ground/data.img")
    ground_host.restart(machine.client, machine.host)
    end(host.backend.controlpath)
    assert host.file("/srv/gitea/mark").exists
    size = int(host.check_output("df --block-size 1 --output=size /srv/gitea | tail -n 1"))
    grown = machine.play(tags="base")
    assert "Grow the file system to the disk's size" in _changed(grown), reasons(grown)
    assert int(host.check_output("df --block-size 1 --output=size /srv/gitea | tail -n 1")) == size + 2**30
    assert host.check_output("hostname") == "git"
    assert host.run("docker info").rc == 0


def test_a_power_cut_also_ends_a_container_that_was_frozen_without_the_engine(machine: Machine, host: Host) -> None:
    # As the runtime does for a moment while it starts a container. Version 2 of cgroups has another file.
    freeze = f"""
        docker run --detach --name frozen {DOOR} sleep 600
        cgroup=$(docker inspect --format '{{{{.Id}}}}' frozen)
        state=/sys/fs/cgroup/freezer/docker/$cgroup/freezer.state
        if test -e "$state"; then echo FROZEN >"$state"; else docker pause frozen; fi"""
    done = host.run(f"bash -ec {shlex.quote(freeze)}")
    assert done.rc == 0, f"{done.stdout}\n{done.stderr}"
    ground_host.cut_power(machine.client, machine.host.name)
    end(host.backend.controlpath)
    assert host.check_output("docker ps --quiet --filter name=frozen") == ""
    host.check_output("docker rm --force frozen")


def test_every_wrong_variable_is_refused_with_its_name_and_remedy_before_any_change(machine: Machine) -> None:
    refused = machine.play({"base_timezone": "Berlin time", "base_data_device": "/dev/sdb"})
    assert refused.rc != 0
    assert 'base_timezone is "Berlin time": give a name of the time zone database' in reasons(refused)
    assert 'base_data_device is "/dev/sdb": give its path below /dev/disk/by-id' in reasons(refused)
    assert _done(refused) == _FACTS


def test_a_mirror_without_a_scheme_is_refused_before_any_change(machine: Machine) -> None:
    refused = machine.play({"docker_registry_mirrors": ["registry:5000"]})
    assert refused.rc != 0
    assert 'docker_registry_mirrors is ["registry:5000"]: give a list of http(s) URLs' in reasons(refused)
    assert _done(refused) == _FACTS | {"Refuse wrong variables of base"}


_FACTS = {"Reach the host", "Wait for cloud-init", "Read the host's release and virtualization"}


def _changed(played: Any) -> set[str]:
    happened = (event for event in played.events if event["event"] == "runner_on_ok")
    return {event["event_data"]["task"] for event in happened if event["event_data"]["res"].get("changed")}


def _done(played: Any) -> set[str]:
    return {event["event_data"]["task"] for event in played.events if event["event"] == "runner_on_ok"}


def _started_roles(played: Any) -> set[str]:
    """The roles whose main tasks were started, beyond their checks."""
    started = (event["event_data"] for event in played.events if event["event"] == "playbook_on_task_start")
    return {str(each["role"]) for each in started if "/tasks/main.yml" in each.get("task_path", "")}


def test_a_taken_port_is_refused_with_the_name_of_the_program_before_any_change(machine: Machine, host: Host) -> None:
    host.check_output("systemd-run --quiet --unit squatter python3 -m http.server 443")
    host.check_output("timeout 10 sh -c 'until ss -Hlt sport = :443 | grep -q .; do sleep 0.1; done'")
    refused = machine.play(STACK, tags="base,docker,gitea")
    host.check_output("systemctl stop squatter")
    assert '0.0.0.0:443 is taken by "python3"' in reasons(refused)
    assert "stop that program for good" in reasons(refused)
    assert _started_roles(refused) == set()


def test_the_playbook_waits_for_a_backup_and_refuses_during_an_update_or_restore(machine: Machine, host: Host) -> None:
    script = (run_registry.REPOSITORY / "playbooks/roles/gitea/files/operations.sh").read_text()
    host.check_output(f"cat >/run/operations.sh <<'END'\n{script}\nEND")
    look = "sh /run/operations.sh /srv/gitea"
    assert host.check_output(look) == ""
    # An interrupted restore needs the operator. On a machine without a stack the deployment itself comes first.
    host.check_output("install -d /run/gitea-suite /srv/gitea/.restore && touch /srv/gitea/.restore/journal")
    assert host.check_output(look) == ""
    host.check_output("install -d /opt/gitea-suite/compose && touch /opt/gitea-suite/compose/.env")
    assert host.check_output(look) == "an interrupted restore: run sudo ops restore --resume on the host"
    host.check_output("rm -r /srv/gitea/.restore /opt/gitea-suite/compose")
    # A backup takes seconds, so the playbook waits for it.
    lock = "/run/gitea-suite/operation.lock"
    host.check_output(f"echo 'ops backup take' >{lock}; systemd-run --quiet --unit holder flock {lock} sleep infinity")
    host.check_output(f"timeout 10 sh -c 'while flock --nonblock {lock} true; do :; done'")
    assert host.run(f"timeout 2 {look}").rc == 124
    host.check_output(f"echo 'ops update, process 7, since today' >{lock}")
    refused = machine.play(STACK, tags="gitea")
    host.check_output("systemctl stop holder; rm -r /run/gitea-suite")
    assert "ops update, process 7, since today is running: wait until it ends; then deploy again" in reasons(refused)
    assert refused.stats["changed"] == {}


def test_a_postgresql_that_cannot_read_the_data_is_refused_before_any_change(machine: Machine, host: Host) -> None:
    host.check_output(
        "install -d /srv/gitea/postgresql/18/docker && echo 18 >/srv/gitea/postgresql/18/docker/PG_VERSION"
    )
    environment = {"DOMAIN": "git.gitea.test", "POSTGRES_IMAGE": "mirror.test:5000/postgres:19.0@sha256:0"}
    refused = machine.play(STACK | {"gitea_environment": environment}, tags="base,docker,gitea")
    host.check_output("rm -r /srv/gitea/postgresql/18")
    assert "the data is from PostgreSQL 18, which mirror.test:5000/postgres:19.0@sha256:0 cannot read" in reasons(
        refused
    )
    assert "name a version 18.x in compose/images.env" in reasons(refused)
    assert _started_roles(refused) == set()


@pytest.fixture
def foreign_disk(host: Host) -> Iterator[str]:
    """A disk with foreign data."""
    host.check_output("truncate --size 64M /root/foreign.img && mkswap --label precious /root/foreign.img")
    # A container's /dev has only the loop devices that were made in it.
    host.check_output("for n in $(seq 0 31); do test -e /dev/loop$n || mknod /dev/loop$n b 7 $n; done")
    device = host.check_output("losetup --find --show /root/foreign.img")
    host.check_output("ln -s %s /dev/disk/by-id/foreign", device)
    yield "/dev/disk/by-id/foreign"
    host.check_output("losetup --detach %s; rm /dev/disk/by-id/foreign", device)


def test_a_disk_with_foreign_data_is_refused_and_not_changed(machine: Machine, host: Host, foreign_disk: str) -> None:
    before = host.check_output("sha256sum /root/foreign.img")
    refused = machine.play({"base_data_device": foreign_disk, "base_data_mount": "/srv/other"}, tags="base")
    assert "holds data that this playbook did not create" in reasons(refused)
    assert "LABEL=precious" in reasons(refused)
    assert refused.stats["changed"] == {}
    assert host.check_output("sha256sum /root/foreign.img") == before
