"""The fault that rings each alert: what breaks, on the host of a deployed site, and how it is taken away.

``{domain}`` and ``{smtp_port}`` in a script are those of the site. A fault of the data replaces what `ops` or an exporter
reports: for what a rehearsal cannot break in minutes, such as the age of a drill, or not at all, such as a clock that the host
shares with its machine.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass

_METRICS, _KEPT = "/srv/gitea/metrics", "/root/kept-metrics"
PREFIX = "gitea-suite-"
_NGINX = "/etc/nginx/conf.d"
_PSQL = "docker exec -i gitea-suite-postgres-1 psql -q -U gitea gitea"


@dataclass(frozen=True)
class Fault:
    """What breaks (``name``), the scripts for root's shell, the alerts that ring, and those that must stay silent meanwhile.

    ``channel`` is where it is noticed: ``mail``; ``webhook``, when no mail can arrive; ``heartbeat``, which stops; or
    ``prometheus``, for what goes to no person. ``test`` is the test that injects it in another way than by a script.
    """

    name: str
    rings: tuple[str, ...]
    inject: str
    remove: str
    silent: tuple[str, ...] = ()
    channel: str = "mail"
    seconds: int = 60
    test: str = "test_a_fault_rings_its_alerts_and_its_end_is_reported"

    def scripts(self, domain: str, smtp_port: int) -> tuple[str, str]:
        """Return both scripts for a site."""
        inject, remove = (
            each.replace("{domain}", domain).replace("{smtp_port}", str(smtp_port))
            for each in (self.inject, self.remove)
        )
        return inject, remove


def stopped(service: str, *rings: str, silent: tuple[str, ...] = (), channel: str = "mail", seconds: int = 60) -> Fault:
    """A container that was stopped."""
    name = f"{PREFIX}{service}-1"
    return Fault(f"{service} stopped", rings, f"docker stop {name}", f"docker start {name}", silent, channel, seconds)


def reported(name: str, rings: str, metric: str, value: str) -> Fault:
    """A metric of `ops` with another value; ``value`` is for the shell."""
    bare = metric.partition("{")[0]
    inject = (
        f"rm -rf {_KEPT}; cp -a {_METRICS} {_KEPT}; cd {_METRICS}; "
        f"for file in *.prom; do grep -v '^gitea_suite_{bare}[ {{]' $file >/tmp/fault; cat /tmp/fault >$file; done; "
        f"echo gitea_suite_{shlex.quote(metric)} {value} >fault.prom; chmod 644 fault.prom"
    )
    return Fault(name, (rings,), inject, f"rm -f {_METRICS}/fault.prom; cp -a {_KEPT}/. {_METRICS}/")


def faked(name: str, rings: str, exporter: str, port: int, edit: str) -> Fault:
    """An exporter with another value: its last page after ``edit``, a script for sed, served in its place."""
    page, own = f"/root/fault-{exporter}", f"{PREFIX}{exporter}-1"
    server = (
        "import http.server, sys\n"
        "class Page(http.server.BaseHTTPRequestHandler):\n"
        "    def do_GET(self):\n"
        "        self.send_response(200); self.send_header('Content-Type', 'text/plain; version=0.0.4'); self.end_headers()\n"
        "        self.wfile.write(open('/page', 'rb').read())\n"
        "    def log_message(self, *arguments): pass\n"
        f"http.server.ThreadingHTTPServer(('', {port}), Page).serve_forever()\n"
    )
    inject = (
        f"docker exec {PREFIX}prometheus-1 wget -q -O - http://{exporter}:{port}/metrics | sed -E {shlex.quote(edit)} >{page} "
        f"&& docker stop {own} && docker run --detach --rm --name alert-fault --network gitea-suite_monitoring "
        f"--network-alias {exporter} --volume {page}:/page:ro --entrypoint python3 "
        f"$(docker images --quiet gitea-suite/ops | head -1) -c {shlex.quote(server)}"
    )
    return Fault(name, (rings,), inject, f"docker rm --force alert-fault; docker start {own}")


def _statements(text: str) -> str:
    return f"{_PSQL} -c {shlex.quote(text)}"


def _python(service: str, program: str) -> str:
    """A program of Python in the network of a service's container."""
    return (
        f"docker run --detach --rm --name alert-fault --ulimit nofile=8192 --network container:{PREFIX}{service}-1 "
        f"--entrypoint python3 $(docker images --quiet gitea-suite/ops | head -1) -c {shlex.quote(program)}"
    )


