# Takes the place of ../../secrets while rules.tftest.hcl runs: Terraform's mocked providers know no ephemeral resources.
# Only names are made here. That the real module writes real values, and into no state, is shown on LocalStack.

variable "name" {
  description = "As in the real module."
  type        = string
}

variable "lengths" {
  description = "As in the real module."
  type        = map(number)
}

output "names" {
  description = "As in the real module."
  value       = { for short, _ in var.lengths : short => "${var.name}/${short}" }
}

output "arns" {
  description = "As in the real module."
  value       = [for short, _ in var.lengths : "arn:aws:secretsmanager:eu-central-1:123456789012:secret:${var.name}/${short}"]
}
