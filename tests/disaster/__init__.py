"""Faults, attacks and losses: tests that run nightly and before a release."""
