# A bucket that is encrypted, not public, reachable only over TLS, and keeps every version. The site's root makes two: one for
# the backups and one for their replica, with the same settings. bootstrap/ makes the one for Terraform's state.

terraform {
  required_version = ">= 1.11.0"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.100.0, < 7.0.0"
    }
  }
}

variable "name" {
  description = "The bucket's name, unique in all of AWS."
  type        = string
}

variable "lock_days" {
  description = "For this many days a version cannot be deleted without permission to bypass governance mode. 0: no object lock and no lifecycle rule; the bucket keeps every version for good, and Terraform refuses to destroy it."
  type        = number

  validation {
    condition     = var.lock_days >= 0 && var.lock_days <= 365 && floor(var.lock_days) == var.lock_days
    error_message = "lock_days: give a whole number of days from 1 to 365, or 0 for a bucket without object lock and lifecycle rule."
  }
}

locals {
  locked = var.lock_days > 0
  bucket = local.locked ? one(aws_s3_bucket.this[*].bucket) : one(aws_s3_bucket.permanent[*].bucket)
  arn    = local.locked ? one(aws_s3_bucket.this[*].arn) : one(aws_s3_bucket.permanent[*].arn)
}

# Two resources, because Terraform accepts no variable in `prevent_destroy`.
resource "aws_s3_bucket" "this" {
  #checkov:skip=CKV_AWS_18:CloudTrail records reads and writes; access logs would need a second bucket.
  #checkov:skip=CKV_AWS_144:A replica in a second region is an option of the site file; the replica itself has none.
  #checkov:skip=CKV_AWS_145:S3's own key encrypts; restic encrypts the content a second time with a key that AWS does not have.
  #checkov:skip=CKV2_AWS_62:New objects need no notification.
  count = local.locked ? 1 : 0

  bucket              = var.name
  object_lock_enabled = true

  tags = { Name = var.name }

  lifecycle {
    # The resource below enables the lock on a bucket that was made without it; this argument would replace that bucket.
    ignore_changes = [object_lock_enabled]
  }
}

resource "aws_s3_bucket" "permanent" {
  #checkov:skip=CKV_AWS_18:CloudTrail records reads and writes; access logs would need a second bucket.
  #checkov:skip=CKV_AWS_144:The state can be rebuilt by import; it holds no secret and no data.
  #checkov:skip=CKV_AWS_145:S3's own key encrypts, and the state holds no secret.
  #checkov:skip=CKV2_AWS_61:Every version of the state is kept.
  #checkov:skip=CKV2_AWS_62:New objects need no notification.
  count = local.locked ? 0 : 1

  bucket = var.name

  tags = { Name = var.name }

  lifecycle {
    prevent_destroy = true
  }
}

resource "aws_s3_bucket_versioning" "this" {
  bucket = local.bucket

  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_object_lock_configuration" "this" {
  count = local.locked ? 1 : 0

  bucket = aws_s3_bucket_versioning.this.bucket

  rule {
    default_retention {
      mode = "GOVERNANCE"
      days = var.lock_days
    }
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "this" {
  bucket = local.bucket

  rule {
    apply_server_side_encryption_by_default {
      sse_algorithm = "AES256"
    }
  }
}

resource "aws_s3_bucket_public_access_block" "this" {
  bucket = local.bucket

  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

# The provider polls a lifecycle rule for most of a minute after writing it: no other resource may depend on this one.
resource "aws_s3_bucket_lifecycle_configuration" "this" {
  count = local.locked ? 1 : 0

  bucket = local.bucket

  rule {
    id     = "forget-what-was-deleted-or-broken-off"
    status = "Enabled"

    filter {}

    # Delete markers without a version behind them: each released restic lock leaves one, hundreds a day.
    expiration {
      expired_object_delete_marker = true
    }

    # Two months after the lock ends to notice that an object was deleted or overwritten.
    noncurrent_version_expiration {
      noncurrent_days = var.lock_days + 60
    }

    abort_incomplete_multipart_upload {
      days_after_initiation = 3
    }
  }
}

data "aws_iam_policy_document" "only_over_tls" {
  statement {
    sid       = "OnlyOverTls"
    effect    = "Deny"
    actions   = ["s3:*"]
    resources = [local.arn, "${local.arn}/*"]

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

resource "aws_s3_bucket_policy" "this" {
  bucket = aws_s3_bucket_public_access_block.this.bucket
  policy = data.aws_iam_policy_document.only_over_tls.json
}

# For states written before the module had buckets without a lock.
moved {
  from = aws_s3_bucket.this
  to   = aws_s3_bucket.this[0]
}

moved {
  from = aws_s3_bucket_object_lock_configuration.this
  to   = aws_s3_bucket_object_lock_configuration.this[0]
}

moved {
  from = aws_s3_bucket_lifecycle_configuration.this
  to   = aws_s3_bucket_lifecycle_configuration.this[0]
}

output "name" {
  description = "The bucket's name, known only once versioning is on: S3 refuses replication before that."
  value       = aws_s3_bucket_versioning.this.bucket
}

output "arn" {
  description = "The bucket's ARN."
  value       = local.arn
}

output "lock_days" {
  description = "For this many days a version cannot be deleted, as the lock's configuration has it; 0 without a lock."
  value       = coalesce(one(flatten(aws_s3_bucket_object_lock_configuration.this[*].rule[*].default_retention[*].days)), 0)
}
