"""Unit tests of ops.images."""
