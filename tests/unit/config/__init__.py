"""Unit tests of ops.config."""
