"""Unit tests of ops.restore."""
