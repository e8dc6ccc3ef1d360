"""Make and collect the states in this folder on a local site of commit f6721f2: see README.md.

usage: collect.py RUN SECTION..., where RUN is the name of the site's test environment (ground-xxxxxx) and a SECTION is one of
those at the end of this file. Everything is reached through the host's container and the site's own AWS.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3

HERE = Path(__file__).parent
RUN = sys.argv[1] if len(sys.argv) > 1 else "ground-000000"
FOLDER = Path.home() / ".local/state/gitea-suite" / RUN
SITE = tomllib.loads((FOLDER / "site.toml").read_text()) if (FOLDER / "site.toml").exists() else {}
ADMINISTRATOR, REPOSITORY = "keeper", "kept"
TIMERS = "gitea-suite-backup.timer gitea-suite-drill.timer gitea-suite-update.timer"
LABELS = "{{.Name}} {{json .Config.Labels}}"
HURRY = """import json, pathlib
path = pathlib.Path("/etc/gitea-suite/site.json")
known = json.loads(path.read_text())
known["update"] |= {"watch_seconds": 10, "healthy_minutes": 1}
path.write_text(json.dumps(known))"""
# The input of the digest of a repository's refs: ops/backup.py, _REFS.
REFS = """cd /data/git/repositories
find . -mindepth 2 -maxdepth 2 -name '*.git' -type d | sort | while read -r each; do
    echo "= ${each#./}"
    git -C "$each" symbolic-ref HEAD
    git -C "$each" for-each-ref --format='%(objectname) %(refname)'
done"""
# As chattr does, which is not on the host: 0x10 is immutable (linux/fs.h, FS_IOC_SETFLAGS).
FLAGS = """python3 -c 'import fcntl, os, struct
fcntl.ioctl(os.open("{folder}", os.O_RDONLY), 0x40086602, struct.pack("i", {flags}))'"""
# The site starts again with an older release, and without data: as tests/e2e/rehearsals/conftest.py did at that commit.
OLDER = """cd /opt/gitea-suite/compose
docker pull --quiet {image} >/dev/null
btrfs --quiet subvolume delete $(ls -d /srv/gitea/.update/before/* 2>/dev/null) || true
digest=$(docker image inspect --format '{{{{index .RepoDigests 0}}}}' {image} | cut -d @ -f 2)
docker compose --progress quiet stop gitea postgres
find /srv/gitea/gitea /srv/gitea/postgresql -mindepth 1 -delete
sed -i "s#^{variable}=.*#{variable}='{image}@$digest'#" .env
docker compose --progress quiet up --detach --wait gitea
ops accounts ensure-admin"""


def client(service: str) -> Any:
    return boto3.client(
        service,
        region_name=SITE["aws"]["region"],
        endpoint_url=SITE["aws"]["endpoint_url"],
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )


def on_host(script: str, *, check: bool = True) -> str:
    """Run a script as root on the host, and return what it printed."""
    argv = ["docker", "exec", f"{RUN}-host", "bash", "-c", f"set -e\n{script}"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=900)
    if check and done.returncode:
        sys.exit(f"{script}\n{done.stdout}\n{done.stderr}")
    return done.stdout


def ops(words: str, *codes: int) -> dict[str, Any]:
    """Run a verb on the host and return its JSON document, with its exit code."""
    said = on_host(f"code=0; ops {words} --json 2>/dev/null || code=$?; echo $code")
    document, _, code = said.strip().rpartition("\n")
    print(words, code, json.loads(document).get("summary"), flush=True)
    assert int(code) in (codes or (0,)), said
    return {"exit_code": int(code), **json.loads(document)}


def kill_at(step: str, words: str, seconds: float = 0) -> None:
    """Run a verb on the host and kill it as it begins a step, or so many seconds later."""
    # By its process id, which is known before: the next step is milliseconds away.
    verb = f"docker ps --latest --quiet --filter label=gitea-suite.verb={words.partition(' ')[0]}"
    know = f'[ "$pid" ] || pid=$(docker inspect --format "{{{{.State.Pid}}}}" $({verb}))'
    kill = f'if [ "$l" = "== {step}" ]; then sleep {seconds}; kill -KILL $pid; fi'
    said = on_host(f'pid=; ops {words} 2>&1 | while read -r l; do {know}; {kill}; echo "$l"; done; true')
    print(f"{words}, killed at {step}: {said.split('== ')[-1][:60]!r}", flush=True)
    assert f"== {step}\n" in said, said


@functools.cache
def secret_key() -> str:
    """The digest of Gitea's SECRET_KEY that every manifest has; in this folder it is that of the key "k"."""
    return on_host("sha256sum /run/gitea-suite/secrets/gitea-secret-key").split()[0]


