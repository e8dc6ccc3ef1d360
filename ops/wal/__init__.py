"""The write-ahead log (WAL): shipping, base backups, recovery."""
