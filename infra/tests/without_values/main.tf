# Replaces ../../secrets while rules.tftest.hcl runs: Terraform's mocked providers do not support ephemeral resources.
# It returns only names. tests/integration/test_infra.py shows on LocalStack that the real module writes values, and not into
# the state.

variable "name" {
  description = "See the real module."
  type        = string
}

variable "lengths" {
  description = "See the real module."
  type        = map(number)
}

variable "replicas" {
  description = "See the real module."
  type        = map(string)
}

output "names" {
  description = "See the real module."
  value       = { for short, _ in var.lengths : short => "${var.name}/${short}" }
}

output "arns" {
  description = "See the real module."
  value       = [for short, _ in var.lengths : "arn:aws:secretsmanager:eu-central-1:123456789012:secret:${var.name}/${short}"]
}
