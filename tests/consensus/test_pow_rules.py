"""The rules of proof of work one by one, with one replica fed by hand."""

import msgspec
import pytest

from consensus.network import CHAIN
from consensus.pow_world import (
    ALICE,
    BOB,
    MINER,
    MS,
    START_MS,
    Single,
    announce,
    blames,
    block,
    grow,
    make_nonce,
    make_payload,
)
from quorate.base.errors import Invalid
from quorate.consensus.pow import STALE_NS
from quorate.consensus.pow_headers import (
    decode_certificate,
    decode_header,
    encode_certificate,
    make_header,
    put_nonce,
)
from quorate.consensus.pow_types import (
    Block,
    GetHeaders,
    Headers,
    Kept,
    Settings,
)
from quorate.consensus.replica import (
    Broadcast,
    Check,
    Checkpoint,
    Deliver,
    Head,
    Persist,
    Seal,
    SetTimer,
    Timer,
    Want,
)
from quorate.crypto.hashes import hash_payload, keccak256

# ---- validity


def test_a_valid_block_becomes_the_tip_and_is_kept_before_it_is_told() -> None:
    one = Single()
    made = one.extend()
    effects = one.hear(ALICE, block(made))
    assert Persist(Kept(made.raw, made.payload), urgent=False) in effects
    assert Head(1, made.payload, made.hash, CHAIN) in effects
    assert one.head == made.hash


def test_a_header_without_its_work_is_refused_and_held_against_its_sender() -> None:
    one = Single()
    effects = one.hear(ALICE, block(one.extend(seal=False)))
    assert blames(effects) == ["a header without its work"]
    assert one.head == CHAIN


def test_a_header_of_another_target_is_refused_though_its_work_meets_it() -> None:
    one = Single()
    made = one.extend(target=one.settings.easiest)
    assert blames(one.hear(ALICE, block(made))) == ["a header of another target"]


def test_a_header_of_another_height_is_refused() -> None:
    one = Single()
    assert blames(one.hear(ALICE, block(one.extend(height=2)))) == ["a header of another height"]


@pytest.mark.parametrize("after_ms", [0, -1, -(10**6)])
def test_time_never_goes_back_along_a_chain(after_ms: int) -> None:
    one = Single()
    (first,) = grow(one, 1)
    effects = one.hear(ALICE, block(one.extend(first, after_ms=after_ms)))
    assert blames(effects) == ["a header that is not later than its parent"]


def test_a_block_from_the_future_waits_and_nobody_is_blamed() -> None:
    one = Single(future_ms=5000)
    early = one.extend(time_ms=START_MS + 5001)
    assert blames(one.hear(ALICE, block(early))) == []
    assert one.head == CHAIN
    one.replica.wall_ms += 1
    one.hear(ALICE, block(early))
    assert one.head == early.hash


def test_a_restart_with_a_right_clock_forgets_blocks_from_the_future() -> None:
    one = Single()
    one.replica.wall_ms += 60_000
    early = one.extend(time_ms=START_MS + 60_000)
    one.hear(ALICE, block(early))
    assert one.head == early.hash
    again = Single(journal=[Kept(early.raw, early.payload)])
    assert again.head == CHAIN
    again.replica.wall_ms += 55_000
    again.hear(ALICE, block(early))
    assert again.head == early.hash


def test_a_payload_must_be_the_header_s() -> None:
    one = Single()
    made = one.extend()
    other = make_payload(made.time_ms, b"other")
    effects = one.hear(ALICE, Block(made.raw, other))
    assert blames(effects) == ["a payload that is not the header's"]
    one.hear(BOB, block(made))
    assert one.head == made.hash


def test_a_header_that_commits_to_another_time_than_its_payload_is_invalid_for_good() -> None:
    one = Single()
    header = decode_header(one.extend().raw)
    payload = make_payload(header.timestamp_ms + 1)
    raw = make_header(
        height=1,
        proposer=MINER,
        parent=CHAIN,
        timestamp_ms=header.timestamp_ms,
        target=header.target,
        payload_hash=hash_payload(payload),
    )
    raw = put_nonce(raw, make_nonce(raw))
    effects = one.hear(ALICE, Block(raw, payload))
    assert blames(effects) == ["a header that differs from its payload"]
    assert one.replica.tree.blocks[keccak256(raw)].verdict == "invalid"


def test_a_block_that_the_application_refuses_takes_its_descendants_with_it() -> None:
    one = Single()
    one.verdict = lambda check: check.height != 2
    (first,) = grow(one, 1)
    second = one.extend(first)
    effects = one.hear(ALICE, block(second))
    assert blames(effects) == ["an invalid block"]
    assert one.head == first.hash
    third = one.extend(second)
    assert blames(one.hear(BOB, block(third))) == ["a block over an invalid one"]
    other = one.extend(first, body=b"other")
    one.verdict = lambda check: True
    one.hear(BOB, block(other))
    assert one.head == other.hash


