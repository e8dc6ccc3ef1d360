# The rules that the infrastructure must keep, on a mocked provider: no account, no network. Run by
# tests/integration/test_infra_rules.py in a copy of infra/ where without_values/ is the secrets module.

mock_provider "aws" {
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

variables {
  name            = "test"
  domain          = "git.example.org"
  zone            = "example.org"
  region          = "eu-central-1"
  network_cidr    = "10.40.0.0/16"
  admin_cidrs     = ["203.0.113.7/32"]
  instance_type   = "t3.medium"
  ami             = "ami-0123456789abcdef0"
  root_volume_gib = 30
  data_volume_gib = 50
  ssh_public_key  = "ssh-ed25519 AAAA test"
  host_address    = ""
  git_ssh_port    = 2222
  backup_bucket   = "example-org-gitea-backup"
  mail_sender     = "gitea@example.org"
}

run "only_the_web_and_git_are_open_to_the_world" {
  command = plan

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
    error_message = "someone else may reach the administrator's ssh port"
  }
}

run "no_administrators_means_no_ssh_at_all" {
  command = plan

  variables {
    admin_cidrs = []
  }

  assert {
    condition     = length(aws_vpc_security_group_ingress_rule.ssh) == 0
    error_message = "port 22 is open to no one in particular"
  }
}

run "the_host_keeps_its_metadata_and_its_disks_to_itself" {
  command = plan

  assert {
    condition     = one(aws_instance.host.metadata_options).http_tokens == "required" && one(aws_instance.host.metadata_options).http_put_response_hop_limit == 2
    error_message = "IMDSv2 is not required, or containers cannot reach it"
  }

  assert {
    condition     = one(aws_instance.host.root_block_device).encrypted && one(aws_instance.host.root_block_device).volume_type == "gp3"
    error_message = "the root disk is not an encrypted gp3"
  }

  assert {
    condition     = aws_ebs_volume.data.encrypted && aws_ebs_volume.data.size == 50
    error_message = "the data disk is not encrypted, or not of the size asked for"
  }
}

run "no_bucket_is_public_and_every_version_is_kept" {
  command = plan

  assert {
    condition = alltrue([
      aws_s3_bucket_public_access_block.backup.block_public_acls,
      aws_s3_bucket_public_access_block.backup.block_public_policy,
      aws_s3_bucket_public_access_block.backup.ignore_public_acls,
      aws_s3_bucket_public_access_block.backup.restrict_public_buckets,
    ])
    error_message = "the backup bucket could become public"
  }

  assert {
    condition     = one(aws_s3_bucket_versioning.backup.versioning_configuration).status == "Enabled"
    error_message = "the backup bucket forgets what is overwritten"
  }

  assert {
    condition     = one(data.aws_iam_policy_document.backup_bucket.statement).effect == "Deny"
    error_message = "the backup bucket may be spoken to without TLS"
  }
}

run "the_role_is_bound_to_what_the_site_owns" {
  command = plan

  assert {
    condition     = alltrue([for statement in data.aws_iam_policy_document.host.statement : length(setintersection(statement.actions, ["s3:DeleteObjectVersion", "s3:BypassGovernanceRetention", "s3:*", "*"])) == 0])
    error_message = "the host could destroy backups"
  }
}

run "a_secret_for_everyone_who_reads_one" {
  command = plan

  assert {
    condition     = toset(keys(output.secret_names)) == toset(["admin-password", "database-password", "gitea-internal-token", "gitea-jwt-secret", "gitea-secret-key", "metrics-token"])
    error_message = "a secret is missing, or there is one that no one reads"
  }
}

run "the_domain_points_where_the_site_says" {
  command = plan

  variables {
    host_address = "192.0.2.1"
  }

  assert {
    condition     = aws_route53_record.site.records == toset(["192.0.2.1"])
    error_message = "the domain points elsewhere"
  }
}

run "the_whole_world_is_no_administrator" {
  command = plan

  variables {
    admin_cidrs = ["0.0.0.0/0"]
  }

  expect_failures = [var.admin_cidrs]
}

run "a_key_of_another_kind_is_refused" {
  command = plan

  variables {
    ssh_public_key = "ssh-rsa AAAA"
  }

  expect_failures = [var.ssh_public_key]
}

run "git_cannot_have_the_web_s_port" {
  command = plan

  variables {
    git_ssh_port = 443
  }

  expect_failures = [var.git_ssh_port]
}

run "a_domain_outside_its_zone_is_refused" {
  command = plan

  variables {
    domain = "git.elsewhere.org"
  }

  expect_failures = [var.domain]
}

run "a_disk_too_small_is_refused" {
  command = plan

  variables {
    root_volume_gib = 8
    data_volume_gib = 1
  }

  expect_failures = [var.root_volume_gib, var.data_volume_gib]
}
