"""HAProxy without HAProxy: the state that `hold` sets, and the sessions that it lists."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ops.world.containers import Member, Ran

MEMBER = Member("haproxy-1", "haproxy:3.2.26", "sha256:ha", "running", "healthy")


def session(backend: str, age: str, left: str = "58m59s", blocked: str = "") -> str:
    """Return a line of HAProxy's `show sess`: with the time left to receive from the client, and to send to it."""
    return (
        f"0x7f12: proto=tcpv4 src=172.18.0.4:50012 fe=web_in be={backend} srv=gitea ts=00 epoch=0 age={age} calls=3 rate=0 cpu=0 "
        f"lat=0 rq[f=848000h,i=0,an=00h,ax=] rp[f=80048000h,i=0,an=00h,ax=] scf=[8,0h,fd=17,rex={left},wex={blocked}] "
        "scb=[8,1h,fd=18,rex=58m1s,wex=] exp=58m57s rc=0 c_exp=\n"
    )


@dataclass
class FakeProxy:
    """``transfers`` returns the ages of running transfers at each look. ``note`` gets each change of the state."""

    transfers: Callable[[], Sequence[int]] = tuple
    note: Callable[[str], None] = field(default=lambda _: None)
    held: str = "none"
    sentence: str = ""
    waited: int = 0
    # More lines of `show sess`.
    others: str = ""
    members: tuple[Member, ...] = (MEMBER,)

    def execute(self, argv: Sequence[str]) -> Ran:
        """Do as `hold` does."""
        assert argv[0] == "hold"
        if argv[1] in {"transfers", "all"}:
            self.note(f"hold {argv[1]}")
            self.held, self.sentence = argv[1], argv[3]
        if argv[1] in {"transfers", "all", "sessions"}:
            running = "".join(session("transfers", f"{age}s") for age in self.transfers())
            return Ran(0, f'{{"held": "{self.held}"}}\n{running}{self.others}')
        if argv[1] == "none":
            self.note("hold none")
            self.held = "none"
        return Ran(
            0, json.dumps({"held": self.held, "waiting": 0, "served": self.waited, "refused": 0, "longest": 0.5})
        )
