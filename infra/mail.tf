locals {
  mail_domain   = split("@", var.mail_sender)[1]
  mail_identity = var.manage_mail_identity ? 1 : 0

  # The sender's domain, and each above it up to the zone: the identity of any of them verifies the sender.
  mail_labels     = split(".", local.mail_domain)
  mail_candidates = [for start in range(length(local.mail_labels) - length(split(".", var.zone)) + 1) : join(".", slice(local.mail_labels, start, length(local.mail_labels)))]
}

# SES has one identity per domain, and creating it again takes it over: `ops` refuses to deploy where another one exists.
resource "aws_ses_domain_identity" "site" {
  count = local.mail_identity

  domain = local.mail_domain
}

resource "aws_ses_domain_dkim" "site" {
  count = local.mail_identity

  domain = aws_ses_domain_identity.site[0].domain
}

# The envelope sender is in a subdomain of the site, so that SPF passes without a change to the mail domain's TXT record.
resource "aws_ses_domain_mail_from" "site" {
  count = local.mail_identity

  domain           = aws_ses_domain_identity.site[0].domain
  mail_from_domain = "${var.name}-bounces.${local.mail_domain}"
}

# SES accepts SMTP only from IAM users. `ops secrets rotate-smtp` creates this user's key; Terraform would keep it in its state.
resource "aws_iam_user" "mail" {
  #checkov:skip=CKV_AWS_273:SES derives SMTP passwords only from IAM users' keys; no person signs in as this user.
  name = "${var.name}-mail"

  # Deletes the user's keys, which Terraform does not manage, with the user.
  force_destroy = true
}

data "aws_iam_policy_document" "mail" {
  statement {
    sid       = "SendMailAsTheSite"
    actions   = ["ses:SendRawEmail"]
    resources = [for domain in var.manage_mail_identity ? [local.mail_domain] : local.mail_candidates : "arn:${data.aws_partition.current.partition}:ses:${var.region}:${data.aws_caller_identity.current.account_id}:identity/${domain}"]

    condition {
      test     = "StringEquals"
      variable = "ses:FromAddress"
      values   = [var.mail_sender]
    }
  }
}

resource "aws_iam_user_policy" "mail" {
  #checkov:skip=CKV_AWS_40:A group with a single user would add nothing.
  name   = "send"
  user   = aws_iam_user.mail.name
  policy = data.aws_iam_policy_document.mail.json
}

# A JSON document {"username", "password"}, written by `ops secrets rotate-smtp`; empty until then.
resource "aws_secretsmanager_secret" "smtp" {
  #checkov:skip=CKV_AWS_149:Secrets Manager's own key encrypts; a customer's key would not change read access.
  #checkov:skip=CKV2_AWS_57:`ops secrets rotate-smtp` rotates it and tests the new credentials before it retires the old.
  name        = "${var.name}/smtp-credentials"
  description = "Gitea site ${var.name}: smtp-credentials"

  # New credentials can be created at any time, so nothing needs recovery, and a redeployed site needs the name at once.
  recovery_window_in_days = 0
}

# For states written before the identity could be managed elsewhere.
moved {
  from = aws_ses_domain_identity.site
  to   = aws_ses_domain_identity.site[0]
}

moved {
  from = aws_ses_domain_dkim.site
  to   = aws_ses_domain_dkim.site[0]
}

moved {
  from = aws_ses_domain_mail_from.site
  to   = aws_ses_domain_mail_from.site[0]
}
