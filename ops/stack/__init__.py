"""The running containers: health, maintenance mode, certificates, accounts, mail."""
