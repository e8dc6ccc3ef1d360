"""Unit tests of ops.world."""
