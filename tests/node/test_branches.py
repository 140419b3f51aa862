"""Execution above the last final block, driven by the effects of an open engine."""

import random

import pytest

from kernel.chain import ACCOUNTS, CHAIN_ID, COINBASE, KEYS, transaction
from node.stage import (
    ALICE,
    GARBAGE,
    NOW_MS,
    STRANGER,
    Driver,
    Forgetful,
    Stage,
)
from quorate.base.errors import Unavailable
from quorate.base.types import Hash, Height, Member
from quorate.consensus.replica import Check, Want
from quorate.crypto.hashes import keccak256
from quorate.ledger.ethereum import open_ethereum
from quorate.ledger.genesis import make_genesis as ethereum_genesis
from quorate.node import branches


def test_a_check_waits_for_its_parent_and_is_then_answered() -> None:
    stage, other = Stage(), Stage()
    first = other.grow(b"1", other.root)
    second = other.grow(b"2", first.envelope)
    third = other.grow(b"3", second.envelope)
    for effect in (third, second):
        stage.execution.on_check(effect)
        stage.port.run()
    assert stage.engine.verdicts == {}
    stage.execution.on_check(first)
    stage.port.run()
    assert list(stage.engine.verdicts.items()) == [
        (c.envelope, True) for c in (first, second, third)
    ]


def test_checks_that_wait_are_bounded() -> None:
    stage = Stage()
    for i in range(branches.MAX_CHECKS + 3):
        stage.execution.on_check(Check(2, b"", keccak256(b"%d" % i), keccak256(b"own %d" % i)))
    assert sum(map(len, stage.execution.waiting.values())) == branches.MAX_CHECKS
    assert stage.counters["checks_dropped"] == 3


def test_an_unacceptable_block_is_refused_and_so_are_its_children() -> None:
    stage = Stage()
    bad = Check(1, GARBAGE, stage.root, b"\x01" * 32)
    child = Check(2, GARBAGE, bad.envelope, b"\x02" * 32)
    stage.execution.on_check(child)
    stage.execution.on_check(bad)
    stage.port.run()
    assert stage.engine.verdicts == {bad.envelope: False, child.envelope: False}
    late = Check(2, GARBAGE, bad.envelope, b"\x03" * 32)
    stage.execution.on_check(late)
    assert stage.engine.verdicts[late.envelope] is False
    assert stage.failures == []


def test_a_payload_counts_only_over_the_parent_that_it_names() -> None:
    stage = Stage()
    one, other = stage.grow(b"one", stage.root), stage.grow(b"other", stage.root)
    child = stage.make(b"child", one.envelope)
    wrong = Check(2, child.payload, other.envelope, b"\x05" * 32)
    stage.execution.on_check(wrong)
    stage.execution.on_check(child)
    stage.port.run()
    assert stage.engine.verdicts[wrong.envelope] is False
    assert stage.engine.verdicts[child.envelope] is True


def test_a_block_at_another_height_than_its_parent_leaves_is_refused() -> None:
    stage = Stage()
    effect = stage.make(b"x", stage.root)
    stage.execution.on_check(Check(2, effect.payload, effect.parent, effect.envelope))
    assert stage.engine.verdicts == {effect.envelope: False}


def test_a_block_is_judged_once_however_often_it_is_asked_for() -> None:
    stage = Stage()
    effect = stage.make(b"x", stage.root)
    stage.execution.on_check(effect)
    stage.execution.on_check(effect)
    assert len(stage.port.jobs) == 1
    stage.port.run()
    stage.execution.on_check(effect)
    assert stage.port.jobs == []


def test_readers_see_the_head_and_the_pool_follows_it() -> None:
    stage = Stage()
    stage.ledger.add([b"item"])
    first = stage.grow(b"1", stage.root, b"item")
    assert stage.execution.latest.height == 0
    stage.head(first)
    stage.port.run()
    assert stage.get_latest().height == stage.execution.latest.height == 1
    assert stage.port.shown == [1]
    assert stage.ledger.pool == {}
    assert "reorgs" not in stage.counters


def test_a_head_that_is_not_executed_yet_is_adopted_when_it_is() -> None:
    stage = Stage()
    effect = stage.make(b"x", stage.root)
    stage.execution.on_check(effect)
    stage.head(effect)
    assert stage.execution.latest.height == 0
    stage.port.run()
    assert stage.execution.latest.height == 1


def test_a_sideways_move_gives_abandoned_items_back_and_is_counted() -> None:
    stage = Stage()
    stage.ledger.add([b"a", b"b"])
    left = [stage.grow(b"1", stage.root, b"a")]
    left.append(stage.grow(b"2", left[0].envelope, b"b"))
    right = stage.line(b"right", stage.root, 3)
    stage.head(left[1])
    stage.port.run()
    stage.head(right[2])
    stage.port.run()
    returned = [keccak256(item) for item in (b"1", b"a", b"2", b"b")]
    assert stage.port.returned == returned
    assert list(stage.ledger.pool) == returned
    assert stage.counters["reorgs"] == 1
    assert stage.counters["reorg_blocks"] == stage.counters["reorg_deepest"] == 2
    stage.head(left[1])
    assert stage.counters["reorg_deepest"] == 3
    assert stage.port.logged == ["branch abandoned"] * 2


