"""The checks of the site file's values, and explanations that name the fault of a value. Each check returns a bool."""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from collections.abc import Callable
from typing import Any
from urllib.parse import SplitResult, urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

Check = Callable[[Any], bool]
Explain = Callable[[Any], str]
_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
# The last label begins with a letter, as in infra/variables.tf: without that an IP address would be a domain.
_NAMES = re.compile(rf"({_LABEL}\.)+[a-z][a-z0-9-]*[a-z0-9]")
_HOST = re.compile(rf"({_LABEL}\.)*{_LABEL}")
# Let's Encrypt takes names of at most 230 characters and 10 labels (Boulder, policy/pa.go).
LONGEST_DOMAIN, MOST_LABELS = 230, 10
# certbot takes letters, digits and ._%+- and no two dots in a row (certbot, util.safe_email); Gitea refuses a leading hyphen.
_LOCAL_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_+-]*(\.[A-Za-z0-9_+-]+)*")
_LONGEST_LOCAL_PART, _LONGEST_ADDRESS = 64, 254  # RFC 5321, 4.5.3.1
_URL = re.compile(r"[A-Za-z0-9:/?#\[\]@!&()*+,;=.~_%-]+")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")
# S3 user guide, "General purpose bucket naming rules".
_RESERVED_BUCKETS = re.compile(r"(xn--|sthree-|amzn-s3-demo-).*|.*(-s3alias|--ol-s3|--x-s3|--table-s3)")
# The areas of Debian's and Ubuntu's package tzdata; other names are in tzdata-legacy, which the host does not have.
_TIME_ZONE = re.compile(
    r"UTC|(Africa|America|Antarctica|Arctic|Asia|Atlantic|Australia|Etc|Europe|Indian|Pacific)(/[A-Za-z0-9_+-]+)+"
)
_LONGEST_LINE = 255


def matches(pattern: re.Pattern[str]) -> Check:
    """Return the check for a text that the pattern matches as a whole."""
    return lambda value: pattern.fullmatch(value) is not None


def between(low: int, high: int) -> Check:
    """Return the check for a number from ``low`` to ``high``."""
    return lambda value: low <= value <= high


def one_of(*allowed: Any) -> Check:
    """Return the check for one of the allowed values."""
    return lambda value: value in allowed


def or_empty(check: Check) -> Check:
    """Return the check for an empty text or one that passes ``check``."""
    return lambda value: value == "" or check(value)


def each(check: Check, most: int = 1000) -> Check:
    """Return the check for a list of at most ``most`` values that all pass ``check``."""
    return lambda values: len(values) <= most and all(check(value) for value in values)


def anything(_: Any) -> bool:
    """Return True."""
    return True


def is_domain(value: str) -> bool:
    """Return whether the value is a domain in lower case that a certificate can be issued for."""
    labels = value.split(".")
    return (
        _NAMES.fullmatch(value) is not None
        and len(value) <= LONGEST_DOMAIN
        and len(labels) <= MOST_LABELS
        and all(map(_is_plain_or_punycode, labels))
    )


def _is_plain_or_punycode(label: str) -> bool:
    """Return whether a label has hyphens in its third and fourth place only as valid punycode, as issuers demand."""
    if label[2:4] != "--":
        return True
    try:
        return label.startswith("xn--") and bool(label[4:].encode("ascii").decode("punycode"))
    except UnicodeError:
        return False


def explain_domain(value: str) -> str:
    """Return the remedy for a common fault of a domain, or "" for others."""
    if is_address(value):
        return "an IP address is not a domain: certificates and mail need a name, for example git.example.org"
    if not value.isascii():
        return f'write it in punycode{_quoted(_punycode(value))}: only a-z, 0-9, "-" and "." are in a domain'
    if value != value.lower():
        return f'write it in lower case: "{value.lower()}"'
    if len(value) > LONGEST_DOMAIN or value.count(".") >= MOST_LABELS:
        return f"give a domain of at most {LONGEST_DOMAIN} characters and {MOST_LABELS} labels, the limits of Let's Encrypt"
    return ""


def _punycode(value: str) -> str:
    try:
        return value.encode("idna").decode("ascii")
    except UnicodeError:
        return ""


def _quoted(value: str) -> str:
    return f': "{value}"' if value else " (xn--...)"


def is_email(value: str) -> bool:
    """Return whether certbot, Gitea and SES take the value as an e-mail address."""
    local, _, domain = value.rpartition("@")
    return (
        _LOCAL_PART.fullmatch(local) is not None
        and len(local) <= _LONGEST_LOCAL_PART
        and len(value) <= _LONGEST_ADDRESS
        and is_domain(domain)
    )


def explain_email(value: str) -> str:
    """Return the remedy for a common fault of an e-mail address, or "" for others."""
    local, at, domain = value.rpartition("@")
    refused = re.search(r"[^A-Za-z0-9._+-]", local)
    if at and refused and refused[0].isprintable():
        return (
            f"certbot refuses {refused[0]} in an e-mail address: give one with only A-Z, a-z, 0-9, . _ + - before the @"
        )
    if at and local and domain != domain.lower() and is_domain(domain.lower()):
        return f'write it in lower case: "{local}@{domain.lower()}"'
    return ""


