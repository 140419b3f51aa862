"""Why nothing happens, in words: the sentence behind `why-stalled`."""

from quorate.base.types import SECOND, Address, Height, Nanoseconds
from quorate.consensus.replica import Situation
from quorate.node.peers import Peers

NO_WORK = "something to agree on"
"""What engines say that they wait for when nobody has asked for anything."""
MAX_NAMED = 8
"""Silent members that are named one by one."""


def format_duration(duration: Nanoseconds) -> str:
    """Return a length of time as people say it: `350 ms`, `1.2 s`, `12 s`, `3 min`."""
    if duration < SECOND:
        return f"{max(duration, 0) // 1_000_000} ms"
    if duration < 10 * SECOND:
        return f"{duration // (SECOND // 10) / 10} s"
    if duration < 120 * SECOND:
        return f"{duration // SECOND} s"
    return f"{duration // (60 * SECOND)} min"


def describe_silent(
    silent: list[Address], members: list[Address], peers: Peers, now: Nanoseconds
) -> str:
    """Name the silent members, with their place in the validator set and their link."""
    parts = []
    for address in silent[:MAX_NAMED]:
        place = f"validator {members.index(address)}" if address in members else "no member"
        peer = peers.known.get(address)
        if peer is None or (not peer.greeted and peer.left_at is None and peer.heard_at is None):
            link = "never connected"
        elif peer.greeted:
            heard = peer.heard_at
            link = "connected" + (f", heard {format_duration(now - heard)} ago" if heard else "")
        elif peer.left_at is not None and not peer.connected:
            link = f"disconnected {format_duration(now - peer.left_at)} ago"
        else:
            link = "connected, but has not introduced itself"
        if peer is not None and peer.refused:
            link += f", refused: {peer.refused}"
        parts.append(f"0x{address.hex()} ({place}, {link})")
    if len(silent) > MAX_NAMED:
        parts.append(f"{len(silent) - MAX_NAMED} more")
    return "; ".join(parts)


def explain(
    *,
    now: Nanoseconds,
    me: Address,
    failed: str,
    situation: Situation,
    members: list[Address],
    peers: Peers,
    syncing_to: Height | None,
    delivered: Height,
    final: Height,
    durable: Height,
    has_work: bool,
    held_back: bool,
    lack: Height | None = None,
) -> str:
    """Return one line that says what this node waits for; the first cause that applies."""
    if failed:
        return f"stopped: {failed}"
    if lack is not None:
        return (
            f"catching up: no connected peer keeps height {lack} any more; start from a snapshot "
            "(`quorate snapshot`)"
        )
    if syncing_to is not None and syncing_to > final:
        return f"catching up: {final} of {syncing_to}"
    if delivered > final:
        return f"height {delivered}: decided, executing; final here: {final}"
    if held_back:
        return (
            f"height {final}: the store is {final - durable} heights behind; agreement waits for it"
        )
    others = [a for a in members if a != me]
    if me not in members:
        position = f"following as no member: height {final}"
        if not any(a in peers.connected for a in others):
            position += "; no member is connected"
        return position
    # Without work nobody has to do anything, but for a leader that shows that it is there.
    rests = situation.next_timeout is None or situation.waiting_for.startswith(NO_WORK)
    if rests and not has_work and not situation.missing:
        text = "idle: nothing to agree on"
        absent = [a for a in others if a not in peers.connected]
        if absent:
            text += f"; not connected: {describe_silent(absent, members, peers, now)}"
        return text + describe_timeout(situation, now)
    text = f"height {situation.height} round {situation.round}: "
    waiting = situation.waiting_for or situation.step
    # What is missing is often told of the thing that is waited for, and then names it again.
    if situation.missing and not situation.missing.startswith(waiting):
        text += f"{waiting}: {situation.missing}"
    else:
        text += situation.missing or waiting
    if situation.silent:
        text += f"; silent: {describe_silent(situation.silent, members, peers, now)}"
    return text + describe_timeout(situation, now)


def describe_timeout(situation: Situation, now: Nanoseconds) -> str:
    """Say which timeout falls next, if one does."""
    if situation.next_timeout is None:
        return ""
    name, at = situation.next_timeout
    return f"; next timeout: {name} in {format_duration(at - now)}"


def explain_open(*, failed: str, alarm: str, situation: Situation, connected: int) -> str:
    """Return the same of a node whose engine has no members: it never waits for anybody."""
    if failed:
        return f"stopped: {failed}"
    text = f"{situation.step}: waits for {situation.waiting_for}"
    if situation.missing:
        text += f"; {situation.missing}"
    if not connected:
        text += "; no peer is connected, so nobody else hears of this chain"
    return f"{alarm}; {text}" if alarm else text
