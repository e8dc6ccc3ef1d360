"""The test environment of a local site: stand-ins for AWS, Docker Hub, Let's Encrypt and SES."""
