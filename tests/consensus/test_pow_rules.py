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
    Made,
    Single,
    announce,
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
from quorate.consensus.pow_links import ANSWER_NS, ANSWERS_AT_ONCE
from quorate.consensus.pow_peers import MAX_ORPHANS, MAX_ORPHANS_OF_PEER
from quorate.consensus.pow_types import (
    Block,
    GetBlocks,
    GetHeaders,
    Headers,
    Kept,
    Missing,
    Settings,
)
from quorate.consensus.replica import (
    Blame,
    Broadcast,
    Check,
    Checkpoint,
    Decision,
    Deliver,
    Effect,
    Head,
    Persist,
    Recall,
    Recalled,
    Seal,
    Send,
    SetTimer,
    Timer,
    Want,
)
from quorate.crypto.hashes import hash_payload, keccak256


def blames(effects: list[Effect]) -> list[str]:
    return [effect.reason for effect in effects if isinstance(effect, Blame)]


def sent(effects: list[Effect], kind: type) -> list[object]:
    return [e.message for e in effects if isinstance(e, Send) and isinstance(e.message, kind)]


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


# ---- fetching


def test_an_unknown_tip_is_fetched_headers_first() -> None:
    one, other = Single(), Single()
    made = grow(other, 5)
    tip = other.replica.tree.head
    effects = one.hear(ALICE, announce(made[-1], tip.work))
    assert sent(effects, GetHeaders) == [GetHeaders([(0, CHAIN)])]
    effects = one.hear(ALICE, Headers([m.raw for m in made]))
    (request,) = sent(effects, GetBlocks)
    assert isinstance(request, GetBlocks)
    assert [hash for _, hash in request.places] == [m.hash for m in made]
    # Whatever comes first waits for the rest.
    for m in reversed(made):
        one.hear(ALICE, block(m))
    assert one.head == made[-1].hash


def test_what_a_peer_lacks_is_asked_of_another() -> None:
    one = Single()
    made = one.extend()
    one.hear(ALICE, announce(made, 1 << 20))
    effects = one.hear(BOB, announce(made, 1 << 20))
    assert sent(effects, GetBlocks) == []
    effects = one.hear(ALICE, Missing([(1, made.hash)]))
    assert [e.to for e in effects if isinstance(e, Send)] == [BOB]


def test_a_late_answer_is_given_up_and_the_peer_left_alone() -> None:
    one = Single(request_ms=100)
    made = one.extend()
    one.hear(ALICE, announce(made, 1 << 20))
    one.hear(BOB, announce(made, 1 << 20))
    one.now += 100 * MS
    one.replica.timeout(one.now, Timer("fetch"))
    effects = one.settle()
    assert [e.to for e in effects if isinstance(e, Send)] == [BOB]
    one.now += 100 * MS
    one.replica.timeout(one.now, Timer("fetch"))
    effects = one.settle()
    assert sent(effects, GetBlocks) == []
    one.now += 1000 * MS
    one.replica.timeout(one.now, Timer("fetch"))
    assert sent(one.settle(), GetBlocks)


def test_an_orphan_waits_for_its_parent() -> None:
    one = Single()
    first = one.extend()
    node = one.replica.tree
    one.targets[first.hash] = node.root.next_target
    second = one.extend(first)
    effects = one.hear(ALICE, block(second))
    assert one.head == CHAIN
    assert sent(effects, GetHeaders)
    one.hear(BOB, block(first))
    assert one.head == second.hash
    assert not one.replica.orphans.by_hash


def test_a_flood_of_orphans_is_bounded_per_peer_and_in_total() -> None:
    one = Single()
    target = one.replica.tree.root.next_target
    for number in range(200):
        parent = Made(b"", b"", 5, START_MS - 1000)
        parent.hash = keccak256(number.to_bytes(4, "big"))
        one.hear(ALICE, block(one.extend(parent, target=target, height=6)))
    assert len(one.replica.orphans.by_hash) == MAX_ORPHANS_OF_PEER
    for number in range(200):
        parent = Made(b"", b"", 5, START_MS - 1000)
        parent.hash = keccak256(number.to_bytes(5, "big"))
        sender = bytes([number]) * 20
        one.hear(sender, block(one.extend(parent, target=target, height=6)))
    assert len(one.replica.orphans.by_hash) == MAX_ORPHANS
    assert one.replica.orphans.size_bytes < 1 << 20


def test_a_cheap_orphan_is_not_kept() -> None:
    one = Single()
    parent = Made(b"", b"", 5, START_MS - 1000)
    parent.hash = keccak256(b"nowhere")
    one.hear(ALICE, block(one.extend(parent, target=one.settings.easiest, height=6)))
    assert not one.replica.orphans.by_hash


