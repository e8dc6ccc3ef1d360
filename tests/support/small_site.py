"""A site that is backed up and restored in seconds: database, Gitea and nginx on the local engine, a bucket in LocalStack.

`ops` runs from its image, in the network of nginx, which is the door's: on 127.0.0.1 is the site, as on its host. Gitea's data is no subvolume here.
"""

from __future__ import annotations

import json
import secrets
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ground import aws, image_set
from ground.container import RUN_LABEL, RunContext
from ops.config.tool_variables import host_document
from tests.support import fakes
from tests.support.compose_stack import DOMAIN, Stack, basic, run, write_secret
from tests.support.restic_formats import EmptyRepository, Key, empty_repository

DRIVER = Path(__file__).with_name("as_on_a_host.py")
NAME, KEEPER, REPOSITORY = "small", "keeper", "kept"
_SERVICES = ("postgres", "gitea", "nginx")


@dataclass(frozen=True)
class Ended:
    """How a verb ended: its exit code, the one document it printed, and what it told meanwhile."""

    code: int
    document: Mapping[str, Any]
    told: str

    @property
    def words(self) -> str:
        """What it says of itself, in one line."""
        return f"{self.document.get('summary', '')} {self.document.get('message', '')}".strip()


@dataclass(frozen=True)
class SmallSite:
    """The running site, as one test sees it: with a bucket and a local repository of its own, in which nothing is yet."""

    stack: Stack
    operator: str
    image: str
    endpoint: str
    bucket: str
    local: EmptyRepository
    remote: EmptyRepository
    password: str

    @property
    def data(self) -> Path:
        """What is the data disk of a host."""
        return self.stack.folder / "data"

    @property
    def backups(self) -> Path:
        """Where on the host backups are, for this test."""
        return self.data / "backups" / self.bucket

    @property
    def storage(self) -> Any:
        """The bucket's S3, not by way of any proxy."""
        return aws.client(self.endpoint, "s3")

    def ops(self, *argv: str, endpoint: str = "", **environment: str) -> Ended:
        """Run a verb of the site's operator to its end, the bucket being at ``endpoint``."""
        process = self.start(*argv, endpoint=endpoint, **environment)
        said, told = process.communicate(timeout=180)
        return Ended(process.returncode, json.loads(said), told)

    def start(self, *argv: str, endpoint: str = "", **environment: str) -> subprocess.Popen[str]:
        """Begin a verb; what it prints is one document, what it tells comes on its stderr."""
        where = endpoint or self.endpoint
        document = self._document(where)
        name = f"site-{self.bucket}-{secrets.token_hex(3)}.json"
        (self.stack.folder / name).write_text(json.dumps(document))
        given = {
            "SMALL_SITE": str(self.stack.folder),
            "SMALL_SITE_PROJECT": self.stack.project,
            "SMALL_SITE_BACKUPS": str(self.backups),
            "OPS_SITE": str(self.stack.folder / name),
            "OPS_IMAGE": self.image,
            "AWS_ENDPOINT_URL": where,
            # Compiled once for all runs, outside the image.
            "PYTHONDONTWRITEBYTECODE": "",
            "PYTHONPYCACHEPREFIX": "/tmp/compiled",
            **aws.CREDENTIALS,
            **environment,
        }
        options = [word for key, value in given.items() for word in ("--env", f"{key}={value}")]
        command = ["docker", "exec", *options, self.operator, "python3", "/as_on_a_host.py", *argv, "--json"]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def take(self) -> str:
        """Take a backup and return its identity."""
        ended = self.ops("backup", "take")
        assert ended.code == 0, ended
        return str(ended.document["identity"])

    def shell(self, script: str) -> str:
        """Run a script beside `ops`, with its rights, and return what it printed."""
        return run("docker", "exec", self.operator, "sh", "-ec", script)

    def manifests(self) -> list[str]:
        """Return the identities of the backups whose manifests are in the bucket."""
        found = self.storage.list_objects_v2(Bucket=self.bucket, Prefix="manifests/").get("Contents", [])
        return [each["Key"].removeprefix("manifests/").removesuffix(".json") for each in found]

    def manifest(self, identity: str) -> dict[str, Any]:
        """Return the manifest of a backup."""
        found = self.storage.get_object(Bucket=self.bucket, Key=f"manifests/{identity}.json")["Body"].read()
        return dict(json.loads(found))

    @contextmanager
    def small_disk(self, folder: Path, size: str) -> Iterator[None]:
        """Have a folder on a small disk of its own, with what is in it, as `ops` sees it."""
        there = f"mkdir -p {folder} /keep && cp -a {folder}/. /keep && mount -t tmpfs -o size={size} small {folder}"
        self.shell(f"{there} && cp -a /keep/. {folder} && rm -r /keep")
        try:
            yield
        finally:
            self.shell(f"umount {folder}")

    def owners(self) -> set[str]:
        """Return owner, group, mode and name of all that is below Gitea's git folder: repositories and their hooks."""
        return set(self.shell(f"cd {self.data}/gitea && find git -printf '%U:%G %m %p\\n'").splitlines())

    def snapshots(self) -> list[dict[str, Any]]:
        """Return the snapshots of the local repository."""
        found: list[dict[str, Any]] = json.loads(self.restic("snapshots", "--json"))
        return found

    def restic(self, *arguments: str) -> str:
        """Run restic on the local repository."""
        options = f"--repo={self.backups}/restic --cache-dir={self.backups}/cache"
        return self.shell(
            f"restic {options} --password-file={self.stack.folder}/secrets/restic-password {' '.join(arguments)}"
        )

    def packs(self) -> set[str]:
        """Return the names of all packs in the local repository."""
        return set(self.shell(f"find {self.backups}/restic/data -type f").split())

    def gitea_state(self) -> str:
        """Return what the engine says of Gitea's container: running, paused, exited."""
        return str(self.stack.inspect("gitea")["State"]["Status"])

    def ask(self, method: str, path: str, document: Mapping[str, Any] | None = None) -> Any:
        """Return the site's own answer to its keeper."""
        body = json.dumps(document).encode() if document else None
        headers = {**basic(KEEPER, self.password), "Content-Type": "application/json"}
        answer = self.stack.ask(f"/api/v1{path}", method=method, headers=headers, body=body)
        assert answer.status < 300, answer
        return json.loads(answer.body) if answer.body else None

    def issues(self) -> set[str]:
        """Return the titles of all issues: what came and went with a backup is seen by them."""
        return {each["title"] for each in self.ask("GET", f"/repos/{KEEPER}/{REPOSITORY}/issues?state=all")}

    def write_issue(self, title: str) -> None:
        """Write something that is in the database and not in a backup taken before."""
        self.ask("POST", f"/repos/{KEEPER}/{REPOSITORY}/issues", {"title": title})

    def kill(self) -> str:
        """Kill what `ops` runs now, with no chance to undo anything."""
        return self.shell("for each in $(pidof python3 restic); do kill -KILL $each || true; done; echo killed")

    def databases(self) -> set[str]:
        """Return the names of all databases."""
        return set(self.sql("SELECT datname FROM pg_database").split())

    def sql(self, statement: str) -> str:
        """Return what the database server answers."""
        asked = ["psql", "--username=gitea", "--tuples-only", "--no-align", f"--command={statement}"]
        return run("docker", "exec", self.stack.container("postgres"), *asked)

    def another(self, words: str = "") -> SmallSite:
        """Return the same site with a new bucket and a new local repository, which open with its password or another."""
        name = f"small-{secrets.token_hex(4)}"
        words = words or (self.stack.folder / "secrets/restic-password").read_text()
        fresh = replace(self, bucket=name, local=empty_repository(words), remote=empty_repository(words))
        self.storage.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": aws.REGION})
        for path, content in fresh.remote.files.items():
            self.storage.put_object(Bucket=name, Key=f"restic/{path}", Body=content)
        folders = "restic/data restic/index restic/keys restic/locks restic/snapshots cache"
        fresh.shell(
            f"cd {self.data} && rm -rf .restore .moment .backed-up && mkdir -p {fresh.backups} && cd {fresh.backups} && mkdir -p {folders}"
        )
        for path, content in fresh.local.files.items():
            fresh.put(fresh.backups / "restic" / path, content)
        return fresh

    def put(self, path: Path, content: bytes) -> None:
        """Write a file as root, whoever runs the tests."""
        argv = ["docker", "exec", "--interactive", self.operator, "sh", "-c", 'cat > "$0"', str(path)]
        subprocess.run(argv, input=content, check=True)

    def _document(self, endpoint: str) -> dict[str, Any]:
        changes = {
            "name": NAME,
            "domain": DOMAIN,
            "zone": "gitea.test",
            "aws": {"region": aws.REGION, "endpoint_url": endpoint},
            "backup": {"bucket": self.bucket},
            "mail": {"sender": "gitea@gitea.test", "smtp_host": "mail.gitea.test"},
            "gitea": {"admin_username": KEEPER, "admin_email": "keeper@gitea.test"},
        }
        document = host_document(fakes.site(**changes))
        document["tls"]["acme_ca"] = str(self.stack.folder / "ca.pem")
        return document


