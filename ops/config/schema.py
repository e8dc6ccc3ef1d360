"""The site file's keys: their types, and the check of each value."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass, field
from typing import Any

from ops.config import checks, gitea_settings
from ops.config.checks import Check, Explain, anything, between, each, is_url, matches, one_of, or_empty
from ops.config.gitea_settings import Sections

SCHEMA = 1
_NAME = re.compile(r"(?!sg-)[a-z][a-z0-9-]{0,19}[a-z0-9]")
_REGION = re.compile(r"[a-z]{2}(-[a-z]+)+-\d")
_USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
# Gitea's names: letters and digits at the ends, and no two of - _ . in a row (modules/validation, IsValidUsername).
_GITEA_USER = re.compile(r"(?=.{1,32}$)[a-z0-9]+([_-][a-z0-9]+)*")
SES_HOST = re.compile(r"email-smtp(?:-fips)?\.([a-z0-9-]+)\.amazonaws\.com(?:\.cn)?")
_TIME = re.compile(r"([01]\d|2[0-3]):[0-5]\d")
_WINDOW = re.compile(r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun) ([01]\d|2[0-3]):[0-5]\d")
_SERVICE = re.compile(r"[a-z][a-z0-9-]{0,40}")
# Names that Gitea reserves for its pages (models/user, reserved names), as far as an operator might choose them.
_RESERVED_GITEA_NAMES = frozenset(
    {
        "admin", "api", "assets", "attachments", "avatar", "avatars", "captcha", "commits", "debug", "devtest",
        "error", "explore", "favicon", "ghost", "issues", "login", "metrics", "milestones", "new", "notifications",
        "org", "pulls", "raw", "repo", "repo-avatars", "gitea-actions", "search", "ssh_info", "stars", "swagger", "user", "v2",
    }
)  # fmt: skip
_DISK = re.compile(r"/dev/disk/by-id/[A-Za-z0-9._:-]+")


def _key(check: Check, remedy: str, default: Any = dataclasses.MISSING, explain: Explain | None = None) -> Any:
    """Return a key of the schema. ``explain`` returns a remedy for some values, "" for those of the general remedy."""
    metadata = {"check": check, "remedy": remedy, "explain": explain}
    if isinstance(default, list):
        return field(default_factory=lambda: tuple(default), metadata=metadata)
    return field(default=default, metadata=metadata)


SSH, DNS, WEB = 22, 53, (80, 443)
# In GiB: the largest disk of EC2 (gp3), and the root disk's part for the system, the images, and WAL that waits for the bucket.
LARGEST_GIB, ROOT_BESIDE_BACKUPS = 16384, 15
_PORT = "give a port between 1 and 65535"


@dataclass(frozen=True, kw_only=True)
class Aws:
    """Region and endpoint of AWS. An empty ``endpoint_url`` means AWS's own endpoints."""

    region: str = _key(matches(_REGION), 'give an AWS region, for example "eu-central-1"')
    endpoint_url: str = _key(
        or_empty(is_url("http", "https")), "give an http or https URL, or leave the key out for AWS itself", ""
    )


@dataclass(frozen=True, kw_only=True)
class Network:
    """The private network, and the addresses from which the host's own ssh port may be reached."""

    cidr: str = _key(
        checks.is_network(16, 24),
        'give an IPv4 network by its first address, /16 to /24, such as "10.40.0.0/16"',
        "10.40.0.0/16",
    )
    admin_cidrs: tuple[str, ...] = _key(
        each(checks.is_network(8, 32), 50),
        'give at most 50 IPv4 networks by their first address, /8 or narrower, such as ["203.0.113.7/32"]; an empty list closes the port',
    )
    ipv6: bool = _key(anything, "give true or false", False)
    flow_logs: bool = _key(anything, "give true or false", False)


