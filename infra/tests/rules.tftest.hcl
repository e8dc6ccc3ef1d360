# The infrastructure's rules, checked on a mocked provider: no account, no network. tests/integration/test_infra_rules.py runs
# them in a copy of infra/ that has without_values/ as the secrets module.

mock_provider "aws" {
  # Computed values are mocked at plan time already, so that assertions on a plan can use them.
  override_during = plan

  mock_data "aws_availability_zones" {
    defaults = { names = ["eu-central-1c", "eu-central-1b", "eu-central-1a"] }
  }
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }
  mock_resource "aws_vpc" {
    defaults = { ipv6_cidr_block = "2001:db8:40:aa00::/56" }
  }
  mock_resource "aws_network_interface" {
    defaults = { ipv6_addresses = ["2001:db8:40:aa00::1a"] }
  }
  mock_resource "aws_cloudwatch_log_group" {
    defaults = { arn = "arn:aws:logs:eu-central-1:123456789012:log-group:/vpc/test" }
  }
  mock_resource "aws_s3_bucket" {
    defaults = { arn = "arn:aws:s3:::example-org-gitea-backup" }
  }
  mock_resource "aws_secretsmanager_secret" {
    defaults = { arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:test/smtp-credentials" }
  }
  mock_resource "aws_iam_role" {
    defaults = { arn = "arn:aws:iam::123456789012:role/test" }
  }
  mock_resource "aws_ses_domain_identity" {
    defaults = { arn = "arn:aws:ses:eu-central-1:123456789012:identity/example.org" }
  }
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{}" }
  }
  mock_data "aws_partition" {
    defaults = { partition = "aws" }
  }
  mock_resource "aws_ses_domain_dkim" {
    defaults = { dkim_tokens = ["a", "b", "c"] }
  }
}

mock_provider "aws" {
  alias           = "replica"
  override_during = plan

  mock_resource "aws_s3_bucket" {
    defaults = { arn = "arn:aws:s3:::example-org-gitea-backup-replica" }
  }
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{}" }
  }
}

variables {
  manage_mail_identity = true
  name                 = "test"
  domain               = "git.example.org"
  zone                 = "example.org"
  region               = "eu-central-1"
  network_cidr         = "10.40.0.0/16"
  ipv6                 = false
  flow_logs            = false
  admin_cidrs          = ["203.0.113.7/32"]
  instance_type        = "t3.medium"
  ami                  = "ami-0123456789abcdef0"
  root_volume_gib      = 30
  data_volume_gib      = 50
  ssh_public_key       = "ssh-ed25519 AAAA test"
  host_address         = ""
  git_ssh_port         = 2222
  backup_bucket        = "example-org-gitea-backup"
  backup_lock_days     = 30
  replica_region       = ""
  mail_sender          = "gitea@example.org"
  contact              = "operator@example.org"
  monthly_budget_usd   = 0
}

