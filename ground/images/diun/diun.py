#!/usr/bin/env python3
"""A stand-in for Diun 4.33, not Diun: it has Diun's operational interface, so that a stack can be tested without it.

It has the commands `serve`, `healthcheck` and `notif test`; settings as DIUN_* variables; containers found by their
`diun.*` labels through the Docker API at DIUN_PROVIDERS_DOCKER_ENDPOINT; a database of seen digests below /data; a first
check of an image without notification; a mail for every later tag or digest; errors of the engine, the registry or the
mail server are logged, and the next check tries again. It lacks other providers and notifiers, a configuration file,
gRPC (the health port answers a plain line), Diun's database format and time zones (the schedule is in UTC). It asks one
registry, STANDIN_REGISTRY, for every image.
"""

from __future__ import annotations

import datetime
import json
import os
import random
import re
import signal
import smtplib
import socket
import socketserver
import ssl
import sys
import threading
import time
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path
from typing import Any

HEALTH = ("127.0.0.1", 42286)
ALIVE = b"Diun is running\n"
TIMEOUT = 20.0
MANIFESTS = (
    "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, "
    "application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json"
)


@dataclass(frozen=True)
class Settings:
    """The settings from the environment, with Diun's own defaults."""

    endpoint: str
    schedule: str
    jitter: float
    on_startup: bool
    first_check: bool
    database: Path
    registry: str
    mail: Mapping[str, str]


@dataclass(frozen=True)
class Watched:
    """An image of a labelled container, with the tag settings from the labels."""

    name: str
    tag: str
    whole_repository: bool
    include: tuple[str, ...]
    exclude: tuple[str, ...]
    sort: str
    most: int
    notify_on: tuple[str, ...]


@dataclass(frozen=True)
class News:
    """A tag that is new or whose digest changed."""

    image: str
    status: str
    digest: str


def settings_from(environment: Mapping[str, str]) -> Settings:
    """Return the settings of the DIUN_* variables; raises ValueError for an invalid duration."""
    prefix = "DIUN_NOTIF_MAIL_"
    return Settings(
        endpoint=environment.get("DIUN_PROVIDERS_DOCKER_ENDPOINT", "unix:///var/run/docker.sock"),
        schedule=environment.get("DIUN_WATCH_SCHEDULE", ""),
        jitter=seconds_from(environment.get("DIUN_WATCH_JITTER", "30s")),
        on_startup=is_true(environment.get("DIUN_WATCH_RUNONSTARTUP", "true")),
        first_check=is_true(environment.get("DIUN_WATCH_FIRSTCHECKNOTIF", "false")),
        database=Path(environment.get("DIUN_DB_PATH", "/data/diun.db")),
        registry=environment.get("STANDIN_REGISTRY", ""),
        mail={name.removeprefix(prefix): value for name, value in environment.items() if name.startswith(prefix)},
    )


def is_true(text: str) -> bool:
    """Return whether a variable or a label is true."""
    return text.strip().lower() in {"1", "true", "yes", "on"}


def seconds_from(text: str) -> float:
    """Return the seconds of a Go duration such as 30s or 1m30s; raises ValueError for anything else."""
    parts = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", text)
    if not parts:
        raise ValueError(f"not a duration: {text}")
    hours, minutes, seconds = (int(part or 0) for part in parts.groups())
    return float(hours * 3600 + minutes * 60 + seconds)


def watched_from(container: Mapping[str, Any]) -> Watched | None:
    """Return the image to watch for a container of the Docker API's list, or None without the label diun.enable."""
    labels: Mapping[str, str] = container.get("Labels") or {}
    if not is_true(labels.get("diun.enable", "")):
        return None
    name, tag = image_from(str(container["Image"]))
    return Watched(
        name=name,
        tag=tag,
        whole_repository=is_true(labels.get("diun.watch_repo", "")),
        include=items_from(labels.get("diun.include_tags", "")),
        exclude=items_from(labels.get("diun.exclude_tags", "")),
        sort=labels.get("diun.sort_tags", "reverse"),
        most=int(labels.get("diun.max_tags", "0")),
        notify_on=items_from(labels.get("diun.notify_on", "new;update")),
    )


def items_from(text: str) -> tuple[str, ...]:
    """Return the items of a label; Diun separates them by semicolons."""
    return tuple(part for part in text.split(";") if part)


def image_from(reference: str) -> tuple[str, str]:
    """Return repository and tag of a reference, without digest and registry; Docker Hub's own images are library/*."""
    # A colon before the last slash is a registry's port.
    parts = re.fullmatch(r"(.+?)(?::([^/:]+))?", reference.partition("@")[0])
    name, tag = parts.groups() if parts else (reference, None)
    host, _, rest = name.partition("/")
    if rest and re.search(r"[.:]|^localhost$", host):
        name = rest
    return name if "/" in name else f"library/{name}", tag or "latest"


