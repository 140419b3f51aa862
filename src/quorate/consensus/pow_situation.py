"""A proof-of-work replica's situation in words, for `status` and `why-stalled`."""

from typing import TYPE_CHECKING

from quorate.consensus.pow_difficulty import compute_work, format_rate
from quorate.consensus.replica import Situation

if TYPE_CHECKING:
    from quorate.consensus.pow import Pow

WEAK_RATE = 10**12
"""Hashes per second, about a thousand graphics cards: below, hash power to rewrite the chain is
rented in minutes.
"""
SAMPLE = 64
"""Blocks from which the hash rate is estimated."""


def estimate_rate(replica: "Pow") -> int | None:
    """Return the hash rate of all miners, from the work of the newest blocks and the time that they
    took; None where there are too few.
    """
    nodes = replica.tree.path[-SAMPLE - 1 :]
    if len(nodes) < 3:
        return None
    elapsed_ms = nodes[-1].timestamp_ms - nodes[0].timestamp_ms
    return (nodes[-1].work - nodes[0].work) * 1000 // max(elapsed_ms, 1)


def describe_situation(replica: "Pow") -> Situation:
    """Return what the replica is doing, how heavy its chain is, and what it misses."""
    tree = replica.tree
    height = tree.head.height + 1
    if replica.expects_blocks():
        step = "catching up"
        waiting_for = f"blocks up to height {tree.best.height}, whose headers are here"
    elif replica.checking is not None:
        step = "judging"
        waiting_for = f"the application to check block {replica.checking.height}"
    else:
        step = "mining" if replica.is_sealing else "following"
        waiting_for = f"a block at height {height}, one in {describe_interval(replica)} on average"
        if replica.is_behind():
            waiting_for += (
                f"; headers of a heavier chain are here up to height {tree.best.height}, "
                "and nobody here gives its blocks"
            )
    return Situation(height, 0, step, None, waiting_for, describe_work(replica), [], None)


def describe_interval(replica: "Pow") -> str:
    seconds = replica.settings.interval_ms / 1000
    return f"{seconds:g} s"


def describe_work(replica: "Pow") -> str:
    """Say how strong the chain is and what is missing from it."""
    tree = replica.tree
    rate = estimate_rate(replica)
    parts = [f"{compute_work(tree.head.next_target)} hashes a block"]
    if rate is not None:
        parts.append(f"all miners together about {format_rate(rate)}")
        if rate < WEAK_RATE:
            parts.append("so little that anyone can rewrite this chain")
    if tree.head.height:
        parts.append(f"final up to {tree.root.height}")
    if replica.flying:
        parts.append(f"{len(replica.flying)} blocks asked for")
    orphans = len(replica.orphans.by_hash)
    if orphans:
        parts.append(f"{orphans} blocks whose parents are unknown")
    return ", ".join(parts)


def collect_facts(replica: "Pow") -> dict[str, int]:
    """Return what status and metrics show of the work."""
    tree, settings = replica.tree, replica.settings
    return {
        "difficulty": compute_work(tree.head.next_target),
        "hashes_per_second": estimate_rate(replica) or 0,
        "interval_ms": settings.interval_ms,
        "safe_depth": settings.safe_depth,
        "final_depth": settings.final_depth,
        "blocks_found": replica.found,
        "reorganizations": sum(replica.reorganizations.values()),
        "deepest_reorganization": max(replica.reorganizations, default=0),
        "orphans": len(replica.orphans.by_hash),
    }


def describe_alarm(replica: "Pow") -> str:
    """Say that a heavier chain was refused."""
    if replica.refused is None:
        return ""
    # Without numbers that change with every block, since each new text is told again.
    return (
        f"a chain with more work forks at or below height {replica.refused[1]}, which is final "
        "here: it is refused; people must decide which chain is the one, and reset the nodes of "
        "the other"
    )