def masked(text: str) -> str:
    """Replace paths, addresses and keys of the machine and the site."""
    text = text.replace(str(FOLDER), "sites/ground").replace(RUN, "ground-000000")
    network = SITE["host"]["address"].rpartition(".")[0]
    text = text.replace(f"{network}.", "192.0.2.")
    text = text.replace(secret_key(), hashlib.sha256(b"k").hexdigest())
    text = re.sub(r"ssh-ed25519 [A-Za-z0-9+/=]+", "ssh-ed25519 AAAA", text)
    return text if text.endswith("\n") or not text else text + "\n"


def keep(name: str, text: str) -> None:
    path = HERE / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(masked(text), encoding="utf-8")


def api(method: str, path: str, document: dict[str, Any]) -> None:
    password = client("secretsmanager").get_secret_value(SecretId="local/admin-password")["SecretString"]
    url = f"https://{SITE['domain']}/api/v1{path}"
    find = ["--cacert", str(FOLDER / "authorities.pem"), "--connect-to", f"::{SITE['host']['address']}:"]
    kind = ["--header", "Content-Type: application/json", "--data", json.dumps(document)]
    who = ["--user", f"{ADMINISTRATOR}:{password}"]
    argv = ["curl", "--silent", "--show-error", "--fail", "--request", method, *find, *who, *kind, url]
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)


def write(title: str) -> None:
    api("POST", f"/repos/{ADMINISTRATOR}/{REPOSITORY}/issues", {"title": title})


def new_repository() -> None:
    api("POST", "/user/repos", {"name": REPOSITORY, "auto_init": True, "default_branch": "main"})


def keep_bucket() -> None:
    """The bucket's keys, and each small document in it."""
    storage, bucket = client("s3"), SITE["backup"]["bucket"]
    pages = storage.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    keys = sorted(each["Key"] for page in pages for each in page.get("Contents", []))
    keep("bucket-keys.txt", "\n".join(keys))
    for key in keys:
        if key.endswith(".json"):
            keep(f"bucket/{key}", storage.get_object(Bucket=bucket, Key=key)["Body"].read().decode())
    pages = storage.get_paginator("list_object_versions").paginate(Bucket=bucket)
    hidden = [each["Key"] for page in pages for each in page.get("DeleteMarkers", []) if "locks/" not in each["Key"]]
    keep("bucket-delete-markers.txt", "\n".join(hidden))


def snapshots() -> None:
    """The snapshots of both repositories, as restic lists them."""
    ops_image = on_host("docker images --format '{{.Repository}}:{{.Tag}}' | grep ops | head -1").strip()
    run = on_host("sed -n 's/^exec docker run/docker run --entrypoint restic/p; /^    --/p' /usr/local/bin/ops")
    run = run.replace('--label gitea-suite.verb="$verb" ', "")
    where = {
        "host": "/var/backups/gitea-suite/restic",
        "bucket": f"s3:{SITE['aws']['endpoint_url']}/{SITE['backup']['bucket']}/restic",
    }
    for name, repository in where.items():
        options = f"--password-file /run/gitea-suite/secrets/restic-password --repo {repository} --no-lock"
        script = re.sub(r"--label \S+ \\\n", "\\\n", run).rstrip().removesuffix("\\")
        said = on_host(f"{script} {ops_image} {options} snapshots --json 2>/dev/null")
        keep(f"restic-snapshots-{name}.json", json.dumps(json.loads(said), indent=1))


def keep_host() -> None:
    """Files, units, containers and settings of the host."""
    folders = "/etc/gitea-suite /opt/gitea-suite /usr/local/bin /etc/systemd/system /etc/tmpfiles.d"
    what = "-name 'gitea-suite*' -o -path '*gitea-suite/*' -o -name ops"
    keep("host/files.txt", on_host(f"find {folders} \\( {what} \\) -printf '%M %u:%g %p\\n' | sort -k 3"))
    depth = "-maxdepth 2 -not -path '/srv/gitea/gitea/*' -not -path '/srv/gitea/postgresql/*'"
    backups = "find /var/backups/gitea-suite -maxdepth 3 -not -path '*/restic/*' -not -path '*/cache/*'"
    listed = f"find /srv/gitea {depth} -printf '%M %p\\n' | sort -k 2; {backups} -printf '%M %p\\n' | sort -k 2"
    keep("host/data-files.txt", on_host(listed))
    keep(
        "host/units.txt", on_host("systemctl list-unit-files --plain --no-legend 'gitea-suite*' | awk '{print $1, $2}'")
    )
    for unit in on_host("ls /etc/systemd/system | grep gitea-suite").split():
        keep(
            f"host/systemd/{unit}",
            on_host(f"cat /etc/systemd/system/{unit}/* 2>/dev/null || cat /etc/systemd/system/{unit}"),
        )
    shown = on_host(f"docker inspect --format '{LABELS}' $(docker ps --all --quiet)")
    labels = {name: json.loads(text) for name, _, text in (line.partition(" ") for line in shown.splitlines())}
    keep("host/container-labels.json", json.dumps(labels, indent=1, sort_keys=True))
    for name, path in {
        "site.json": "/etc/gitea-suite/site.json",
        "ops.env": "/etc/gitea-suite/ops.env",
        "compose.env": "/opt/gitea-suite/compose/.env",
        "newest.json": "/var/backups/gitea-suite/newest.json",
        "tidied": "/var/backups/gitea-suite/tidied",
        "wal-state.json": "/var/backups/gitea-suite/wal/state.json",
    }.items():
        keep(f"host/{name}", on_host(f"cat {path}"))


