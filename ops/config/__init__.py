"""The site file, and what is derived from it."""
