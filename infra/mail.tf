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
