output "public_address" {
  description = "The address that the host keeps when it is replaced."
  value       = aws_eip.host.public_ip
}

output "instance_id" {
  description = "The host."
  value       = aws_instance.host.id
}

output "data_volume_id" {
  description = "The disk that outlives the host."
  value       = aws_ebs_volume.data.id
}

output "backup_bucket" {
  description = "The bucket that backups go to."
  value       = module.backup.name
}

output "secret_names" {
  description = "The names in Secrets Manager by what they are for."
  value       = merge(module.secrets.names, { "smtp-credentials" = aws_secretsmanager_secret.smtp.name })
}
