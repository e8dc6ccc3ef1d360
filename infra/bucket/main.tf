# A bucket that keeps what it is given: encrypted, closed, TLS only, every version kept, none deleted before its time. A module
# of its own, so that the replica of the backups can never be a weaker one than the bucket it copies.

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
  description = "For how many days no one may delete a version without leave to bypass governance."
  type        = number
}

resource "aws_s3_bucket" "this" {
  #checkov:skip=CKV_AWS_18:Who read or wrote is CloudTrail's to tell; access logs would need a second bucket.
  #checkov:skip=CKV_AWS_144:A replica in a second region is an option of the site file; the replica itself has none.
  #checkov:skip=CKV_AWS_145:S3's own key encrypts; restic encrypts the content a second time with a key AWS never sees.
  #checkov:skip=CKV2_AWS_62:No one has to be told of each new object.
  bucket              = var.name
  object_lock_enabled = true

  tags = { Name = var.name }

  lifecycle {
    # A bucket that was made without the lock gets it below; it must not be made anew for that.
    ignore_changes = [object_lock_enabled]
  }
}

resource "aws_s3_bucket_versioning" "this" {
  bucket = aws_s3_bucket.this.bucket

  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_object_lock_configuration" "this" {
  bucket = aws_s3_bucket_versioning.this.bucket

  rule {
    default_retention {
      mode = "GOVERNANCE"
      days = var.lock_days
    }
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "this" {
  bucket = aws_s3_bucket.this.bucket

  rule {
    apply_server_side_encryption_by_default {
      sse_algorithm = "AES256"
    }
  }
}

resource "aws_s3_bucket_public_access_block" "this" {
  bucket = aws_s3_bucket.this.bucket

  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

# The provider watches a lifecycle rule for most of a minute after it is written: nothing may have to wait for this one.
resource "aws_s3_bucket_lifecycle_configuration" "this" {
  bucket = aws_s3_bucket.this.bucket

  rule {
    id     = "forget-what-was-deleted-or-broken-off"
    status = "Enabled"

    filter {}

    # What was hidden and has no version left: a lock of restic's leaves such a marker, hundreds a day.
    expiration {
      expired_object_delete_marker = true
    }

    # Two months to notice, after the lock has gone, that something was deleted or overwritten.
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
    resources = [aws_s3_bucket.this.arn, "${aws_s3_bucket.this.arn}/*"]

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

output "name" {
  description = "The bucket's name, said once it keeps versions: replication is refused before."
  value       = aws_s3_bucket_versioning.this.bucket
}

output "arn" {
  description = "Its ARN."
  value       = aws_s3_bucket.this.arn
}

output "lock_days" {
  description = "For how many days no one may delete a version."
  value       = one(one(aws_s3_bucket_object_lock_configuration.this.rule).default_retention).days
}