_DAY = 86400
_REMOVED = "docker rm --force alert-fault; true"
_LONG_AGO = f"$(($(date +%s) - {60 * _DAY}))"
# Clients that have signed in and say nothing. On the loopback PostgreSQL asks for no password.
_CONNECTIONS = """import socket, struct, time
body = struct.pack("!i", 196608) + b"user\\0gitea\\0database\\0gitea\\0\\0"
kept = [socket.create_connection(("127.0.0.1", 5432)) for each in range(84)]
for each in kept:
    each.sendall(struct.pack("!i", len(body) + 4) + body)
time.sleep(300)"""
_DEADLOCK = (
    "for i in $(seq 24); do "
    "psql -q -U gitea gitea -c \"SET deadlock_timeout = '50ms'; BEGIN; SELECT pg_advisory_xact_lock($i, 1), pg_sleep(1); "
    'SELECT pg_advisory_xact_lock($i, 2)" & '
    "psql -q -U gitea gitea -c \"SET deadlock_timeout = '50ms'; BEGIN; SELECT pg_advisory_xact_lock($i, 2), pg_sleep(1); "
    'SELECT pg_advisory_xact_lock($i, 1)" & done; wait'
)
_VISITORS = (
    "import socket, time; kept = [socket.create_connection(('127.0.0.1', 443)) for each in range(2300)]; time.sleep(50)"
)
_LIVE = "/srv/gitea/letsencrypt/live/{domain}"
_RULES = "/opt/gitea-suite/compose/prometheus/rules/fault.yaml"
_MANY = "groups: [{name: fault, rules: [{alert: Fault, expr: 'up * on () up'}]}]"
_BALLAST = "/srv/gitea/.ballast"
_FULL = (
    f"mkdir {_BALLAST}; for size in 1G 128M 16M 2M 256K 32K 4K; do n=0; "
    f"while fallocate --length $size {_BALLAST}/$size-$n 2>/dev/null; do n=$((n + 1)); done; done; "
    f"sync --file-system {_BALLAST}"
)
_MAIL_REFUSED = "-p tcp --dport {smtp_port} -j REJECT --reject-with tcp-reset"
_GITEA_GONE = ("SiteUnreachable", "GitOverHttpsFails", "GitOverSshFails", "ManyErrors")
_OWN_SITE = "/etc/gitea-suite/site.json"
_CUT_OFF = (
    'import json; path = "/etc/gitea-suite/site.json"; site = json.load(open(path)); '
    'site["aws"]["endpoint_url"] = "http://127.0.0.1:9"; json.dump(site, open(path, "w"))'
)
_NODE = ("node-exporter", 9100)

