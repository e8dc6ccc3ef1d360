"""Site files drawn over the whole schema, and independent readers of what a deployment makes of them."""

from __future__ import annotations

import ipaddress
import os
import random
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from ops.config.load import site_from
from ops.config.schema import Site
from ops.errors import ConfigError

ROOT = Path(__file__).parents[2]
# The number of site files that tests/integration/test_drawn_sites.py draws; .gitea/workflows/gate.yaml sets it at night.
VARIABLE = "DRAWN_SITES"
USUAL = 200
_LETTERS, _DIGITS = "abcdefghijklmnopqrstuvwxyz", "0123456789"
_REGIONS = ("eu-central-1", "us-east-1", "ap-southeast-2", "us-gov-west-1", "cn-north-1")


def wanted() -> int:
    """Return how many site files to draw."""
    return int(os.environ.get(VARIABLE) or USUAL)


def drawn(count: int) -> list[Site]:
    """Return that many accepted sites: always the same for the usual number, others each time for another number."""
    chosen = 0 if count == USUAL else random.randrange(2**32)
    print(f"{count} site files of seed {chosen}")
    found: list[Site] = []

    @seed(chosen)
    @settings(
        max_examples=count * 4,
        phases=[Phase.generate],
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(documents())
    def collect(document: dict[str, Any]) -> None:
        site = accepted(document) if len(found) < count else None
        if site is not None:
            found.append(site)

    collect()
    assert len(found) == count, f"only {len(found)} of {count * 4} drawn site files are valid"
    return found


def accepted(document: Mapping[str, Any]) -> Site | None:
    """Return the site of a document, or None for a document that `ops site` refuses."""
    try:
        return site_from(document)
    except ConfigError:
        return None


def _label(longest: int = 40) -> st.SearchStrategy[str]:
    text = st.text(_LETTERS + _DIGITS + "-", min_size=1, max_size=longest)
    return text.map(lambda each: each.strip("-").replace("--", "-") or "a")


def _line(alphabet: str | None = None, most: int = 80) -> st.SearchStrategy[str]:
    return st.text(alphabet, min_size=1, max_size=most) if alphabet else st.text(min_size=1, max_size=most)


def _network(shortest: int, longest: int) -> st.SearchStrategy[str]:
    parts = st.tuples(st.integers(1 << 24, (224 << 24) - 1), st.integers(shortest, longest))
    return parts.map(lambda each: str(ipaddress.IPv4Network(each, strict=False)))


def _url(*schemes: str) -> st.SearchStrategy[str]:
    host = _label(20) | st.ip_addresses(v=4).map(str) | st.tuples(_label(20), _label(20)).map(".".join)
    port = st.just("") | st.integers(1, 65535).map(lambda number: f":{number}")
    path = st.just("") | st.sampled_from(["/", "/dir", "/a/b?c=d&e=(f)", "/%20~x", "/a;b=c,d!*"])
    return st.tuples(st.sampled_from(schemes), host, port, path).map(lambda each: f"{each[0]}://{''.join(each[1:])}")


def _mirror() -> st.SearchStrategy[str]:
    return _url("http", "https").map(lambda url: "/".join(url.split("/")[:3]))


def _email(domain: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    local = st.text(_LETTERS.upper() + _LETTERS + _DIGITS + "_+-.", min_size=1, max_size=30)
    local = local.map(lambda each: "a" + ".".join(part for part in each.split(".") if part))
    return st.tuples(local, domain).map("@".join)


_TITLES = _line() | _line("\\'\"$%{}#`! ab\u6570\U0001f600&;|~\u200d", 30) | st.sampled_from(
    ["Team \\o/ \\", "{{ 7*7 }} $HOME 100% O'Brien 数据 #1", "${DOMAIN}", "$$", "{% raw %}", "{# x #}", "\\", "\\'", '\\"', "'", "%s"]
)  # fmt: skip
# Settings of Gitea that the suite does not own, with values of every kind.
_SETTINGS = st.dictionaries(
    st.sampled_from(["ui", "cron.update_mirrors", "repository.pull-request", "DEFAULT"]),
    st.dictionaries(
        st.text("ABC_x.", min_size=1, max_size=6).map(lambda key: f"K{key}"),
        _TITLES | st.text("\\'\"$%{}()#`; \nab\u6570\u2028", max_size=20) | st.booleans() | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False) | st.lists(_label(), max_size=3) | st.just("secret:imap"),
        max_size=3,
    ),
    max_size=3,
)  # fmt: skip
_TIME = st.integers(0, 1439).map(lambda minute: f"{minute // 60:02}:{minute % 60:02}")


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    """A document over the whole schema, which is mostly valid; each key but the required ones may be missing."""
    region = draw(st.sampled_from(_REGIONS))
    zone = ".".join(
        [*draw(st.lists(_label(), min_size=1, max_size=3)), draw(st.text(_LETTERS, min_size=2, max_size=9))]
    )
    inside = st.lists(_label(), max_size=3).map(lambda labels: ".".join([*labels, zone]))
    stand_in = draw(st.booleans())
    data = draw(st.integers(8, 16369))
    every = draw(st.integers(5, 1440))
    address = draw(st.just("") | st.ip_addresses(v=4).map(str))
    smtp = {"smtp_host": f"email-smtp.{region}.amazonaws.com", "smtp_port": draw(st.sampled_from([587, 2587]))}
    if stand_in:
        smtp = {"smtp_host": draw(_label(20) | st.ip_addresses(v=4).map(str)), "smtp_port": draw(st.integers(1, 65535))}
    policy = st.sampled_from(["operator", "patch", "minor"])
    return {
        "schema": 1,
        "name": "s" + draw(_label(20)),
        "domain": draw(inside),
        "zone": zone,
        "contact": draw(_email(inside)),
        **draw(
            _some(
                {"timezone": st.sampled_from(["UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires", "Etc/GMT+5"])}
            )
        ),
        "aws": {"region": region, **({"endpoint_url": draw(_url("http", "https"))} if stand_in else {})},
        "network": {
            "admin_cidrs": draw(st.lists(_network(8, 32), max_size=5)),
            **draw(_some({"cidr": _network(16, 24), "ipv6": st.booleans(), "flow_logs": st.booleans()})),
        },
        "host": {
            "ssh_key": draw(st.just("~/.ssh/key") | _line(most=20)),
            "address": address,
            "ssh_port": draw(st.integers(1, 65535)) if address else 22,
            "data_gib": data,
            "root_gib": draw(st.integers(min(data + 15, 16384), 16384)),
            **draw(
                _some(
                    {
                        "ssh_user": _label(30).map(lambda each: f"_{each}"),
                        "instance_type": st.sampled_from(
                            ["t3.medium", "m7i-flex.large", "u-6tb1.metal", "m7g.large", "c6a.large", "z1d.large"]
                        ),
                        "ami": st.sampled_from(["", "ami-0", "ami-0123456789abcdef0"]),
                        "data_device": _label().map(lambda each: f"/dev/disk/by-id/{each.upper()}_.:"),
                        "registry_mirrors": st.lists(_mirror(), max_size=3),
                        "reboot_time": _TIME,
                    }
                )
            ),
        },
        "gitea": {
            "admin_username": draw(_label(32)),
            "admin_email": draw(_email(inside)),
            **draw(
                _some(
                    {
                        "title": _TITLES,
                        "ssh_port": st.integers(1, 65535),
                        "upload_limit_mib": st.integers(1, 4096),
                        "transfer_limit_mib": st.integers(0, 2**20),
                        "settings": _SETTINGS,
                    }
                )
            ),
        },
        **draw(_some({"tls": _url("https").map(lambda url: {"acme_directory": url})})),
        "mail": {**draw(_some({"sender": _email(inside), "manage_identity": st.booleans()})), **smtp},
        "backup": {
            "bucket": "b-" + draw(_label(61)),
            "every_minutes": every,
            "rpo_minutes": draw(st.integers(every, 10080)),
            **draw(
                _some(
                    {
                        "lock_days": st.integers(1, 365),
                        "replica_region": st.sampled_from(["", *_REGIONS]),
                        "keep_last": st.integers(1, 1000),
                        "keep_daily": st.integers(0, 1000),
                        "rto_minutes": st.integers(5, 10080),
                        "drill_days": st.integers(1, 90),
                    }
                )
            ),
        },
        "update": draw(
            _some(
                {
                    "window": st.tuples(st.sampled_from(["Mon", "Sun"]), _TIME).map(" ".join),
                    "soak_hours": st.integers(0, 8760),
                    "gitea": policy,
                    "others": policy,
                    "hold": st.lists(st.sampled_from(["gitea", "nginx", "diun"]), max_size=3),
                }
            )
        ),
        **draw(_some({"limits": st.integers(0, 1_000_000).map(lambda usd: {"monthly_budget_usd": usd})})),
    }


def _some(keys: Mapping[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=dict(keys))


# Independent of ops: the patterns and numbers of infra/variables.tf, as far as Python can read them.
def terraform_problems(variables: Mapping[str, Any]) -> list[str]:
    """Return the variables that a regular expression of infra/variables.tf refuses."""
    text = (ROOT / "infra/variables.tf").read_text(encoding="utf-8")
    patterns = re.findall(r'condition\s+= can\(regex\("(.+?)", var\.(\w+)\)\)', text)
    assert len(patterns) > 8
    return [name for pattern, name in patterns if not re.search(pattern.replace("\\\\", "\\"), str(variables[name]))]


def read_settings(text: str) -> dict[str, str]:
    """Return the variables of a .env file as Docker Compose reads them (compose-go, dotenv/parser.go), one to a line."""
    return {
        name: _value(raw)
        for name, _, raw in (line.partition("=") for line in text.split("\n") if line and line[0] != "#")
    }


def _value(raw: str) -> str:
    quote, body, escaped = raw[0], "", False
    assert quote in "'\""
    for index, letter in enumerate(raw[1:], 1):
        if letter == quote and not escaped:
            assert index == len(raw) - 1, f"text follows the closing quotation mark of {raw}"
            return _expanded(body) if quote == '"' else body
        if letter != quote and not escaped and letter == "\\":
            escaped = True
            continue
        body += "\\" + letter if escaped and letter != quote else letter
        escaped = False
    raise AssertionError(f"{raw} has no closing quotation mark")


def _expanded(body: str) -> str:
    octal = re.sub(r"\\0(\d{1,3})", lambda found: chr(int(found[1], 8)), body.replace("\\$", "\0"))
    assert "$" not in octal, "Compose would put a variable in"
    return octal.replace("\0", "$")
