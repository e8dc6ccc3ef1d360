"""The variables of Terraform, Ansible and Compose, all derived from the site file."""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ops.config import monitoring_files
from ops.config.paths import BACKUP_DIRECTORY, DATA_DIRECTORY, HOST_SITE_FILE, SECRETS_DIRECTORY
from ops.config.schema import Site

# HAProxy compares numbers: more than any address has.
_UNLIMITED = 1_000_000
# With limits.ssh_penalties.
_PENALIZED_PER_MINUTE = 60


def terraform_variables(site: Site, ssh_public_key: str) -> dict[str, Any]:
    """Return the value of every variable of infra/variables.tf."""
    return {
        "name": site.name,
        "domain": site.domain,
        "zone": site.zone,
        "region": site.aws.region,
        "network_cidr": site.network.cidr,
        "ipv6": site.network.ipv6,
        "flow_logs": site.network.flow_logs,
        "admin_cidrs": list(site.network.admin_cidrs),
        "instance_type": site.host.instance_type,
        "ami": site.host.ami,
        "root_volume_gib": site.host.root_gib,
        "data_volume_gib": site.host.data_gib,
        "ssh_public_key": ssh_public_key.strip(),
        "host_address": site.host.address,
        "git_ssh_port": site.gitea.ssh_port,
        "backup_bucket": site.backup.bucket,
        "backup_lock_days": site.backup.lock_days,
        "replica_region": site.backup.replica_region,
        "mail_sender": site.mail.sender,
        "manage_mail_identity": site.mail.manage_identity,
        "contact": site.contact,
        "monthly_budget_usd": site.limits.monthly_budget_usd,
    }


def compose_environment(site: Site, images: Mapping[str, str]) -> dict[str, str]:
    """Return every variable of the site's Compose files; ``images`` maps a variable such as GITEA_IMAGE to a pinned reference."""
    return {
        "DOMAIN": site.domain,
        "CONTACT": site.contact,
        "GITEA_SSH_PORT": str(site.gitea.ssh_port),
        "SSH_LOGINS": str(site.limits.ssh_logins),
        "SSH_CONNECTIONS_PER_ADDRESS": str(site.limits.ssh_logins_per_address or _UNLIMITED),
        "SSH_CONNECTIONS_PER_MINUTE": str(_PENALIZED_PER_MINUTE if site.limits.ssh_penalties else _UNLIMITED),
        "HOLD_SECONDS": str(site.web.hold_seconds),
        "UPLOAD_LIMIT_MIB": str(site.gitea.upload_limit_mib),
        "TRANSFER_LIMIT_MIB": str(site.gitea.transfer_limit_mib),
        "MAIL_SENDER": site.mail.sender,
        "SMTP_HOST": site.mail.smtp_host,
        "SMTP_PORT": str(site.mail.smtp_port),
        "ACME_DIRECTORY": site.tls.acme_directory,
        "DATA_DIRECTORY": DATA_DIRECTORY,
        "SECRETS_DIRECTORY": SECRETS_DIRECTORY,
        "GRAFANA_PATH": "public" if monitoring_files.serves_grafana(site) else "private",
        **(monitoring_files.compose_variables(site) if site.monitoring.enabled else {}),
        **images,
    }


def ops_environment(site: Site) -> dict[str, str]:
    """Return the environment of ``ops`` on the host: region and endpoint of AWS, and the path of the site file."""
    endpoint = {"AWS_ENDPOINT_URL": site.aws.endpoint_url} if site.aws.endpoint_url else {}
    return {"AWS_REGION": site.aws.region, "AWS_DEFAULT_REGION": site.aws.region, "OPS_SITE": HOST_SITE_FILE} | endpoint


def host_document(site: Site) -> dict[str, Any]:
    """Return the site file of the host's own ``ops``, without ``tls.acme_ca``: the host's trust store has those certificates."""
    return dataclasses.asdict(dataclasses.replace(site, tls=dataclasses.replace(site.tls, acme_ca="")))


def open_ports(site: Site) -> list[int]:
    """Return the TCP ports that are open to all addresses: 80, 443 and git over ssh."""
    return [80, 443, site.gitea.ssh_port]


def volume_device(volume_id: str) -> str:
    """Return the device path of an EBS volume on a Nitro instance (EC2 User Guide, "Map NVMe volumes to device names")."""
    return f"/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_{volume_id.replace('-', '')}"


def ansible_variables(
    site: Site,
    images: Mapping[str, str],
    *,
    data_volume_id: str,
    compose_source: Path,
    image_archive: Path,
    image_id: str,
    image_name: str,
) -> dict[str, Any]:
    """Return the variables of every role in playbooks/roles; each role declares its own in defaults/main.yml."""
    return {
        "base_hostname": site.domain.split(".")[0],
        "base_timezone": site.timezone,
        "base_reboot_time": site.host.reboot_time,
        "base_ssh_sources": list(site.network.admin_cidrs),
        "base_ssh_port": site.host.ssh_port,
        "base_open_ports": open_ports(site),
        "base_data_device": site.host.data_device or volume_device(data_volume_id),
        "docker_registry_mirrors": list(site.host.registry_mirrors),
        "docker_images": sorted(images.values()),
        "gitea_compose_source": str(compose_source),
        "gitea_environment": compose_environment(site, images),
        "gitea_monitoring": site.monitoring.enabled,
        "gitea_generated": {
            path: base64.b64encode(text.encode()).decode()
            for path, text in monitoring_files.files(site, compose_source).items()
        },
        "gitea_ports": open_ports(site),
        "gitea_drain_seconds": site.web.drain_seconds,
        "gitea_acme_ca": Path(site.tls.acme_ca).read_text(encoding="utf-8") if site.tls.acme_ca else "",
        "gitea_data_directory": DATA_DIRECTORY,
        "gitea_secrets_directory": SECRETS_DIRECTORY,
        "ops_image_archive": str(image_archive),
        "ops_image_id": image_id,
        "ops_image_reference": image_name,
        "ops_facts": host_document(site),
        "ops_environment": ops_environment(site),
        "ops_backup_directory": BACKUP_DIRECTORY,
        "ops_backup_minutes": site.backup.every_minutes,
    }
