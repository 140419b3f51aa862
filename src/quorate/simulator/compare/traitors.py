"""Liars for engines that do not tolerate any, so that a comparison can show what comes of it."""

from typing import Any

from msgspec.structs import replace

from quorate.base.types import Address, Hash
from quorate.consensus.certificate import decode_envelope, encode_envelope
from quorate.consensus.raft_types import Append, Entry
from quorate.crypto.hashes import HEAD_BYTES, hash_payload, keccak256
from quorate.ledger.payload import compose, parse_head
from quorate.simulator.actors import Actor, Equivocator, TwoFaced

__all__ = ["LIARS", "ForkingLeader"]

MAX_FORKED = 1 << 12
"""Entries whose other version is remembered."""


class ForkingLeader(Actor):
    """Leads by the rules of Raft, and shows every other follower another log.

    It keeps the index and term of each entry, so every follower acknowledges what it got, and each
    side commits its own version.
    """

    title = "leads two ways"

    def __init__(self, machine: Any, shared: dict[Any, Any] | None = None) -> None:
        super().__init__(machine, shared)
        self.forked: dict[tuple[int, int], Entry] = {}
        self.parents: dict[Hash, Hash] = {}

    def twist(self, to: Address, m: Any) -> list[Any]:
        peers = self.world.peers
        if (
            not isinstance(m, Append)
            or peers.index(to) % 2 == peers.index(self.machine.address) % 2
        ):
            return [m]
        return [replace(m, entries=[self.fork(entry) for entry in m.entries])]

    def fork(self, entry: Entry) -> Entry:
        """Return the other version of an entry, the same whenever it is asked for."""
        known = self.forked.get((entry.term, entry.index))
        if known is not None or not entry.envelope or len(self.forked) >= MAX_FORKED:
            return known or entry
        opened = decode_envelope(entry.envelope)
        parent, time, proposer = parse_head(entry.payload)
        payload = compose(parent, time + 1, proposer, entry.payload[HEAD_BYTES:])
        other = replace(
            opened,
            payload=hash_payload(payload),
            parent=self.parents.get(opened.parent, opened.parent),
        )
        envelope = encode_envelope(other)
        self.parents[keccak256(entry.envelope)] = keccak256(envelope)
        self.forked[entry.term, entry.index] = made = replace(
            entry, envelope=envelope, payload=payload
        )
        return made


LIARS: dict[str, tuple[type[Actor], ...]] = {
    "tendermint": (TwoFaced, Equivocator),
    "raft": (ForkingLeader,),
}
"""By engine: characters that are tried one after another."""