def chosen_tags(watched: Watched, tags: Iterable[str]) -> list[str]:
    """Return the tags to check: the container's own, and those of the repository that the labels include."""
    if not watched.whole_repository:
        return [watched.tag]
    passing = [tag for tag in tags if passes(watched, tag)]
    ordered = ordered_tags(watched.sort, passing)
    best = ordered[: watched.most] if watched.most else ordered
    return list(dict.fromkeys([watched.tag, *best]))


def passes(watched: Watched, tag: str) -> bool:
    """Return whether the labels' regular expressions include a tag."""
    included = not watched.include or any(re.search(pattern, tag) for pattern in watched.include)
    return included and not any(re.search(pattern, tag) for pattern in watched.exclude)


def ordered_tags(method: str, tags: list[str]) -> list[str]:
    """Return the tags in the order of `diun.sort_tags`; semver puts the newest first."""
    match method:
        case "semver":
            return sorted(tags, key=version_from, reverse=True)
        case "lexicographical":
            return sorted(tags)
        case "default":
            return tags
        case _:
            return tags[::-1]


def version_from(tag: str) -> tuple[int, ...]:
    """Return the numbers of a tag, for sorting."""
    return tuple(int(number) for number in re.findall(r"\d+", tag))


def news_from(seen: Mapping[str, str], found: Mapping[str, str], first_check: bool) -> list[News]:
    """Return new and changed digests; those of a repository that was never seen only with ``first_check``."""
    repositories = {image.rpartition(":")[0] for image in seen}
    return [
        News(image, "update" if image in seen else "new", digest)
        for image, digest in sorted(found.items())
        if seen.get(image) != digest and (first_check or image.rpartition(":")[0] in repositories)
    ]


def cron_fires(schedule: str, now: datetime.datetime) -> bool:
    """Return whether a schedule of five cron fields includes this minute."""
    values = (now.minute, now.hour, now.day, now.month, now.isoweekday() % 7)
    return all(field_fires(field, value) for field, value in zip(schedule.split(), values, strict=True))


def field_fires(field: str, value: int) -> bool:
    """Return whether one cron field (`*`, `*/6`, `1-5`, `0,30`, `0-30/10`) includes a number."""
    return any(part_fires(*part.partition("/")[::2], value) for part in field.split(","))


def part_fires(span: str, step: str, value: int) -> bool:
    """Return whether one part of a cron field, without its step, includes a number."""
    low, _, high = span.partition("-")
    first = 0 if low == "*" else int(low)
    last = value if low == "*" else int(high or low)
    return first <= value <= last and (value - first) % int(step or 1) == 0


def log(message: str) -> None:
    """Write one log line in Diun's format."""
    print(f"{datetime.datetime.now(datetime.UTC):%a, %d %b %Y %H:%M:%S UTC} {message}", flush=True)


def read_json(address: str) -> Any:
    """Return the JSON document at an address; raises OSError or ValueError."""
    with urllib.request.urlopen(address, timeout=TIMEOUT) as answer:
        return json.load(answer)


def containers(endpoint: str) -> list[Mapping[str, Any]]:
    """Return the running containers of the engine at a tcp:// endpoint; raises OSError without an answer."""
    return list(read_json(f"{endpoint.replace('tcp://', 'http://')}/containers/json"))


def tags_of(registry: str, name: str) -> list[str]:
    """Return a repository's tags; raises OSError without an answer or for an unknown repository."""
    return list(read_json(f"{registry}/v2/{name}/tags/list")["tags"] or [])


def digest_of(registry: str, name: str, tag: str) -> str:
    """Return the digest of a tag; raises OSError for an unknown tag."""
    address = f"{registry}/v2/{name}/manifests/{tag}"
    request = urllib.request.Request(address, method="HEAD", headers={"Accept": MANIFESTS})
    with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
        return str(answer.headers["Docker-Content-Digest"])


def digests(registry: str, watched: Watched) -> Iterator[tuple[str, str]]:
    """Yield image and digest of every tag to check; log and skip those that cannot be read."""
    for tag in chosen_tags(watched, tags_of(registry, watched.name) if watched.whole_repository else []):
        try:
            yield f"{watched.name}:{tag}", digest_of(registry, watched.name, tag)
        except OSError as error:
            log(f"WRN Cannot get remote manifest error={error} image={watched.name}:{tag}")


def read_seen(database: Path) -> dict[str, str]:
    """Return the seen digests by image."""
    return dict(json.loads(database.read_text())) if database.exists() else {}


def write_seen(database: Path, seen: Mapping[str, str]) -> None:
    """Write the digests atomically."""
    database.parent.mkdir(parents=True, exist_ok=True)
    draft = database.with_suffix(".new")
    draft.write_text(json.dumps(seen, indent=1, sort_keys=True))
    draft.replace(database)


def message_about(mail: Mapping[str, str], news: News) -> EmailMessage:
    """Return the mail about a tag."""
    message = EmailMessage()
    message["From"], message["To"] = mail["FROM"], mail["TO"].replace(",", ", ")
    message["Subject"] = f"New tag {news.image}" if news.status == "new" else f"{news.image} has been updated"
    verb = "is available" if news.status == "new" else "has been updated"
    message.set_content(f"Docker tag {news.image} which you subscribed to {verb} with digest {news.digest}.\n")
    return message