@contextmanager
def running_small_site(run_context: RunContext, stack: Stack, image: str, endpoint: str) -> Iterator[SmallSite]:
    """Run the small site until the end of the block, with an administrator and a repository."""
    stack.install_certificate()
    write_secret(stack.folder / "secrets/restic-password")
    (stack.folder / "configuration").mkdir()
    (stack.folder / "configuration/site.toml").write_text('name = "small"\n')
    password = secrets.token_urlsafe(18)
    requested = {"Name": f"{NAME}/admin-password", "SecretString": password}
    aws.client(endpoint, "secretsmanager").create_secret(**requested)
    # ops reads Gitea's version from the tag of its image, and a local image is named by its content.
    gitea = f"{run_context.run}/{image_set.pinned()['GITEA_IMAGE']}"
    run("docker", "tag", stack.images["GITEA_IMAGE"], gitea)
    with (stack.folder / ".env").open("a") as file:
        file.write(f"GITEA_IMAGE={gitea}\n")
    try:
        stack.compose("up", "--detach", "--wait", *_SERVICES)
        door = stack.container("door")
        run("docker", "network", "connect", run_context.network, door)
        operator = _operator(run_context, stack, door, image)
        nothing = EmptyRepository(Key(), {})
        site = SmallSite(stack, operator, image, endpoint, "none-yet", nothing, nothing, password)
        made = site.ops("accounts", "ensure-admin")
        assert made.code == 0, made
        site.ask("POST", "/user/repos", {"name": REPOSITORY, "auto_init": True, "default_branch": "main"})
        yield site
    finally:
        run("docker", "rm", "--force", f"{stack.project}-operator", check=False)
        stack.remove()
        run("docker", "rmi", gitea, check=False)


def _operator(run_context: RunContext, stack: Stack, network_of: str, image: str) -> str:
    name = f"{stack.project}-operator"
    folder = str(stack.folder)
    mounts = [f"{folder}:{folder}", "/var/run/docker.sock:/var/run/docker.sock", f"{DRIVER}:/as_on_a_host.py:ro"]
    run(
        "docker",
        "run",
        "--detach",
        "--init",
        f"--name={name}",
        f"--label={RUN_LABEL}={run_context.run}",
        f"--network=container:{network_of}",
        # For small file systems of a test's own.
        "--cap-add=SYS_ADMIN",
        "--security-opt=apparmor=unconfined",
        *(f"--volume={each}" for each in mounts),
        "--entrypoint=sleep",
        image,
        "infinity",
    )
    return name
