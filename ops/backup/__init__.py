"""Backups: take, upload, verify, list, prune and rewind them."""