def send(mail: Mapping[str, str], message: EmailMessage) -> None:
    """Send a mail through the SMTP server, with STARTTLS if it supports that; raises OSError."""
    kind = smtplib.SMTP_SSL if is_true(mail.get("SSL", "")) else smtplib.SMTP
    with kind(mail["HOST"], int(mail.get("PORT", "25")), timeout=TIMEOUT) as server:
        server.ehlo()
        if server.has_extn("starttls"):
            server.starttls(context=trust(mail))
        if user := secret(mail, "USERNAME"):
            server.login(user, secret(mail, "PASSWORD"))
        server.send_message(message)


def secret(mail: Mapping[str, str], name: str) -> str:
    """Return a setting, or the content of its file, read again for each mail; raises OSError for a missing file."""
    return mail.get(name, "") or (Path(mail[f"{name}FILE"]).read_text() if f"{name}FILE" in mail else "")


def trust(mail: Mapping[str, str]) -> ssl.SSLContext:
    """Return the TLS context, which checks the mail server's certificate unless told to skip that."""
    context = ssl.create_default_context()
    if is_true(mail.get("INSECURESKIPVERIFY", "")):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def notify(settings: Settings, news: News) -> None:
    """Log a new tag or digest, and mail it if a mail server is set; log failed mails."""
    log(f"INF {'New' if news.status == 'new' else 'Image update'} image found image={news.image}")
    if settings.mail:
        try:
            send(settings.mail, message_about(settings.mail, news))
        except OSError as error:
            log(f"ERR Mail notification failed error={error}")


def check(settings: Settings, watched: Watched) -> None:
    """Check one image, notify about news, and keep the digests."""
    seen = read_seen(settings.database)
    found = dict(digests(settings.registry, watched))
    for news in news_from(seen, found, settings.first_check):
        if news.status in watched.notify_on:
            notify(settings, news)
    write_seen(settings.database, {**seen, **found})


def check_all(settings: Settings) -> None:
    """Check all watched images once; log errors, and try again at the next check."""
    try:
        images = {found for each in containers(settings.endpoint) if (found := watched_from(each))}
    except (OSError, ValueError) as error:
        log(f"ERR Cannot list Docker containers error={error}")
        return
    log(f"INF Found {len(images)} image(s) to analyze provider=docker")
    for watched in sorted(images, key=lambda each: each.name):
        try:
            check(settings, watched)
        except (OSError, ValueError, LookupError) as error:
            log(f"WRN Cannot list tags error={error} image={watched.name}")


class Health(socketserver.BaseRequestHandler):
    """Answers every connection with one line."""

    def handle(self) -> None:
        """Send the line that `diun healthcheck` waits for."""
        self.request.sendall(ALIVE)


class HealthServer(socketserver.ThreadingTCPServer):
    """Listens on the health port, also right after a restart."""

    allow_reuse_address = True
    daemon_threads = True


def serve(settings: Settings) -> int:
    """Check the images on the schedule until a signal ends the process; without a schedule, check once and return 0."""
    log(f"INF Starting Diun stand-in version={os.environ.get('STANDIN_VERSION', 'dev')}")
    # PID 1 has no default signal handlers.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    server = HealthServer(HEALTH, Health)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    if settings.on_startup or not settings.schedule:
        check_all(settings)
    while settings.schedule:
        wait_for(settings)
        check_all(settings)
    return 0


def wait_for(settings: Settings) -> None:
    """Sleep until the next minute of the schedule, plus a random part of the jitter."""
    time.sleep(60 - time.time() % 60)
    while not cron_fires(settings.schedule, datetime.datetime.now(datetime.UTC)):
        time.sleep(60 - time.time() % 60)
    time.sleep(random.uniform(0, settings.jitter))  # noqa: S311 - spreads load, keeps no secret


def healthcheck() -> int:
    """Return 0 if the health port of this container answers, otherwise 1."""
    try:
        with socket.create_connection(HEALTH, timeout=5) as connection:
            answer = connection.recv(len(ALIVE))
    except OSError as error:
        print(f"diun: {error}", file=sys.stderr)
        return 1
    print(answer.decode().strip())
    return 0 if answer == ALIVE else 1


def notify_test(settings: Settings) -> int:
    """Send a test mail; raises OSError if that fails."""
    send(settings.mail, message_about(settings.mail, News("diun/testnotif:latest", "new", "sha256:0")))
    return 0


def main(arguments: list[str]) -> int:
    """Run one command; returns the exit code, 80 for an unknown one as Diun's parser does."""
    match arguments:
        case ["serve", *_]:
            return serve(settings_from(os.environ))
        case ["healthcheck", *_]:
            return healthcheck()
        case ["notif", "test", *_]:
            return notify_test(settings_from(os.environ))
        case _:
            print("usage: diun serve | healthcheck | notif test", file=sys.stderr)
            return 80


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