def is_host(value: str) -> bool:
    """Return whether the value is a host name or an IPv4 address."""
    return len(value) <= 253 and _HOST.fullmatch(value) is not None


def is_url(*schemes: str) -> Check:
    """Return the check for a URL of one of the schemes, with a host, without credentials."""
    return lambda value: _url(value, schemes) is not None


def is_mirror(value: str) -> bool:
    """Return whether the value is the URL of a registry mirror as the Docker engine takes it: scheme, host and port."""
    url = _url(value, ("http", "https"))
    return url is not None and url.path in {"", "/"} and not set(value) & set("?#")


def _url(value: str, schemes: tuple[str, ...]) -> SplitResult | None:
    if not _URL.fullmatch(value):
        return None
    try:
        url = urlsplit(value)
        host, port = url.hostname or "", url.port
    except ValueError:
        return None
    usable = url.scheme in schemes and "@" not in url.netloc and port != 0
    return url if usable and (is_host(host) or _is_ipv6(host)) else None


def _is_ipv6(value: str) -> bool:
    try:
        return bool(ipaddress.IPv6Address(value))
    except ValueError:
        return False


def is_network(shortest: int, longest: int) -> Check:
    """Return the check for an IPv4 network by its first address, with a prefix of ``shortest`` to ``longest`` bits.

    infra/variables.tf has the same rule, and takes no netmask instead of the prefix.
    """

    def check(value: str) -> bool:
        try:
            network = ipaddress.IPv4Network(value)
        except ValueError:
            return False
        return str(network) == value and shortest <= network.prefixlen <= longest

    return check


def is_address(value: str) -> bool:
    """Return whether the value is an IPv4 address."""
    try:
        return bool(ipaddress.IPv4Address(value))
    except ValueError:
        return False


def is_host_address(value: str) -> bool:
    """Return whether the value is the IPv4 address of one host."""
    if not is_address(value):
        return False
    address = ipaddress.IPv4Address(value)
    return not (address.is_unspecified or address.is_multicast or address.is_reserved)


def is_time_zone(value: str) -> bool:
    """Return whether the time zone database has the name; without a database, whether the name has the right form."""
    return _TIME_ZONE.fullmatch(value) is not None and (_is_known_zone(value) or not _is_known_zone("Etc/UTC"))


def _is_known_zone(name: str) -> bool:
    try:
        return bool(ZoneInfo(name))
    except (ZoneInfoNotFoundError, OSError, ValueError):
        return False


def is_line(value: str) -> bool:
    """Return whether the value has no control character and no line break of Unicode."""
    return not any(unicodedata.category(each) in {"Cc", "Cs", "Zl", "Zp"} for each in value)


def is_title(value: str) -> bool:
    """Return whether Gitea's configuration file keeps the value byte for byte."""
    return bool(value) and not explain_title(value)


def explain_title(value: str) -> str:
    """Return the remedy for a title that is not one line or that Gitea's INI library reads as another one, "" for others."""
    if not is_line(value) or len(value) > _LONGEST_LINE:
        return f"give the title as one line of at most {_LONGEST_LINE} characters"
    if value != value.strip():
        return "give a title without a space at its ends"
    if value.startswith('"""') or (len(value) > 1 and value[0] == value[-1] and value[0] in "'\""):
        return "give a title without quotation marks around it: Gitea's configuration file would lose them"
    if "%(" in value:
        return "give a title without %( : Gitea's configuration file would replace it with another setting"
    return ""


def is_path(value: str) -> bool:
    """Return whether ssh takes the value as the path of a file: it expands % and ${}, and does not unescape."""
    return bool(value) and is_line(value) and not set(value) & set('"%\\$')


def is_bucket(value: str) -> bool:
    """Return whether S3 takes the value, which has no dots, as a bucket name, and derived names differ from it."""
    return _BUCKET.fullmatch(value) is not None and not explain_bucket(value)


def explain_bucket(value: str) -> str:
    """Return the remedy for a name that AWS reserves or that equals the name of another bucket of the site."""
    if _RESERVED_BUCKETS.fullmatch(value):
        return "give a name without the prefixes and suffixes that AWS reserves (xn--, sthree-, -s3alias, --ol-s3, ...)"
    if value == state_bucket(value):
        return "give a name that the bucket of Terraform's state does not have"
    if value == replica_bucket(value):
        return "give a name that the replica's bucket does not have"
    return ""


def state_bucket(bucket: str) -> str:
    """Return the name of the bucket of Terraform's state for a backup bucket."""
    return f"{bucket[:49]}-terraform"


def replica_bucket(bucket: str) -> str:
    """Return the name of the replica's bucket for a backup bucket; infra/storage.tf uses the same rule."""
    return f"{bucket[:55]}-replica"