# One plan for all defaults: a plan takes two seconds, an assertion none.
run "a_site_with_the_defaults" {
  command = plan

  # Only the web and git are open to the world.
  assert {
    condition     = toset([for rule in aws_vpc_security_group_ingress_rule.open : rule.from_port]) == toset([80, 443, 2222])
    error_message = "another port is open to the world"
  }

  assert {
    condition     = alltrue([for rule in aws_vpc_security_group_ingress_rule.open : rule.from_port == rule.to_port])
    error_message = "a range of ports is open"
  }

  assert {
    condition     = alltrue([for rule in aws_vpc_security_group_ingress_rule.ssh : rule.cidr_ipv4 == "203.0.113.7/32"])
    error_message = "another network may reach the administrators' ssh port"
  }

  # Containers cannot reach the host's metadata, and its disks are encrypted.
  assert {
    condition     = one(aws_instance.host.metadata_options).http_tokens == "required" && one(aws_instance.host.metadata_options).http_put_response_hop_limit == 1
    error_message = "IMDSv2 is not required, or containers can reach it"
  }

  assert {
    condition     = one(aws_instance.host.root_block_device).encrypted && one(aws_instance.host.root_block_device).volume_type == "gp3"
    error_message = "the root disk is not an encrypted gp3"
  }

  assert {
    condition     = one(aws_instance.host.root_block_device).tags["Name"] == "test-root" && aws_ebs_volume.data.tags["Name"] == "test-data"
    error_message = "the disks have other names"
  }

  assert {
    condition     = aws_ebs_volume.data.availability_zone == aws_subnet.public["a"].availability_zone && aws_volume_attachment.data.skip_destroy
    error_message = "the data disk is in another zone than the host, or Terraform would detach it from a running host"
  }

  assert {
    condition     = aws_ebs_volume.data.encrypted && aws_ebs_volume.data.size == 50
    error_message = "the data disk is not encrypted, or has another size than the variable"
  }

  # The role is limited to the site's own resources.
  assert {
    condition     = alltrue([for statement in data.aws_iam_policy_document.host.statement : length(setintersection(statement.actions, ["s3:DeleteObjectVersion", "s3:BypassGovernanceRetention", "s3:*", "*"])) == 0])
    error_message = "the host could delete versions of backups"
  }

  assert {
    condition     = alltrue([for statement in data.aws_iam_policy_document.host.statement : statement.effect != "Deny" && !contains(statement.resources, "*")])
    error_message = "a statement is not limited to resources"
  }

  assert {
    condition     = toset(flatten([for statement in data.aws_iam_policy_document.host.statement : statement.resources if statement.sid == "ReadOwnSecrets"])) == toset(concat(module.secrets.arns, [aws_secretsmanager_secret.smtp.arn, local.setting_secrets])) && endswith(local.setting_secrets, ":secret:${var.name}/setting-*")
    error_message = "the host may read other secrets than its own, or not all of its own"
  }

  assert {
    condition     = toset(flatten([for statement in data.aws_iam_policy_document.host.statement : [for resource in statement.resources : startswith(resource, module.backup.arn)] if strcontains(statement.sid, "Backups")])) == toset([true])
    error_message = "the host may use other buckets"
  }

  assert {
    condition     = toset(flatten([for statement in data.aws_iam_policy_document.host.statement : statement.resources if contains(statement.actions, "s3:DeleteObject")])) == toset(["${module.backup.arn}/restic/locks/*"])
    error_message = "the host may delete more than restic's locks"
  }

  # Session Manager's agent may open channels, and read no parameter of the account.
  assert {
    condition     = one(data.aws_iam_policy_document.session_manager.statement).actions == toset(["ssm:UpdateInstanceInformation", "ssmmessages:CreateControlChannel", "ssmmessages:CreateDataChannel", "ssmmessages:OpenControlChannel", "ssmmessages:OpenDataChannel"])
    error_message = "the host may do more in Systems Manager than Session Manager needs, or less"
  }

  assert {
    condition     = aws_iam_role_policy.session_manager.name == "session-manager" && aws_iam_role_policy.session_manager.policy == data.aws_iam_policy_document.session_manager.json
    error_message = "the role does not have the policy for Session Manager"
  }

  # The mail user may only send as the site.
  assert {
    condition     = one(data.aws_iam_policy_document.mail.statement).actions == toset(["ses:SendRawEmail"]) && one(data.aws_iam_policy_document.mail.statement).resources == toset(["arn:aws:ses:eu-central-1:123456789012:identity/example.org"])
    error_message = "the mail user may do more than send mail of this domain"
  }

  assert {
    condition     = one(one(data.aws_iam_policy_document.mail.statement).condition).variable == "ses:FromAddress" && one(one(data.aws_iam_policy_document.mail.statement).condition).values == tolist(["gitea@example.org"])
    error_message = "the mail user may use other sender addresses"
  }

  assert {
    condition     = aws_iam_user_policy.mail.user == "test-mail" && alltrue([for statement in data.aws_iam_policy_document.host.statement : alltrue([for action in statement.actions : !startswith(action, "ses:")])])
    error_message = "another identity may send mail, or the mail user has no policy"
  }

  # The subnets are in two zones of the account.
  assert {
    condition     = { for key, subnet in aws_subnet.public : key => "${subnet.availability_zone} ${subnet.cidr_block}" } == { a = "eu-central-1a 10.40.0.0/20", b = "eu-central-1b 10.40.16.0/20" }
    error_message = "the subnets have other zones or networks"
  }

  # No IPv6, no flow logs and no budget by default.
  assert {
    condition     = !aws_vpc.site.assign_generated_ipv6_cidr_block && alltrue([for subnet in aws_subnet.public : subnet.ipv6_cidr_block == null || subnet.ipv6_cidr_block == ""]) && length(aws_route53_record.site_ipv6) == 0
    error_message = "the site has IPv6 by default"
  }

  assert {
    condition     = toset([for rule in aws_vpc_security_group_ingress_rule.open : rule.cidr_ipv4]) == toset(["0.0.0.0/0"]) && length(aws_vpc_security_group_ingress_rule.open_ipv6) + length(aws_vpc_security_group_egress_rule.all_ipv6) == 0
    error_message = "a security group rule allows IPv6, or an IPv4 rule another network"
  }

  assert {
    condition     = alltrue([for route in aws_route_table.public.route : route.cidr_block == "0.0.0.0/0"])
    error_message = "the route table has a route for IPv6"
  }

  assert {
    condition     = length(aws_flow_log.site) + length(aws_cloudwatch_log_group.flow_logs) + length(aws_iam_role.flow_logs) == 0
    error_message = "there are resources for flow logs by default"
  }

  assert {
    condition     = length(aws_budgets_budget.site) == 0
    error_message = "there is a budget by default"
  }

  # EC2 recovers the host when its hardware fails.
  assert {
    condition     = aws_cloudwatch_metric_alarm.recovery.metric_name == "StatusCheckFailed_System" && aws_cloudwatch_metric_alarm.recovery.namespace == "AWS/EC2" && keys(aws_cloudwatch_metric_alarm.recovery.dimensions) == tolist(["InstanceId"])
    error_message = "the alarm watches another metric"
  }

  assert {
    condition     = aws_cloudwatch_metric_alarm.recovery.alarm_actions == toset(["arn:aws:automate:eu-central-1:ec2:recover"]) && aws_cloudwatch_metric_alarm.recovery.threshold == 1 && aws_cloudwatch_metric_alarm.recovery.comparison_operator == "GreaterThanOrEqualToThreshold"
    error_message = "the alarm does not recover the host"
  }

  # The zone's DMARC policy is its owner's.
  assert {
    condition     = length(aws_route53_record.dmarc) == 0
    error_message = "there is a DMARC policy for the whole zone"
  }

  # The secrets are those that the services read.
  assert {
    condition     = toset(keys(output.secret_names)) == toset(["admin-password", "database-password", "gitea-internal-token", "gitea-jwt-secret", "gitea-secret-key", "grafana-password", "metrics-token", "monitoring-password", "restic-password", "smtp-credentials"])
    error_message = "a secret is missing, or there is an unused one"
  }
}

