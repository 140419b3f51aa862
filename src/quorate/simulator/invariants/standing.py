"""Where anybody may join: honest nodes do not ban each other, whatever others do to them.

A rule that an honest peer can break by bad luck, or by passing on what a liar made, would let an
attacker cut a network apart by its own defences.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from quorate.simulator.world import World

__all__ = ["watch_bans"]


def watch_bans(world: "World") -> None:
    """Judge bans at the end of a run."""

    def judge() -> None:
        honest = {m.address: m for m in world.machines if m.is_honest}
        for machine in honest.values():
            discovery = None if machine.node is None else machine.node.discovery
            if discovery is None:
                continue
            for who, ban in discovery.standing.bans.items():
                other = honest.get(who)
                if other is not None:
                    world.find(
                        "honest peers are not banned",
                        f"{machine.name} banned {other.name}: {ban.reason}",
                        machine,
                    )

    world.on_end.append(judge)