def keep_operator() -> None:
    """The files that the deployment keeps beside its site file."""
    keep("operator/site.toml", (FOLDER / "site.toml").read_text())
    state = FOLDER / ".state/local"
    left_out = {"providers", "artifacts"}
    files = [str(each.relative_to(state.parent)) for each in sorted(state.rglob("*")) if not left_out & {*each.parts}]
    keep("operator/files.txt", "\n".join(files))
    for name in ("outputs.json", "infra/terraform.tfvars.json", "bootstrap/terraform.tfvars.json"):
        keep(f"operator/state/{name}", (state / name).read_text())
    addresses = json.loads((state / "bootstrap/terraform.tfstate").read_text())["resources"]
    keep("operator/bootstrap-addresses.txt", "\n".join(_address(each) for each in addresses))
    stored = client("s3").get_object(Bucket=f"{SITE['backup']['bucket']}-terraform", Key="local/terraform.tfstate")
    addresses = json.loads(stored["Body"].read())["resources"]
    keep("operator/infra-addresses.txt", "\n".join(_address(each) for each in addresses))


def _address(resource: dict[str, Any]) -> str:
    module = f"{resource['module']}." if "module" in resource else ""
    data = "data." if resource["mode"] == "data" else ""
    return f"{module}{data}{resource['type']}.{resource['name']}"


def keep_tags() -> None:
    """The tags of the AWS resources, by resource."""
    found: dict[str, Any] = {}
    for each in client("ec2").describe_tags()["Tags"]:
        found.setdefault(f"{each['ResourceType']} {each['ResourceId']}", {})[each["Key"]] = each["Value"]
    for bucket in client("s3").list_buckets()["Buckets"]:
        try:
            tags = client("s3").get_bucket_tagging(Bucket=bucket["Name"])["TagSet"]
        except client("s3").exceptions.ClientError:
            tags = []
        found[f"bucket {bucket['Name']}"] = {each["Key"]: each["Value"] for each in tags}
    for secret in client("secretsmanager").list_secrets()["SecretList"]:
        found[f"secret {secret['Name']}"] = {each["Key"]: each["Value"] for each in secret.get("Tags", [])}
    keep("aws-tags.json", json.dumps(found, indent=1, sort_keys=True))


def at_rest() -> None:
    """A site with backups, a verification and a drill."""
    on_host(f"systemctl stop {TIMERS}")
    new_repository()
    write("before the first backup")
    ops("backup take")
    ops("backup take")
    write("before the third backup")
    ops("backup take")
    ops("backup verify")
    ops("restore --drill")
    ops("certs renew")
    keep_host()
    keep_operator()
    keep_tags()
    keep("host/health.json", json.dumps(ops("health", 0, 3), indent=1))
    keep("host/backup-status.json", json.dumps(ops("backup status", 0, 3), indent=1))
    keep("host/backup-list.json", json.dumps(ops("backup list"), indent=1))


def pending() -> None:
    """A backup that is on the host and not in the bucket."""
    write("before the backup that is cut off")
    kill_at("copy", "backup take")
    for name in on_host("ls /var/backups/gitea-suite/pending").split():
        keep(f"host/pending/{name}", on_host(f"cat /var/backups/gitea-suite/pending/{name}"))
    ops("backup take")


def cut(name: str, step: str, words: str, *codes: int) -> dict[str, Any]:
    """Kill an update at a step; keep its journal, the state of the disk, and the report of the same code's resume."""
    kill_at(step, words)
    records = on_host("cat /srv/gitea/.update/journal")
    assert step in {"back", json.loads(records.splitlines()[-1].partition(" ")[2])["step"]}, records
    keep(f"update/{name}/journal", records)
    keep(f"update/{name}/compose.env", on_host("cat /opt/gitea-suite/compose/.env"))
    listed = "find .update -mindepth 1 -maxdepth 2; ls -d postgresql/* .update/anew/postgresql/* 2>/dev/null || true"
    keep(f"update/{name}/files.txt", on_host(f"cd /srv/gitea\n{{ {listed}; }} | sort"))
    state = "docker ps --all --no-trunc --format '{{.Names}} {{.State}} {{.Image}}' | grep ^gitea | sort"
    keep(f"update/{name}/containers.txt", on_host(state))
    done = ops("update --resume", *(codes or (0, 5)))
    keep(f"update/{name}/resumed.json", json.dumps(done, indent=1))
    return done


