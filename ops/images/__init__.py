"""Container images: pins, versions and the image of `ops`."""
