"""Unit tests of ground."""
