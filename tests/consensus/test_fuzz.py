"""Garbage from the wire: decoding refuses it, or the replica drops it; nothing else happens."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consensus.network import CheapKeys, decode_message, decode_record, encode
from consensus.single import Single
from quorate.base.rng import Rng
from quorate.consensus import ENGINES
from quorate.consensus.certificate import PRECOMMIT, PREVOTE
from quorate.consensus.replica import Decision, Deliver
from quorate.consensus.tendermint import Tendermint
from quorate.consensus.tendermint_types import Held, Proposal, Status, Vote

NUMBERS = st.one_of(st.integers(-3, 3), st.integers(-(2**63), 2**64 - 1))
BYTES = st.one_of(st.binary(max_size=70), st.sampled_from([bytes(20), bytes(32), bytes(65)]))
FIELDS: Any = st.recursive(
    st.one_of(NUMBERS, BYTES, st.booleans(), st.none(), st.text(max_size=8)),
    lambda inner: st.lists(inner, max_size=8),
    max_leaves=20,
)


@given(st.binary(max_size=300))
def test_bytes_never_do_more_than_fail_to_decode(data: bytes) -> None:
    for decode in (decode_message, decode_record):
        with pytest.raises((msgspec.DecodeError, msgspec.ValidationError)):
            decode(data)


@given(st.integers(0, 6), st.lists(FIELDS, max_size=8))
def test_any_fields_are_refused_or_received(tag: int, fields: list[Any]) -> None:
    one = Single()
    try:
        message = decode_message(encode([tag, *fields]))
    except msgspec.DecodeError:
        return
    one.replica.receive(0, one.others[0], message)
    assert not [effect for effect in one.take() if isinstance(effect, Deliver)]


def make_messages(one: Single) -> list[Any]:
    return [
        one.proposal(),
        one.proposal(round=1, valid_round=0, first=0),
        one.vote(PREVOTE, one.others[0], one.value()),
        one.vote(PRECOMMIT, one.others[1]),
        one.decision(),
        Status(1, 0, True, [Held(0, True, True, b"\x07", b"\x01")]),
    ]


@settings(max_examples=500)
@given(st.data())
def test_messages_with_changed_bytes_never_raise_or_decide(data: st.DataObject) -> None:
    one = Single()
    messages = make_messages(one)
    for _ in range(6):
        raw = bytearray(encode(data.draw(st.sampled_from(messages))))
        for _ in range(data.draw(st.integers(0, 3))):
            raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
        try:
            message = decode_message(bytes(raw))
        except msgspec.DecodeError:
            continue
        sender = data.draw(st.sampled_from([*one.others, one.me, bytes(20)]))
        one.replica.receive(0, sender, message)
        for effect in one.take():
            if isinstance(effect, Deliver):
                assert effect.payloads == one.decision().payloads


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=30))
def test_any_order_of_good_messages_is_taken(order: list[tuple[int, bool]]) -> None:
    one = Single()
    messages = make_messages(one)
    for index, check in order:
        one.hear(messages[index])
        if check:
            one.check()
    assert one.replica.height in (1, 2)


def test_fields_out_of_bounds_do_not_decode() -> None:
    one = Single()
    good = msgspec.msgpack.decode(encode(one.vote(PREVOTE, one.others[0])))
    assert decode_message(encode(good)) == one.vote(PREVOTE, one.others[0])
    for at, wrong in (
        (1, 0),
        (1, 3),
        (2, -1),
        (2, 2**63),
        (3, 2**31),
        (4, bytes(31)),
        (5, bytes(21)),
        (6, bytes(64)),
    ):
        with pytest.raises(msgspec.ValidationError):
            decode_message(encode([*good[:at], wrong, *good[at + 1 :]]))


def test_every_message_of_tendermint_has_its_handler() -> None:
    heard = []

    class Listener(Tendermint):
        def on_proposal(self, now: int, sender: bytes, m: Proposal) -> None:
            heard.append(type(m))

        def on_vote(self, now: int, sender: bytes, m: Vote) -> None:
            heard.append(type(m))

        def on_status(self, now: int, sender: bytes, m: Status) -> None:
            heard.append(type(m))

        def on_decision(self, now: int, sender: bytes, m: Decision) -> None:
            heard.append(type(m))

    replica = Listener(CheapKeys(0), bytes(32), Rng(0))
    messages = (
        Decision(5, [], b""),
        Proposal(5, 0, -1, bytes(180), b"", bytes(65)),
        Vote(1, 5, 0, bytes(32), bytes(20), bytes(65)),
        Status(5, 0, False, []),
    )
    for message in messages:
        replica.receive(0, bytes(20), message)
        assert replica.get_shown(message) == 4
    assert heard == list(Tendermint.WIRE)


def test_every_engine_has_distinct_tags_that_leave_room_for_the_node() -> None:
    for name, engine in ENGINES.items():
        assert engine.name == name
        tags = [kind.__struct_config__.tag for kind in engine.wire]
        assert len(set(tags)) == len(tags)
        assert all(isinstance(tag, int) and 0 <= tag < 100 for tag in tags)
        if name != "tendermint":
            assert set(engine.replica.HANDLERS) == set(engine.wire)  # type: ignore[attr-defined]
        records = [kind.__struct_config__.tag for kind in engine.records]
        assert len(set(records)) == len(records)
