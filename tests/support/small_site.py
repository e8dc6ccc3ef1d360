"""A site for backups and restores within seconds: database, Gitea and nginx on the local engine, a bucket in LocalStack.

`ops` runs from its image in the network namespace of the container ``door``, so the site is at 127.0.0.1, as on a host. Gitea's data
is not a btrfs subvolume.
"""

from __future__ import annotations

import json
import secrets
import subprocess
from collections.abc import Callable, Iterator, Mapping
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
    """A finished ops command: its exit code, its JSON document, and its progress lines."""

    code: int
    document: Mapping[str, Any]
    progress: str

    @property
    def text(self) -> str:
        """Its summary and message in one line."""
        return f"{self.document.get('summary', '')} {self.document.get('message', '')}".strip()


@dataclass(frozen=True)
class SmallSite:
    """The running site for one test, with its own empty bucket and its own empty local repository."""

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
        """The folder that replaces a host's data disk."""
        return self.stack.folder / "data"

    @property
    def backups(self) -> Path:
        """The folder of this test's local backups."""
        return self.data / "backups" / self.bucket

    @property
    def storage(self) -> Any:
        """A client of the bucket's S3 without a proxy."""
        return aws.client(self.endpoint, "s3")

    def ops(self, *argv: str, endpoint: str = "", **environment: str) -> Ended:
        """Run an ops command to its end, with the bucket at ``endpoint``."""
        process = self.start(*argv, endpoint=endpoint, **environment)
        output, progress = process.communicate(timeout=180)
        return Ended(process.returncode, json.loads(output), progress)

    def start(self, *argv: str, endpoint: str = "", **environment: str) -> subprocess.Popen[str]:
        """Start an ops command; its stdout is one JSON document, its stderr the progress."""
        bucket_endpoint = endpoint or self.endpoint
        document = self._document(bucket_endpoint)
        name = f"site-{self.bucket}-{secrets.token_hex(3)}.json"
        (self.stack.folder / name).write_text(json.dumps(document))
        variables = {
            "SMALL_SITE": str(self.stack.folder),
            "SMALL_SITE_PROJECT": self.stack.project,
            "SMALL_SITE_BACKUPS": str(self.backups),
            "OPS_SITE": str(self.stack.folder / name),
            "OPS_IMAGE": self.image,
            "AWS_ENDPOINT_URL": bucket_endpoint,
            # Bytecode is cached for all runs, outside the image.
            "PYTHONDONTWRITEBYTECODE": "",
            "PYTHONPYCACHEPREFIX": "/tmp/compiled",
            **aws.CREDENTIALS,
            **environment,
        }
        options = [word for key, value in variables.items() for word in ("--env", f"{key}={value}")]
        command = ["docker", "exec", *options, self.operator, "python3", "/as_on_a_host.py", *argv, "--json"]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def take(self) -> str:
        """Take a backup and return its identity."""
        ended = self.ops("backup", "take")
        assert ended.code == 0, ended
        return str(ended.document["identity"])

    def shell(self, script: str) -> str:
        """Run a script in the container of `ops` and return its output."""
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
        """Move a folder with its content to a small file system of its own, in the view of `ops`."""
        mount = f"mkdir -p {folder} /keep && cp -a {folder}/. /keep && mount -t tmpfs -o size={size} small {folder}"
        self.shell(f"{mount} && cp -a /keep/. {folder} && rm -r /keep")
        try:
            yield
        finally:
            self.shell(f"umount {folder}")

    def owners(self) -> set[str]:
        """Return owner, group, mode and path of all files below Gitea's git folder: repositories and their hooks."""
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

    @contextmanager
    def holder_of_a_lock(self) -> Iterator[Callable[[], object]]:
        """Run restic on the bucket in another container of `ops` with the host's name, and yield a function that kills it."""
        environment = {**aws.CREDENTIALS, "AWS_DEFAULT_REGION": aws.REGION}
        options = f"--repo=s3:{self.endpoint}/{self.bucket}/restic --no-cache"
        script = (
            f"sleep 600 | restic {options} --password-file={self.stack.folder}/secrets/restic-password backup --stdin"
        )
        name = f"{self.stack.project}-holder"
        run(
            *("docker", "run", "--detach", "--init", f"--name={name}", "--label=gitea-suite.verb=backup"),
            f"--network=container:{self.stack.container('door')}",
            f"--volume={self.stack.folder}:{self.stack.folder}:ro",
            *(f"--env={variable}={value}" for variable, value in environment.items()),
            *("--entrypoint=sh", self.image, "-c", script),
        )
        try:
            yield lambda: run("docker", "kill", name)
        finally:
            run("docker", "rm", "--force", name)

    def packs(self) -> set[str]:
        """Return the paths of all packs in the local repository."""
        return set(self.shell(f"find {self.backups}/restic/data -type f").split())

    def gitea_state(self) -> str:
        """Return the state of Gitea's container: running, paused, exited."""
        return str(self.stack.inspect("gitea")["State"]["Status"])

    def ask(self, method: str, path: str, document: Mapping[str, Any] | None = None) -> Any:
        """Return the site's answer to an API request of its administrator."""
        body = json.dumps(document).encode() if document else None
        headers = {**basic(KEEPER, self.password), "Content-Type": "application/json"}
        answer = self.stack.ask(f"/api/v1{path}", method=method, headers=headers, body=body)
        assert answer.status < 300, answer
        return json.loads(answer.body) if answer.body else None

    def issues(self) -> set[str]:
        """Return the titles of all issues: they show which state of the database is live."""
        return {each["title"] for each in self.ask("GET", f"/repos/{KEEPER}/{REPOSITORY}/issues?state=all")}

    def write_issue(self, title: str) -> None:
        """Create an issue, which earlier backups lack."""
        self.ask("POST", f"/repos/{KEEPER}/{REPOSITORY}/issues", {"title": title})

    def kill(self) -> str:
        """Kill the running `ops` and its restic with SIGKILL."""
        return self.shell("for each in $(pidof python3 restic); do kill -KILL $each || true; done; echo killed")

    def databases(self) -> set[str]:
        """Return the names of all databases."""
        return set(self.sql("SELECT datname FROM pg_database").split())

    def sql(self, statement: str) -> str:
        """Return the result of a statement."""
        asked = ["psql", "--username=gitea", "--tuples-only", "--no-align", f"--command={statement}"]
        return run("docker", "exec", self.stack.container("postgres"), *asked)

    def with_new_bucket(self, password: str = "") -> SmallSite:
        """Return the same site with a new bucket and a new local repository, with its restic password or another one."""
        name = f"small-{secrets.token_hex(4)}"
        password = password or (self.stack.folder / "secrets/restic-password").read_text()
        fresh = replace(self, bucket=name, local=empty_repository(password), remote=empty_repository(password))
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
        """Write a file as root."""
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
    """Run the small site with an administrator and a repository for the length of the block."""
    stack.install_certificate()
    write_secret(stack.folder / "secrets/restic-password")
    (stack.folder / "configuration").mkdir()
    (stack.folder / "configuration/site.toml").write_text('name = "small"\n')
    password = secrets.token_urlsafe(18)
    requested = {"Name": f"{NAME}/admin-password", "SecretString": password}
    aws.client(endpoint, "secretsmanager").create_secret(**requested)
    # ops reads Gitea's version from the image tag, but the tag of a local image is a digest.
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
        # For the small file systems.
        "--cap-add=SYS_ADMIN",
        "--security-opt=apparmor=unconfined",
        *(f"--volume={each}" for each in mounts),
        "--entrypoint=sleep",
        image,
        "infinity",
    )
    return name
