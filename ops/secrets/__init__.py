"""The site's secrets: their store, and their rotation."""