@dataclass(frozen=True, kw_only=True)
class Host:
    """The machine. Empty values are derived from Terraform: its Elastic IP, Canonical's image, its data volume."""

    address: str = _key(
        or_empty(checks.is_host_address), "give an IPv4 address, or leave the key out for the Elastic IP", ""
    )
    ssh_user: str = _key(matches(_USER), "give the login name of the machine image", "ubuntu")
    ssh_port: int = _key(lambda port: 1 <= port <= 65535 and port not in WEB, f"{_PORT} other than 80 and 443", SSH)
    ssh_key: str = _key(
        checks.is_path,
        'give the path of an Ed25519 private key, without " % \\ $ (make one with ssh-keygen -t ed25519 -f PATH)',
    )
    instance_type: str = _key(
        matches(re.compile(r"[a-z0-9-]+\.[a-z0-9-]+")),
        'give an EC2 instance type, for example "t3.medium"',
        "t3.medium",
    )
    ami: str = _key(
        or_empty(matches(re.compile(r"ami-[0-9a-f]+"))),
        "give an AMI id, or leave the key out for Canonical's image",
        "",
    )
    root_gib: int = _key(between(16, LARGEST_GIB), f"give a size in GiB from 16 to {LARGEST_GIB}", 70)
    data_device: str = _key(
        or_empty(matches(_DISK)),
        "give the data disk's path under /dev/disk/by-id/, or leave the key out for Terraform's volume",
        "",
    )
    data_gib: int = _key(
        between(8, LARGEST_GIB - ROOT_BESIDE_BACKUPS),
        f"give a size in GiB from 8 to {LARGEST_GIB - ROOT_BESIDE_BACKUPS}: the root disk, which is {ROOT_BESIDE_BACKUPS} GiB larger, "
        f"has at most {LARGEST_GIB}",
        50,
    )
    registry_mirrors: tuple[str, ...] = _key(
        each(checks.is_mirror), "give http or https URLs of Docker Hub mirrors, without a path", []
    )
    reboot_time: str = _key(matches(_TIME), 'give a time of day such as "04:30"', "04:30")


@dataclass(frozen=True, kw_only=True)
class GiteaSettings:
    """Gitea's own settings. ``settings`` are those of its app.ini that the suite has no key for.

    ``upload_limit_mib`` limits each request of browsers and of the API, ``transfer_limit_mib`` each push, LFS object, package,
    layer of a container image and artifact; 0 is no limit.
    """

    title: str = _key(checks.is_title, "give the site a title", "Gitea", checks.explain_title)
    admin_username: str = _key(
        lambda name: _GITEA_USER.fullmatch(name) is not None and name not in _RESERVED_GITEA_NAMES,
        "give a login name that Gitea does not reserve (not admin, user, api, ...): a-z and 0-9, with single - or _ between them",
        "operator",
    )
    admin_email: str = _key(checks.is_email, "give an e-mail address", explain=checks.explain_email)
    ssh_port: int = _key(
        lambda port: 1 <= port <= 65535 and port not in (SSH, DNS, *WEB),
        "give a port between 1 and 65535 other than 80, 443, 53 (the host's name service) and 22, which is the host's own ssh port",
        2222,
    )
    upload_limit_mib: int = _key(between(1, 4096), "give a size in MiB from 1 to 4096", 512)
    transfer_limit_mib: int = _key(between(0, 1024 * 1024), "give a size in MiB to 1048576, or 0 for no limit", 0)
    settings: Sections = field(default_factory=dict, metadata={"read": gitea_settings.read})


@dataclass(frozen=True, kw_only=True)
class Web:
    """How requests and transfers are treated while Gitea is stopped on purpose, in seconds.

    A new request waits up to ``hold_seconds`` for Gitea, then it gets the page of maintenance mode. Before the stop, running
    clones, pushes and other transfers get ``drain_seconds`` to end; in the window of automatic updates
    ``window_drain_seconds``.
    """

    hold_seconds: int = _key(between(10, 120), "give a number of seconds from 10 to 120", 30)
    drain_seconds: int = _key(between(0, 3600), "give a number of seconds from 0 to 3600", 60)
    window_drain_seconds: int = _key(between(0, 3600), "give a number of seconds from 0 to 3600", 600)


@dataclass(frozen=True, kw_only=True)
class Tls:
    """The issuer of the certificate.

    ``acme_ca`` is the path of a PEM file with a private issuer's certificates: that of its API, and its issuing root.
    """

    acme_directory: str = _key(
        is_url("https"), "give the ACME directory's https URL", "https://acme-v02.api.letsencrypt.org/directory"
    )
    acme_ca: str = _key(or_empty(checks.is_path), "give the path of a PEM file", "")


