"""What Grafana reads at its start: data sources and dashboards, from the files of its folder of provisioning."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

_VARIABLE = re.compile(r"\$\$|\$\{(\w+)\}|\$(\w+)")
_SOURCE_KEYS = frozenset(
    {
        "name", "type", "uid", "access", "url", "orgId", "isDefault", "editable", "version", "jsonData", "secureJsonData",
        "basicAuth", "basicAuthUser", "withCredentials", "user", "database",
    }
)  # fmt: skip
_PROVIDER_KEYS = frozenset(
    {
        "name", "type", "orgId", "folder", "folderUid", "disableDeletion", "allowUiUpdates", "editable",
        "updateIntervalSeconds", "options",
    }
)  # fmt: skip


class Unusable(Exception):
    """A file of provisioning that Grafana refuses, or ignores, with the reason."""


@dataclass(frozen=True)
class Provisioned:
    """Data sources and dashboards by uid. The dashboard has ``title``, ``folder`` and ``document``."""

    sources: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    dashboards: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def load(folder: Path, environment: Mapping[str, str]) -> Provisioned:
    """Return what the files provide; raises Unusable for a file that is wrong, and for what is there twice."""
    sources: dict[str, Mapping[str, Any]] = {}
    for place, each in _entries(folder / "datasources", "datasources", environment):
        source = _source(place, each)
        _add(place, sources, source["uid"], source)
    if sum(bool(each.get("isDefault")) for each in sources.values()) > 1:
        raise Unusable(f"{folder / 'datasources'}: only one data source per organization can be marked as default")
    dashboards: dict[str, Mapping[str, Any]] = {}
    for place, each in _entries(folder / "dashboards", "providers", environment):
        for found in _dashboards(place, each, sources):
            _add(place, dashboards, found["document"]["uid"], found)
    return Provisioned(sources, dashboards)


def expand(value: Any, environment: Mapping[str, str]) -> Any:
    """Return a value of YAML with the environment's variables; one that is not set is empty, and $$ is a dollar."""
    if isinstance(value, str):
        return _VARIABLE.sub(
            lambda found: environment.get(found[1] or found[2], "") if found[0] != "$$" else "$", value
        )
    if isinstance(value, list):
        return [expand(each, environment) for each in value]
    if isinstance(value, dict):
        return {key: expand(each, environment) for key, each in value.items()}
    return value


def _add(place: str, known: dict[str, Mapping[str, Any]], uid: str, each: Mapping[str, Any]) -> None:
    if uid in known:
        raise Unusable(f"{place}: uid {uid} is there twice")
    known[uid] = each


def _entries(folder: Path, key: str, environment: Mapping[str, str]) -> Iterator[tuple[str, dict[str, Any]]]:
    for file in sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")]):
        try:
            document = yaml.safe_load(file.read_text(encoding="utf-8"))
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise Unusable(f"{file}: not YAML: {error}") from error
        if not isinstance(document, dict) or document.get("apiVersion") != 1:
            raise Unusable(f"{file}: apiVersion must be 1")
        entries = document.get(key)
        if not isinstance(entries, list) or not all(isinstance(each, dict) for each in entries):
            raise Unusable(f"{file}: {key} must be a list")
        yield from ((str(file), expand(each, environment)) for each in entries)


def _source(place: str, each: dict[str, Any]) -> dict[str, Any]:
    _known_keys(place, each, _SOURCE_KEYS)
    for key in ("name", "type", "uid", "url"):
        if not each.get(key) or not isinstance(each[key], str):
            raise Unusable(f"{place}: a data source needs {key}")
    if each["type"] != "prometheus":
        raise Unusable(f"{place}: the stand-in has no plugin for a data source of type {each['type']}")
    if each.get("access", "proxy") not in {"proxy", "direct"}:
        raise Unusable(f"{place}: access must be proxy or direct")
    interval = (each.get("jsonData") or {}).get("timeInterval", "15s")
    if not re.fullmatch(r"\d+(ms|s|m|h|d)", str(interval)):
        raise Unusable(f"{place}: timeInterval must be a duration such as 60s, and is {interval!r}")
    return each


def _dashboards(
    place: str, provider: dict[str, Any], sources: Mapping[str, Mapping[str, Any]]
) -> Iterator[dict[str, Any]]:
    _known_keys(place, provider, _PROVIDER_KEYS)
    if provider.get("type") != "file":
        raise Unusable(f"{place}: a provider's type must be file")
    path = Path(str((provider.get("options") or {}).get("path", "")))
    if not path.is_absolute() or not path.is_dir():
        raise Unusable(f"{place}: options.path must be a folder, and is {str(path)!r}")
    for file in sorted(path.glob("*.json")):
        document = _document(file)
        _require_panels(file, document, sources)
        yield {"folder": provider.get("folder", ""), "folderUid": provider.get("folderUid", ""), "document": document}


def _document(file: Path) -> dict[str, Any]:
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Unusable(f"{file}: not JSON: {error}") from error
    if not isinstance(document, dict) or not document.get("title"):
        raise Unusable(f"{file}: Dashboard title cannot be empty")
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,40}", str(document.get("uid", ""))):
        raise Unusable(f"{file}: uid must have at most 40 letters, digits, - and _")
    return document


def _require_panels(file: Path, document: Mapping[str, Any], sources: Mapping[str, Any]) -> None:
    """Raise Unusable for a panel that Grafana shows as an error: without a known source, or without a query."""
    for panel in document.get("panels", []):
        if panel.get("type") == "row":
            continue
        title = panel.get("title", "")
        for target in panel.get("targets") or [{}]:
            uid = (target.get("datasource") or panel.get("datasource") or {}).get("uid")
            if uid not in sources:
                raise Unusable(f"{file}: panel {title!r}: datasource {uid} was not found")
            if not target.get("expr"):
                raise Unusable(f"{file}: panel {title!r} has no query")


def _known_keys(place: str, each: Mapping[str, Any], known: frozenset[str]) -> None:
    if unknown := sorted(set(each) - known):
        raise Unusable(f"{place}: unknown key {', '.join(unknown)}")
