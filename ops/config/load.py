"""Read and check the site file: one TOML document (on the host: JSON) that describes a site.

The dataclasses are the schema. Every field carries its check and the remedy that is printed when the check fails. Unknown
keys are errors.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_type_hints

from ops.config.monitoring_files import METRICS_MIB_PER_DAY, METRICS_SHARE, metrics_mib
from ops.config.regular_files import read_text
from ops.config.schema import ROOT_BESIDE_BACKUPS, SES_HOST, SSH, Site
from ops.errors import ConfigError

_LONGEST_SHOWN = 300
# SES takes STARTTLS at 25, 587 and 2587. EC2 blocks outgoing port 25, and port 465 begins with TLS at once.
_SES_PORTS = (587, 2587)
# These ports begin with TLS; Gitea's mailer, Diun and ``ops`` use STARTTLS.
_TLS_PORTS = (465, 2465)
# DKIM's records are 44 characters longer than the mail domain, and a name has at most 253.
_LONGEST_MAIL_DOMAIN = 200
# Canonical's image is for x86-64; infra/variables.tf has the same rule.
_ARM = re.compile(r"(a1|[a-z]+[0-9]+g[a-z]*)\..*")


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
    text = read_text(path, "the site file", "give its path with --site; sites/ has examples")
    try:
        document = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except ValueError as error:
        raise ConfigError(f"{path.name} is not well formed: {error}", f"correct that line of {path.name}") from error
    except RecursionError as error:
        raise ConfigError(
            f"{path.name} is nested too deeply", "look at sites/production.example.toml for the form"
        ) from error
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
        elif "read" in item.metadata:
            values[name] = item.metadata["read"](table.get(name, {}), prefix + name, problems)
        elif name in table:
            values[name] = _value(table[name], types[name], item, prefix + name, problems)
        elif not _has_default(item):
            problems.append(f"{prefix}{name} is missing: {item.metadata['remedy']}")
    return None if len(problems) > before else schema(**values)


def _has_default(item: dataclasses.Field[Any]) -> bool:
    return item.default is not dataclasses.MISSING or item.default_factory is not dataclasses.MISSING


@functools.cache  # reading the annotations compiles each of them
def _types(schema: type[Any]) -> Mapping[str, Any]:
    return get_type_hints(schema)


def _section(schema: type[Any], table: Any, name: str, problems: list[str]) -> Any:
    if isinstance(table, dict):
        return _build(schema, table, f"{name}.", problems)
    problems.append(f"{name} = {table!r} must be a table: write [{name}]")
    return None


def _value(value: Any, kind: Any, item: dataclasses.Field[Any], name: str, problems: list[str]) -> Any:
    fits = _fits(value, kind)
    if not fits or not item.metadata["check"](value):
        explain = item.metadata["explain"] if fits else None
        remedy = (explain and explain(value)) or item.metadata["remedy"]
        problems.append(f"{name} = {_shown(value)}: {remedy}")
    return tuple(value) if fits and isinstance(value, list) else value


def _fits(value: Any, kind: Any) -> bool:
    if kind == tuple[str, ...]:
        return isinstance(value, list) and all(isinstance(one, str) for one in value)
    return type(value) is kind


def _shown(value: Any) -> str:
    """Return a value as JSON with letters of all languages, at most a line long."""
    try:
        text = json.dumps(value, default=str, ensure_ascii=False)
    except (ValueError, RecursionError):
        return "(a value too long to print)"
    escaped = "".join(letter if letter.isprintable() else json.dumps(letter)[1:-1] for letter in text)
    return escaped if len(escaped) <= _LONGEST_SHOWN else f"{escaped[:_LONGEST_SHOWN]}..."


def _unknown(key: str, fields: Mapping[str, Any], prefix: str) -> str:
    near = difflib.get_close_matches(key, fields, n=1, cutoff=0.5)
    remedy = f"did you mean {prefix}{near[0]}?" if near else f"remove it, or use one of {', '.join(sorted(fields))}"
    return f"{prefix}{key} is not a known key: {remedy}"


def _contradictions(site: Site) -> list[str]:
    return [*_of_names(site), *_of_mail(site), *_of_backups(site), *_of_the_host(site), *_of_monitoring(site)]


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
    yield from _of_ses(site, ses[1]) if ses else _of_another_server(site)
    if len(site.mail.sender.rpartition("@")[2]) > _LONGEST_MAIL_DOMAIN:
        yield (
            f'mail.sender = "{site.mail.sender}" has a domain too long for its DKIM records: give one of at most '
            f"{_LONGEST_MAIL_DOMAIN} characters"
        )


def _of_ses(site: Site, region: str) -> Iterator[str]:
    if region != site.aws.region:
        yield (
            f'mail.smtp_host = "{site.mail.smtp_host}" is SES of another region than aws.region = "{site.aws.region}", '
            f"where the sender is verified: give {_ses_of(site)}"
        )
    if site.mail.smtp_port not in _SES_PORTS:
        yield (
            f"mail.smtp_port = {site.mail.smtp_port} does not work with SES from EC2, which needs STARTTLS and a port other "
            "than 25: give 587 or 2587"
        )


def _of_another_server(site: Site) -> Iterator[str]:
    if not site.aws.endpoint_url:
        yield (
            f'mail.smtp_host = "{site.mail.smtp_host}" is not SES: ops makes credentials of SES for the site, which no other '
            f"server may receive: give {_ses_of(site)}"
        )
    if site.mail.smtp_port in _TLS_PORTS:
        yield (
            f"mail.smtp_port = {site.mail.smtp_port} begins with TLS, and Gitea uses STARTTLS: give the server's port for "
            "STARTTLS"
        )


def _ses_of(site: Site) -> str:
    suffix = ".cn" if site.aws.region.startswith("cn-") else ""
    return f"email-smtp.{site.aws.region}.amazonaws.com{suffix}"


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
    if site.host.root_gib < site.host.data_gib + ROOT_BESIDE_BACKUPS:
        yield (
            f"host.root_gib = {site.host.root_gib} is too small for host.data_gib = {site.host.data_gib}, because the root disk "
            f"holds the system and the local backups: give {site.host.data_gib + ROOT_BESIDE_BACKUPS} or more"
        )


def _of_the_host(site: Site) -> Iterator[str]:
    if site.host.ssh_port != SSH and not site.host.address:
        yield (
            f"host.ssh_port = {site.host.ssh_port} is not open in the firewall of a host that Terraform makes: "
            f"give {SSH}, or set host.address"
        )
    if not site.host.ami and _ARM.fullmatch(site.host.instance_type):
        yield (
            f'host.instance_type = "{site.host.instance_type}" is an Arm machine, and the default image is for x86-64: '
            "give another type, or an Arm image in host.ami"
        )
    if site.gitea.ssh_port == site.host.ssh_port:
        yield f"gitea.ssh_port = {site.gitea.ssh_port} is the host's own ssh port: give another port"


def _of_monitoring(site: Site) -> Iterator[str]:
    needed, room = metrics_mib(site.monitoring.retention_days), site.host.data_gib * 1024 // METRICS_SHARE
    if needed > room:
        days = room // METRICS_MIB_PER_DAY
        yield (
            f"monitoring.retention_days = {site.monitoring.retention_days} needs about {needed} MiB, and metrics may take "
            f"{room} MiB, a twentieth of host.data_gib = {site.host.data_gib}: give {days} or less, or a larger disk"
        )
