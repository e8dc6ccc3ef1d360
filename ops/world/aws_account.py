"""The adapter for the AWS account beyond Terraform's resources: quotas, names in use, rules made by hand, object versions."""

from __future__ import annotations

import functools
import platform
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from ops.config.gitea_settings import NAME_PREFIX
from ops.errors import OpsError, Unavailable
from ops.model import AccountFacts, BucketContents, ObjectVersion
from ops.world import bucket_settings
from ops.world.aws_clients import AwsClients

_ALIVE = ["pending", "running", "stopping", "stopped"]
# Service Quotas' codes: "Running On-Demand Standard (A, C, D, H, I, M, R, T, Z) instances", "EC2-VPC Elastic IPs".
_VCPUS, _ADDRESSES = "L-1216C47A", "L-0263D0A3"
# The record types that a deployment writes at its domain, and those that conflict with them.
_OF_A_SITE = frozenset({"A", "AAAA", "CAA", "CNAME"})
# AWS's names for the machine types of uname.
_ARCHITECTURES = {"x86_64": "x86_64", "aarch64": "arm64"}
_STANDARD_FAMILIES = frozenset("acdhimrtz")
_BATCH = 1000


class AwsAccount:
    """Queries the account in the site's region; removes rules, object versions and buckets."""

    def __init__(self, region: str, endpoint_url: str = "") -> None:
        self._region = region
        self._client = AwsClients(region, endpoint_url).client

    def facts(
        self,
        *,
        name: str,
        domain: str,
        zone: str,
        instance_type: str,
        buckets: tuple[str, ...],
        mail_domains: tuple[str, ...] = (),
    ) -> AccountFacts:
        """Return the facts that decide whether a site called ``name`` can be made in this account.

        ``unknown`` names the questions that AWS did not answer, because a right is missing or the endpoint lacks the service.
        Raises Unavailable when AWS accepts no credentials of this machine.
        """
        identity = self._identity()
        questions = _Questions()
        zones = questions.ask("the hosted zone", lambda: self._zones(zone))
        kind = questions.ask("the instance type", lambda: self._type(instance_type))
        return AccountFacts(
            identity=identity,
            region_open=questions.ask("the region", self._region_open),
            zone_found=None if zones is None else bool(zones),
            vcpus_wanted=int(kind["VCpuInfo"]["DefaultVCpus"]) if kind else None,
            machine=None if kind is None else self._against(kind),
            records=tuple(questions.ask("the domain's records", lambda: self._records(zones or (), domain)) or ()),
            vcpus_free=questions.ask("the quota of vCPUs", lambda: self._quota(_VCPUS) - self._vcpus_in_use()),
            addresses_free=questions.ask("the quota of addresses", lambda: self._quota(_ADDRESSES) - self._addresses()),
            mail_to_anyone=questions.ask("SES's sandbox", self._mail_to_anyone),
            mail_identities=questions.ask("SES's identities", lambda: self._mail_identities(mail_domains)),
            buckets={bucket: self._bucket(bucket) for bucket in buckets},
            namesakes=tuple(questions.ask("the names that are taken", lambda: self._namesakes(name)) or ()),
            unknown=tuple(questions.unanswered),
        )

    def attached_instance(self, card: str) -> str:
        """Return the instance that a network interface is attached to, or "" without an attachment or interface."""
        return str(self._answered(card, lambda: self._holder(card)))

    def mail_identities(self, domains: tuple[str, ...]) -> tuple[str, ...]:
        """Return those of the domains for which SES has an identity in this region, verified or not."""
        return tuple(self._answered("SES's identities", lambda: self._mail_identities(domains)))

    def rules(self, group: str) -> dict[str, str]:
        """Return the rules of a security group by id, each as text: ``ingress tcp 8080 from 0.0.0.0/0``."""
        pages = self._client("ec2").get_paginator("describe_security_group_rules")
        chosen = [{"Name": "group-id", "Values": [group]}]
        found = self._answered("security groups", lambda: list(pages.paginate(Filters=chosen)))
        return {rule["SecurityGroupRuleId"]: _text(rule) for page in found for rule in page["SecurityGroupRules"]}

    def revoke(self, group: str, rule: str, *, egress: bool) -> None:
        """Remove a rule from a security group."""
        client = self._client("ec2")
        verb = client.revoke_security_group_egress if egress else client.revoke_security_group_ingress
        self._answered("security groups", lambda: verb(GroupId=group, SecurityGroupRuleIds=[rule]))

    def missing_settings(self, bucket: str) -> tuple[str, ...]:
        """Return which of versioning, encryption, public access block and TLS-only policy a bucket lacks."""
        found = self._answered(f"bucket {bucket}", lambda: bucket_settings.missing(self._client("s3"), bucket))
        return tuple(found)

    def contents(self, bucket: str) -> BucketContents:
        """Return what a bucket contains; zeros when it does not exist."""
        pages = list(self._versions(bucket))
        versions = [each for page in pages for each in page.get("Versions", [])]
        markers = sum(len(page.get("DeleteMarkers", [])) for page in pages)
        newest = max((each["LastModified"] for each in versions), default=None)
        days = self._lock_days(bucket) if newest else 0
        ends = newest + timedelta(days=days) if newest and days else None
        return BucketContents(len(versions), markers, sum(each["Size"] for each in versions), ends)

    def history(self, bucket: str) -> Iterator[ObjectVersion]:
        """Return every version and every delete marker of a bucket's objects."""
        for page in self._versions(bucket):
            for each in page.get("Versions", []):
                yield _version(each, marker=False)
            for each in page.get("DeleteMarkers", []):
                yield _version(each, marker=True)

    def hidden_keys(self, bucket: str, prefix: str) -> tuple[str, ...]:
        """Return the keys with that ``prefix`` whose latest version is a delete marker, sorted."""
        pages = self._versions(bucket, prefix)
        found = (each for page in pages for each in page.get("DeleteMarkers", []) if each["IsLatest"])
        return tuple(sorted(each["Key"] for each in found))

    def restore_version(self, bucket: str, key: str, version: str) -> None:
        """Make an older version of an object the latest again, by copying it."""
        origin = {"Bucket": bucket, "Key": key, "VersionId": version}
        # S3 copies an object onto itself only if something changes: here its metadata, which is empty before and after.
        request = {"CopySource": origin, "MetadataDirective": "REPLACE", "ChecksumAlgorithm": "SHA256"}
        self._answered(
            f"{key} in bucket {bucket}", lambda: self._client("s3").copy_object(Bucket=bucket, Key=key, **request)
        )

    def _lock_days(self, bucket: str) -> int:
        try:
            found = self._client("s3").get_object_lock_configuration(Bucket=bucket)["ObjectLockConfiguration"]
        except ClientError:
            return 0
        return int(found.get("Rule", {}).get("DefaultRetention", {}).get("Days", 0))

    def empty(self, bucket: str, tell: Callable[[str], None]) -> int:
        """Delete every version and every delete marker of a bucket and return how many there were; reports progress.

        Raises OpsError with the first version that AWS refuses to delete.
        """
        client, done = self._client("s3"), 0
        while batch := self._some_versions(bucket):
            request = {"Bucket": bucket, "Delete": {"Objects": batch, "Quiet": True}}
            answer = self._answered(f"bucket {bucket}", functools.partial(client.delete_objects, **request))
            if refused := answer.get("Errors"):
                first = refused[0]
                raise OpsError(
                    f"{first['Key']} of {bucket}: {first['Code']}",
                    "wait until its lock ends, then run the command again",
                )
            done += len(batch)
            tell(f"{bucket}: {done} versions deleted")
        return done

    def delete_bucket(self, bucket: str) -> None:
        """Delete an empty bucket; a bucket that does not exist is not an error."""
        try:
            self._client("s3").delete_bucket(Bucket=bucket)
        except ClientError as error:
            if error.response["Error"]["Code"] != "NoSuchBucket":
                raise OpsError(
                    f"bucket {bucket} cannot be deleted: {error}",
                    "check what the bucket contains, then run the command again",
                ) from error

    def delete_secrets(self, prefix: str) -> tuple[str, ...]:
        """Delete the secrets whose names begin with ``prefix`` at once, and return their names."""
        client = self._client("secretsmanager")
        found: list[dict[str, Any]] = self._answered(f"secrets {prefix}*", lambda: self._secrets(prefix))
        for each in found:
            request = {"SecretId": each["Name"], "ForceDeleteWithoutRecovery": True}
            self._answered(f"secret {each['Name']}", functools.partial(client.delete_secret, **request))
        return tuple(each["Name"] for each in found)

    def _identity(self) -> str:
        try:
            return str(self._client("sts").get_caller_identity()["Arn"])
        except (BotoCoreError, ClientError) as error:
            raise Unavailable(
                f"AWS accepts no credentials of this machine: {error}",
                "run aws sso login, or set AWS_PROFILE to an administrator's profile",
            ) from error

    def _region_open(self) -> bool:
        try:
            (region,) = self._client("ec2").describe_regions(RegionNames=[self._region])["Regions"]
        except ClientError as error:
            if error.response["Error"]["Code"] in {"InvalidParameterValue", "AuthFailure", "OptInRequired"}:
                return False
            raise
        return str(region.get("OptInStatus")) != "not-opted-in"

    def _zones(self, zone: str) -> list[str]:
        """The ids of the public hosted zones of that name."""
        found = self._client("route53").list_hosted_zones_by_name(DNSName=zone)["HostedZones"]
        return [each["Id"] for each in found if each["Name"] == f"{zone}." and not each["Config"].get("PrivateZone")]

    def _records(self, zones: Iterable[str], domain: str) -> list[str]:
        pages = self._client("route53").get_paginator("list_resource_record_sets")
        return [
            f"{each['Type']} {domain}"
            for zone in zones
            for page in pages.paginate(HostedZoneId=zone)
            for each in page["ResourceRecordSets"]
            if each["Name"] == f"{domain}." and each["Type"] in _OF_A_SITE
        ]

    def _type(self, instance_type: str) -> dict[str, Any]:
        """EC2's description of an instance type; empty when there is no type of that name."""
        try:
            (found,) = self._client("ec2").describe_instance_types(InstanceTypes=[instance_type])["InstanceTypes"]
        except ClientError as error:
            if error.response["Error"]["Code"] != "InvalidInstanceType":
                raise
            return {}
        return dict(found)

    def _against(self, kind: dict[str, Any]) -> str:
        if not kind:
            return f"is not an instance type of {self._region}"
        architectures = kind["ProcessorInfo"]["SupportedArchitectures"]
        built = _ARCHITECTURES.get(platform.machine(), platform.machine())
        if built not in architectures:
            return f"is {', '.join(architectures)}, but the ops image is built on this machine, which is {built}"
        # Only Nitro instances show a volume under its id (Amazon EC2 User Guide, "Map NVMe volumes to device names").
        nitro = kind.get("Hypervisor", "nitro") == "nitro"
        return "" if nitro else "is not a Nitro instance, so its disks do not show their volume ids"

    def _quota(self, code: str) -> int:
        found = self._client("service-quotas").get_service_quota(ServiceCode="ec2", QuotaCode=code)
        return int(found["Quota"]["Value"])

    def _vcpus_in_use(self) -> int:
        chosen = [{"Name": "instance-state-name", "Values": ["pending", "running"]}]
        standard = [each for each in self._instances(chosen) if each["InstanceType"][0] in _STANDARD_FAMILIES]
        return sum(each["CpuOptions"]["CoreCount"] * each["CpuOptions"]["ThreadsPerCore"] for each in standard)

    def _addresses(self) -> int:
        return len(self._client("ec2").describe_addresses()["Addresses"])

    def _mail_to_anyone(self) -> bool:
        return bool(self._client("sesv2").get_account()["ProductionAccessEnabled"])

    def _mail_identities(self, domains: tuple[str, ...]) -> tuple[str, ...]:
        # A list, because LocalStack tells of verification attributes of identities that it does not have.
        pages = self._client("ses").get_paginator("list_identities").paginate(IdentityType="Domain")
        existing = {each for page in pages for each in page["Identities"]}
        return tuple(each for each in domains if each in existing)

    def _bucket(self, bucket: str) -> str:
        try:
            self._client("s3").head_bucket(Bucket=bucket)
        except ClientError as error:
            return "free" if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404 else "foreign"
        return "ours"

    def _namesakes(self, name: str) -> list[str]:
        chosen = [{"Name": "tag:Site", "Values": [name]}, {"Name": "instance-state-name", "Values": _ALIVE}]
        found = [f"instance {each['InstanceId']}" for each in self._instances(chosen)]
        # The secrets of settings are stored before the first deployment.
        found += [
            f"secret {each['Name']}" + (" (being deleted)" if "DeletedDate" in each else "")
            for each in self._secrets(f"{name}/")
            if not each["Name"].startswith(f"{name}/{NAME_PREFIX}")
        ]
        try:
            found.append(f"role {self._client('iam').get_role(RoleName=f'{name}-host')['Role']['RoleName']}")
        except ClientError as error:
            if error.response["Error"]["Code"] != "NoSuchEntity":
                raise
        return found

    def _holder(self, card: str) -> str:
        chosen = [{"Name": "network-interface-id", "Values": [card]}]
        found = self._client("ec2").describe_network_interfaces(Filters=chosen)["NetworkInterfaces"]
        return next((each["Attachment"].get("InstanceId", "") for each in found if "Attachment" in each), "")

    def _instances(self, chosen: list[dict[str, Any]]) -> list[dict[str, Any]]:
        pages = self._client("ec2").get_paginator("describe_instances").paginate(Filters=chosen)
        return [one for page in pages for each in page["Reservations"] for one in each["Instances"]]

    def _secrets(self, prefix: str) -> list[dict[str, Any]]:
        pages = self._client("secretsmanager").get_paginator("list_secrets")
        chosen = [{"Key": "name", "Values": [prefix]}]
        found = pages.paginate(IncludePlannedDeletion=True, Filters=chosen)
        return [each for page in found for each in page["SecretList"] if each["Name"].startswith(prefix)]

    def _versions(self, bucket: str, prefix: str = "") -> Iterator[dict[str, Any]]:
        pages = self._client("s3").get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=prefix)
        try:
            yield from pages
        except ClientError as error:
            if error.response["Error"]["Code"] != "NoSuchBucket":
                raise OpsError(
                    f"bucket {bucket} cannot be listed: {error}", "check this identity's permissions for it"
                ) from error
        except BotoCoreError as error:
            raise Unavailable(
                f"bucket {bucket} is out of reach: {error}", "check network and credentials, then run the command again"
            ) from error

    def _some_versions(self, bucket: str) -> list[dict[str, str]]:
        page = next(iter(self._versions(bucket)), {})
        found = [*page.get("Versions", []), *page.get("DeleteMarkers", [])][:_BATCH]
        return [{"Key": each["Key"], "VersionId": each["VersionId"]} for each in found]

    def _answered(self, what: str, question: Callable[[], Any]) -> Any:
        try:
            return question()
        except ClientError as error:
            raise OpsError(
                f"{what}: AWS says {error.response['Error']['Code']}", "check this identity's permissions for it"
            ) from error
        except BotoCoreError as error:
            raise Unavailable(
                f"{what}: AWS is out of reach: {error}", "check network and credentials, then run the command again"
            ) from error


