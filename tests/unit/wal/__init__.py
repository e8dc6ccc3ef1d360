"""Unit tests of ops.wal."""