def test_the_head_may_move_down() -> None:
    stage = Stage()
    line = stage.line(b"x", stage.root, 3)
    stage.head(line[2])
    stage.head(line[0])
    stage.port.run()
    assert stage.get_latest().height == 1
    assert stage.counters["reorg_blocks"] == 2


def test_what_is_delivered_becomes_final_and_drops_its_rivals() -> None:
    stage = Stage()
    line = stage.line(b"x", stage.root, 4)
    rival = stage.line(b"y", stage.root, 2)
    orphan = stage.make(b"z", rival[1].envelope)
    stage.head(line[3])
    for check in line[:2]:
        stage.deliver(check)
    stage.port.run()
    assert stage.finals == stage.engine.applied_heights == [1, 2]
    assert stage.store.final[-1].executed.height == 2
    assert list(stage.execution.blocks) == [c.envelope for c in line[1:]]
    assert stage.execution.latest.height == 4
    assert stage.port.durable == [2]
    # Its parent is gone for good.
    stage.execution.on_check(Check(2, orphan.payload, orphan.parent, orphan.envelope))
    assert stage.engine.verdicts[orphan.envelope] is False
    assert stage.failures == []


def test_checks_that_a_final_block_overtakes_are_answered() -> None:
    stage = Stage()
    line = stage.line(b"x", stage.root, 2)
    rival = stage.grow(b"rival", stage.root)
    stage.head(line[1])
    stage.port.run()
    running = stage.make(b"child", rival.envelope)
    waiting = Check(1, GARBAGE, b"\x09" * 32, b"\x08" * 32)
    stage.execution.on_check(running)
    stage.execution.on_check(waiting)
    stage.deliver(line[0])
    stage.port.run()
    assert stage.engine.verdicts[running.envelope] is False
    assert stage.engine.verdicts[waiting.envelope] is False
    assert stage.counters["checks_stale"] == 2
    assert stage.failures == []


def test_a_decision_that_was_never_checked_is_executed() -> None:
    stage, other = Stage(), Stage()
    line = other.line(b"x", other.root, 3)
    for check in line:
        stage.deliver(check)
    stage.port.run()
    assert stage.finals == [1, 2, 3]
    assert stage.ledger.last == other.execution.blocks[line[2].envelope].executed
    assert stage.execution.latest.height == 3


def test_a_decision_on_another_block_stops_the_node() -> None:
    stage, other = Stage(), Stage()
    stage.deliver(stage.grow(b"x", stage.root))
    first = other.grow(b"y", other.root)
    stage.deliver(other.grow(b"z", first.envelope))
    assert len(stage.failures) == 1
    assert stage.failures[0].startswith("diverged at block 1")


def test_blocks_that_the_application_forgot_are_executed_again() -> None:
    stage = Stage()
    line = stage.line(b"x", stage.root, 5)
    child = stage.make(b"child", line[4].envelope)
    stage.ledger.forget()
    with pytest.raises(Unavailable):
        stage.ledger.get_executed(stage.execution.blocks[line[4].envelope].executed.block)
    stage.execution.on_check(child)
    stage.port.run()
    assert stage.engine.verdicts[child.envelope] is True
    stage.ledger.forget()
    stage.execution.on_want(Want(6, line[4].envelope, force=True))
    stage.port.run()
    assert len(stage.engine.templates) == 1
    assert stage.failures == []


