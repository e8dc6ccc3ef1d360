"""The caches of the registry: which runs share one, and which are removed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ground import registry


@dataclass
class Volume:
    name: str
    created: str
    attrs: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        self.attrs = {"CreatedAt": self.created}


def test_runs_share_a_cache_only_if_their_images_are_the_same() -> None:
    first = registry.cache_volume({"nginx:1": "hermetic/nginx:0af3", "busybox:1": "hermetic/busybox:11"})
    assert first == registry.cache_volume({"busybox:1": "hermetic/busybox:11", "nginx:1": "hermetic/nginx:0af3"})
    assert first != registry.cache_volume({"nginx:1": "hermetic/nginx:0af4", "busybox:1": "hermetic/busybox:11"})


def test_the_cache_in_use_and_the_two_newest_others_are_kept() -> None:
    found: Any = [Volume(f"{registry.CACHE_PREFIX}-{day}", f"2026-11-{day}T10:00:00Z") for day in (21, 24, 22, 23)]
    others: Any = [Volume("gitea-suite-apt-cache", "2026-11-01T10:00:00Z")]
    removed = registry.superseded([*found, *others], f"{registry.CACHE_PREFIX}-21")
    assert [each.name for each in removed] == [f"{registry.CACHE_PREFIX}-22"]
    # The one name that all runs shared before.
    old: Any = Volume(registry.CACHE_PREFIX, "2026-11-20T10:00:00Z")
    assert old in registry.superseded([*found, old], f"{registry.CACHE_PREFIX}-24")
