"""Faults, attacks and losses: tests for the night and for a release."""
