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

# A module of its own because Terraform's tests can put nothing in the place of an ephemeral value, but can of a folder.
module "secrets" {
  source = "./secrets"

  name    = var.name
  lengths = local.secret_lengths
}
