# allow_overwrite, throughout: an apply that is broken off while Route 53 makes a record leaves the record and no trace of it
# in the state; without it the next apply would fail for ever on the record being there.

data "aws_route53_zone" "site" {
  name = var.zone
}

resource "aws_route53_record" "site" {
  zone_id = data.aws_route53_zone.site.zone_id
  name    = var.domain
  type    = "A"
  ttl     = 300
  records = [var.host_address == "" ? aws_eip.host.public_ip : var.host_address]

  allow_overwrite = true
}

# Only Let's Encrypt may issue for the domain (RFC 8659).
resource "aws_route53_record" "certificate_authorities" {
  zone_id = data.aws_route53_zone.site.zone_id
  name    = var.domain
  type    = "CAA"
  ttl     = 3600
  records = ["0 issue \"letsencrypt.org\"", "0 issuewild \";\"", "0 iodef \"mailto:${var.mail_sender}\""]

  allow_overwrite = true
}

resource "aws_route53_record" "dkim" {
  count = 3

  zone_id = data.aws_route53_zone.site.zone_id
  name    = "${aws_ses_domain_dkim.site.dkim_tokens[count.index]}._domainkey.${local.mail_domain}"
  type    = "CNAME"
  ttl     = 3600
  records = ["${aws_ses_domain_dkim.site.dkim_tokens[count.index]}.dkim.amazonses.com"]

  allow_overwrite = true
}
