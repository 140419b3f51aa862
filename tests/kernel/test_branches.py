"""Branches above what is final: after any walk through a tree of blocks, the store holds what a
straight chain of the adopted blocks holds, on disk too, across restarts and kills.
"""

import json
import random
import sys
import threading
from pathlib import Path

import pytest
from msgspec import Struct

from kernel.chain import (
    ACCOUNTS,
    CODE,
    CONTRACT,
    FUNDS,
    KEYS,
    SLOT_7,
    envelope_of,
    genesis,
    payload,
    transaction,
)
from kernel.test_ledger_kill import KILLS, run_and_kill
from quorate._kernel import Block, Ledger, Pool, Unavailable, View, keccak256

STRANGER = b"\x77" * 20
LOGGER = b"\xc1" * 20
# Logs the call's first word as topic.
LOGGER_CODE = bytes.fromhex("60003560006000a1")
LATEST, SAFE, FINALIZED = -1, -3, -4
STEPS = 150


def make_genesis() -> bytes:
    alloc: dict[str, object] = {a.hex(): {"balance": hex(FUNDS)} for a in ACCOUNTS}
    alloc[CONTRACT.hex()] = {"balance": "0x0", "code": "0x" + CODE.hex()}
    alloc[LOGGER.hex()] = {"balance": "0x0", "code": "0x" + LOGGER_CODE.hex()}
    return genesis(alloc=alloc)


class Step(Struct, frozen=True):
    """How a block came about."""

    block: Block
    parent: bytes
    payload: bytes
    nonces: tuple[int, ...]
    """The next one of each account."""


class Walk:
    """A ledger that is led through a tree, and what a straight chain of its branch would be."""

    def __init__(self, path: str | None, seed: int) -> None:
        self.path, self.dice = path, random.Random(seed)
        self.ledger = Ledger.open(path, make_genesis())
        root = self.ledger.block(0)
        assert root is not None
        self.root = self.final = self.tip = root.hash
        self.steps = {root.hash: Step(root, b"", b"", (0,) * len(KEYS))}
        self.raws: dict[bytes, None] = {}
        self.reorgs = self.restarts = 0

    def get_path(self, tip: bytes, bottom: bytes) -> list[Step]:
        """Return the blocks above `bottom` up to `tip`, ascending."""
        path = []
        while tip != bottom:
            path.append(self.steps[tip])
            tip = self.steps[tip].parent
        return path[::-1]

    def is_above(self, tip: bytes, bottom: bytes) -> bool:
        while tip and tip != bottom:
            tip = self.steps[tip].parent
        return bool(tip)

    def grow(self, parent: bytes) -> bytes:
        """Execute a new block with a few transactions."""
        above = self.steps[parent].block
        nonces = list(self.steps[parent].nonces)
        raws = []
        for _ in range(self.dice.randrange(4)):
            who = self.dice.randrange(len(KEYS))
            to, data = self.dice.choice(
                [
                    (STRANGER, b""),
                    (LOGGER, self.dice.randbytes(32)),
                    (CONTRACT, SLOT_7 + self.dice.randbytes(32)),
                ]
            )
            raws.append(transaction(KEYS[who], nonces[who], to, 0 if data else 1, data))
            nonces[who] += 1
        body = payload(above, *raws, timestamp_ms=above.timestamp_ms + self.dice.randrange(1, 3000))
        block = self.ledger.execute(parent, [body], envelope_of(above))
        assert block.transactions == len(raws)
        self.raws.update(dict.fromkeys(raws))
        self.steps[block.hash] = Step(block, parent, body, tuple(nonces))
        return block.hash

    def adopt(self, tip: bytes) -> None:
        if not self.is_above(tip, self.tip):
            self.reorgs += 1
        self.tip = tip
        height = self.steps[tip].block.number
        self.ledger.adopt(tip, max(height - 2, 0))

    def finalize(self, count: int) -> None:
        for step in self.get_path(self.tip, self.final)[:count]:
            block = step.block
            envelope = envelope_of(block)
            self.ledger.finalize(block.hash, envelope, b"certificate", [step.payload])
            self.final = block.hash

    def restart(self) -> None:
        """Open the store anew; blocks above the durable one are executed again."""
        self.restarts += 1
        before = dump(self.ledger.view(), list(self.raws))
        self.ledger.close()
        self.ledger = Ledger.open(self.path, make_genesis())
        assert dump(self.ledger.view(), list(self.raws)) == before
        durable = self.ledger.block(self.ledger.durable())
        assert durable is not None
        self.final = self.tip = durable.hash
        alive = [h for h in self.steps if self.is_above(h, self.final)]
        for tip in sorted(alive, key=lambda h: self.steps[h].block.number):
            for step in self.get_path(tip, self.final):
                above = self.steps[step.parent].block
                again = self.ledger.execute(above.hash, [step.payload], envelope_of(above))
                assert again.hash == step.block.hash

    def check(self) -> None:
        """Compare the store with that of a straight chain."""
        model = Ledger.open(None, make_genesis())
        for step in self.get_path(self.tip, self.root):
            above = self.steps[step.parent].block
            block = model.execute(above.hash, [step.payload], envelope_of(above))
            model.finalize(block.hash, envelope_of(block), b"certificate", [step.payload])
        model.commit()
        view, straight = self.ledger.view(), model.view()
        assert dump(view, list(self.raws)) == dump(straight, list(self.raws))
        chain = [self.root, *(s.block.hash for s in self.get_path(self.tip, self.root))]
        for found, step in self.steps.items():
            number = step.block.number
            assert view.block_number(found) == (number if found in chain else None)
        final, height = self.steps[self.final].block.number, self.steps[self.tip].block.number
        assert view.tips()[:3] == (height, max(min(height - 2, height), final), final)
        assert view.branch(final, 100) == (final, chain[final:])
        for number in range(1, height + 1):
            assert (view.decision(number) is not None) == (number <= final)
        # Everything that was executed can still be read, whatever the store shows.
        for found in [h for h in self.steps if self.is_above(h, self.final)][-5:]:
            self.ledger.storage(found, CONTRACT, [SLOT_7])


