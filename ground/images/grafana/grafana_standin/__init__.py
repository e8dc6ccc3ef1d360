"""A stand-in for Grafana: see __main__.py."""
