"""The gated stages and their evidence."""
