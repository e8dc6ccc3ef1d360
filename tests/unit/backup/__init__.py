"""Unit tests of ops.backup."""
