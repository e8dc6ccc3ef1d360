"""The ground a local site stands on: everything that AWS, Docker Hub, Let's Encrypt and SES are in production."""
