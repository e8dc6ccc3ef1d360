locals {
  # Lengths in characters of a-z, A-Z and 0-9. Gitea's JWT secret is 32 bytes in unpadded base64url: exactly 43.
  secret_lengths = {
    "database-password"    = 40
    "admin-password"       = 32
    "gitea-secret-key"     = 64
    "gitea-internal-token" = 96
    "gitea-jwt-secret"     = 43
    "metrics-token"        = 40
  }
}

# A value exists only while it is written: neither plan nor state ever holds it.
ephemeral "aws_secretsmanager_random_password" "site" {
  for_each = local.secret_lengths

  password_length     = each.value
  exclude_punctuation = true
}

resource "aws_secretsmanager_secret" "site" {
  #checkov:skip=CKV_AWS_149:Secrets Manager's own key encrypts; a customer's key would not change who may read.
  #checkov:skip=CKV2_AWS_57:Rotated by `ops secrets rotate`, which tells the services, too.
  for_each = local.secret_lengths

  name        = "${var.name}/${each.key}"
  description = "Gitea site ${var.name}: ${each.key}"
}

resource "aws_secretsmanager_secret_version" "site" {
  for_each = local.secret_lengths

  secret_id                = aws_secretsmanager_secret.site[each.key].id
  secret_string_wo         = ephemeral.aws_secretsmanager_random_password.site[each.key].random_password
  secret_string_wo_version = 1
}
