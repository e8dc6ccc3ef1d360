"""Operations of a Gitea site: deploy it, prove it, keep it alive."""

__version__ = "0.1.0"
