"""Unit tests of ops.deploy."""