def test_a_claim_without_headers_is_not_believed_twice() -> None:
    one = Single(request_ms=100)
    parent = Made(b"", b"", 5, START_MS - 1000)
    parent.hash = keccak256(b"nowhere")
    liar = one.extend(parent, target=one.replica.tree.root.next_target, height=6)
    effects = one.hear(ALICE, announce(liar, 1 << 200))
    assert len(sent(effects, GetHeaders)) == 1
    assert not one.replica.is_behind()
    effects = one.hear(ALICE, Headers([]))
    assert sent(effects, GetHeaders) == []


def test_final_blocks_are_served_from_the_store() -> None:
    one = Single(final_depth=2)
    made = grow(one, 6)
    effects = one.hear(BOB, GetHeaders([(0, CHAIN)]))
    assert Recall(BOB, 1, 512, bodies=False) in effects
    effects = one.hear(BOB, GetBlocks([(1, made[0].hash), (5, made[4].hash)]))
    assert Recall(BOB, 1, 1, bodies=True) in effects
    assert Send(BOB, block(made[4])) in effects


def test_a_chain_is_learned_from_decisions() -> None:
    one, other = Single(), Single(final_depth=2)
    delivered: list[Deliver] = []
    made = []
    parent: Made | None = None
    for _ in range(8):
        parent = other.extend(parent)
        made.append(parent)
        delivered += [e for e in other.hear(ALICE, block(parent)) if isinstance(e, Deliver)]
    tip = other.replica.tree.head
    one.hear(BOB, announce(made[-1], tip.work, final=6))
    decisions = [Decision(d.height, [], d.certificate) for d in delivered]
    effects = one.hear(BOB, Recalled(decisions))
    (more,) = sent(effects, GetHeaders)
    assert isinstance(more, GetHeaders)
    assert more.locator[0] == (6, made[5].hash)
    one.hear(BOB, Headers([m.raw for m in made[6:]]))
    bodies = [Decision(d.height, d.payloads, d.certificate) for d in delivered]
    one.hear(BOB, Recalled(bodies))
    assert one.head == made[5].hash
    one.hear(BOB, block(made[6]))
    one.hear(BOB, block(made[7]))
    assert one.head == made[7].hash


def test_what_nobody_asked_for_is_dropped() -> None:
    one = Single()
    made = one.extend()
    one.hear(ALICE, Headers([made.raw]))
    one.hear(ALICE, Recalled([]))
    assert one.replica.dropped == {"unasked": 2}
    assert made.hash not in one.replica.tree.blocks


def test_who_asks_too_much_is_not_answered() -> None:
    one = Single()
    grow(one, 2)
    answers = [one.hear(ALICE, GetHeaders([(0, CHAIN)])) for _ in range(300)]
    assert sum(bool(effects) for effects in answers) == ANSWERS_AT_ONCE
    assert one.replica.dropped == {"too_many_questions": 300 - ANSWERS_AT_ONCE}
    assert one.hear(BOB, GetHeaders([(0, CHAIN)]))
    one.now += ANSWER_NS
    assert one.hear(ALICE, GetBlocks([(1, CHAIN)]))


def test_an_answer_from_the_store_that_ends_early_is_asked_for_again_at_once() -> None:
    one, other = Single(), Single(final_depth=2)
    delivered: list[Deliver] = []
    made: list[Made] = []
    for _ in range(8):
        made.append(other.extend(made[-1] if made else None))
        delivered += [e for e in other.hear(ALICE, block(made[-1])) if isinstance(e, Deliver)]
    one.hear(BOB, announce(made[-1], other.replica.tree.head.work, final=6))
    one.hear(BOB, Recalled([Decision(d.height, [], d.certificate) for d in delivered]))
    some = [Decision(d.height, d.payloads, d.certificate) for d in delivered[:2]]
    (request,) = sent(one.hear(BOB, Recalled(some)), GetBlocks)
    assert isinstance(request, GetBlocks)
    assert [height for height, _ in request.places] == [3, 4, 5, 6]


def test_what_a_peer_left_out_for_its_size_is_asked_of_it_again() -> None:
    one, other = Single(), Single()
    made = grow(other, 2)
    one.hear(ALICE, announce(made[-1], other.replica.tree.head.work))
    one.hear(ALICE, Headers([m.raw for m in made]))
    one.hear(ALICE, block(made[0]))
    again = GetBlocks([(2, made[1].hash)])
    assert sent(one.hear(ALICE, Missing([(2, made[1].hash)])), GetBlocks) == [again]
    # The second time it has sent nothing since, so it is believed for a while.
    assert sent(one.hear(ALICE, Missing([(2, made[1].hash)])), GetBlocks) == []


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
