"""Fixtures of the disaster tests on parts of the stack."""

from __future__ import annotations

from tests.support.local_environment import (
    aws_endpoint,
    bench,
    built,
    docker_client,
    gitea_image,
    host_image,
    images_by_variable,
    in_memory,
    issuer,
    mailbox,
    mirror,
    operator,
    ops_image,
    postgres_image,
    run_context,
    run_id,
    stack,
)

__all__ = [
    "aws_endpoint",
    "bench",
    "built",
    "docker_client",
    "gitea_image",
    "host_image",
    "images_by_variable",
    "in_memory",
    "issuer",
    "mailbox",
    "mirror",
    "operator",
    "ops_image",
    "postgres_image",
    "run_context",
    "run_id",
    "stack",
]
