"""Nonsense from a peer of Raft: nothing raises, nothing that is committed is lost, and what was
written can be started from.
"""

from typing import Any, Union

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from consensus.raft_member import (
    CHAIN,
    LATE,
    ME,
    MEMBERS,
    B,
    C,
    elect,
    entry,
    get_records,
    noop,
    say,
    start,
)
from quorate.base.rng import Rng
from quorate.consensus.raft import Raft
from quorate.consensus.raft_elections import MAX_TERM_JUMP
from quorate.consensus.raft_types import (
    Append,
    Appended,
    Commit,
    Confirm,
    Confirmed,
    ReadReply,
    ReadRequest,
    RequestVote,
    TimeoutNow,
    VoteReply,
)
from quorate.consensus.replica import Base, Deliver
from quorate.simulator.keys import SimulatedKeys

STRANGER = bytes([9]) * 20
encode = msgspec.msgpack.Encoder().encode
decode_message = msgspec.msgpack.Decoder(Union[Raft.WIRE]).decode  # noqa: UP007
decode_record = msgspec.msgpack.Decoder(Union[Raft.RECORDS]).decode  # noqa: UP007

MESSAGES: list[Any] = [
    Append(1, 0, 0, [noop(1, 1), entry(2, 1)], 2),
    Append(1, 2, 1, [noop(3, 1, height=1)], 3),
    Append(2, 1, 1, [noop(2, 2)], 1),
    Append(2, 0, 0, [], 0),
    Appended(1, True, 1),
    Appended(1, False, 0),
    Commit(1, 2),
    Confirm(1, 1),
    Confirmed(1, 1),
    ReadRequest(3),
    ReadReply(1, 4),
    RequestVote(2, 3, 2, False, False),
    RequestVote(2, 3, 2, True, True),
    TimeoutNow(1),
    VoteReply(1, True, True),
    VoteReply(1, True, False),
]


def draw_message(data: st.DataObject) -> Any:
    """Return a message with some bytes changed, None if it cannot be decoded."""
    raw = bytearray(encode(data.draw(st.sampled_from(MESSAGES))))
    for _ in range(data.draw(st.integers(0, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        return decode_message(bytes(raw))
    except msgspec.DecodeError:
        return None


def check(raft: Raft, effects: list[Any], before: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Check what always holds; return the committed entries as (index, term)."""
    log = raft.log
    assert [e.index for e in log.entries] == list(
        range(log.base_index + 1, log.base_index + 1 + len(log.entries))
    )
    assert log.base_index <= raft.commit <= log.last_index
    after = [(e.index, e.term) for e in log.entries if e.index <= raft.commit]
    assert after[: len(before)] == before
    heights = [e.height for e in effects if isinstance(e, Deliver)]
    assert heights == sorted(set(heights))
    for record in get_records(effects):
        assert decode_record(encode(record)) == record
    return after


@settings(max_examples=300)
@given(st.data())
def test_messages_with_changed_bytes_break_nothing(data: st.DataObject) -> None:
    raft = start()
    journal: list[Any] = []
    if data.draw(st.booleans()):
        journal += get_records(elect(raft))
    committed: list[tuple[int, int]] = []
    for step in range(12):
        message = draw_message(data)
        if message is None:
            continue
        sender = data.draw(st.sampled_from([B, B, C, ME, STRANGER]))
        effects = say(raft, sender, message, LATE * (1 + step))
        committed = check(raft, effects, committed)
        journal += get_records(effects)
    again = Raft(SimulatedKeys(ME), CHAIN, Rng(1))
    again.start(0, Base(0, CHAIN, b"", [], MEMBERS, MEMBERS), journal)
    assert (again.log.last_index, again.log.last_term) == (raft.log.last_index, raft.log.last_term)


def test_stranger_is_neither_leader_nor_candidate() -> None:
    raft = start()
    say(raft, B, Append(1, 0, 0, [noop(1, 1)], 1))
    for message in (
        Append(5, 1, 1, [], 0),
        Confirm(5, 1),
        RequestVote(5, 1, 1, False, True),
    ):
        assert say(raft, STRANGER, message) == []
    assert (raft.term, raft.leader, raft.dropped["stranger"]) == (1, B, 3)


def test_unknown_member_whose_log_is_further_may_lead() -> None:
    raft = start()
    assert say(raft, STRANGER, RequestVote(5, 9, 4, False, False)) != []
    assert raft.voted_for == STRANGER


def test_term_far_ahead_is_nonsense() -> None:
    raft = start()
    say(raft, B, Append(MAX_TERM_JUMP + 1, 0, 0, [], 0))
    assert raft.term == 0
    say(raft, B, Append(MAX_TERM_JUMP, 0, 0, [], 0))
    assert raft.term == MAX_TERM_JUMP
