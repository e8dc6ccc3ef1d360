terraform {
  required_version = ">= 1.11.0"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.100.0, < 7.0.0"
    }
  }
}

variable "name" {
  description = "The site's name, the prefix of each secret's name."
  type        = string
}

variable "lengths" {
  description = "The length of each secret by short name, in characters of a-z, A-Z and 0-9."
  type        = map(number)
}

variable "replicas" {
  description = "The second region of each secret that is replicated to one, by short name."
  type        = map(string)
}

# An ephemeral value: neither plan nor state contains it.
ephemeral "aws_secretsmanager_random_password" "site" {
  for_each = var.lengths

  password_length     = each.value
  exclude_punctuation = true
}

resource "aws_secretsmanager_secret" "site" {
  #checkov:skip=CKV_AWS_149:Secrets Manager's own key encrypts; a customer's key would not change read access.
  #checkov:skip=CKV2_AWS_57:`ops secrets rotate` rotates them and applies the new values to the services.
  for_each = var.lengths

  name        = "${var.name}/${each.key}"
  description = "Gitea site ${var.name}: ${each.key}"

  dynamic "replica" {
    for_each = compact([lookup(var.replicas, each.key, "")])

    content {
      region = replica.value
    }
  }
}

resource "aws_secretsmanager_secret_version" "site" {
  for_each = var.lengths

  secret_id                = aws_secretsmanager_secret.site[each.key].id
  secret_string_wo         = ephemeral.aws_secretsmanager_random_password.site[each.key].random_password
  secret_string_wo_version = 1
}

output "names" {
  description = "The names in Secrets Manager by short name."
  value       = { for short, secret in aws_secretsmanager_secret.site : short => secret.name }
}

output "arns" {
  description = "The secrets' ARNs."
  value       = [for secret in aws_secretsmanager_secret.site : secret.arn]
}
