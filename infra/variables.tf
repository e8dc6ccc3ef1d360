# `ops` derives every value from the site file; no variable has a default.

variable "name" {
  description = "The site's name, the prefix of every resource's name."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,20}$", var.name))
    error_message = "name: give 2 to 21 characters of a-z, 0-9 and -, starting with a letter."
  }
}

variable "domain" {
  description = "The site's fully qualified domain name."
  type        = string

  validation {
    condition     = can(regex("^([a-z0-9]([a-z0-9-]*[a-z0-9])?\\.)+[a-z]([a-z0-9-]*[a-z0-9])$", var.domain))
    error_message = "domain: give the full name in lower case, for example git.example.org."
  }

  validation {
    condition     = endswith(".${var.domain}", ".${var.zone}")
    error_message = "domain: give a name inside the zone."
  }
}

variable "zone" {
  description = "The existing Route 53 hosted zone that contains the domain."
  type        = string

  validation {
    condition     = can(regex("^([a-z0-9]([a-z0-9-]*[a-z0-9])?\\.)+[a-z]([a-z0-9-]*[a-z0-9])$", var.zone))
    error_message = "zone: give the hosted zone's name in lower case, without a dot at its end, for example example.org."
  }
}

variable "region" {
  description = "The AWS region of the site."
  type        = string

  validation {
    condition     = can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.region))
    error_message = "region: give an AWS region, for example eu-central-1."
  }
}

variable "network_cidr" {
  description = "The private network, in CIDR form; each zone's subnet takes a sixteenth of it."
  type        = string

  validation {
    condition     = can(cidrnetmask(var.network_cidr)) && can(regex("/(1[6-9]|2[0-4])$", var.network_cidr))
    error_message = "network_cidr: give an IPv4 network in CIDR form, /16 to /24, for example 10.40.0.0/16."
  }

  validation {
    condition     = try(cidrhost(var.network_cidr, 0) == split("/", var.network_cidr)[0], true)
    error_message = "network_cidr: give the network's first address, for example 10.40.0.0/16 and not 10.40.0.1/16."
  }
}

variable "ipv6" {
  description = "Whether the site is also reachable by IPv6."
  type        = bool
}

variable "flow_logs" {
  description = "Whether CloudWatch keeps flow logs of the network for 30 days."
  type        = bool
}

variable "admin_cidrs" {
  description = "The networks that may reach the host's own ssh port; empty closes it."
  type        = list(string)

  validation {
    condition     = alltrue([for cidr in var.admin_cidrs : try(cidrhost(cidr, 0) == split("/", cidr)[0] && can(cidrnetmask(cidr)), false)])
    error_message = "admin_cidrs: give IPv4 networks by their first address, for example 203.0.113.7/32 or 203.0.113.0/24."
  }

  # Two /1 networks cover the whole Internet, too: hence a minimum prefix length and not just a check for 0.0.0.0/0.
  validation {
    condition     = alltrue([for cidr in var.admin_cidrs : try(tonumber(split("/", cidr)[1]) >= 8, true)])
    error_message = "admin_cidrs: the host's own ssh port must not be open to the whole Internet; give your own addresses, /8 or narrower."
  }
}

variable "instance_type" {
  description = "The EC2 instance type."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9-]+\\.[a-z0-9-]+$", var.instance_type))
    error_message = "instance_type: give an EC2 instance type, for example t3.medium."
  }

  validation {
    condition     = var.ami != "" || !can(regex("^(a1|[a-z]+[0-9]+g[a-z]*)\\.", var.instance_type))
    error_message = "instance_type: this is an Arm type and the default image (ami = \"\") is x86-64; give another type or an image."
  }
}

variable "ami" {
  description = "The image of the instance; empty means Canonical's Ubuntu 24.04 that is current when the host is created."
  type        = string

  validation {
    condition     = can(regex("^(ami-[0-9a-f]+)?$", var.ami))
    error_message = "ami: give an image ID such as ami-0123456789abcdef0, or an empty string for Canonical's."
  }
}