# All options at once.
run "a_site_with_every_option" {
  command = plan

  variables {
    ipv6               = true
    flow_logs          = true
    replica_region     = "eu-west-1"
    monthly_budget_usd = 100
    mail_sender        = "gitea@git.example.org"
  }

  # With IPv6 the host keeps its address, and has an AAAA record and the same open ports.
  assert {
    condition     = aws_vpc.site.assign_generated_ipv6_cidr_block && { for key, subnet in aws_subnet.public : key => subnet.ipv6_cidr_block } == { a = "2001:db8:40:aa00::/64", b = "2001:db8:40:aa01::/64" }
    error_message = "the subnets have no IPv6 networks, or others"
  }

  assert {
    condition     = aws_network_interface.host.ipv6_address_count == 1 && one(aws_route53_record.site_ipv6).records == toset(["2001:db8:40:aa00::1a"]) && one(aws_route53_record.site_ipv6).type == "AAAA"
    error_message = "the AAAA record differs from the host's address"
  }

  assert {
    condition     = toset([for rule in aws_vpc_security_group_ingress_rule.open_ipv6 : "${rule.cidr_ipv6} ${rule.from_port}-${rule.to_port}"]) == toset(["::/0 80-80", "::/0 443-443", "::/0 2222-2222"])
    error_message = "IPv6 opens other ports than IPv4"
  }

  assert {
    condition     = one(aws_vpc_security_group_egress_rule.all_ipv6).cidr_ipv6 == "::/0" && contains([for route in aws_route_table.public.route : route.ipv6_cidr_block], "::/0")
    error_message = "there is no outgoing IPv6 traffic"
  }

  # Flow logs are kept for thirty days, and their role may write nothing else.
  assert {
    condition     = one(aws_flow_log.site).vpc_id == aws_vpc.site.id && one(aws_flow_log.site).traffic_type == "ALL" && one(aws_flow_log.site).log_destination == one(aws_cloudwatch_log_group.flow_logs).arn && one(aws_flow_log.site).iam_role_arn == one(aws_iam_role.flow_logs).arn
    error_message = "the flow log omits traffic, or writes to another log group"
  }

  assert {
    condition     = one(aws_cloudwatch_log_group.flow_logs).retention_in_days == 30
    error_message = "flow logs are not kept for thirty days"
  }

  assert {
    condition     = alltrue(flatten([for statement in one(data.aws_iam_policy_document.flow_logs).statement : [for resource in statement.resources : resource == "${one(aws_cloudwatch_log_group.flow_logs).arn}:*"]]))
    error_message = "the role may write to other log groups"
  }

  # The replica has the same lock, and the replication role is limited to the two buckets.
  assert {
    condition     = module.replica[0].name == "example-org-gitea-backup-replica" && module.replica[0].lock_days == module.backup.lock_days
    error_message = "the replica has another name or another lock"
  }

  assert {
    condition     = one(aws_s3_bucket_replication_configuration.backup).bucket == module.backup.name && one(one(one(aws_s3_bucket_replication_configuration.backup).rule).destination).bucket == module.replica[0].arn && one(one(aws_s3_bucket_replication_configuration.backup).rule).status == "Enabled"
    error_message = "backups are not replicated"
  }

  assert {
    condition     = alltrue([for statement in one(data.aws_iam_policy_document.replication).statement : alltrue([for resource in statement.resources : startswith(resource, statement.sid == "WriteTheReplica" ? module.replica[0].arn : module.backup.arn)])])
    error_message = "the replication role may use other buckets"
  }

  assert {
    condition     = alltrue(flatten([for statement in one(data.aws_iam_policy_document.replication).statement : [for action in statement.actions : !can(regex("[*]|Delete(Object|Version)|PutObject", action))]]))
    error_message = "the replication role may do more than replicate"
  }

  assert {
    condition     = one(one(data.aws_iam_policy_document.replication_is_s3.statement).principals).identifiers == toset(["s3.amazonaws.com"]) && one(one(data.aws_iam_policy_document.replication_is_s3.statement).condition).variable == "aws:SourceAccount"
    error_message = "another principal may assume the replication role"
  }

  # Objects that are older than the replica can be copied to it, and the secrets without which it cannot be read are there.
  assert {
    condition     = alltrue(flatten([for statement in one(data.aws_iam_policy_document.replication_batch).statement : [for resource in statement.resources : startswith(resource, module.backup.arn)]])) && toset(flatten([for statement in one(data.aws_iam_policy_document.replication_batch).statement : statement.actions])) == toset(["s3:GetReplicationConfiguration", "s3:InitiateReplication", "s3:PutInventoryConfiguration"])
    error_message = "the role of Batch Replication may do more than copy older backups, or less"
  }

  assert {
    condition     = one(aws_iam_role.replication_batch).name == "test-replication-batch" && one(one(data.aws_iam_policy_document.batch_is_s3.statement).principals).identifiers == toset(["batchoperations.s3.amazonaws.com"])
    error_message = "another principal may assume the role of Batch Replication, or it has another name than in the command"
  }

  assert {
    condition     = local.secret_replicas == tomap({ "gitea-secret-key" = "eu-west-1", "restic-password" = "eu-west-1" })
    error_message = "the second region lacks a secret that a restore there needs, or has others"
  }

  # The budget notifies the contact before it is exceeded.
  assert {
    condition     = one(aws_budgets_budget.site).limit_amount == "100" && one(aws_budgets_budget.site).limit_unit == "USD" && one(aws_budgets_budget.site).time_unit == "MONTHLY"
    error_message = "the budget has another limit, unit or period"
  }

  assert {
    condition     = toset([for each in one(aws_budgets_budget.site).notification : "${each.notification_type} ${each.threshold} ${each.threshold_type} ${join(" ", each.subscriber_email_addresses)}"]) == toset(["ACTUAL 80 PERCENTAGE operator@example.org", "FORECASTED 100 PERCENTAGE operator@example.org"])
    error_message = "the budget's notifications differ"
  }

  # A mail domain of the site's own has a DMARC policy.
  assert {
    condition     = one(aws_route53_record.dmarc).name == "_dmarc.git.example.org" && startswith(one(one(aws_route53_record.dmarc).records), "v=DMARC1; p=quarantine")
    error_message = "there is no DMARC record, or another policy"
  }

  assert {
    condition     = aws_route53_record.bounces["TXT"].name == "test-bounces.git.example.org"
    error_message = "bounces return to another domain"
  }
}

