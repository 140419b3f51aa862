"""A log that begins anew at a height whose state the application has taken over."""

import pytest
from msgspec.structs import replace

from consensus import raft_member as member
from consensus.raft_member import CHAIN, LATE, ME, MEMBERS, PAYLOAD, B, C
from quorate.base.errors import Corrupt
from quorate.base.rng import Rng
from quorate.base.types import Member
from quorate.consensus.certificate import decode_envelope
from quorate.consensus.raft import Raft
from quorate.consensus.raft_certificate import encode_certificate
from quorate.consensus.raft_log import Log
from quorate.consensus.raft_types import (
    Append,
    Appended,
    Ballot,
    Based,
    Certificate,
    Settings,
    Written,
)
from quorate.consensus.replica import Base, Checkpoint, Record, StateClaim
from quorate.crypto.hashes import hash_payload, keccak256
from quorate.simulator.keys import SimulatedKeys

STRANGER = b"\x09" * 20
LOWER = member.make_envelope(7, 3)
UPPER = member.make_envelope(8, 3, keccak256(LOWER))


def certify(envelope: bytes, index: int = 9) -> bytes:
    return encode_certificate(Certificate(decode_envelope(envelope), 3, index, [B, C]))


BASE = Base(7, keccak256(LOWER), certify(LOWER), [PAYLOAD], MEMBERS, MEMBERS, MEMBERS)


def restart(*journal: Record) -> Raft:
    """Return a replica whose application is at height 7, log index 9 of term 3."""
    raft = Raft(SimulatedKeys(ME), CHAIN, Rng(1), Settings())
    raft.start(0, BASE, journal)
    raft.take()
    return raft


def judge(raft: Raft, **changes: object) -> str:
    claim = StateClaim(
        B,
        7,
        keccak256(LOWER),
        certify(LOWER),
        certify(UPPER, 10),
        hash_payload(PAYLOAD),
        [MEMBERS] * 3,
    )
    return raft.find_state_fault(replace(claim, **changes))


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({}, ""),
        ({"sender": STRANGER}, "offered by a stranger"),
        ({"height": 6}, "not of height 6"),
        ({"envelope": bytes(32)}, "about another envelope"),
        ({"certificate": b""}, "expected version 2"),
        ({"next_certificate": certify(LOWER)}, "does not follow height 7"),
        ({"next_certificate": certify(member.make_envelope(8, 3))}, "does not follow height 7"),
        ({"payload": bytes(32)}, "the payload after it is another one"),
        ({"members": [MEMBERS, MEMBERS, MEMBERS[:2]]}, "does not follow height 7"),
        ({"members": [MEMBERS[:2], MEMBERS, MEMBERS]}, "not of height 7 and its members"),
        ({"members": [[], MEMBERS, MEMBERS]}, "validator set"),
        ({"members": [[Member(b"", -1)], MEMBERS, MEMBERS]}, "validator set"),
    ],
)
def test_offer_is_compared_with_what_vouches_for_it(changes: dict[str, object], fault: str) -> None:
    found = judge(member.start(), **changes)
    assert fault in found
    assert bool(found) == bool(fault)


def test_log_begins_behind_the_state_and_says_so_in_the_journal() -> None:
    raft = member.start()
    member.say(raft, B, Append(3, 0, 0, [member.noop(1, 3), member.entry(2, 3)], 0))
    raft.install(LATE, BASE)
    effects = raft.take()
    assert member.get_records(effects) == [Based(7, BASE.certificate)]
    cut = next(e for e in effects if type(e) is Checkpoint)
    assert cut == Checkpoint(7, [Ballot(3, bytes(20))])
    assert (raft.log.base_index, raft.log.last_index, raft.log.base_term) == (9, 9, 3)
    assert (raft.height, raft.applied_height, raft.commit) == (7, 7, 9)
    # The leader goes on from there.
    following = member.entry(10, 3, 8)
    effects = member.say(raft, B, Append(3, 9, 3, [following], 9))
    assert member.get_sends(effects, Appended) == [(B, Appended(3, True, 10))]


def test_what_was_acknowledged_behind_the_state_stays() -> None:
    raft = member.start()
    entries = [member.noop(i, 3) for i in range(1, 9)]
    member.say(
        raft, B, Append(3, 0, 0, [*entries, member.entry(9, 3, 1), member.noop(10, 3, 1)], 0)
    )
    raft.install(LATE, BASE)
    cut = next(e for e in raft.take() if type(e) is Checkpoint)
    assert [e.index for e in raft.log.entries] == [10]
    assert cut.records[1:] == [Written(9, raft.log.entries)]


def test_what_contradicts_the_state_goes() -> None:
    raft = member.start()
    entries = [member.noop(i, 2) for i in range(1, 12)]
    member.say(raft, B, Append(2, 0, 0, entries, 0))
    raft.install(LATE, BASE)
    assert raft.log.entries == []
    assert raft.log.last_term == 3


def test_a_leader_that_was_left_behind_follows() -> None:
    raft = member.start()
    raft.role, raft.leader = "leader", ME
    raft.install(LATE, BASE)
    assert (raft.role, raft.leader) == ("follower", None)
    assert "election" in raft.timers


def test_restart_between_store_and_journal_keeps_what_agrees() -> None:
    """The store has jumped; the journal is the one of before."""
    old = [member.noop(i, 3) for i in range(1, 12)]
    assert [e.index for e in restart(Written(0, old)).log.entries] == [10, 11]
    assert restart(Written(0, old[:5])).log.entries == []
    parts = Written(0, old[:9]), Written(9, old[9:10]), Written(10, old[10:])
    assert [e.index for e in restart(*parts).log.entries] == [10, 11]


def test_restart_between_store_and_journal_gives_up_what_contradicts() -> None:
    old = [member.noop(i, 2) for i in range(1, 10)]
    # Entry 9 is another one than the one that was decided, so none behind it may stay, whatever
    # its term.
    raft = restart(
        Written(0, old), Written(9, [member.noop(10, 4)]), Written(10, [member.noop(11, 4)])
    )
    assert (raft.log.entries, raft.log.last_term) == ([], 3)
    # Later it was corrected, and then these may.
    again = Written(8, [member.noop(9, 3), member.noop(10, 4)])
    raft = restart(Written(0, old), Written(9, [member.noop(10, 4)]), again)
    assert [(e.index, e.term) for e in raft.log.entries] == [(10, 4)]


def test_restart_knows_what_was_based_on_the_state() -> None:
    old = [member.noop(i, 2) for i in range(1, 11)]
    journal = [Written(0, old), Based(7, BASE.certificate), Written(9, [member.noop(10, 5)])]
    assert [e.term for e in restart(*journal).log.entries] == [5]


def test_store_that_is_older_than_the_state_is_refused() -> None:
    raft = Raft(SimulatedKeys(ME), CHAIN, Rng(1), Settings())
    base = Base(0, CHAIN, b"", [], MEMBERS, MEMBERS)
    with pytest.raises(Corrupt, match="the state was taken over at height 7"):
        raft.start(0, base, [Based(7, BASE.certificate)])


def test_gap_in_a_journal_is_corrupt() -> None:
    log = Log(0, 0, 0)
    with pytest.raises(Corrupt, match="entries after index 3, expected at most 0"):
        log.restore(3, [member.noop(4, 1)])