variable "root_volume_gib" {
  description = "The root disk's size in GiB."
  type        = number

  validation {
    condition     = var.root_volume_gib >= 16 && var.root_volume_gib <= 16384 && floor(var.root_volume_gib) == var.root_volume_gib
    error_message = "root_volume_gib: give a whole number from 16 to 16384."
  }
}

variable "data_volume_gib" {
  description = "The data disk's size in GiB."
  type        = number

  validation {
    condition     = var.data_volume_gib >= 8 && var.data_volume_gib <= 16384 && floor(var.data_volume_gib) == var.data_volume_gib
    error_message = "data_volume_gib: give a whole number from 8 to 16384."
  }
}

variable "ssh_public_key" {
  description = "The administrator's Ed25519 public key."
  type        = string

  validation {
    condition     = startswith(var.ssh_public_key, "ssh-ed25519 ")
    error_message = "ssh_public_key: give an Ed25519 key; ssh-keygen -t ed25519 creates one."
  }
}

variable "host_address" {
  description = "The address that the domain points to; empty means the Elastic IP."
  type        = string

  validation {
    condition     = var.host_address == "" || can(cidrnetmask("${var.host_address}/32"))
    error_message = "host_address: give an IPv4 address, or an empty string for the Elastic IP."
  }
}

variable "git_ssh_port" {
  description = "The port of git over ssh."
  type        = number

  validation {
    condition     = var.git_ssh_port > 0 && var.git_ssh_port < 65536 && !contains([22, 80, 443], var.git_ssh_port)
    error_message = "git_ssh_port: give a port that is not 22, 80 or 443."
  }
}

variable "backup_bucket" {
  description = "The backup bucket's name, unique in all of AWS."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$", var.backup_bucket))
    error_message = "backup_bucket: give 3 to 63 characters of a-z, 0-9 and -, starting and ending with a letter or digit."
  }
}

variable "backup_lock_days" {
  description = "For this many days a version of a backup cannot be deleted without permission to bypass governance mode."
  type        = number

  validation {
    condition     = var.backup_lock_days >= 1 && var.backup_lock_days <= 365 && floor(var.backup_lock_days) == var.backup_lock_days
    error_message = "backup_lock_days: give a whole number of days from 1 to 365."
  }
}

variable "replica_region" {
  description = "The region of the backups' replica; empty means no replica."
  type        = string

  validation {
    condition     = can(regex("^([a-z]{2}(-[a-z]+)+-[0-9])?$", var.replica_region))
    error_message = "replica_region: give an AWS region, for example eu-west-1, or an empty string for no replica."
  }

  validation {
    condition     = var.replica_region != var.region
    error_message = "replica_region: a replica in the site's own region would be lost with it; give another region."
  }
}

variable "mail_sender" {
  description = "The sender address of mails."
  type        = string

  validation {
    condition     = can(regex("^[^@ ]+@[^@ ]+$", var.mail_sender))
    error_message = "mail_sender: give an e-mail address."
  }

  # Terraform writes its DKIM and SPF records into the zone.
  validation {
    condition     = endswith(".${element(split("@", var.mail_sender), 1)}", ".${var.zone}")
    error_message = "mail_sender: give an address whose domain lies in the zone."
  }
}

variable "manage_mail_identity" {
  description = "Whether the SES identity of the sender's domain, with its DKIM, MAIL FROM and DMARC records, is this site's."
  type        = bool
}

variable "contact" {
  description = "The mail address that gets budget alarms."
  type        = string

  validation {
    condition     = can(regex("^[^@ ]+@[^@ ]+$", var.contact))
    error_message = "contact: give an e-mail address."
  }
}

variable "monthly_budget_usd" {
  description = "The account's monthly budget in US dollars; 0 means no budget."
  type        = number

  validation {
    condition     = var.monthly_budget_usd >= 0 && floor(var.monthly_budget_usd) == var.monthly_budget_usd
    error_message = "monthly_budget_usd: give a whole number of US dollars, or 0 for no budget."
  }
}
