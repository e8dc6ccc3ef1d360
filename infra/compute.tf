data "aws_ssm_parameter" "ubuntu" {
  count = var.ami == "" ? 1 : 0

  name = "/aws/service/canonical/ubuntu/server/24.04/stable/current/amd64/hvm/ebs-gp3/ami-id"
}

resource "aws_key_pair" "administrator" {
  key_name   = "${var.name}-administrator"
  public_key = var.ssh_public_key
}

# The addresses belong to the network interface, which outlives the host: a replacement host keeps them, and IPv6 can be added
# later without a new host. AWS assigns the IPv6 address: computed from the subnet's network, which is unknown while planning,
# it makes the provider fail with "inconsistent final plan" (5.100).
resource "aws_network_interface" "host" {
  subnet_id          = aws_subnet.public["a"].id
  security_groups    = [aws_security_group.host.id]
  ipv6_address_count = var.ipv6 ? 1 : 0

  tags = { Name = var.name }
}

resource "aws_instance" "host" {
  #checkov:skip=CKV_AWS_88:The host serves the public; its security group limits the ports. The address is an Elastic IP.
  #checkov:skip=CKV_AWS_126:Five-minute metrics are enough; health checks on the host monitor the site.
  ami                  = var.ami == "" ? nonsensitive(data.aws_ssm_parameter.ubuntu[0].value) : var.ami
  instance_type        = var.instance_type
  key_name             = aws_key_pair.administrator.key_name
  iam_instance_profile = aws_iam_instance_profile.host.name
  ebs_optimized        = true

  network_interface {
    device_index         = 0
    network_interface_id = aws_network_interface.host.id
  }

  # One hop: the host and containers in its network namespace, such as ops. A container on a bridge gets no answer, and so no
  # credentials.
  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }

  root_block_device {
    volume_type = "gp3"
    volume_size = var.root_volume_gib
    encrypted   = true

    # Not volume_tags: those would also tag the data disk and conflict with its own tags.
    tags = { Name = "${var.name}-root" }
  }

  tags = { Name = var.name }

  lifecycle {
    # Canonical publishes a new image every few weeks; a new image must not replace the host.
    ignore_changes = [ami]
  }
}

# Starts the host with its disks and addresses on other hardware when AWS's hardware fails (Amazon EC2 User Guide, "CloudWatch
# action based recovery"). It does not react to failures inside the host.
resource "aws_cloudwatch_metric_alarm" "recovery" {
  alarm_name          = "${var.name}-recovery"
  alarm_description   = "The machine under the host fails: EC2 starts the host on another."
  namespace           = "AWS/EC2"
  metric_name         = "StatusCheckFailed_System"
  dimensions          = { InstanceId = aws_instance.host.id }
  statistic           = "Maximum"
  comparison_operator = "GreaterThanOrEqualToThreshold"
  threshold           = 1
  period              = 60
  evaluation_periods  = 2
  alarm_actions       = ["arn:${data.aws_partition.current.partition}:automate:${var.region}:ec2:recover"]
}

resource "aws_ebs_volume" "data" {
  #checkov:skip=CKV_AWS_189:AWS's own key encrypts the disk; a customer's key costs more and adds no protection here.
  availability_zone = aws_subnet.public["a"].availability_zone
  type              = "gp3"
  size              = var.data_volume_gib
  encrypted         = true

  tags = { Name = "${var.name}-data" }

  lifecycle {
    prevent_destroy = true
  }
}

resource "aws_volume_attachment" "data" {
  device_name = "/dev/sdf"
  volume_id   = aws_ebs_volume.data.id
  instance_id = aws_instance.host.id

  # EC2 detaches the disk from a terminated instance after its orderly shutdown: Terraform need not detach it first.
  skip_destroy = true
}

resource "aws_eip" "host" {
  #checkov:skip=CKV2_AWS_19:It is attached to the host through its network interface, which checkov does not follow.
  domain = "vpc"

  tags = { Name = var.name }

  depends_on = [aws_internet_gateway.site]
}

resource "aws_eip_association" "host" {
  allocation_id        = aws_eip.host.id
  network_interface_id = aws_network_interface.host.id
}