def older(image: str, variable: str) -> None:
    on_host(OLDER.format(image=image, variable=variable))
    new_repository()
    write("at the older release")


def gitea() -> None:
    """Updates of Gitea, killed at every step, then a rollback."""
    on_host(f"systemctl stop {TIMERS}\npython3 -c '{HURRY}'")
    older("gitea/gitea:28.0.1", "GITEA_IMAGE")
    update = "update gitea --to 28.1.0 --yes"
    for step in ("stop", "picture", "pin"):
        assert cut(f"gitea-{step}", step, update)["exit_code"] == 5
    cut("gitea-back", "back", "update gitea --to 28.1.1-broken --yes", 5)
    if cut("gitea-up", "up", update)["exit_code"] == 0:
        ops("rollback --yes")
    assert cut("gitea-judge", "judge", update)["exit_code"] == 0
    keep("update/gitea-judge/kept.json", on_host("cat /srv/gitea/.update/kept.json"))
    write("after the update")
    cut("rollback-back", "back", "rollback --yes", 0)
    ops("update gitea --to 28.1.0 --yes")


def nginx() -> None:
    """An update of a service without data."""
    cut("nginx-up", "up", "update nginx --to 1.30.5 --yes")


def postgres() -> None:
    """A major update of PostgreSQL, killed at every step."""
    older("postgres:17.11", "POSTGRES_IMAGE")
    update = "update postgres --to 18.6 --yes"
    for step in ("picture", "convert", "switch", "pin"):
        assert cut(f"postgres-{step}", step, update)["exit_code"] == 5
    if cut("postgres-up", "up", update)["exit_code"] == 0:
        ops("rollback --yes")
    assert cut("postgres-judge", "judge", update)["exit_code"] == 0


def history() -> None:
    """The history of updates, and the snapshots kept for a rollback."""
    ops("backup take")
    for name in ("history.jsonl", "kept.json", "last-automatic"):
        if said := on_host(f"cat /srv/gitea/.update/{name} 2>/dev/null", check=False):
            keep(f"update/{name}", said)
    keep("update/compose.env", on_host("cat /opt/gitea-suite/compose/.env"))
    keep("update/history.json", json.dumps(ops("update history"), indent=1))


def restores() -> None:
    """Restores that stop in their switch: of the whole site, and of one repository, where an immutable folder stops it."""
    ops("backup take")
    write("after the backup")
    # The switch writes its record first, then it waits until Gitea has stopped.
    for step, seconds in (("switch", 0.15), ("start", 0)):
        kill_at(step, "restore --yes", seconds)
        keep(f"restore/{step}/journal", on_host("cat /srv/gitea/.restore/journal"))
        keep(
            f"restore/{step}/files.txt",
            on_host("find /srv/gitea/.restore -mindepth 1 -maxdepth 1 -printf '%P\\n' | sort"),
        )
        keep(
            f"restore/{step}/databases.txt",
            on_host(
                "docker exec gitea-suite-postgres-1 psql -AtU gitea postgres -c 'SELECT datname FROM pg_database ORDER BY 1'"
            ),
        )
        keep(f"restore/{step}/resumed.json", json.dumps(ops("restore --resume"), indent=1))
    folder = f"/srv/gitea/gitea/git/repositories/{ADMINISTRATOR}"
    on_host(FLAGS.format(folder=folder, flags=0x10))
    try:
        ops(f"restore --repository {ADMINISTRATOR}/{REPOSITORY} --yes", 1)
        keep("restore/one-repository/journal", on_host("cat /srv/gitea/.restore/journal"))
    finally:
        on_host(FLAGS.format(folder=folder, flags=0))
    keep("restore/one-repository/resumed.json", json.dumps(ops("restore --resume"), indent=1))


def bucket() -> None:
    """The bucket after all of that, and the refs of the repositories in the newest backup."""
    ops("backup take")
    container = "docker exec --interactive --user git gitea-suite-gitea-1 sh"
    keep("host/refs.txt", on_host(f"{container} <<'END'\n{REFS}\nEND"))
    keep("host/newest.json", on_host("cat /var/backups/gitea-suite/newest.json"))
    keep_bucket()
    snapshots()


SECTIONS: dict[str, Callable[[], None]] = {
    each.__name__: each for each in (at_rest, pending, gitea, nginx, postgres, history, restores, bucket)
}

if __name__ == "__main__":
    for section in sys.argv[2:] or SECTIONS:
        print(f"--- {section}", flush=True)
        SECTIONS[section]()
