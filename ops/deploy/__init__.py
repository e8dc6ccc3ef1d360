"""Deploy, check and destroy a site."""