def dump(view: View, raws: list[bytes]) -> list[object]:
    """Return all that readers can see."""
    head = view.head()
    seen: list[object] = [head, view.logs_json(0, head, [], [], 10_000)]
    for at in range(head + 1):
        found = view.block_hash(at)
        assert found is not None
        seen += [found, view.block_json(at, True), view.block_receipts_json(found)]
        seen += [view.proof_json(at, CONTRACT, [SLOT_7]), view.balance(at, STRANGER)]
        seen += [view.nonce(at, account) for account in ACCOUNTS]
    hashes = [keccak256(raw) for raw in raws]
    return seen + [(view.transaction_json(h), view.receipt_json(h)) for h in hashes]


@pytest.fixture(params=["memory", "disk"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> str | None:
    return str(tmp_path / "ledger") if request.param == "disk" else None


@pytest.mark.parametrize("seed", range(4))
def test_the_store_holds_what_a_straight_chain_would(path: str | None, seed: int) -> None:
    walk = Walk(path, seed)
    dice = walk.dice
    for _ in range(STEPS):
        alive = [h for h in walk.steps if walk.is_above(h, walk.final)]
        action = dice.randrange(10)
        if action < 5:
            # Mostly near the tip, sometimes far below.
            parent = walk.tip if dice.random() < 0.6 else dice.choice(alive)
            walk.grow(parent)
        elif action < 8:
            best = max(walk.steps[h].block.number for h in alive)
            high = [h for h in alive if walk.steps[h].block.number >= best - 1]
            walk.adopt(dice.choice(high if dice.random() < 0.8 else alive))
        elif action == 8:
            walk.finalize(dice.randrange(3))
        elif path is not None and dice.random() < 0.4:
            walk.adopt(walk.tip)
            walk.ledger.commit()
            walk.restart()
        if dice.random() < 0.5:
            walk.adopt(walk.tip)
            walk.ledger.commit()
            walk.check()
    assert walk.reorgs > 3
    assert walk.ledger.durable() > 2
    assert path is None or walk.restarts
    walk.ledger.close()


def grow_line(ledger: Ledger, parent: Block, count: int, *raws: bytes) -> list[Block]:
    """Execute `count` blocks over each other; the first holds these transactions."""
    blocks = []
    for i in range(count):
        body = payload(parent, *(raws if i == 0 else ()))
        parent = ledger.execute(parent.hash, [body], envelope_of(parent))
        blocks.append(parent)
    return blocks


def get_root(ledger: Ledger) -> Block:
    root = ledger.block(0)
    assert root is not None
    return root


def test_a_store_without_branches_says_that_its_last_block_is_final() -> None:
    ledger = Ledger.open(None, make_genesis())
    assert ledger.view().tips() == (0, 0, 0, False)
    assert ledger.latest() == ledger.genesis_hash


def test_tags_name_the_latest_the_safe_and_the_final_block() -> None:
    ledger = Ledger.open(None, make_genesis())
    root = get_root(ledger)
    blocks = grow_line(ledger, root, 5)
    ledger.adopt(blocks[4].hash, 3)
    ledger.finalize(blocks[0].hash, bytes(32), b"", [payload(root)])
    assert ledger.commit() == 1
    view = ledger.view()
    assert view.tips() == (5, 3, 1, True)
    numbers = [json.loads(view.header_json(t) or b"")["number"] for t in (LATEST, SAFE, FINALIZED)]
    assert numbers == ["0x5", "0x3", "0x1"]
    assert view.balance(LATEST, STRANGER) == 0
    with pytest.raises(TypeError):
        view.block_json(-2, False)


def test_the_tip_may_move_down_but_not_below_what_is_final() -> None:
    ledger = Ledger.open(None, make_genesis())
    root = get_root(ledger)
    blocks = grow_line(ledger, root, 3)
    ledger.adopt(blocks[2].hash, 0)
    ledger.finalize(blocks[0].hash, bytes(32), b"", [payload(root)])
    ledger.commit()
    ledger.adopt(blocks[0].hash, 0)
    ledger.commit()
    assert ledger.view().tips()[:3] == (1, 1, 1)
    with pytest.raises(Unavailable, match="not executed here"):
        ledger.adopt(root.hash, 0)
    with pytest.raises(Unavailable, match="not executed here"):
        ledger.adopt(bytes(32), 0)


def test_what_is_final_on_another_branch_takes_the_adopted_one_away() -> None:
    ledger = Ledger.open(None, make_genesis())
    root = get_root(ledger)
    left = grow_line(ledger, root, 2)
    body = payload(root, timestamp_ms=77)
    right = ledger.execute(root.hash, [body], envelope_of(root))
    ledger.adopt(left[1].hash, 0)
    ledger.commit()
    ledger.finalize(right.hash, bytes(32), b"", [body])
    assert ledger.latest() == right.hash
    ledger.commit()
    assert ledger.view().tips()[:3] == (1, 1, 1)
    assert ledger.view().block_hash(1) == right.hash


def test_siblings_beyond_their_bound_do_not_push_out_the_adopted_one() -> None:
    ledger = Ledger.open(None, make_genesis())
    root = get_root(ledger)
    line = grow_line(ledger, root, 3)
    ledger.adopt(line[2].hash, 0)
    for ms in range(40):
        ledger.execute(root.hash, [payload(root, timestamp_ms=5000 + 1000 * ms)], envelope_of(root))
    ledger.adopt(line[2].hash, 0)
    ledger.commit()
    assert ledger.view().block_hash(3) == line[2].hash


def test_a_twin_that_is_final_replaces_the_one_that_was_shown() -> None:
    ledger = Ledger.open(None, make_genesis())
    root = get_root(ledger)
    early, late = payload(root, timestamp_ms=1100), payload(root, timestamp_ms=1200)
    first = ledger.execute(root.hash, [early], envelope_of(root))
    assert ledger.execute(root.hash, [late], envelope_of(root)).hash == first.hash
    ledger.adopt(first.hash, 0)
    ledger.commit()
    # A child of either may come; whoever knows of which looks at the time again.
    ledger.check(first.hash, payload(first, timestamp_ms=1101), 10**6)
    ledger.finalize(first.hash, bytes(32), b"", [late])
    ledger.commit()
    found = ledger.block(1)
    assert found is not None
    assert found.timestamp_ms == 1200


def test_hundreds_of_tentative_blocks_turn_over_in_one_commit(tmp_path: Path) -> None:
    path = str(tmp_path / "ledger")
    ledger = Ledger.open(path, make_genesis())
    root = get_root(ledger)
    raw = transaction(KEYS[0], 0, STRANGER)
    line = grow_line(ledger, root, 300, raw)
    ledger.adopt(line[-1].hash, 0)
    ledger.commit()
    view = View.open(path)
    assert view.head() == 300
    assert view.balance(LATEST, STRANGER) == 1
    fork = ledger.execute(root.hash, [payload(root, timestamp_ms=5)], envelope_of(root))
    other = [fork, *grow_line(ledger, fork, 350)]
    ledger.adopt(other[-1].hash, 0)
    ledger.commit()
    assert view.head() == 351
    assert view.balance(LATEST, STRANGER) == 0
    assert view.transaction_json(keccak256(raw)) is None
    ledger.close()


def test_transactions_of_an_abandoned_branch_wait_again() -> None:
    ledger = Ledger.open(None, make_genesis())
    pool = Pool(ledger)
    root = get_root(ledger)
    raws = [transaction(KEYS[0], nonce, STRANGER) for nonce in range(3)]
    shared = transaction(KEYS[1], 0, STRANGER)
    pool.add([*raws, shared])
    first = ledger.execute(root.hash, [payload(root, *raws[:2], shared)], envelope_of(root))
    second = ledger.execute(first.hash, [payload(first, raws[2])], envelope_of(first))
    ledger.adopt(second.hash, 0)
    pool.settle(second.hash)
    assert (pool.counts()[:2], pool.readmit()) == ((0, 0), [])
    assert pool.nonce(ACCOUNTS[0]) == 3
    other = ledger.execute(root.hash, [payload(root, shared, timestamp_ms=9)], envelope_of(root))
    ledger.adopt(other.hash, 0)
    # The abandoned blocks may be gone before the pool looks.
    ledger.finalize(other.hash, bytes(32), b"", [payload(root, shared, timestamp_ms=9)])
    pool.settle(other.hash)
    assert pool.readmit() == [keccak256(raw) for raw in raws]
    assert pool.counts()[:2] == (3, 0)
    assert pool.nonce(ACCOUNTS[0]) == 3
    assert pool.nonce(ACCOUNTS[1]) == 1
    assert pool.readmit() == []


def test_a_reader_sees_one_branch_or_the_other(tmp_path: Path) -> None:
    path = str(tmp_path / "ledger")
    ledger = Ledger.open(path, make_genesis())
    root = get_root(ledger)
    raw = transaction(KEYS[0], 0, STRANGER, 7)
    left, right = grow_line(ledger, root, 3, raw), grow_line(ledger, root, 2)
    roots = {left[-1].state_root: 7, right[-1].state_root: 0}
    done = threading.Event()

    def flip() -> None:
        while not done.is_set():
            for tip in (left[-1], right[-1]):
                ledger.adopt(tip.hash, 0)
                ledger.commit()

    ledger.adopt(left[-1].hash, 0)
    ledger.commit()
    writer = threading.Thread(target=flip)
    writer.start()
    seen = set()
    try:
        view = View.open(path)
        for _ in range(300):
            answer = json.loads(view.proof_json(LATEST, STRANGER, []))
            top = keccak256(bytes.fromhex(answer["accountProof"][0][2:]))
            assert int(answer["balance"], 16) == roots[top]
            found = json.loads(view.block_json(LATEST, True) or b"")
            assert found["hash"] in (f"0x{left[-1].hash.hex()}", f"0x{right[-1].hash.hex()}")
            seen.add(found["number"])
            view.logs_json(0, 3, [], [], 10)
            view.fee_history_json(2, 2, [50.0])
    finally:
        done.set()
        writer.join()
    assert seen == {"0x2", "0x3"}
    view.close()
    ledger.close()


def write_for_ever(path: str) -> None:
    """Walk sideways through a tree from wherever the store ends; tell each final height."""
    ledger = Ledger.open(path, make_genesis())
    final = ledger.block(ledger.durable())
    assert final is not None
    dice = random.Random(final.number)
    line: list[tuple[Block, bytes]] = []
    nonce = final.number
    while True:
        # Give up some blocks at the end, lay others there: each holds its branch's transfer.
        del line[len(line) - dice.randrange(len(line) + 1) :]
        for _ in range(dice.randrange(1, 5)):
            above = line[-1][0] if line else final
            at = nonce + len(line)
            raw = transaction(KEYS[0], at, dice.randbytes(20))
            body = payload(
                above, raw, timestamp_ms=above.timestamp_ms + 1000 * dice.randrange(1, 9)
            )
            line.append((ledger.execute(above.hash, [body], envelope_of(above)), body))
        ledger.adopt(line[-1][0].hash, 0)
        if len(line) > 3:
            final, body = line.pop(0)
            nonce += 1
            ledger.finalize(final.hash, envelope_of(final), b"certificate", [body])
        sys.stdout.write(f"{ledger.commit()}\n")
        sys.stdout.flush()


def rebuild(view: View) -> Ledger:
    """Return a straight chain of the blocks that a store shows."""
    model = Ledger.open(None, make_genesis())
    above = get_root(model)
    for height in range(1, view.head() + 1):
        shown = json.loads(view.block_json(height, False) or b"")
        raws = [view.transaction_raw(bytes.fromhex(h[2:])) for h in shown["transactions"]]
        body = payload(
            above,
            *(raw for raw in raws if raw),
            timestamp_ms=int(shown["timestamp"], 16) * 1000,
        )
        block = model.execute(above.hash, [body], envelope_of(above))
        model.finalize(block.hash, envelope_of(block), b"certificate", [body])
        above = block
    model.commit()
    return model


def test_a_killed_process_leaves_one_whole_chain(tmp_path: Path) -> None:
    path = str(tmp_path / "ledger")
    dice = random.Random(1)
    tentative = told = 0
    for _ in range(KILLS):
        told = max(told, run_and_kill(path, dice.random() / 30, __file__))
        ledger = Ledger.open(path, make_genesis())
        view = View.open(path)
        latest, _, final, is_open = view.tips()
        assert is_open
        assert final == ledger.durable() >= told
        tentative += latest - final
        model = rebuild(view)
        raws: list[bytes] = []
        for height in range(1, latest + 1):
            raw = view.transaction_at_json(height, 0)
            raws.append(
                view.transaction_raw(bytes.fromhex(json.loads(raw or b"")["hash"][2:])) or b""
            )
        assert dump(view, raws) == dump(model.view(), raws)
        assert view.nonce(LATEST, ACCOUNTS[0]) == latest
        view.close()
        ledger.close()
        del ledger, view
    assert told
    assert tentative > KILLS


if __name__ == "__main__":
    write_for_ever(sys.argv[1])