def test_the_tree_is_bounded_and_keeps_what_readers_see(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(branches, "MAX_BLOCKS", 8)
    stage = Stage()
    line = stage.line(b"x", stage.root, 4)
    stage.head(line[3])
    for i in range(20):
        stage.grow(b"side %d" % i, stage.root)
    assert len(stage.execution.blocks) == 8
    assert all(c.envelope in stage.execution.blocks for c in line)
    stage.deliver(line[0])
    assert stage.finals == [1]


def test_a_restart_begins_at_the_last_final_block() -> None:
    stage = Stage()
    line = stage.line(b"x", stage.root, 4)
    stage.head(line[3])
    stage.deliver(line[0])
    stage.port.run()
    again = Stage(stage.store)
    assert (again.execution.final.height, again.execution.envelope) == (1, line[0].envelope)
    for check in line[1:]:
        again.execution.on_check(check)
    again.head(line[3])
    again.port.run()
    assert again.get_latest() == stage.get_latest()


def test_safe_is_so_many_blocks_below_the_tip() -> None:
    told: list[Height] = []

    class Told(Forgetful):
        __slots__ = ()

        def adopt(self, tip: Hash, safe: Height) -> None:
            told.append(safe)
            super().adopt(tip, safe)

    stage = Stage(safe_depth=2)
    stage.execution.application = Told(stage.store, ALICE)
    for check in stage.line(b"x", stage.root, 4):
        stage.head(check)
    assert told == [0, 0, 1, 2]


@pytest.mark.parametrize("seed", range(20))
def test_random_walks_end_where_a_straight_line_would(seed: int) -> None:
    dice = random.Random(seed)
    stage = Stage()
    parents = {stage.root: b""}
    checks: dict[Hash, Check] = {}
    items = [b"item %d" % i for i in range(30)]
    stage.ledger.add(items)
    for step in range(80):
        alive = list(stage.execution.blocks)
        if dice.random() < 0.6:
            parent = stage.execution.tip.envelope if dice.random() < 0.5 else dice.choice(alive)
            check = stage.grow(b"%d" % step, parent, *dice.sample(items, 2))
            checks[check.envelope], parents[check.envelope] = check, parent
        elif dice.random() < 0.7:
            target = dice.choice(alive)
            if target in checks:
                stage.head(checks[target])
        else:
            path = stage.execution.tip.get_path()
            if path:
                stage.deliver(checks[path[0].envelope])
        stage.port.run(dice.randrange(3))
    stage.port.run()
    assert stage.failures == []
    straight = Stage()
    straight.ledger.add(items)
    branch = []
    envelope = stage.execution.tip.envelope
    while envelope != straight.root:
        branch.append(checks[envelope])
        envelope = parents[envelope]
    for check in reversed(branch):
        straight.execution.on_check(check)
        straight.port.run()
        straight.head(check)
    straight.port.run()
    assert straight.execution.latest == stage.execution.latest
    # Each block's name is an item too, and of an abandoned one it waits again.
    waits = {item for item in stage.ledger.pool.values() if item in items}
    assert waits == set(straight.ledger.pool.values())


def test_block_that_was_refused_for_its_time_is_acceptable_when_the_time_has_come() -> None:
    stage = Stage()
    early = stage.make(b"early", stage.root, at_ms=NOW_MS)
    stage.port.clock_ms = NOW_MS - 20_000
    stage.execution.on_check(early)
    stage.port.run()
    assert stage.engine.verdicts[early.envelope] is False
    stage.port.clock_ms = NOW_MS
    stage.execution.on_check(early)
    stage.port.run()
    assert stage.engine.verdicts[early.envelope] is True


def test_clock_that_is_set_right_while_a_block_is_judged_condemns_nothing() -> None:
    stage = Stage()
    early = stage.make(b"early", stage.root, at_ms=NOW_MS)
    stage.port.clock_ms = NOW_MS - 20_000
    stage.execution.on_check(early)
    stage.port.clock_ms = NOW_MS
    stage.port.run()
    assert stage.engine.verdicts == {early.envelope: True}


@pytest.mark.parametrize("seed", range(8))
def test_the_store_and_the_pool_of_the_ethereum_ledger_follow(seed: int) -> None:
    dice = random.Random(seed)
    file = ethereum_genesis(
        chain_id=CHAIN_ID,
        engine="tendermint",
        gas="fees",
        members=[Member(ALICE, 1)],
        balances=dict.fromkeys(ACCOUNTS, 10**24),
        gas_limit=60_000,
        timestamp=0,
    )
    ledger = open_ethereum(None, file, COINBASE)
    driver = Driver(ledger)
    execution, view = driver.execution, ledger.ledger.view()
    raws = [transaction(key, nonce, STRANGER, gas=21_000) for key in KEYS for nonce in range(6)]
    assert all(reason is None for _, reason in ledger.add(raws))
    checks: dict[Hash, Check] = {}
    for step in range(60):
        alive = list(execution.blocks)
        action = dice.random()
        if action < 0.6:
            parent = execution.tip.envelope if dice.random() < 0.6 else dice.choice(alive)
            execution.on_want(
                Want(execution.blocks[parent].executed.height + 1, parent, force=True)
            )
            driver.port.run()
            height, payload = driver.engine.templates.pop()
            check = Check(height, payload, parent, keccak256(b"%d" % step))
            checks[check.envelope] = check
            execution.on_check(check)
            driver.port.run()
            if dice.random() < 0.6:
                driver.head(check)
        elif action < 0.8:
            target = dice.choice(alive)
            if target in checks:
                driver.head(checks[target])
        elif path := execution.tip.get_path():
            driver.deliver(checks[path[0].envelope])
        driver.port.run(dice.randrange(4))
    driver.port.run()
    assert driver.failures == []
    assert driver.counters["reorgs"] > 0
    tip = execution.tip.executed
    assert view.tips()[0] == tip.height
    assert view.tips()[2] == execution.final.height == execution.durable
    assert view.block_hash(tip.height) == tip.block
    mined = {raw for raw in raws if view.transaction_json(keccak256(raw)) is not None}
    assert {raw for raw in raws if ledger.pool.get(keccak256(raw)) is not None} == set(raws) - mined
    for account in ACCOUNTS:
        assert ledger.pool.nonce(account) == 6
    assert sum(view.nonce(-1, account) for account in ACCOUNTS) == len(mined)
