"""Templates over the tree of executed blocks, and what store and pool are asked for."""

import msgspec

from node.stage import ALICE, Forgetful, Stage
from quorate.base.types import Hash, Height
from quorate.consensus.replica import Check, Want
from quorate.crypto.hashes import HEAD_BYTES, keccak256
from quorate.ledger.payload import compose, parse_head


def test_a_template_is_built_over_any_block_of_the_tree() -> None:
    stage = Stage()
    stage.ledger.add([b"a", b"b", b"c"])
    left, right = stage.grow(b"l", stage.root, b"a"), stage.grow(b"r", stage.root, b"b")
    stage.head(left)
    stage.port.run()
    # What the latest block holds does not wait, so that a rival of it cannot have it.
    for parent, items in ((left, [b"b", b"c"]), (right, [b"c"])):
        stage.execution.on_want(Want(2, parent.envelope, force=True))
        stage.port.run()
        height, payload = stage.engine.templates.pop()
        assert height == 2
        above = stage.execution.blocks[parent.envelope].executed
        assert parse_head(payload)[0] == above.block
        assert msgspec.msgpack.decode(payload[HEAD_BYTES:]) == items


def test_a_template_for_a_parent_that_is_replaced_meanwhile_is_not_told() -> None:
    stage = Stage()
    left, right = stage.grow(b"l", stage.root), stage.grow(b"r", stage.root)
    stage.execution.on_want(Want(2, left.envelope, force=True))
    stage.execution.on_want(Want(2, right.envelope, force=True))
    stage.port.run()
    [(_, payload)] = stage.engine.templates
    above = stage.execution.blocks[right.envelope].executed
    assert parse_head(payload)[0] == above.block


def test_a_template_that_need_not_be_waits_until_there_is_something_new() -> None:
    stage = Stage()
    first = stage.grow(b"x", stage.root)
    stage.head(first)
    stage.port.run()
    stage.execution.on_want(Want(2, first.envelope, force=False))
    stage.port.run()
    assert stage.engine.templates == []
    stage.ledger.add([b"a"])
    stage.execution.on_work(True, True)
    stage.port.run()
    [(_, payload)] = stage.engine.templates
    assert msgspec.msgpack.decode(payload[HEAD_BYTES:]) == [b"a"]
    # It waits in the pool still, but the template has it.
    stage.execution.on_want(Want(2, first.envelope, force=False))
    stage.port.run()
    assert len(stage.engine.templates) == 1


def test_who_mines_gets_a_template_with_the_check_while_nothing_waits() -> None:
    stage = Stage()
    stage.execution.on_want(Want(1, stage.root, force=True))
    stage.port.run()
    for number in range(3):
        tip = stage.grow(b"%d" % number, stage.execution.tip.envelope)
        stage.head(tip)
        stage.execution.on_want(Want(tip.height + 1, tip.envelope, force=True))
        assert "execute" not in [lane for lane, _, _ in stage.port.jobs]
        stage.port.run()
    above = stage.execution.tip.executed
    height, payload = stage.engine.templates[-1]
    assert (len(stage.engine.templates), height, parse_head(payload)[0]) == (4, 4, above.block)
    # What waits is not left out, and a template that was no longer wanted is not kept.
    stage.ledger.add([b"item"])
    stage.execution.on_work(True, True)
    stage.head(stage.grow(b"next", stage.execution.tip.envelope))
    stage.port.run()
    tip = stage.execution.tip
    stage.execution.on_want(Want(5, tip.envelope, force=True))
    stage.port.run()
    assert msgspec.msgpack.decode(stage.engine.templates[-1][1][HEAD_BYTES:]) == [b"item"]


def test_nobody_builds_ahead_for_who_only_follows_or_catches_up() -> None:
    built: list[Hash] = []

    class Counting(Forgetful):
        __slots__ = ()

        def build(self, parent: Hash, now_ms: int, max_bytes: int) -> bytes:
            built.append(parent)
            return super().build(parent, now_ms, max_bytes)

    stage = Stage()
    stage.ledger.__class__ = Counting
    stage.line(b"x", stage.root, 5)
    assert built == []
    stage.execution.on_want(Want(1, stage.root, force=True))
    stage.port.run()
    stage.line(b"y", stage.root, 5)
    assert len(built) == 2


def test_a_tip_and_the_block_that_it_makes_final_are_written_at_once() -> None:
    stage = Stage()
    line = stage.line(b"x", stage.root, 3)
    stage.head(line[2])
    stage.deliver(line[0])
    lanes = [lane for lane, _, _ in stage.port.jobs]
    assert lanes.count("commit") == 1
    stage.port.run()
    assert (stage.port.shown, stage.port.durable) == ([3], [1])


def test_what_changes_while_the_store_is_written_is_written_again() -> None:
    stage = Stage()
    line = stage.line(b"x", stage.root, 3)
    heights: list[Height] = []

    class Slow(Forgetful):
        """While the store is written, another block becomes final."""

        __slots__ = ()

        def commit(self) -> Height:
            heights.append(super().commit())
            if len(heights) == 1:
                stage.deliver(line[1])
            return heights[-1]

    stage.ledger.__class__ = Slow
    stage.head(line[2])
    stage.deliver(line[0])
    stage.port.run()
    assert heights == [1, 2]


def test_an_empty_pool_is_settled_only_where_blocks_hold_something() -> None:
    stage = Stage()

    def extend(name: bytes, parent: Hash, body: list[bytes]) -> Check:
        above = stage.execution.blocks[parent].executed
        payload = compose(above.block, above.timestamp_ms + 10, ALICE, msgspec.msgpack.encode(body))
        check = Check(above.height + 1, payload, parent, keccak256(name))
        stage.execution.on_check(check)
        stage.port.run()
        stage.head(check)
        return check

    def count_settlements() -> int:
        lanes = [lane for lane, _, _ in stage.port.jobs]
        stage.port.run()
        return lanes.count("pool")

    first = extend(b"1", stage.root, [])
    assert count_settlements() == 0
    second = extend(b"2", first.envelope, [])
    assert count_settlements() == 0
    extend(b"3", second.envelope, [b"item"])
    assert count_settlements() == 1
    # Another branch: what the abandoned one held waits again.
    other = extend(b"4", second.envelope, [])
    assert count_settlements() == 1
    assert stage.port.returned == [keccak256(b"item")]
    # While something waits, each block may include it.
    extend(b"5", other.envelope, [])
    assert count_settlements() == 1
