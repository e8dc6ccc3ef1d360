# The bucket that keeps the state of everything else. Applied once, by `ops deploy`, when the bucket is not there; its own
# state is a file that may be lost, for nothing is ever changed by it.

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
    error_message = "name: give 2 to 21 of a-z, 0-9 and -, beginning with a letter."
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
    error_message = "bucket: give 3 to 63 of a-z, 0-9 and -, beginning and ending with a letter or digit."
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

resource "aws_s3_bucket" "state" {
  #checkov:skip=CKV_AWS_18:Who read or wrote is CloudTrail's to tell; access logs would need a second bucket.
  #checkov:skip=CKV_AWS_144:The state can be rebuilt by import; it holds no secret and no data.
  #checkov:skip=CKV_AWS_145:S3's own key encrypts, and the state holds no secret.
  #checkov:skip=CKV2_AWS_61:Every version of the state is kept.
  #checkov:skip=CKV2_AWS_62:No one has to be told of each new object.
  bucket = var.bucket

  tags = { Name = var.bucket }

  lifecycle {
    prevent_destroy = true
  }
}

resource "aws_s3_bucket_versioning" "state" {
  bucket = aws_s3_bucket.state.id

  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "state" {
  bucket = aws_s3_bucket.state.id

  rule {
    apply_server_side_encryption_by_default {
      sse_algorithm = "AES256"
    }
  }
}

resource "aws_s3_bucket_public_access_block" "state" {
  bucket = aws_s3_bucket.state.id

  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

data "aws_iam_policy_document" "state" {
  statement {
    sid       = "OnlyOverTls"
    effect    = "Deny"
    actions   = ["s3:*"]
    resources = [aws_s3_bucket.state.arn, "${aws_s3_bucket.state.arn}/*"]

    principals {
      type        = "*"
      identifiers = ["*"]
    }

    condition {
      test     = "Bool"
      variable = "aws:SecureTransport"
      values   = ["false"]
    }
  }
}

resource "aws_s3_bucket_policy" "state" {
  bucket = aws_s3_bucket.state.id
  policy = data.aws_iam_policy_document.state.json

  depends_on = [aws_s3_bucket_public_access_block.state]
}
