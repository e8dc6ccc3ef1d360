# Every value comes from the site file by way of ops.inputs.terraform_variables; nothing has a default here.

variable "name" {
  description = "The site's name: it begins the name of every resource."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,20}$", var.name))
    error_message = "name: give 2 to 21 of a-z, 0-9 and -, beginning with a letter."
  }
}

variable "domain" {
  description = "The full name that the site is reached by."
  type        = string

  validation {
    condition     = endswith(".${var.domain}", ".${var.zone}")
    error_message = "domain: give a name inside the zone."
  }
}

variable "zone" {
  description = "The existing Route 53 hosted zone that the domain lies in."
  type        = string
}

variable "region" {
  description = "The AWS region of everything."
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
    condition     = can(cidrsubnet(var.network_cidr, 4, 1))
    error_message = "network_cidr: give a network in CIDR form, /16 to /24."
  }
}

variable "admin_cidrs" {
  description = "Who may reach the host's own ssh port; empty closes it."
  type        = list(string)

  validation {
    condition     = alltrue([for cidr in var.admin_cidrs : can(cidrhost(cidr, 0))])
    error_message = "admin_cidrs: give networks in CIDR form, for example 203.0.113.7/32."
  }

  validation {
    condition     = !contains(var.admin_cidrs, "0.0.0.0/0") && !contains(var.admin_cidrs, "::/0")
    error_message = "admin_cidrs: the host's own ssh port is not for the whole world; give your own addresses."
  }
}

variable "instance_type" {
  description = "The EC2 instance type."
  type        = string
}

variable "ami" {
  description = "The image of the instance; empty means Canonical's current Ubuntu 24.04, taken once and kept."
  type        = string
}

variable "root_volume_gib" {
  description = "The root disk's size in GiB."
  type        = number

  validation {
    condition     = var.root_volume_gib >= 16
    error_message = "root_volume_gib: give 16 or more."
  }
}

variable "data_volume_gib" {
  description = "The data disk's size in GiB."
  type        = number

  validation {
    condition     = var.data_volume_gib >= 8
    error_message = "data_volume_gib: give 8 or more."
  }
}

variable "ssh_public_key" {
  description = "The administrator's Ed25519 public key."
  type        = string

  validation {
    condition     = startswith(var.ssh_public_key, "ssh-ed25519 ")
    error_message = "ssh_public_key: give an Ed25519 key; ssh-keygen -t ed25519 makes one."
  }
}

variable "host_address" {
  description = "Where the domain points; empty means the Elastic IP."
  type        = string
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
  description = "The bucket that backups go to; its name is unique in all of AWS."
  type        = string
}

variable "mail_sender" {
  description = "The address that mails come from."
  type        = string

  validation {
    condition     = can(regex("^[^@ ]+@[^@ ]+$", var.mail_sender))
    error_message = "mail_sender: give an e-mail address."
  }
}
