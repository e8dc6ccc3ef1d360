locals {
  # Gitea's JWT secret is 32 bytes in unpadded base64url: exactly 43 characters.
  secret_lengths = {
    "database-password"    = 40
    "admin-password"       = 32
    "gitea-secret-key"     = 64
    "gitea-internal-token" = 96
    "gitea-jwt-secret"     = 43
    "metrics-token"        = 40
    "restic-password"      = 64
  }
}

# A separate module, because Terraform's tests cannot mock an ephemeral value but can replace a folder.
module "secrets" {
  source = "./secrets"

  name    = var.name
  lengths = local.secret_lengths
}
