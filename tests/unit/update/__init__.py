"""Unit tests of ops.update."""
