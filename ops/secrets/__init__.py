"""The site's secrets: where they are kept, and how they are rotated."""
