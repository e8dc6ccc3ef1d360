"""The adapters, one per external system. Verbs reach external systems through a World; tests give them a World of fakes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from ops.config.schema import Site
from ops.world.aws import Aws
from ops.world.aws_account import AwsAccount
from ops.world.btrfs import Btrfs
from ops.world.clock import Clock
from ops.world.containers import Containers
from ops.world.files import Files
from ops.world.https import Https
from ops.world.journal import Journal
from ops.world.mail import Mail
from ops.world.postgres import Postgres
from ops.world.process import Processes
from ops.world.registry import Registry
from ops.world.restic import Restic


@dataclass
class World:
    """All adapters, each made when it is first used. ``tell`` takes progress lines."""

    site: Site
    tell: Callable[[str], None]
    clock: Clock = field(default_factory=Clock)
    processes: Processes = field(default_factory=Processes)
    postgres: Postgres = field(default_factory=Postgres)
    files: Files = field(default_factory=Files)

    @cached_property
    def aws(self) -> Aws:
        """AWS, in the site's region."""
        return Aws(self.site.aws.region, self.site.aws.endpoint_url)

    @cached_property
    def aws_account(self) -> AwsAccount:
        """The AWS account, in the site's region."""
        return AwsAccount(self.site.aws.region, self.site.aws.endpoint_url)

    @cached_property
    def containers(self) -> Containers:
        """The Docker engine of this process's environment."""
        return Containers()

    @cached_property
    def registry(self) -> Registry:
        """The site's first registry mirror, or Docker Hub."""
        return Registry(next(iter(self.site.host.registry_mirrors), ""))

    @cached_property
    def https(self) -> Https:
        """An HTTPS client that trusts this machine's certificate authorities and the site's own issuer."""
        return Https(self._extra_authorities())

    @cached_property
    def mail(self) -> Mail:
        """The site's mail server, with the same trusted authorities as ``https``."""
        return Mail(self.site.mail.smtp_host, self.site.mail.smtp_port, self._extra_authorities())

    @cached_property
    def btrfs(self) -> Btrfs:
        """The btrfs subvolumes of this machine."""
        return Btrfs(self.processes)

    def restic(self, repository: str, *, password_file: Path, cache: Path, locks_reads: bool = False) -> Restic:
        """A restic repository; with ``locks_reads``, reading takes a lock."""
        return Restic(
            self.processes,
            repository,
            password_file,
            cache,
            locks_reads=locks_reads,
            clock=self.clock,
            tell=self.tell,
        )

    def journal(self, path: Path) -> Journal:
        """The journal in a file."""
        return Journal(path)

    def _extra_authorities(self) -> str:
        named = self.site.tls.acme_ca
        return Path(named).read_text(encoding="utf-8") if named else ""
