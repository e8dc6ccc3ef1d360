"""Unit tests of ops.gate."""