# Values other than the defaults.
run "a_site_with_its_host_outside_aws_and_without_ssh_for_administrators" {
  command = plan

  variables {
    host_address     = "192.0.2.1"
    ipv6             = true
    admin_cidrs      = []
    backup_lock_days = 7
  }

  # The A record has host_address.
  assert {
    condition     = aws_route53_record.site.records == toset(["192.0.2.1"])
    error_message = "the domain points to another address"
  }

  # With an address outside AWS there is no AAAA record for the instance.
  assert {
    condition     = length(aws_route53_record.site_ipv6) == 0
    error_message = "the domain would point to two machines"
  }

  # An empty list of administrators' networks closes the ssh port.
  assert {
    condition     = length(aws_vpc_security_group_ingress_rule.ssh) == 0
    error_message = "port 22 is open"
  }

  # The lock has the site's length, and without a replica there are no resources for one.
  assert {
    condition     = module.backup.lock_days == 7 && module.backup.name == "example-org-gitea-backup"
    error_message = "the backup bucket has another lock or another name"
  }

  assert {
    condition     = length(local.secret_replicas) + length(aws_iam_role.replication_batch) + length(module.replica) + length(aws_iam_role.replication) + length(aws_s3_bucket_replication_configuration.backup) == 0
    error_message = "there are resources for a replica by default"
  }
}

