"""Unit tests of ops.secrets."""