@dataclass(frozen=True, kw_only=True)
class Mail:
    """The sender of mails, and SES, which takes them over STARTTLS with credentials that ``ops`` makes.

    Only a stand-in of AWS, named in ``aws.endpoint_url``, has another mail server. Without ``sender`` it is gitea@ and the
    site's domain. With ``manage_identity = false`` the SES identity of the sender's domain is managed elsewhere: Terraform
    neither creates nor deletes it, its DKIM and MAIL FROM records.
    """

    sender: str = _key(
        or_empty(checks.is_email),
        "give the sender's e-mail address, or leave the key out for gitea@ the domain",
        "",
        checks.explain_email,
    )
    manage_identity: bool = _key(anything, "give true or false", True)
    smtp_host: str = _key(
        checks.is_host, 'give the mail server by its name, for example "email-smtp.eu-central-1.amazonaws.com"'
    )
    smtp_port: int = _key(between(1, 65535), _PORT, 587)

    @property
    def domain(self) -> str:
        """The sender's domain."""
        return self.sender.rpartition("@")[2]

    @property
    def uses_ses(self) -> bool:
        """Whether SES takes the mails."""
        return SES_HOST.fullmatch(self.smtp_host) is not None


@dataclass(frozen=True, kw_only=True)
class Backup:
    """Bucket, interval and retention of backups, the greatest loss of data (RPO) and the longest outage (RTO).

    Versions in the bucket cannot be deleted for ``lock_days``. With ``replica_region`` the bucket has a replica there.
    ``keep_last`` is the number of newest backups that are kept; ``keep_daily``, ``keep_weekly`` and ``keep_monthly`` keep
    the last backup of that many days, weeks and months.
    """

    bucket: str = _key(
        checks.is_bucket,
        "give a bucket name: 3 to 63 of a-z, 0-9 and -, unique in all of AWS",
        explain=checks.explain_bucket,
    )
    lock_days: int = _key(between(1, 365), "give a number of days from 1 to 365", 30)
    replica_region: str = _key(
        or_empty(matches(_REGION)), "give an AWS region, or leave the key out for no replica", ""
    )
    every_minutes: int = _key(between(5, 1440), "give a number of minutes from 5 to 1440", 15)
    keep_last: int = _key(between(1, 1000), "give a number from 1 to 1000", 96)
    keep_daily: int = _key(between(0, 1000), "give a number from 0 to 1000", 14)
    keep_weekly: int = _key(between(0, 1000), "give a number from 0 to 1000", 8)
    keep_monthly: int = _key(between(0, 1000), "give a number from 0 to 1000", 12)
    rpo_minutes: int = _key(between(5, 10080), "give a number of minutes from 5 to 10080", 30)
    rto_minutes: int = _key(between(5, 10080), "give a number of minutes from 5 to 10080", 60)
    drill_days: int = _key(between(1, 90), "give a number of days from 1 to 90", 7)


_POLICY = 'give the largest automatic update, "patch" or "minor", or "operator" for none'