run "an_identity_that_is_managed_elsewhere_is_neither_made_nor_changed" {
  command = plan

  variables {
    manage_mail_identity = false
    mail_sender          = "gitea@mail.git.example.org"
  }

  assert {
    condition     = length(aws_ses_domain_identity.site) + length(aws_ses_domain_dkim.site) + length(aws_ses_domain_mail_from.site) == 0
    error_message = "Terraform manages the identity, its DKIM or its MAIL FROM domain"
  }

  assert {
    condition     = length(aws_route53_record.dkim) + length(aws_route53_record.bounces) + length(aws_route53_record.dmarc) == 0
    error_message = "Terraform manages records of the identity"
  }

  # The identity of a domain above the sender's verifies it, too.
  assert {
    condition     = one(data.aws_iam_policy_document.mail.statement).resources == toset([for domain in ["mail.git.example.org", "git.example.org", "example.org"] : "arn:aws:ses:eu-central-1:123456789012:identity/${domain}"])
    error_message = "the mail user may not send by the identity, or by another"
  }
}

run "the_backup_bucket_is_closed_and_locks_every_version" {
  command = plan

  module {
    source = "./bucket"
  }

  variables {
    name      = "example-org-gitea-backup"
    lock_days = 30
  }

  assert {
    condition = alltrue([
      aws_s3_bucket_public_access_block.this.block_public_acls,
      aws_s3_bucket_public_access_block.this.block_public_policy,
      aws_s3_bucket_public_access_block.this.ignore_public_acls,
      aws_s3_bucket_public_access_block.this.restrict_public_buckets,
    ])
    error_message = "the bucket could become public"
  }

  assert {
    condition     = one(aws_s3_bucket_versioning.this.versioning_configuration).status == "Enabled"
    error_message = "the bucket does not keep overwritten versions"
  }

  assert {
    condition     = one(data.aws_iam_policy_document.only_over_tls.statement).effect == "Deny"
    error_message = "the bucket accepts requests without TLS"
  }

  assert {
    condition     = one(one(data.aws_iam_policy_document.only_over_tls.statement).condition).variable == "aws:SecureTransport" && contains(one(data.aws_iam_policy_document.only_over_tls.statement).resources, "${output.arn}/*")
    error_message = "the bucket's policy does not require TLS for its objects"
  }

  assert {
    condition     = one(one(aws_s3_bucket_server_side_encryption_configuration.this.rule).apply_server_side_encryption_by_default).sse_algorithm == "AES256"
    error_message = "the bucket does not encrypt its objects"
  }

  assert {
    condition     = one(one(aws_s3_bucket_lifecycle_configuration.this[0].rule).noncurrent_version_expiration).noncurrent_days >= 90 && alltrue([for each in one(aws_s3_bucket_lifecycle_configuration.this[0].rule).expiration : each.expired_object_delete_marker])
    error_message = "the bucket expires current versions, or noncurrent ones within 90 days"
  }

  assert {
    condition     = aws_s3_bucket.this[0].object_lock_enabled && one(one(aws_s3_bucket_object_lock_configuration.this[0].rule).default_retention).mode == "GOVERNANCE" && one(one(aws_s3_bucket_object_lock_configuration.this[0].rule).default_retention).days == 30
    error_message = "a version can be deleted before its lock ends"
  }
}

