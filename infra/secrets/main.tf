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
  description = "The site's name: it begins each secret's."
  type        = string
}

variable "lengths" {
  description = "The secrets by what they are for, and how many of a-z, A-Z and 0-9 each has."
  type        = map(number)
}

# A value exists only while it is written: neither plan nor state ever holds it.
ephemeral "aws_secretsmanager_random_password" "site" {
  for_each = var.lengths

  password_length     = each.value
  exclude_punctuation = true
}

resource "aws_secretsmanager_secret" "site" {
  #checkov:skip=CKV_AWS_149:Secrets Manager's own key encrypts; a customer's key would not change who may read.
  #checkov:skip=CKV2_AWS_57:Rotated by `ops secrets rotate`, which tells the services, too.
  for_each = var.lengths

  name        = "${var.name}/${each.key}"
  description = "Gitea site ${var.name}: ${each.key}"
}

resource "aws_secretsmanager_secret_version" "site" {
  for_each = var.lengths

  secret_id                = aws_secretsmanager_secret.site[each.key].id
  secret_string_wo         = ephemeral.aws_secretsmanager_random_password.site[each.key].random_password
  secret_string_wo_version = 1
}

output "names" {
  description = "The names in Secrets Manager by what they are for."
  value       = { for short, secret in aws_secretsmanager_secret.site : short => secret.name }
}

output "arns" {
  description = "Their ARNs."
  value       = [for secret in aws_secretsmanager_secret.site : secret.arn]
}
