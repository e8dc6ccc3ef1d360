# The bucket for the Terraform state of the site's root. `ops deploy` applies this root when the bucket does not exist, and again
# when it lacks a setting. Its own state is a local file that may be lost: an existing bucket is imported.

terraform {
  required_version = ">= 1.11.0"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.100.0, < 7.0.0"
    }
  }

  backend "local" {}
}

variable "name" {
  description = "The site's name."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,20}$", var.name))
    error_message = "name: give 2 to 21 characters of a-z, 0-9 and -, starting with a letter."
  }
}

variable "region" {
  description = "The AWS region of the bucket."
  type        = string

  validation {
    condition     = can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.region))
    error_message = "region: give an AWS region, for example eu-central-1."
  }
}

variable "bucket" {
  description = "The bucket's name, unique in all of AWS."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$", var.bucket))
    error_message = "bucket: give 3 to 63 characters of a-z, 0-9 and -, starting and ending with a letter or digit."
  }
}

provider "aws" {
  region = var.region

  default_tags {
    tags = {
      Site      = var.name
      Project   = "gitea-suite"
      ManagedBy = "terraform"
    }
  }
}

module "state" {
  source = "../bucket"

  name      = var.bucket
  lock_days = 0
}

# For states written before this root used the module.
moved {
  from = aws_s3_bucket.state
  to   = module.state.aws_s3_bucket.permanent[0]
}

moved {
  from = aws_s3_bucket_versioning.state
  to   = module.state.aws_s3_bucket_versioning.this
}

moved {
  from = aws_s3_bucket_server_side_encryption_configuration.state
  to   = module.state.aws_s3_bucket_server_side_encryption_configuration.this
}

moved {
  from = aws_s3_bucket_public_access_block.state
  to   = module.state.aws_s3_bucket_public_access_block.this
}

moved {
  from = aws_s3_bucket_policy.state
  to   = module.state.aws_s3_bucket_policy.this
}