run "a_bucket_without_lock_is_closed_and_keeps_every_version_for_good" {
  command = plan

  module {
    source = "./bucket"
  }

  variables {
    name      = "example-org-gitea-backup-terraform"
    lock_days = 0
  }

  assert {
    condition = alltrue([
      aws_s3_bucket_public_access_block.this.block_public_acls,
      aws_s3_bucket_public_access_block.this.block_public_policy,
      aws_s3_bucket_public_access_block.this.ignore_public_acls,
      aws_s3_bucket_public_access_block.this.restrict_public_buckets,
    ])
    error_message = "the bucket could become public"
  }

  assert {
    condition     = one(aws_s3_bucket_versioning.this.versioning_configuration).status == "Enabled" && aws_s3_bucket_versioning.this.bucket == "example-org-gitea-backup-terraform"
    error_message = "the bucket does not keep overwritten versions"
  }

  assert {
    condition     = one(one(data.aws_iam_policy_document.only_over_tls.statement).condition).variable == "aws:SecureTransport" && one(data.aws_iam_policy_document.only_over_tls.statement).effect == "Deny" && contains(one(data.aws_iam_policy_document.only_over_tls.statement).resources, "${output.arn}/*")
    error_message = "the bucket accepts requests without TLS"
  }

  assert {
    condition     = one(one(aws_s3_bucket_server_side_encryption_configuration.this.rule).apply_server_side_encryption_by_default).sse_algorithm == "AES256"
    error_message = "the bucket does not encrypt its objects"
  }

  assert {
    condition     = length(aws_s3_bucket_object_lock_configuration.this) + length(aws_s3_bucket_lifecycle_configuration.this) + length(aws_s3_bucket.this) == 0
    error_message = "the bucket has a lock or a lifecycle rule, or Terraform could destroy it"
  }

  assert {
    condition     = aws_s3_bucket.permanent[0].bucket == "example-org-gitea-backup-terraform" && !coalesce(aws_s3_bucket.permanent[0].object_lock_enabled, false)
    error_message = "the bucket has another name, or a lock"
  }
}

