# allow_overwrite on every record: an apply interrupted while Route 53 creates a record leaves the record but nothing in the
# state; without allow_overwrite every later apply would fail because the record exists.

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

# A host_address is outside AWS, so the instance's IPv6 address would be another machine's.
resource "aws_route53_record" "site_ipv6" {
  count = var.ipv6 && var.host_address == "" ? 1 : 0

  zone_id = data.aws_route53_zone.site.zone_id
  name    = var.domain
  type    = "AAAA"
  ttl     = 300
  records = aws_network_interface.host.ipv6_addresses

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
  count = 3 * local.mail_identity

  zone_id = data.aws_route53_zone.site.zone_id
  name    = "${aws_ses_domain_dkim.site[0].dkim_tokens[count.index]}._domainkey.${local.mail_domain}"
  type    = "CNAME"
  ttl     = 3600
  records = ["${aws_ses_domain_dkim.site[0].dkim_tokens[count.index]}.dkim.amazonses.com"]

  allow_overwrite = true
}

# The domain that bounces return to (SES Developer Guide, "Using a custom MAIL FROM domain").
resource "aws_route53_record" "bounces" {
  for_each = {
    for type, value in {
      MX  = "10 feedback-smtp.${var.region}.amazonses.com"
      TXT = "v=spf1 include:amazonses.com ~all"
    } : type => value if var.manage_mail_identity
  }

  zone_id = data.aws_route53_zone.site.zone_id
  name    = aws_ses_domain_mail_from.site[0].mail_from_domain
  type    = each.key
  ttl     = 3600
  records = [each.value]

  allow_overwrite = true
}

# The zone's owner may have a policy for the zone already. Only a subdomain that just this site sends from gets ours.
resource "aws_route53_record" "dmarc" {
  count = local.mail_domain == var.zone ? 0 : local.mail_identity

  zone_id = data.aws_route53_zone.site.zone_id
  name    = "_dmarc.${local.mail_domain}"
  type    = "TXT"
  ttl     = 3600
  records = ["v=DMARC1; p=quarantine"]

  allow_overwrite = true
}
