# Not every account has a zone "a": the site uses the first two zones of the account.
data "aws_availability_zones" "open" {
  #checkov:skip=CKV_AWS_394:A zone that AWS opens later changes nothing: the subnets ignore it.
  state = "available"

  filter {
    name   = "opt-in-status"
    values = ["opt-in-not-required"]
  }
}

locals {
  zones = zipmap(["a", "b"], slice(sort(data.aws_availability_zones.open.names), 0, 2))

  open_ports = { http = 80, https = 443, git = var.git_ssh_port }
}

resource "aws_vpc" "site" {
  #checkov:skip=CKV2_AWS_11:Flow logs are an option of the site file, because they may cost more than they are worth on a small site.
  cidr_block                       = var.network_cidr
  assign_generated_ipv6_cidr_block = var.ipv6
  enable_dns_support               = true
  enable_dns_hostnames             = true

  tags = { Name = var.name }
}

# Instances without a security group of their own can neither send nor receive.
resource "aws_default_security_group" "site" {
  vpc_id = aws_vpc.site.id

  tags = { Name = "${var.name}-closed" }
}

resource "aws_internet_gateway" "site" {
  vpc_id = aws_vpc.site.id

  tags = { Name = var.name }
}

resource "aws_subnet" "public" {
  for_each = local.zones

  vpc_id            = aws_vpc.site.id
  availability_zone = each.value
  cidr_block        = cidrsubnet(var.network_cidr, 4, index(keys(local.zones), each.key))
  ipv6_cidr_block   = var.ipv6 ? cidrsubnet(aws_vpc.site.ipv6_cidr_block, 8, index(keys(local.zones), each.key)) : null

  tags = { Name = "${var.name}-public-${each.key}" }

  lifecycle {
    # A zone that AWS opens later must not replace a subnet, and with it the host and its disk.
    ignore_changes = [availability_zone]
  }
}

resource "aws_route_table" "public" {
  vpc_id = aws_vpc.site.id

  route {
    cidr_block = "0.0.0.0/0"
    gateway_id = aws_internet_gateway.site.id
  }

  dynamic "route" {
    for_each = var.ipv6 ? ["::/0"] : []

    content {
      ipv6_cidr_block = route.value
      gateway_id      = aws_internet_gateway.site.id
    }
  }

  tags = { Name = "${var.name}-public" }
}

resource "aws_route_table_association" "public" {
  for_each = aws_subnet.public

  subnet_id      = each.value.id
  route_table_id = aws_route_table.public.id
}

# Backups reach S3 inside AWS's network and without a traffic charge. The endpoint's policy allows everything, because third
# parties' packages and images are in S3, too; the host's role limits its access to buckets.
resource "aws_vpc_endpoint" "s3" {
  vpc_id          = aws_vpc.site.id
  service_name    = "com.amazonaws.${var.region}.s3"
  route_table_ids = [aws_route_table.public.id]

  tags = { Name = "${var.name}-s3" }
}

resource "aws_security_group" "host" {
  name        = "${var.name}-host"
  description = "The site's host: the web, git over ssh, and ssh for its administrators"
  vpc_id      = aws_vpc.site.id

  tags = { Name = "${var.name}-host" }
}

resource "aws_vpc_security_group_ingress_rule" "open" {
  #checkov:skip=CKV_AWS_260:Port 80 answers ACME challenges and sends browsers to HTTPS.
  for_each = local.open_ports

  security_group_id = aws_security_group.host.id
  description       = "${each.key} for everyone"
  cidr_ipv4         = "0.0.0.0/0"
  ip_protocol       = "tcp"
  from_port         = each.value
  to_port           = each.value
}

resource "aws_vpc_security_group_ingress_rule" "open_ipv6" {
  for_each = var.ipv6 ? local.open_ports : {}

  security_group_id = aws_security_group.host.id
  description       = "${each.key} for everyone, by IPv6"
  cidr_ipv6         = "::/0"
  ip_protocol       = "tcp"
  from_port         = each.value
  to_port           = each.value
}

resource "aws_vpc_security_group_ingress_rule" "ssh" {
  for_each = toset(var.admin_cidrs)

  security_group_id = aws_security_group.host.id
  description       = "ssh for an administrator"
  cidr_ipv4         = each.value
  ip_protocol       = "tcp"
  from_port         = 22
  to_port           = 22
}

resource "aws_vpc_security_group_egress_rule" "all" {
  security_group_id = aws_security_group.host.id
  description       = "Packages, images, mail, webhooks, mirrors"
  cidr_ipv4         = "0.0.0.0/0"
  ip_protocol       = "-1"
}

resource "aws_vpc_security_group_egress_rule" "all_ipv6" {
  count = var.ipv6 ? 1 : 0

  security_group_id = aws_security_group.host.id
  description       = "Packages, images, mail, webhooks, mirrors, by IPv6"
  cidr_ipv6         = "::/0"
  ip_protocol       = "-1"
}
