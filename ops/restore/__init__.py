"""Restore a site, one repository or a scratch site for the drill."""
