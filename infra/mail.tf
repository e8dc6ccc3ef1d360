locals {
  mail_domain = split("@", var.mail_sender)[1]
}

resource "aws_ses_domain_identity" "site" {
  domain = local.mail_domain
}

resource "aws_ses_domain_dkim" "site" {
  domain = aws_ses_domain_identity.site.domain
}

# Envelopes carry a name of the site's own, so that SPF speaks for it without touching the mail domain's own TXT record.
resource "aws_ses_domain_mail_from" "site" {
  domain           = aws_ses_domain_identity.site.domain
  mail_from_domain = "${var.name}-bounces.${local.mail_domain}"
}

# SES takes mail by SMTP from IAM users alone. This one's key is made by `ops secrets rotate-smtp`, for Terraform would keep it in its state.
resource "aws_iam_user" "mail" {
  #checkov:skip=CKV_AWS_273:No person signs in as this user: SES derives SMTP passwords from IAM users' keys only.
  name = "${var.name}-mail"

  # Its keys are not Terraform's, and go with it.
  force_destroy = true
}

data "aws_iam_policy_document" "mail" {
  statement {
    sid       = "SendMailAsTheSite"
    actions   = ["ses:SendRawEmail"]
    resources = [aws_ses_domain_identity.site.arn]

    condition {
      test     = "StringEquals"
      variable = "ses:FromAddress"
      values   = [var.mail_sender]
    }
  }
}

resource "aws_iam_user_policy" "mail" {
  #checkov:skip=CKV_AWS_40:A group of one user would say the same at one remove.
  name   = "send"
  user   = aws_iam_user.mail.name
  policy = data.aws_iam_policy_document.mail.json
}

# A JSON document {"username", "password"}, written by `ops secrets rotate-smtp`; empty until then.
resource "aws_secretsmanager_secret" "smtp" {
  #checkov:skip=CKV_AWS_149:Secrets Manager's own key encrypts; a customer's key would not change who may read.
  #checkov:skip=CKV2_AWS_57:Rotated by `ops secrets rotate-smtp`, which tries the new credentials before it retires the old.
  name        = "${var.name}/smtp-credentials"
  description = "Gitea site ${var.name}: smtp-credentials"

  # Made anew at any time: there is nothing to recover, and a site that is deployed again needs the name at once.
  recovery_window_in_days = 0
}
