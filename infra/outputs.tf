output "public_address" {
  description = "The public IPv4 address, which a replacement host keeps."
  value       = aws_eip.host.public_ip
}

output "instance_id" {
  description = "The instance ID of the host."
  value       = aws_instance.host.id
}

output "data_volume_id" {
  description = "The volume ID of the data disk, which outlives the host."
  value       = aws_ebs_volume.data.id
}

output "backup_bucket" {
  description = "The backup bucket's name."
  value       = module.backup.name
}

output "secret_names" {
  description = "The names in Secrets Manager by short name."
  value       = merge(module.secrets.names, { "smtp-credentials" = aws_secretsmanager_secret.smtp.name })
}
