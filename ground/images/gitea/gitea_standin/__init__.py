"""A stand-in for Gitea: its operational contract on real git, sshd and PostgreSQL. README.md lists its limits."""
