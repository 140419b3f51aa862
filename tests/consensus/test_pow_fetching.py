"""Fetching what is missing, orphans, answering, and what peers may cost."""

from consensus.network import CHAIN
from consensus.pow_world import (
    ALICE,
    BOB,
    MS,
    START_MS,
    Made,
    Single,
    announce,
    block,
    grow,
    make_payload,
    sent,
)
from quorate.consensus.pow_peers import MAX_ORPHANS, MAX_ORPHANS_OF_PEER
from quorate.consensus.pow_relay import ANSWER_BYTE_NS, ANSWER_NS, ANSWERS_AT_ONCE
from quorate.consensus.pow_types import (
    Block,
    GetBlocks,
    GetHeaders,
    Headers,
    Missing,
)
from quorate.consensus.replica import (
    Decision,
    Deliver,
    Recall,
    Recalled,
    Send,
    Timer,
    Want,
)
from quorate.crypto.hashes import keccak256


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


def test_headers_whose_blocks_nobody_gives_hold_up_no_miner() -> None:
    one, other = Single(), Single(final_depth=20)
    made = grow(other, 12)
    tip = announce(made[-1], other.replica.tree.head.work)
    one.replica.submit(one.now, 1, make_payload(START_MS))
    assert one.replica.is_sealing
    one.hear(ALICE, tip)
    one.hear(ALICE, Headers([m.raw for m in made]))
    assert one.replica.expects_blocks()
    assert not one.replica.is_sealing
    # Who showed them is gone, or lacks the blocks, or does not answer.
    one.replica.parted(one.now, ALICE)
    assert any(isinstance(effect, Want) for effect in one.settle())
    assert one.replica.is_behind()
    waiting_for = one.replica.get_situation(one.now).waiting_for
    assert "headers of a heavier chain are here up to height 12, and nobody here" in waiting_for
    one.replica.met(one.now, ALICE)
    assert sent(one.hear(ALICE, tip), GetBlocks)
    assert one.replica.expects_blocks()
    assert "blocks up to height 12" in one.replica.get_situation(one.now).waiting_for
    one.hear(ALICE, Missing([(m.height, m.hash) for m in made]))
    assert not one.replica.expects_blocks()
    one.now += 10_000 * MS
    one.replica.timeout(one.now, Timer("fetch"))
    assert sent(one.settle(), GetBlocks)
    assert one.replica.expects_blocks()
    for _ in range(10):
        one.now += 60_000 * MS
        one.replica.timeout(one.now, Timer("fetch"))
    assert not one.replica.expects_blocks()
    # They come at last.
    one.replica.met(one.now, BOB)
    one.hear(BOB, tip)
    for m in made:
        one.hear(BOB, block(m))
    assert one.head == made[-1].hash


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
    count = sum(bool(effects) for effects in answers)
    # What is sent counts a little, too.
    assert ANSWERS_AT_ONCE - 2 <= count <= ANSWERS_AT_ONCE
    assert one.replica.dropped == {"too_many_questions": 300 - count}
    assert one.hear(BOB, GetHeaders([(0, CHAIN)]))
    one.now += 2 * ANSWER_NS
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


def test_large_answers_count_as_many() -> None:
    one = Single()
    body = b"\x00" * (1 << 20)
    made = one.extend(body=body)
    one.hear(ALICE, block(made))
    question = GetBlocks([(1, made.hash)])
    answers = [one.hear(BOB, question) for _ in range(ANSWERS_AT_ONCE)]
    sent_bytes = sum(bool(sent(effects, Block)) for effects in answers) << 20
    second_ns = ANSWERS_AT_ONCE * ANSWER_NS
    assert (second_ns >> 1) // ANSWER_BYTE_NS < sent_bytes < 2 * second_ns // ANSWER_BYTE_NS
    assert one.replica.dropped["too_many_questions"] > ANSWERS_AT_ONCE // 2
    one.now += second_ns
    assert sent(one.hear(BOB, question), Block)


def test_who_never_answers_does_not_keep_those_waiting_who_do() -> None:
    one, other = Single(request_ms=100), Single()
    made = grow(other, 3)
    liars = [bytes([0x40 + i]) * 20 for i in range(6)]
    parent = Made(b"", b"", 5, START_MS - 1000)
    parent.hash = keccak256(b"nowhere")
    claimed = one.extend(parent, target=one.replica.tree.root.next_target, height=6)
    for _ in range(30):
        for liar in liars:
            one.hear(liar, announce(claimed, 1 << 200))
        one.now += 100 * MS
        one.replica.timeout(one.now, Timer("fetch"))
        one.settle()
    one.hear(ALICE, announce(made[-1], other.replica.tree.head.work))
    one.now += 4000 * MS
    asked: list[bytes] = []
    for _ in range(2):
        one.replica.timeout(one.now, Timer("fetch"))
        asked += [
            e.to for e in one.settle() if isinstance(e, Send) and isinstance(e.message, GetHeaders)
        ]
        one.now += 4000 * MS
    assert ALICE in asked[:2]


def test_a_flood_of_tips_leads_to_few_looks_at_what_is_missing() -> None:
    one, other = Single(), Single()
    made = grow(other, 3)
    tip = announce(made[-1], other.replica.tree.head.work)
    one.hear(BOB, tip)
    one.hear(BOB, Headers([m.raw for m in made]))
    looks = 0

    class Counting(type(one.replica)):  # type: ignore[misc]
        __slots__ = ()

        def fetch(self, now: int) -> None:
            nonlocal looks
            looks += 1
            super().fetch(now)

    one.replica.__class__ = Counting
    for _ in range(3 * ANSWERS_AT_ONCE):
        one.hear(ALICE, tip)
    assert looks <= ANSWERS_AT_ONCE


def test_a_block_that_is_here_leads_to_nothing() -> None:
    one = Single(mine=False)
    (made,) = grow(one, 1)
    assert one.hear(BOB, block(made)) == []
    assert one.replica.dropped == {"known_block": 1}
