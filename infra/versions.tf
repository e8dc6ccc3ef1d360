terraform {
  required_version = ">= 1.11.0" # write-only arguments and native state locking

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.100.0, < 7.0.0"
    }
  }

  # Bucket, key and region come from the site file by `ops deploy`; the bucket itself is made by bootstrap/.
  backend "s3" {
    use_lockfile = true
    encrypt      = true
  }
}

provider "aws" {
  region = var.region

  default_tags {
    tags = local.tags
  }
}

locals {
  tags = {
    Site      = var.name
    Project   = "gitea-suite"
    ManagedBy = "terraform"
  }
}

# Where the replica lies. Without one it is the site's own region, and nothing is made through it.
provider "aws" {
  alias  = "replica"
  region = coalesce(var.replica_region, var.region)

  default_tags {
    tags = local.tags
  }
}

data "aws_partition" "current" {}

data "aws_caller_identity" "current" {}