FAULTS: tuple[Fault, ...] = (
    # The host.
    Fault(
        "the data disk nearly full",
        ("DiskFillsUp",),
        f"mkdir {_BALLAST}; set -- $(df --block-size=1 --output=avail,size /srv/gitea | tail -1); "
        f"fallocate --length $(($1 - $2 / 20)) {_BALLAST}/one; sync --file-system {_BALLAST}",
        f"rm -rf {_BALLAST}; sync --file-system /srv/gitea",
    ),
    Fault(
        "the data disk fills up by the minute",
        ("DiskFullWithinADay",),
        f"mkdir {_BALLAST}; set -- $(df --block-size=1 --output=avail,size /srv/gitea | tail -1); "
        f"fallocate --length $(($1 - $2 * 35 / 100)) {_BALLAST}/most; systemd-run --quiet --unit alert-fault sh -c "
        f"'for n in $(seq 300); do fallocate --length 4M {_BALLAST}/$n; sync --file-system {_BALLAST}; sleep 1; done'",
        f"systemctl stop alert-fault; rm -rf {_BALLAST}; sync --file-system /srv/gitea",
        seconds=300,
    ),
    reported("errors on the data disk, in the metrics", "DiskErrors", 'health_check{check="data disk"}', "0"),
    faked(
        "a disk mounted read-only, in the metrics",
        "DiskReadOnly",
        *_NODE,
        r's|^(node_filesystem_readonly\{.*mountpoint="/srv/gitea".*\}) 0|\1 1|',
    ),
    faked(
        "little memory, in the metrics", "MemoryRunsOut", *_NODE, r"s/^(node_memory_MemAvailable_bytes) .*/\1 1e+07/"
    ),
    faked("many waiting programs, in the metrics", "HostOverloaded", *_NODE, r"s/^(node_load15) .*/\1 1000/"),
    faked("a wrong clock, in the metrics", "ClockWrong", *_NODE, r"s/^(node_timex_offset_seconds) .*/\1 1.5/"),
    Fault(
        "a container out of memory",
        ("OutOfMemory",),
        f"docker run --rm --memory 32m --memory-swap 32m --entrypoint tail $(docker inspect --format '{{{{.Config.Image}}}}' "
        f"{PREFIX}door-1) /dev/zero; true",
        "true",
    ),
    # The database.
    stopped("postgres", "PostgresDown", silent=("DatabaseHangs", "GiteaDown", *_GITEA_GONE)),
    Fault(
        "a database that hangs",
        ("DatabaseHangs",),
        f"docker pause {PREFIX}postgres-1",
        f"docker unpause {PREFIX}postgres-1",
        ("PostgresDown", "GiteaDown", "SiteUnreachable", "GitOverHttpsFails"),
    ),
    Fault(
        "most connections taken",
        ("ConnectionsRunOut",),
        _python("postgres", _CONNECTIONS),
        _REMOVED,
    ),
    Fault(
        "the WAL stream stopped",
        ("WalStreamStopped",),
        "systemctl stop gitea-suite-wal",
        "systemctl start gitea-suite-wal",
    ),
    Fault(
        "a slot that holds WAL",
        ("SlotHoldsWal",),
        f"{_statements('SELECT pg_create_physical_replication_slot($$alert_fault$$, true)')} && for n in $(seq 70); do "
        "echo 'SELECT pg_logical_emit_message(false, $$a$$, $$b$$); SELECT pg_switch_wal();'; done | "
        f"{_PSQL} >/dev/null",
        _statements("SELECT pg_drop_replication_slot('alert_fault')"),
        seconds=180,
    ),
    faked(
        "a transaction open for hours, in the metrics",
        "LongTransaction",
        "postgres-exporter",
        9187,
        r's/^(pg_stat_activity_max_tx_duration\{.*datname="gitea".*state="active".*\}) .*/\1 9000/',
    ),
    Fault(
        "deadlocks", ("Deadlocks",), f"docker exec {PREFIX}postgres-1 bash -c {shlex.quote(_DEADLOCK)}; true", "true"
    ),
    # Gitea, the web and git.
    stopped("nginx", "SiteUnreachable", silent=("GitOverHttpsFails", "GiteaDown", "CertificateRefused")),
    stopped("gitea", "GiteaDown", silent=_GITEA_GONE, seconds=120),
    Fault(
        "git over HTTPS broken in nginx",
        ("GitOverHttpsFails",),
        f'docker exec {PREFIX}nginx-1 sh -c \'grep -rl "location / {{" {_NGINX} | xargs sed -i '
        f'"s#^    location / {{#    location ~ /info/refs$ {{ return 500; }}\\n    location / {{#" && nginx -s reload\'',
        f"docker restart {PREFIX}nginx-1",
        ("SiteUnreachable",),
    ),
    Fault(
        "Gitea's sshd stopped",
        ("GitOverSshFails",),
        f"docker exec {PREFIX}gitea-1 s6-svc -d /etc/s6/openssh",
        f"docker exec {PREFIX}gitea-1 s6-svc -u /etc/s6/openssh",
        ("SiteUnreachable",),
    ),
    Fault(
        "transfers that HAProxy cannot pass on",
        ("ManyErrors",),
        f'docker exec {PREFIX}haproxy-1 sh -c \'echo "@1 disable server transfers/gitea" | '
        "socat - UNIX-CONNECT:/run/haproxy/master.sock'; systemd-run --quiet --unit alert-fault sh -c 'while sleep 0.1; do "
        "curl -sk -o /dev/null --resolve {domain}:443:127.0.0.1 -X POST https://{domain}/a/b/git-upload-pack; done'",
        f'systemctl stop alert-fault; docker exec {PREFIX}haproxy-1 sh -c \'echo "@1 enable server transfers/gitea" | '
        "socat - UNIX-CONNECT:/run/haproxy/master.sock'",
        ("SiteUnreachable",),
    ),
    faked(
        "slow answers, in the metrics",
        "SlowAnswers",
        "blackbox-exporter",
        9115,
        r"$a probe_success 1\nprobe_duration_seconds 8",
    ),
    Fault(
        "thousands of open connections",
        ("WebConnectionsRunOut",),
        _python("door", _VISITORS),
        _REMOVED,
    ),
    Fault(
        "a Gitea that is killed again and again",
        ("GiteaRestarts",),
        f"for n in 1 2 3; do docker restart --time 0 {PREFIX}gitea-1; sleep 9; done",
        "true",
        seconds=120,
    ),
    Fault(
        "deleted repositories",
        ("RepositoriesVanish",),
        "",
        "",
        seconds=300,
        test="test_repositories_that_vanish_ring",
    ),
    # Backups and updates.
    reported("an old backup, in the metrics", "BackupTooOld", "backup_last_success_timestamp_seconds", _LONG_AGO),
    Fault(
        "a bucket out of reach",
        ("BackupUnknown",),
        f"cp -p {_OWN_SITE} /root/fault-site.json; python3 -c {shlex.quote(_CUT_OFF)}; ops health >/dev/null 2>&1; true",
        f"cp -p /root/fault-site.json {_OWN_SITE}; ops health >/dev/null; true",
        seconds=180,
    ),
    reported("a long pause, in the metrics", "BackupPausesLong", "backup_pause_seconds", "30"),
    reported("old WAL, in the metrics", "WalTooOld", "wal_last_archived_timestamp_seconds", _LONG_AGO),
    reported("a failed verification, in the metrics", "VerificationFailed", "verification_passed", "0"),
    reported(
        "an old verification, in the metrics",
        "VerificationTooOld",
        "verification_last_success_timestamp_seconds",
        _LONG_AGO,
    ),
    reported("a failed drill, in the metrics", "DrillFailed", "drill_passed", "0"),
    reported("an old drill, in the metrics", "DrillTooOld", "drill_last_success_timestamp_seconds", _LONG_AGO),
    reported("an old prune, in the metrics", "PruneTooOld", "prune_last_success_timestamp_seconds", _LONG_AGO),
    reported("a failed update, in the metrics", "UpdateFailed", 'update_failed{service="gitea"}', "1"),
    # The certificate and mail.
    Fault(
        "an expired certificate of an unknown issuer",
        ("CertificateEnds", "CertificateRefused"),
        f"rm -rf /root/fault-live; cp -aL {_LIVE} /root/fault-live && openssl req -x509 -newkey ec -pkeyopt "
        "ec_paramgen_curve:prime256v1 -nodes -days 1 -subj /CN={domain} -addext subjectAltName=DNS:{domain} "
        "-keyout /root/fault-key -out /root/fault-certificate 2>/dev/null && "
        f"cat /root/fault-key >{_LIVE}/privkey.pem && cat /root/fault-certificate >{_LIVE}/fullchain.pem && "
        f"docker exec {PREFIX}nginx-1 nginx -s reload",
        f"for file in privkey fullchain; do cat /root/fault-live/$file.pem >{_LIVE}/$file.pem; done; "
        f"docker exec {PREFIX}nginx-1 nginx -s reload",
        ("SiteUnreachable", "GitOverHttpsFails"),
    ),
    Fault(
        "a mail server that refuses connections",
        ("MailServerUnreachable", "AlarmsNotMailed"),
        # For the containers.
        f"iptables -I DOCKER-USER {_MAIL_REFUSED}",
        f"iptables -D DOCKER-USER {_MAIL_REFUSED}",
        channel="webhook",
        seconds=120,
    ),
    # The watch.
    stopped("prometheus", "Watchdog", channel="heartbeat", seconds=420),
    stopped("alertmanager", "Watchdog", channel="heartbeat"),
    Fault(
        "a stop of Gitea on purpose",
        ("Maintenance",),
        f"echo 'gitea_suite_maintenance_until_timestamp_seconds{{operation=\"a rehearsal\"}}' $(($(date +%s) + 600)) "
        f">{_METRICS}/fault.prom; chmod 644 {_METRICS}/fault.prom; sleep 5; docker stop {PREFIX}gitea-1",
        f"docker start {PREFIX}gitea-1; until curl -fsk -o /dev/null --resolve {{domain}}:443:127.0.0.1 "
        f"https://{{domain}}/api/healthz; do sleep 1; done; sleep 5; rm {_METRICS}/fault.prom",
        ("GiteaDown", *_GITEA_GONE),
        channel="prometheus",
    ),
    stopped("nginx-exporter", "ExporterGone"),
    stopped("node-exporter", "NodeExporterGone", silent=("BackupUnknown",)),
    Fault(
        "a file of metrics in another format",
        ("MetricsUnreadable",),
        f"echo 'no metric' >{_METRICS}/fault.prom; chmod 644 {_METRICS}/fault.prom",
        f"rm {_METRICS}/fault.prom",
    ),
    reported(
        "a health check that no longer runs, in the metrics",
        "HealthNotChecked",
        "health_last_run_timestamp_seconds",
        _LONG_AGO,
    ),
    Fault(
        "Diun stopped",
        ("HealthCheckFails",),
        f"docker stop {PREFIX}diun-1; ops health >/dev/null; true",
        f"docker start {PREFIX}diun-1; until docker inspect {PREFIX}diun-1 | grep -q '\"healthy\"'; do sleep 1; done; "
        "ops health >/dev/null; true",
        seconds=120,
    ),
    Fault(
        "a rule that cannot be evaluated",
        ("RulesFail",),
        f"echo {shlex.quote(_MANY)} >{_RULES}; docker kill --signal HUP {PREFIX}prometheus-1",
        f"rm {_RULES}; docker kill --signal HUP {PREFIX}prometheus-1",
    ),
    Fault(
        "a full disk on which Prometheus stores nothing",
        ("NothingIsMeasured",),
        _FULL,
        f"rm -rf {_BALLAST}; sync --file-system /srv/gitea",
        seconds=180,
    ),
    Fault(
        "a torn store of Prometheus",
        ("MetricsLost",),
        f"docker stop {PREFIX}prometheus-1; file=$(ls /srv/gitea/prometheus/wal/0* | tail -1); "
        "dd if=/dev/urandom of=$file bs=1 seek=$(($(stat --format %s $file) / 2)) count=256 conv=notrunc status=none; "
        f"docker start {PREFIX}prometheus-1",
        f"docker restart {PREFIX}prometheus-1",
    ),
    Fault(
        "a webhook that is gone",
        ("WebhookFails",),
        "docker stop alert-receiver",
        "docker start alert-receiver",
        seconds=120,
    ),
)
