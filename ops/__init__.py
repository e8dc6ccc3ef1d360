"""Operations of a Gitea site on AWS: deploy, monitor, back up, restore and update it."""

__version__ = "0.1.0"
