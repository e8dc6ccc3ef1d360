"""Which frozen processes belong to a host."""

from __future__ import annotations

import os

from ground import freezer

# A host's first process (40) with an engine's shim (41) and a container (42), beside another host (50).
PARENTS = {1: 0, 40: 1, 41: 40, 42: 41, 50: 1, 51: 50}


def test_a_process_is_below_its_host_and_below_no_other() -> None:
    found = {process: freezer.is_below(process, 40, PARENTS.__getitem__) for process in PARENTS}
    assert found == {1: False, 40: True, 41: True, 42: True, 50: False, 51: False}


def test_a_parent_is_read_from_the_kernel_and_an_ended_process_has_none() -> None:
    assert freezer.parent_of(os.getpid()) == os.getppid()
    assert freezer.parent_of(2**22 + 1) == 0
