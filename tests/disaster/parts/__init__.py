"""Disasters on parts of the stack."""