@dataclass(frozen=True, kw_only=True)
class Update:
    """The window of automatic updates, and the largest automatic update of each service; services in ``hold`` stay.

    An update takes a release that is ``soak_hours`` old. A new version has ``healthy_minutes`` to become healthy, its
    migration included, and so has a restored one; then it is watched for ``watch_seconds`` before it is accepted. A
    rollback is possible for ``keep_days``.
    """

    window: str = _key(matches(_WINDOW), 'give a time of the week such as "Sun 03:15"', "Sun 03:15")
    soak_hours: int = _key(between(0, 8760), "give a number of hours from 0 to 8760", 72)
    watch_seconds: int = _key(between(10, 3600), "give a number of seconds from 10 to 3600", 60)
    healthy_minutes: int = _key(between(1, 240), "give a number of minutes from 1 to 240", 15)
    keep_days: int = _key(between(1, 30), "give a number of days from 1 to 30", 7)
    gitea: str = _key(one_of("operator", "patch", "minor"), _POLICY, "operator")
    postgres: str = _key(one_of("operator", "patch", "minor"), _POLICY, "operator")
    nginx: str = _key(one_of("operator", "patch", "minor"), _POLICY, "minor")
    others: str = _key(one_of("operator", "patch", "minor"), _POLICY, "minor")
    hold: tuple[str, ...] = _key(each(matches(_SERVICE)), 'give a list of service names, such as ["gitea"]', [])

    def policy(self, service: str) -> str:
        """Return the largest automatic update of a service ("patch" or "minor"), or "operator" for none."""
        named = {"gitea": self.gitea, "postgres": self.postgres, "nginx": self.nginx}
        return named.get(service, self.others)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The budget, and the limits of git over ssh; 0 means none.

    AWS mails the contact at 80 % of the budget, and when the forecast exceeds it. sshd refuses a connection while
    ``ssh_logins`` others have not logged in yet. HAProxy, in front of it, refuses one while ``ssh_logins_per_address`` from
    the same address are open. With ``ssh_penalties`` it also refuses an address after its 60th connection within a minute:
    all users behind that address.
    """

    monthly_budget_usd: int = _key(between(0, 1_000_000), "give a whole number of US dollars, or 0 for no budget", 0)
    ssh_logins: int = _key(between(10, 1000), "give a number from 10 to 1000", 200)
    ssh_logins_per_address: int = _key(
        between(0, 1000), "give a number from 1 to 1000, or 0 for no limit of its own", 0
    )
    ssh_penalties: bool = _key(anything, "give true or false", False)


@dataclass(frozen=True, kw_only=True)
class Monitoring:
    """The watch on the host: Prometheus, its exporters and Alertmanager, and where alarms go.

    Alarms go by mail to ``contacts`` (none: the site's contact), and to ``webhook_url``: as Alertmanager's own JSON, or in the
    form of Slack. ``heartbeat_url`` gets a request each minute as long as the watch works. With
    ``grafana_path`` nginx serves Grafana at /-/grafana/. The thresholds of rules follow.
    """

    enabled: bool = _key(anything, "give true or false", True)
    retention_days: int = _key(between(1, 400), "give a number of days from 1 to 400", 15)
    contacts: tuple[str, ...] = _key(
        each(checks.is_email, 10), 'give at most 10 e-mail addresses, such as ["operator@example.org"]', []
    )
    webhook_url: str = _key(or_empty(is_url("http", "https")), "give an http or https URL, or leave the key out", "")
    webhook_format: str = _key(one_of("alertmanager", "slack"), 'give "alertmanager" or "slack"', "alertmanager")
    heartbeat_url: str = _key(or_empty(is_url("http", "https")), "give an http or https URL, or leave the key out", "")
    interval_seconds: int = _key(between(1, 300), "give a number of seconds from 1 to 300", 60)
    grafana_path: bool = _key(anything, "give true or false", False)
    group_wait_seconds: int = _key(between(1, 600), "give a number of seconds from 1 to 600", 30)
    disk_free_percent: int = _key(between(1, 50), "give a percentage from 1 to 50", 10)
    certificate_days: int = _key(between(1, 60), "give a number of days from 1 to 60", 10)
    error_percent: int = _key(between(1, 100), "give a percentage from 1 to 100", 5)
    latency_seconds: int = _key(between(1, 60), "give a number of seconds from 1 to 60", 5)


@dataclass(frozen=True, kw_only=True)
class Site:
    """One complete, valid site."""

    schema: int = _key(one_of(SCHEMA), f"give {SCHEMA}, the schema of this suite")
    name: str = _key(
        matches(_NAME),
        "give 2 to 21 of a-z, 0-9 and -, beginning with a letter but not with sg-, and ending with a letter or digit",
    )
    domain: str = _key(
        checks.is_domain,
        'give the full domain in lower case, for example "git.example.org"',
        explain=checks.explain_domain,
    )
    zone: str = _key(
        checks.is_domain,
        'give the Route 53 zone of the domain, for example "example.org"',
        explain=checks.explain_domain,
    )
    contact: str = _key(
        checks.is_email, "give the e-mail address for alarms and the ACME account", explain=checks.explain_email
    )
    timezone: str = _key(
        checks.is_time_zone, 'give a name of the time zone database, such as "Europe/Berlin"', "Etc/UTC"
    )
    aws: Aws
    network: Network
    host: Host
    gitea: GiteaSettings
    web: Web = field(default_factory=Web)
    tls: Tls = field(default_factory=Tls)
    mail: Mail
    backup: Backup
    update: Update = field(default_factory=Update)
    limits: Limits = field(default_factory=Limits)
    monitoring: Monitoring = field(default_factory=Monitoring)