run "the_state_bucket_has_no_lock" {
  command = plan

  module {
    source = "./bootstrap"
  }

  variables {
    bucket = "example-org-gitea-backup-terraform"
  }

  assert {
    condition     = module.state.name == "example-org-gitea-backup-terraform" && module.state.lock_days == 0
    error_message = "the state bucket has another name, or locks its versions"
  }
}

run "a_negative_lock_is_refused" {
  command = plan

  module {
    source = "./bucket"
  }

  variables {
    name      = "example-org-gitea-backup"
    lock_days = -1
  }

  expect_failures = [var.lock_days]
}

run "a_wrong_name_of_the_state_bucket_is_refused" {
  command = plan

  module {
    source = "./bootstrap"
  }

  variables {
    bucket = "Not_A_Bucket"
  }

  expect_failures = [var.bucket]
}

run "impossible_keys_ports_domains_disks_locks_regions_and_budgets_are_refused" {
  command = plan

  variables {
    ssh_public_key     = "ssh-rsa AAAA"
    git_ssh_port       = 443
    domain             = "git.elsewhere.org"
    root_volume_gib    = 8
    data_volume_gib    = 1
    backup_lock_days   = 0
    replica_region     = "Ireland"
    monthly_budget_usd = 0.5
    contact            = "the operator"
  }

  expect_failures = [
    var.ssh_public_key,
    var.git_ssh_port,
    var.domain,
    var.root_volume_gib,
    var.data_volume_gib,
    var.backup_lock_days,
    var.replica_region,
    var.monthly_budget_usd,
    var.contact,
  ]
}

run "ssh_for_the_whole_internet_half_a_day_of_lock_and_a_replica_in_the_same_region_are_refused" {
  command = plan

  variables {
    admin_cidrs      = ["0.0.0.0/0"]
    backup_lock_days = 1.5
    replica_region   = "eu-central-1"
  }

  expect_failures = [var.admin_cidrs, var.backup_lock_days, var.replica_region]
}

run "values_that_aws_would_reject_are_refused" {
  command = plan

  variables {
    name            = "Test_Site"
    zone            = "example.org."
    region          = "eu-central-1a"
    network_cidr    = "10.40.0.1/16"
    admin_cidrs     = ["203.0.113.7/24"]
    instance_type   = "t3"
    host_address    = "host.example.org"
    backup_bucket   = "Example_Backup"
    data_volume_gib = 50.5
  }

  expect_failures = [
    var.name,
    var.zone,
    var.region,
    var.network_cidr,
    var.admin_cidrs,
    var.instance_type,
    var.host_address,
    var.backup_bucket,
    var.data_volume_gib,
  ]
}

run "names_and_networks_of_the_wrong_form_are_refused" {
  command = plan

  variables {
    domain       = "Git.example.org"
    network_cidr = "10.0.0.0/8"
    admin_cidrs  = ["2001:db8::/32"]
    ami          = "ubuntu-24.04"
    mail_sender  = "example.org"
  }

  expect_failures = [var.domain, var.network_cidr, var.admin_cidrs, var.ami, var.mail_sender]
}

run "a_small_network_the_internet_in_two_halves_and_a_sender_outside_the_zone_are_refused" {
  command = plan

  variables {
    network_cidr = "10.40.0.0/25"
    admin_cidrs  = ["0.0.0.0/1", "128.0.0.0/1"]
    mail_sender  = "gitea@elsewhere.org"
  }

  expect_failures = [var.network_cidr, var.admin_cidrs, var.mail_sender]
}

run "an_arm_type_with_the_default_x86_image_is_refused" {
  command = plan

  variables {
    ami           = ""
    instance_type = "t4g.medium"
  }

  expect_failures = [var.instance_type]
}

run "an_arm_type_with_its_own_image_is_accepted" {
  command = plan

  variables {
    instance_type = "t4g.medium"
  }
}

run "graphics_types_do_not_count_as_arm" {
  command = plan

  variables {
    ami           = ""
    instance_type = "g4dn.xlarge"
  }
}