def test_a_refusal_for_the_sake_of_a_clock_that_was_set_back_is_asked_again() -> None:
    one = Single()
    made = one.extend(time_ms=START_MS + 3000)
    one.verdict = lambda check: False
    effects = one.hear(ALICE, block(made))
    assert blames(effects) == []
    # The clock is looked at every second, since it may be set right at any time.
    assert SetTimer(Timer("judge"), 1000 * MS) in effects
    one.replica.timeout(one.now, Timer("judge"))
    assert one.settle() == [SetTimer(Timer("judge"), 1000 * MS)]
    one.verdict = lambda check: True
    one.replica.wall_ms += 3000
    one.replica.timeout(one.now, Timer("judge"))
    one.settle()
    assert one.head == made.hash


def test_nobody_waits_for_a_block_from_the_future_that_a_wrong_clock_let_in() -> None:
    """Seed 9244: a block of an hour ahead kept the heavier chain from being judged."""
    one = Single()
    early = one.extend(time_ms=START_MS + 3_600_000)
    made = one.extend(time_ms=START_MS + 3000)

    def judge(check: Check) -> bool:
        if check.envelope == early.hash:
            one.replica.wall_ms -= 3_600_000
        return check.envelope != early.hash

    one.verdict = judge
    one.replica.wall_ms += 3_600_000
    one.hear(ALICE, block(early))
    one.hear(BOB, block(made))
    assert one.head == made.hash


# ---- choice


def test_work_decides_and_not_length() -> None:
    """Bug N1: two slow blocks are longer than one, but the fast ones carry more work."""
    one = Single(window=2, final_depth=100)
    quick = [one.extend(after_ms=1)]
    one.hear(ALICE, block(quick[0]))
    for _ in range(4):
        quick.append(one.extend(quick[-1], after_ms=1))
        one.hear(ALICE, block(quick[-1]))
    slow = [one.extend(body=b"slow", after_ms=1)]
    one.hear(BOB, block(slow[0]))
    for _ in range(5):
        slow.append(one.extend(slow[-1], after_ms=7000))
        one.hear(BOB, block(slow[-1]))
    tree = one.replica.tree
    assert len(slow) > len(quick)
    assert tree.blocks[slow[-1].hash].work < tree.blocks[quick[-1].hash].work
    assert one.head == quick[-1].hash


def test_of_equal_work_the_first_seen_stays() -> None:
    one = Single()
    first, second = one.extend(body=b"1"), one.extend(body=b"2")
    one.hear(ALICE, block(first))
    one.hear(BOB, block(second))
    assert one.head == first.hash


def test_a_heavier_branch_is_followed_sideways() -> None:
    one = Single()
    short = grow(one, 2)
    other = one.extend(body=b"other")
    one.hear(BOB, block(other))
    branch = grow(one, 1, other, BOB)
    assert one.head == short[-1].hash
    last = one.extend(branch[-1])
    effects = one.hear(BOB, block(last))
    heads = [e for e in effects if isinstance(e, Head)]
    assert [(h.height, h.envelope) for h in heads] == [(3, last.hash)]
    assert one.replica.reorganizations == {2: 1}


def test_nothing_is_checked_that_is_not_heavier_than_the_tip() -> None:
    one = Single()
    grow(one, 3)
    asked = []
    one.verdict = lambda check: bool(asked.append(check)) or True
    one.hear(BOB, block(one.extend(body=b"light")))
    assert asked == []


# ---- finality


def test_a_block_is_delivered_at_its_depth_with_a_certificate() -> None:
    one = Single(final_depth=3)
    made = grow(one, 3)
    effects = one.hear(ALICE, block(one.extend(made[-1])))
    (delivered,) = [e for e in effects if isinstance(e, Deliver)]
    assert (delivered.height, delivered.envelope) == (1, made[0].hash)
    certificate = decode_certificate(delivered.certificate)
    assert certificate.header.raw == made[0].raw
    assert certificate.work == one.settings.initial_difficulty
    assert encode_certificate(made[0].raw, certificate.work, 0) == delivered.certificate


def test_a_heavier_branch_below_the_final_block_is_refused_loudly() -> None:
    one = Single(final_depth=2)
    grow(one, 5)
    twin = Single(final_depth=100)
    other = twin.extend(body=b"other")
    twin.hear(ALICE, block(other))
    branch = [other, *grow(twin, 9, other)]
    work = twin.replica.tree.head.work
    one.hear(BOB, announce(branch[-1], work))
    head = one.head
    one.hear(BOB, Headers([made.raw for made in branch]))
    assert one.head == head
    assert "forks at or below height" in one.replica.get_alarm()
    assert one.replica.dropped["fork_below_final"] == 1


def test_the_journal_is_cut_after_some_final_blocks() -> None:
    one = Single(final_depth=2, checkpoint_heights=3)
    made = grow(one, 4)
    last = one.extend(made[-1])
    effects = one.hear(ALICE, block(last))
    (cut,) = [e for e in effects if isinstance(e, Checkpoint)]
    assert cut.height == 3
    assert cut.records == [Kept(m.raw, m.payload) for m in (made[3], last)]


# ---- mining


