"""The site file, and the variables and paths derived from it."""