class _Questions:
    """Asks questions and notes those that AWS does not answer."""

    def __init__(self) -> None:
        self.unanswered: list[str] = []

    def ask(self, what: str, question: Callable[[], Any]) -> Any:
        try:
            return question()
        except ClientError as error:
            self.unanswered.append(f"{what}: AWS answers {error.response['Error']['Code']}")
        except BotoCoreError as error:
            self.unanswered.append(f"{what}: {error}")
        return None


def _version(listed: dict[str, Any], *, marker: bool) -> ObjectVersion:
    key, version, modified = listed["Key"], listed["VersionId"], listed["LastModified"]
    return ObjectVersion(
        key, version, modified, listed["IsLatest"], marker, listed.get("ETag", ""), listed.get("Size", 0)
    )


def _text(rule: dict[str, Any]) -> str:
    way, whom = ("egress", "to") if rule["IsEgress"] else ("ingress", "from")
    peer = rule.get("CidrIpv4") or rule.get("CidrIpv6") or rule.get("PrefixListId") or "another group"
    protocol = "all protocols" if rule["IpProtocol"] == "-1" else rule["IpProtocol"]
    first, last = rule.get("FromPort", -1), rule.get("ToPort", -1)
    ports = "" if first == -1 else f" {first}" if first == last else f" {first}-{last}"
    return f"{way} {protocol}{ports} {whom} {peer}"
