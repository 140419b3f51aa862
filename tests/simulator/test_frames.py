"""Frames are decoded once, and only what cannot be changed is shared."""

from typing import Any

import msgspec
import pytest

from quorate.consensus import ENGINES
from quorate.consensus.tendermint_types import Decided, Proposal, Proposed, Status, Vote, Voted
from quorate.node.messages import Tip
from quorate.node.wire import encode, make_decoder, make_record_decoder
from quorate.simulator.frames import MAX_KNOWN, Frames, is_flat

WIRE = ENGINES["tendermint"].wire
VOTE = Vote(1, 5, 0, bytes(32), bytes(20), bytes(65))


def make(frames: Frames, calls: list[bytes]) -> Any:
    read = make_decoder(WIRE).decode

    def count(frame: bytes) -> Any:
        calls.append(frame)
        return read(frame)

    return frames.share(count)


def test_all_who_read_a_vote_get_one() -> None:
    frames, calls = Frames(WIRE), list[bytes]()
    one, other = make(frames, calls), make(frames, calls)
    frame = encode(VOTE)
    assert one(frame) == VOTE
    assert other(bytes(bytearray(frame))) is one(frame)
    assert len(calls) == 1


def test_what_could_be_changed_or_is_not_the_engines_is_decoded_each_time() -> None:
    decode = make(Frames(WIRE), calls := [])
    for message in (Status(1, 0, True, []), Tip(1, 1)):
        frame = encode(message)
        assert decode(frame) == message
        assert decode(frame) is not decode(frame)
    assert len(calls) == 6


def test_nonsense_raises_each_time() -> None:
    decode = make(Frames(WIRE), calls := [])
    for _ in range(2):
        with pytest.raises(msgspec.MsgspecError):
            decode(b"\x92\x01")
    assert len(calls) == 2


def test_frames_that_are_remembered_are_bounded() -> None:
    frames = Frames(WIRE)
    decode = make(frames, [])
    for height in range(1, 3 * MAX_KNOWN):
        decode(encode(msgspec.structs.replace(VOTE, height=height)))
        assert len(frames.known) <= MAX_KNOWN


def test_kinds_with_lists_are_not_flat() -> None:
    assert is_flat(Vote)
    assert is_flat(Proposal)
    assert not is_flat(Status)


def test_records_are_shared_if_nothing_in_them_can_be_changed() -> None:
    kinds = ENGINES["tendermint"].records
    frames = Frames(kinds)
    assert list(frames.flat) == [Proposed, Voted]
    decode = frames.share(make_record_decoder(kinds).decode)
    vote, decided = encode(Voted(VOTE)), encode(Decided(5, [b"payload"], b"certificate"))
    assert decode(vote) is decode(bytes(bytearray(vote)))
    assert decode(vote) == Voted(VOTE)
    assert decode(decided) == decode(decided)
    assert decode(decided) is not decode(decided)
