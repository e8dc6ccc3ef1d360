# Records of the network's traffic, when flow_logs is true.

resource "aws_flow_log" "site" {
  count = var.flow_logs ? 1 : 0

  vpc_id               = aws_vpc.site.id
  traffic_type         = "ALL"
  log_destination_type = "cloud-watch-logs"
  log_destination      = aws_cloudwatch_log_group.flow_logs[0].arn
  iam_role_arn         = aws_iam_role.flow_logs[0].arn

  tags = { Name = var.name }

  # A flow log without permission to write pauses before it tries again.
  depends_on = [aws_iam_role_policy.flow_logs]
}

resource "aws_cloudwatch_log_group" "flow_logs" {
  #checkov:skip=CKV_AWS_158:CloudWatch's own key encrypts; addresses and ports need no customer's key.
  #checkov:skip=CKV_AWS_338:Flow logs serve incident analysis, and an incident shows within a month; keeping them longer only costs more.
  count = var.flow_logs ? 1 : 0

  name              = "/vpc/${var.name}"
  retention_in_days = 30
}

data "aws_iam_policy_document" "flow_logs_are_vpc" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["vpc-flow-logs.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [data.aws_caller_identity.current.account_id]
    }
  }
}

resource "aws_iam_role" "flow_logs" {
  count = var.flow_logs ? 1 : 0

  name               = "${var.name}-flow-logs"
  assume_role_policy = data.aws_iam_policy_document.flow_logs_are_vpc.json
}

# AWS's example allows every log group (Amazon VPC User Guide, "IAM role for publishing flow logs to CloudWatch Logs"). Limited to
# this log group it works, too, as in terraform-aws-modules/vpc.
data "aws_iam_policy_document" "flow_logs" {
  count = var.flow_logs ? 1 : 0

  statement {
    sid       = "WriteThisLog"
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents", "logs:DescribeLogGroups", "logs:DescribeLogStreams"]
    resources = ["${aws_cloudwatch_log_group.flow_logs[0].arn}:*"]
  }
}

resource "aws_iam_role_policy" "flow_logs" {
  count = var.flow_logs ? 1 : 0

  name   = "write-flow-logs"
  role   = aws_iam_role.flow_logs[0].id
  policy = data.aws_iam_policy_document.flow_logs[0].json
}