def mine(one: Single) -> tuple[bytes, bytes]:
    """Answer the wish for a template; return (header that is sealed, payload)."""
    tip = one.replica.tree.head
    payload = make_payload(max(START_MS, tip.timestamp_ms + 1))
    one.replica.submit(one.now, tip.height + 1, payload)
    (seal,) = [e for e in one.settle() if isinstance(e, Seal)]
    return seal.header, payload


def test_mining_begins_at_once_over_the_genesis_block() -> None:
    one = Single()
    assert Want(1, CHAIN, build=True, force=True) in one.first


def test_who_only_follows_asks_for_nothing() -> None:
    one = Single(mine=False)
    assert not [e for e in one.first if isinstance(e, Want)]
    grow(one, 1)
    assert one.replica.get_situation(0).step == "following"


def test_a_mined_block_is_durable_before_it_is_pushed() -> None:
    one = Single()
    header, payload = mine(one)
    nonce = make_nonce(header)
    one.replica.sealed(one.now, header, nonce)
    effects = one.settle()
    raw = put_nonce(header, nonce)
    kept = effects.index(Persist(Kept(raw, payload)))
    pushed = effects.index(Broadcast(Block(raw, payload)))
    assert kept < pushed
    assert one.head == keccak256(raw)
    assert one.replica.found == 1


def test_a_block_is_mined_only_over_what_was_checked() -> None:
    """Bug N6: headers alone are no tip to mine on."""
    one = Single()
    first = one.extend()
    effects = one.hear(ALICE, announce(first, one.settings.initial_difficulty))
    assert not [e for e in effects if isinstance(e, Want)]
    one.verdict = lambda check: False
    effects = one.hear(ALICE, block(first))
    assert not [e for e in effects if isinstance(e, Want) and e.parent == first.hash]


def test_a_seal_of_an_older_template_counts() -> None:
    one = Single()
    header, _ = mine(one)
    one.replica.timeout(one.now, Timer("template"))
    one.settle()
    payload = make_payload(START_MS + 1, b"more")
    one.replica.submit(one.now, 1, payload)
    one.settle()
    one.replica.sealed(one.now, header, make_nonce(header))
    one.settle()
    assert one.head == keccak256(put_nonce(header, make_nonce(header)))


def test_a_template_with_nothing_new_does_not_end_the_search() -> None:
    one = Single()
    mine(one)
    one.replica.timeout(one.now, Timer("template"))
    one.settle()
    one.replica.submit(one.now, 1, make_payload(START_MS + 2000))
    assert not [e for e in one.settle() if isinstance(e, Seal)]


def test_a_template_is_refreshed_when_something_waits_or_its_time_is_old() -> None:
    one = Single()
    tip = one.replica.tree.head
    one.replica.submit(one.now, tip.height + 1, make_payload(START_MS))
    effects = one.settle()
    # Nothing is asked for again until there is something to put into it.
    assert [e for e in effects if isinstance(e, Want)] == [Want(1, CHAIN, build=True, force=False)]
    assert SetTimer(Timer("template"), STALE_NS) in effects
    one.replica.submit(one.now, 1, make_payload(START_MS + 1, b"more"))
    effects = one.settle()
    assert [e for e in effects if isinstance(e, Seal)]
    # Not more often than the setting says, whatever comes.
    assert not [e for e in effects if isinstance(e, Want)]
    assert SetTimer(Timer("template"), one.settings.refresh_ms * 1_000_000) in effects
    one.now += STALE_NS
    one.replica.timeout(one.now, Timer("template"))
    assert Want(1, CHAIN, build=True, force=True) in one.settle()


def test_a_wrong_seal_is_dropped() -> None:
    one = Single()
    header, _ = mine(one)
    one.replica.sealed(one.now, header, make_nonce(header) + 1)
    one.settle()
    assert one.replica.dropped == {"seal": 1}
    # The search is over for nothing: the next one begins soon.
    one.replica.timeout(one.now, Timer("template"))
    assert Want(1, CHAIN, build=True, force=True) in one.settle()


# ---- settings and encodings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"interval_ms": 0}, "setting interval_ms: 0, expected at least 1"),
        ({"initial_difficulty": 1}, "expected at least min_difficulty"),
        ({"future_ms": 60_000}, "expected at most 10000"),
        ({"safe_depth": 65}, "expected at most final_depth, 64"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, int], message: str) -> None:
    with pytest.raises(Invalid, match=message):
        Settings(**settings)  # type: ignore[arg-type]


def test_headers_of_other_shapes_are_refused() -> None:
    raw = Single().extend().raw
    assert decode_header(raw).raw == raw
    for at, value in ((0, b"q"), (24, b"\1"), (100, b"\1"), (16, bytes(8))):
        with pytest.raises(Invalid):
            decode_header(raw[:at] + value + raw[at + len(value) :])
    with pytest.raises(Invalid):
        decode_header(raw[:-1])
    with pytest.raises(Invalid):
        decode_certificate(b"\2" + raw + bytes(40))


def test_messages_are_bounded_by_their_types() -> None:
    decode = msgspec.msgpack.Decoder(GetHeaders).decode
    encode = msgspec.msgpack.Encoder().encode
    with pytest.raises(msgspec.ValidationError):
        decode(encode(GetHeaders([(0, CHAIN)] * 65)))
