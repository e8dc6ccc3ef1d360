locals {
  mail_domain = split("@", var.mail_sender)[1]
}

resource "aws_ses_domain_identity" "site" {
  domain = local.mail_domain
}

resource "aws_ses_domain_dkim" "site" {
  domain = aws_ses_domain_identity.site.domain
}
