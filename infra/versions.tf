terraform {
  required_version = ">= 1.11.0" # write-only arguments and native state locking

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.100.0, < 7.0.0"
    }
  }

  # `ops deploy` passes bucket, key and region from the site file; bootstrap/ creates the bucket.
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

# The replica's region. Without a replica it is the site's region and no resource uses this provider.
provider "aws" {
  alias  = "replica"
  region = coalesce(var.replica_region, var.region)

  default_tags {
    tags = local.tags
  }
}

data "aws_partition" "current" {}

data "aws_caller_identity" "current" {}
