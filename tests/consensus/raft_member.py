"""A lone Raft replica for tests of its rules: one input, the effects that it has."""

from typing import Any

from quorate.base.rng import Rng
from quorate.base.types import Address, Member
from quorate.consensus.certificate import Envelope, encode_envelope
from quorate.consensus.membership import hash_members
from quorate.consensus.raft import Raft
from quorate.consensus.raft_types import Entry, Settings, VoteReply
from quorate.consensus.replica import Base, Persist, Record, Send, Timer
from quorate.crypto.hashes import hash_payload
from quorate.simulator.keys import SimulatedKeys

ME, B, C = (bytes([i]) * 20 for i in (1, 2, 3))
MEMBERS = [Member(who, 1) for who in (ME, B, C)]
CHAIN = bytes(32)
MS = 1_000_000
LATE = 3_000 * MS
PAYLOAD = bytes(64) + b"body"


def make_envelope(height: int, term: int, parent: bytes = CHAIN) -> bytes:
    members = hash_members(MEMBERS)
    return encode_envelope(
        Envelope("raft", height, term, B, parent, members, members, hash_payload(PAYLOAD))
    )


def entry(index: int, term: int, height: int = 1) -> Entry:
    return Entry(term, index, height, make_envelope(height, term), PAYLOAD)


def noop(index: int, term: int, height: int = 0) -> Entry:
    return Entry(term, index, height, b"", b"")


def start(*journal: Record, members: list[Member] = MEMBERS, **settings: Any) -> Raft:
    raft = Raft(SimulatedKeys(ME), CHAIN, Rng(1), Settings(**settings))
    raft.start(0, Base(0, CHAIN, b"", [], members, members), journal)
    raft.take()
    return raft


def say(raft: Raft, sender: Address, message: Any, now: int = LATE) -> list[Any]:
    raft.receive(now, sender, message)
    return raft.take()


def get_sends(effects: list[Any], kind: type[Any]) -> list[tuple[Address, Any]]:
    return [(e.to, e.message) for e in effects if type(e) is Send and type(e.message) is kind]


def get_records(effects: list[Any]) -> list[Any]:
    return [e.record for e in effects if type(e) is Persist]


def elect(raft: Raft) -> list[Any]:
    """Let a replica become leader of the next term; return the effects of the last vote."""
    raft.timeout(LATE, Timer("election"))
    raft.take()
    term = raft.term + 1
    say(raft, B, VoteReply(term, True, True))
    say(raft, ME, VoteReply(term, True, True))
    say(raft, ME, VoteReply(term, True, False))
    return say(raft, B, VoteReply(term, True, False))
