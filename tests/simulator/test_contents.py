"""What messages and records say, in words."""

from quorate.consensus.certificate import NIL, PRECOMMIT, PREVOTE
from quorate.consensus.replica import Decision
from quorate.consensus.tendermint_types import Entered, Polka, Vote, Voted
from quorate.node.wire import GetDecisions, Transactions
from quorate.simulator.contents import (
    Contents,
    describe,
    describe_records,
    format_bytes,
    shorten_hashes,
)

VOTER = bytes(range(20))
NAMES = {VOTER: "alice"}
VALUE = bytes([0xAB]) * 32


def make_vote(kind: int = PREVOTE, value: bytes = VALUE) -> Vote:
    return Vote(kind, 3, 1, value, VOTER, bytes(65))


def test_vote_says_its_kind_what_it_is_for_and_whose_it_is() -> None:
    assert describe(make_vote(), NAMES, 128) == Contents(
        "Prevote", "for 0xabababab by alice", 3, 1, 128
    )
    assert describe(make_vote(PRECOMMIT, NIL), {}).text == "for nil by 0x00010203.. (20 bytes)"


def test_other_messages_say_what_they_hold() -> None:
    decision = Decision(7, [b"12", b"345"], bytes(90))
    assert describe(decision, NAMES) == Contents(
        "Decision", "payload of 5 bytes, certificate of 90 bytes", 7
    )
    assert describe(GetDecisions(4, 10), NAMES).text == "first=4 count=10"
    items = Transactions([b"item %d" % i for i in range(10)], True)
    text = describe(items, NAMES).text
    assert text.startswith("'item 0', 'item 1'")
    assert text.endswith("and 2 more, to be relayed")


def test_records_are_counted_by_kind_and_told_one_by_one() -> None:
    vote = make_vote()
    contents = describe_records([Polka([vote]), Voted(vote), Voted(vote)], NAMES)
    assert (contents.name, contents.height) == ("Polka, 2 Voted", 3)
    assert contents.text == (
        "Polka 3/1 for 0xabababab by alice; Voted 3/1 for 0xabababab by alice; "
        "Voted 3/1 for 0xabababab by alice"
    )
    entered = describe_records([Entered(3, 2, [vote])], NAMES)
    assert entered.text == "Entered 3/2 votes=[Prevote 3/1 for 0xabababab by alice]"
    assert describe_records([], NAMES).name == "nothing"


def test_texts_have_a_bound() -> None:
    long = Transactions([b"\xff" * 24] * 8, False)
    assert len(describe(long, NAMES).text) <= 1000
    assert len(describe_records([Entered(3, 2, [make_vote()] * 8)] * 9, NAMES).text) <= 1000


def test_bytes_are_text_where_they_can_be_read() -> None:
    assert format_bytes(b"item 7") == "'item 7'"
    assert format_bytes(b"\x00\x01") == "0x0001"
    assert format_bytes(VALUE) == "0xabababab"
    assert format_bytes(VALUE * 2) == "0xabababab.. (64 bytes)"
    assert shorten_hashes(f"says 0x{VALUE.hex()}, not 0x12") == "says 0xabababab, not 0x12"
