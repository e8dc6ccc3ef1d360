"""Read and check the site file: one TOML document (on the host: JSON) that describes a site.

The dataclasses are the schema. Every field carries its check and the remedy that is printed when the check fails. Unknown
keys are errors.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import json
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_type_hints

from ops.config.schema import SES_HOST, SSH, Site
from ops.errors import ConfigError

# SES takes STARTTLS at 25, 587 and 2587. EC2 blocks outgoing port 25, and port 465 begins with TLS at once.
_SES_PORTS = (587, 2587)
# In GiB: the system, the images, and the WAL that waits for the bucket.
_ROOT_BESIDE_BACKUPS = 15


def load(path: Path) -> Site:
    """Read and check a site file (JSON when the name ends in .json, else TOML).

    Raises ConfigError that lists all problems: the key, the value found, and the remedy.
    """
    return site_from(_parse(path), origin=path.name)


def site_from(document: Mapping[str, Any], origin: str = "site") -> Site:
    """Check a parsed document and return the Site; raises ConfigError as ``load`` does."""
    problems: list[str] = []
    site = _build(Site, document, "", problems)
    if not problems:
        site = _with_sender(site)
        problems.extend(_contradictions(site))
    if problems:
        count = f"{len(problems)} problem" + ("s" if len(problems) > 1 else "")
        raise ConfigError(
            f"{origin}: {count}\n" + "\n".join(f"  {each}" for each in problems),
            f"correct {origin}, then run the command again",
        )
    assert isinstance(site, Site)
    return site


def _with_sender(site: Site) -> Site:
    # A domain of the site's own: an identity for the zone may be the company's, with other senders.
    sender = site.mail.sender or f"gitea@{site.domain}"
    return dataclasses.replace(site, mail=dataclasses.replace(site.mail, sender=sender))


def _parse(path: Path) -> Mapping[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"cannot read the site file {path}: {error.strerror}", "give its path with --site; sites/ has examples"
        ) from error
    try:
        document = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except ValueError as error:
        raise ConfigError(f"{path.name} is not well formed: {error}", f"correct that line of {path.name}") from error
    if not isinstance(document, dict):
        raise ConfigError(f"{path.name} is not a table of keys", "look at sites/production.example.toml for the form")
    return document


def _build(schema: Any, table: Mapping[str, Any], prefix: str, problems: list[str]) -> Any:
    fields = {item.name: item for item in dataclasses.fields(schema)}
    types = _types(schema)
    problems.extend(_unknown(key, fields, prefix) for key in table if key not in fields)
    before = len(problems)
    values: dict[str, Any] = {}
    for name, item in fields.items():
        if dataclasses.is_dataclass(types[name]):
            values[name] = _section(types[name], table.get(name, {}), prefix + name, problems)
        elif name in table:
            values[name] = _value(table[name], types[name], item, prefix + name, problems)
        elif item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING:
            problems.append(f"{prefix}{name} is missing: {item.metadata['remedy']}")
    return None if len(problems) > before else schema(**values)


@functools.cache  # reading the annotations compiles each of them
def _types(schema: type[Any]) -> Mapping[str, Any]:
    return get_type_hints(schema)


def _section(schema: type[Any], table: Any, name: str, problems: list[str]) -> Any:
    if isinstance(table, dict):
        return _build(schema, table, f"{name}.", problems)
    problems.append(f"{name} = {table!r} must be a table: write [{name}]")
    return None


def _value(value: Any, kind: Any, item: dataclasses.Field[Any], name: str, problems: list[str]) -> Any:
    is_list = kind == tuple[str, ...]
    fits = isinstance(value, list) and all(isinstance(one, str) for one in value) if is_list else type(value) is kind
    if not fits or not item.metadata["check"](value):
        problems.append(f"{name} = {json.dumps(value, default=str)}: {item.metadata['remedy']}")
    return tuple(value) if is_list and fits else value


def _unknown(key: str, fields: Mapping[str, Any], prefix: str) -> str:
    near = difflib.get_close_matches(key, fields, n=1, cutoff=0.5)
    remedy = f"did you mean {prefix}{near[0]}?" if near else f"remove it, or use one of {', '.join(sorted(fields))}"
    return f"{prefix}{key} is not a known key: {remedy}"


def _contradictions(site: Site) -> list[str]:
    return [*_of_names(site), *_of_mail(site), *_of_backups(site), *_of_the_host(site)]


def _of_names(site: Site) -> Iterator[str]:
    if not f".{site.domain}".endswith(f".{site.zone}"):
        yield f'domain = "{site.domain}" is not in zone = "{site.zone}": correct one of the two'
    if not f".{site.mail.domain}".endswith(f".{site.zone}"):
        yield (
            f'mail.sender = "{site.mail.sender}" is not in zone = "{site.zone}", by which SES verifies the sender: '
            f"give an address in {site.zone}"
        )


def _of_mail(site: Site) -> Iterator[str]:
    ses = SES_HOST.fullmatch(site.mail.smtp_host)
    if ses and ses[1] != site.aws.region:
        yield (
            f'mail.smtp_host = "{site.mail.smtp_host}" is SES of another region than aws.region = "{site.aws.region}", '
            f"where the sender is verified: give email-smtp.{site.aws.region}.amazonaws.com"
        )
    if ses and site.mail.smtp_port not in _SES_PORTS:
        yield (
            f"mail.smtp_port = {site.mail.smtp_port} does not work with SES from EC2, which needs STARTTLS and a port other "
            "than 25: give 587 or 2587"
        )


def _of_backups(site: Site) -> Iterator[str]:
    if site.backup.replica_region == site.aws.region:
        yield (
            f'backup.replica_region = "{site.aws.region}" is the region of the bucket itself: '
            "give another region, or leave the key out"
        )
    if site.backup.rpo_minutes < site.backup.every_minutes:
        yield (
            f"backup.rpo_minutes = {site.backup.rpo_minutes} is less than backup.every_minutes = "
            f"{site.backup.every_minutes}: lower backup.every_minutes, or raise backup.rpo_minutes"
        )
    if site.host.root_gib < site.host.data_gib + _ROOT_BESIDE_BACKUPS:
        yield (
            f"host.root_gib = {site.host.root_gib} is too small for host.data_gib = {site.host.data_gib}, because the root disk "
            f"holds the system and the local backups: give {site.host.data_gib + _ROOT_BESIDE_BACKUPS} or more"
        )


def _of_the_host(site: Site) -> Iterator[str]:
    if site.host.ssh_port != SSH and not site.host.address:
        yield (
            f"host.ssh_port = {site.host.ssh_port} is not open in the firewall of a host that Terraform makes: "
            f"give {SSH}, or set host.address"
        )
    if site.gitea.ssh_port == site.host.ssh_port:
        yield f"gitea.ssh_port = {site.gitea.ssh_port} is the host's own ssh port: give another port"
