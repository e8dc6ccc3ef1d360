"""Disaster tests on parts of the stack."""
