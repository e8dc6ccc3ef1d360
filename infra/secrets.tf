locals {
  # Gitea's JWT secret is 32 bytes in unpadded base64url: exactly 43 characters.
  secret_lengths = {
    "database-password"    = 40
    "admin-password"       = 32
    "gitea-secret-key"     = 64
    "gitea-internal-token" = 96
    "gitea-jwt-secret"     = 43
    "metrics-token"        = 40
    "grafana-password"     = 40
    "monitoring-password"  = 40
    "restic-password"      = 64
  }

  # Without these two, the replica of the backups cannot be restored: see the loss of a region in docs/concepts/backup.md.
  secret_replicas = var.replica_region == "" ? {} : { for short in ["gitea-secret-key", "restic-password"] : short => var.replica_region }
}

# A separate module, because Terraform's tests cannot mock an ephemeral value but can replace a folder.
module "secrets" {
  source = "./secrets"

  name     = var.name
  lengths  = local.secret_lengths
  replicas = local.secret_replicas
}
