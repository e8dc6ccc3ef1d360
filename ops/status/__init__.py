"""What the site is like now, from all its records: the metrics that `ops` writes for Prometheus."""
