locals {
  replicas = var.replica_region == "" ? 0 : 1
}

module "backup" {
  source = "./bucket"

  name      = var.backup_bucket
  lock_days = var.backup_lock_days
}

module "replica" {
  source = "./bucket"
  count  = local.replicas

  providers = { aws = aws.replica }

  name      = "${substr(var.backup_bucket, 0, 55)}-replica"
  lock_days = var.backup_lock_days
}

# Delete markers are replicated: objects that restic prunes expire in the replica as in the bucket, after lock and lifecycle
# rule. Deletions of versions are never replicated (Amazon S3 User Guide, "What does Amazon S3 replicate?").
resource "aws_s3_bucket_replication_configuration" "backup" {
  count = local.replicas

  bucket = module.backup.name
  role   = aws_iam_role.replication[0].arn

  rule {
    id     = "everything"
    status = "Enabled"

    filter {}

    delete_marker_replication {
      status = "Enabled"
    }

    destination {
      bucket = module.replica[0].arn
    }
  }

  depends_on = [aws_iam_role_policy.replication]
}

data "aws_iam_policy_document" "replication_is_s3" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["s3.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [data.aws_caller_identity.current.account_id]
    }
  }
}

resource "aws_iam_role" "replication" {
  count = local.replicas

  name               = "${var.name}-replication"
  assume_role_policy = data.aws_iam_policy_document.replication_is_s3.json
}

# The permissions to replicate a bucket with object lock (Amazon S3 User Guide, "Setting up permissions for live replication").
data "aws_iam_policy_document" "replication" {
  count = local.replicas

  statement {
    sid       = "KnowTheSource"
    actions   = ["s3:GetReplicationConfiguration", "s3:ListBucket"]
    resources = [module.backup.arn]
  }

  statement {
    sid = "ReadTheSource"
    actions = [
      "s3:GetObjectVersionForReplication",
      "s3:GetObjectVersionAcl",
      "s3:GetObjectVersionTagging",
      "s3:GetObjectRetention",
      "s3:GetObjectLegalHold",
    ]
    resources = ["${module.backup.arn}/*"]
  }

  statement {
    sid       = "WriteTheReplica"
    actions   = ["s3:ReplicateObject", "s3:ReplicateDelete", "s3:ReplicateTags"]
    resources = ["${module.replica[0].arn}/*"]
  }
}

resource "aws_iam_role_policy" "replication" {
  count = local.replicas

  name   = "copy-backups"
  role   = aws_iam_role.replication[0].id
  policy = data.aws_iam_policy_document.replication[0].json
}

# A job of S3 Batch Replication copies the objects that are older than the replica; `ops backup status` prints its command. Only
# a job of this account can be given the role.
data "aws_iam_policy_document" "batch_is_s3" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["batchoperations.s3.amazonaws.com"]
    }
  }
}

resource "aws_iam_role" "replication_batch" {
  count = local.replicas

  name               = "${var.name}-replication-batch"
  assume_role_policy = data.aws_iam_policy_document.batch_is_s3.json
}

# The permissions of a job whose list of objects S3 makes itself (Amazon S3 User Guide, "Configuring an IAM role for S3 Batch
# Replication").
data "aws_iam_policy_document" "replication_batch" {
  count = local.replicas

  statement {
    sid       = "ListTheSource"
    actions   = ["s3:GetReplicationConfiguration", "s3:PutInventoryConfiguration"]
    resources = [module.backup.arn]
  }

  statement {
    sid       = "StartReplication"
    actions   = ["s3:InitiateReplication"]
    resources = ["${module.backup.arn}/*"]
  }
}

resource "aws_iam_role_policy" "replication_batch" {
  count = local.replicas

  name   = "copy-older-backups"
  role   = aws_iam_role.replication_batch[0].id
  policy = data.aws_iam_policy_document.replication_batch[0].json
}
