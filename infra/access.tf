data "aws_iam_policy_document" "host_is_ec2" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["ec2.amazonaws.com"]
    }
  }
}

resource "aws_iam_role" "host" {
  name               = "${var.name}-host"
  assume_role_policy = data.aws_iam_policy_document.host_is_ec2.json
}

locals {
  # An operator stores these with `ops secrets set`: the values of settings of Gitea, which Terraform does not know.
  setting_secrets = "arn:${data.aws_partition.current.partition}:secretsmanager:${var.region}:${data.aws_caller_identity.current.account_id}:secret:${var.name}/setting-*"
}

data "aws_iam_policy_document" "host" {
  statement {
    sid       = "FindBackups"
    actions   = ["s3:ListBucket", "s3:GetBucketLocation", "s3:ListBucketMultipartUploads"]
    resources = [module.backup.arn]
  }

  statement {
    sid       = "ReadAndWriteBackups"
    actions   = ["s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload"]
    resources = ["${module.backup.arn}/*"]
  }

  # An attacker on the host must not be able to delete backups, so the host may delete only restic's locks. The operator prunes,
  # from another machine.
  statement {
    sid       = "EndOwnLocks"
    actions   = ["s3:DeleteObject"]
    resources = ["${module.backup.arn}/restic/locks/*"]
  }

  statement {
    sid       = "ReadOwnSecrets"
    actions   = ["secretsmanager:GetSecretValue"]
    resources = concat(module.secrets.arns, [aws_secretsmanager_secret.smtp.arn, local.setting_secrets])
  }
}

resource "aws_iam_role_policy" "host" {
  name   = "site"
  role   = aws_iam_role.host.id
  policy = data.aws_iam_policy_document.host.json
}

# Session Manager gives shell access without an open port. AWS's own policy for it, AmazonSSMManagedInstanceCore, would also let
# the host read every parameter of the account (ssm:GetParameter on *).
data "aws_iam_policy_document" "session_manager" {
  #checkov:skip=CKV_AWS_111:The channels have no ARN, and the agent only reports about its own instance.
  #checkov:skip=CKV_AWS_356:The channels have no ARN, and the agent only reports about its own instance.
  statement {
    sid = "SessionManager"
    actions = [
      "ssm:UpdateInstanceInformation",
      "ssmmessages:CreateControlChannel",
      "ssmmessages:CreateDataChannel",
      "ssmmessages:OpenControlChannel",
      "ssmmessages:OpenDataChannel",
    ]

    # The channels have no ARN (Service Authorization Reference, "Amazon Session Manager Message Gateway Service").
    resources = ["*"]
  }
}

resource "aws_iam_role_policy" "session_manager" {
  name   = "session-manager"
  role   = aws_iam_role.host.id
  policy = data.aws_iam_policy_document.session_manager.json
}

resource "aws_iam_instance_profile" "host" {
  name = "${var.name}-host"
  role = aws_iam_role.host.name
}
