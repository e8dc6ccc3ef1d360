"""Unit tests of ops.stack."""
