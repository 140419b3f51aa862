"""What a ledger keeps of the past: pruning states and blocks, and states that move as pieces."""

import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from kernel.chain import (
    ACCOUNTS,
    COINBASE,
    CONTRACT,
    KEYS,
    SLOT_7,
    envelope_of,
    extend,
    genesis,
    tip,
    transaction,
)
from quorate._kernel import Invalid, Ledger, Rejected, Unavailable, View, keccak256

PRUNED = ("pruned history unavailable", 4444)
BLOCKS = 60


@pytest.fixture(params=["memory", "disk"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    path = str(tmp_path / "ledger") if request.param == "disk" else None
    opened = Ledger.open(path, genesis())
    yield opened
    opened.close()


def address(number: int) -> bytes:
    return keccak256(b"%d" % number)[:20]


def word(number: int) -> bytes:
    return number.to_bytes(32, "big")


def grow(ledger: Ledger, dice: random.Random, blocks: int = BLOCKS) -> None:
    """Add blocks that create, change and empty accounts and slots."""
    nonces = [ledger.view().nonce(ledger.durable(), account) for account in ACCOUNTS]
    for _ in range(blocks):
        raws = []
        for i, key in enumerate(KEYS):
            for _ in range(dice.randrange(4)):
                if dice.random() < 0.5:
                    raws.append(transaction(key, nonces[i], address(dice.randrange(300)), 1))
                else:
                    # Zero takes the slot out again.
                    slot, value = word(dice.randrange(40)), word(dice.randrange(3))
                    raws.append(transaction(key, nonces[i], CONTRACT, 0, slot + value))
                nonces[i] += 1
        extend(ledger, *raws)
        if dice.random() < 0.7:
            ledger.commit()
    ledger.commit()


def prune(ledger: Ledger, states: int | None, blocks: int | None) -> int:
    """Prune all there is to prune; how many steps that took."""
    steps = 1
    while ledger.prune(states, blocks):
        steps += 1
    return steps


def read_state(view: View, height: int) -> list[object]:
    accounts = [*ACCOUNTS, COINBASE, CONTRACT, *map(address, range(300))]
    found: list[object] = [(view.balance(height, a), view.nonce(height, a)) for a in accounts]
    return found + [view.storage(height, CONTRACT, word(slot)) for slot in range(40)]


def carry(
    source: Ledger, height: int, target: Ledger, limit: int = 700, note: bytes = b"a note"
) -> None:
    """Take the state after a height from one ledger to another."""
    view = source.view()
    loading = target.start_import(height)
    cursor: bytes | None = b""
    while cursor is not None:
        piece, cursor = view.export_state(height, cursor, limit)
        loading.add(piece)
    finish(source, height, loading, note=note)


def finish(
    source: Ledger, height: int, loading: object, heads: int = 3, note: bytes = b"a note"
) -> None:
    view = source.view()
    records = [view.head_record(h) for h in range(max(height - heads + 1, 1), height + 1)]
    decision = source.decision(height)
    assert decision is not None
    loading.finish(records, *decision, note)  # type: ignore[attr-defined]


def test_pruned_states_are_gone_and_the_others_are_whole(ledger: Ledger) -> None:
    grow(ledger, random.Random(1))
    view, last = ledger.view(), ledger.durable()
    before = {height: read_state(view, height) for height in (last, last - 9, last - 10)}
    assert view.history() == (0, 0, 0)
    prune(ledger, 10, None)
    assert view.history() == (last - 10, 0, 0)
    for height, state in before.items():
        assert read_state(view, height) == state
        proof = json.loads(view.proof_json(height, CONTRACT, [SLOT_7]))
        assert proof["accountProof"]
    for height in (0, 1, last - 11):
        with pytest.raises(Rejected) as error:
            view.balance(height, ACCOUNTS[0])
        assert error.value.args == PRUNED
        assert view.block_json(height, True) is not None
    with pytest.raises(Unavailable, match="pruned"):
        ledger.storage(view.block_hash(3) or b"", CONTRACT, [SLOT_7])


def test_a_ledger_that_prunes_after_every_commit_gives_the_same_blocks(tmp_path: Path) -> None:
    dice, other = random.Random(2), random.Random(2)
    whole = Ledger.open(None, genesis())
    pruned = Ledger.open(str(tmp_path / "ledger"), genesis())
    for _ in range(12):
        grow(whole, dice, 10)
        grow(pruned, other, 10)
        prune(pruned, 8, 8)
        assert tip(pruned).hash == tip(whole).hash
        last = tip(whole).number
        assert read_state(pruned.view(), last) == read_state(whole.view(), last)
    pruned.close()
    again = Ledger.open(str(tmp_path / "ledger"), genesis())
    grow(whole, dice, 5)
    grow(again, other, 5)
    assert tip(again).hash == tip(whole).hash
    assert again.view().history() == (112, 112, 0)


def test_pruned_blocks_keep_their_headers(ledger: Ledger) -> None:
    grow(ledger, random.Random(3))
    view, last = ledger.view(), ledger.durable()
    hashes = json.loads(view.block_json(5, False) or b"")["transactions"]
    transactions = [bytes.fromhex(h[2:]) for h in hashes]
    assert prune(ledger, None, 20) >= 1
    border = last - 20
    assert view.history() == (0, border, 0)
    block = view.block_hash(5)
    assert block is not None
    assert view.block_number(block) == 5
    for at in (5, block, border - 1):
        for ask in (
            lambda at=at: view.block_json(at, True),
            lambda at=at: view.block_receipts_json(at),
            lambda at=at: view.block_transaction_count(at),
            lambda at=at: view.transaction_at_json(at, 0),
            lambda at=at: view.block_raw(at),
            lambda at=at: view.receipts_raw(at),
            lambda at=at: view.trace_block(at, None),
        ):
            with pytest.raises(Rejected) as error:
                ask()
            assert error.value.args == PRUNED
        assert view.header_json(at) is not None
    with pytest.raises(Rejected) as error:
        view.decision(5)
    assert error.value.args == PRUNED
    assert ledger.decision(5) is None
    assert all(view.transaction_json(found) is None for found in transactions)
    assert view.block_json(0, True) is not None
    assert view.block_json(border, True) is not None
    assert view.balance(5, ACCOUNTS[0]) > 0, "states are another setting"


@pytest.mark.parametrize("span", [(1, 0), (0, 0), (-1, 5), (-1, -1)])
def test_logs_over_the_border_are_refused(ledger: Ledger, span: tuple[int, int]) -> None:
    grow(ledger, random.Random(4))
    prune(ledger, None, 20)
    border = ledger.durable() - 20
    view = ledger.view()
    assert view.logs_json(border, border + 5, [], [], 10) == b"[]"
    assert view.logs_json(0, 0, [], [], 10) == b"[]"
    with pytest.raises(Rejected) as error:
        view.logs_json(max(border - 1 + min(span), 0), border + span[1], [], [], 10)
    assert error.value.args == PRUNED


def test_what_is_too_young_is_never_pruned(ledger: Ledger) -> None:
    grow(ledger, random.Random(5), 4)
    assert not ledger.prune(0, 0)
    assert ledger.view().history() == (0, 0, 0)
    grow(ledger, random.Random(6), 30)
    prune(ledger, 0, 0)
    states, blocks, _ = ledger.view().history()
    assert states == blocks == ledger.durable() - 8


def test_a_ledger_does_not_roll_back_below_what_it_keeps(ledger: Ledger) -> None:
    grow(ledger, random.Random(7))
    prune(ledger, 10, 10)
    last = ledger.durable()
    with pytest.raises(Unavailable, match="pruned"):
        ledger.rollback(last - 11)
    ledger.rollback(last - 5)
    grow(ledger, random.Random(8), 5)
    prune(ledger, 10, 10)


def test_pruning_frees_pages_for_what_comes(tmp_path: Path) -> None:
    sizes = []
    for keep in (None, 8):
        path = tmp_path / f"keep-{keep}"
        ledger, dice = Ledger.open(str(path), genesis()), random.Random(9)
        for _ in range(15):
            grow(ledger, dice, 20)
            prune(ledger, keep, keep)
        ledger.close()
        sizes.append((path / "data.mdb").stat().st_size)
    whole, pruned = sizes
    assert pruned < whole / 2


# ---- states that move


@pytest.mark.parametrize("limit", [1, 700, 1 << 20])
def test_a_state_moves_in_pieces_and_goes_on_elsewhere(
    tmp_path: Path, ledger: Ledger, limit: int
) -> None:
    grow(ledger, random.Random(10))
    height = ledger.durable()
    source = Ledger.open(None, genesis())
    grow(source, random.Random(10))
    target = Ledger.open(str(tmp_path / "target"), genesis())
    carry(source, height, target, limit)
    assert (target.durable(), target.final()) == (height, height)
    assert tip(target).hash == tip(source).hash
    assert target.note() == b"a note"
    assert read_state(target.view(), height) == read_state(source.view(), height)
    assert target.view().code(height, CONTRACT) == source.view().code(height, CONTRACT)
    assert target.view().history() == (height, height + 1, height - 2)
    target.close()
    again = Ledger.open(str(tmp_path / "target"), genesis())
    grow(source, random.Random(11), 20)
    grow(again, random.Random(11), 20)
    assert tip(again).hash == tip(source).hash
    prune(again, 8, 8)
    grow(source, random.Random(12), 20)
    grow(again, random.Random(12), 20)
    assert tip(again).hash == tip(source).hash
    # What other ledgers never had answers as what was pruned.
    view = again.view()
    for ask in (lambda: view.block_json(3, False), lambda: view.balance(3, CONTRACT)):
        with pytest.raises(Rejected) as error:
            ask()
        assert error.value.args == PRUNED
    assert view.block_json(0, False) is not None


def test_a_state_takes_the_place_of_an_older_one(ledger: Ledger) -> None:
    source = Ledger.open(None, genesis())
    grow(source, random.Random(13))
    grow(ledger, random.Random(14), 10)
    stale = ledger.view().block_hash(4)
    carry(source, source.durable(), ledger)
    assert tip(ledger).hash == tip(source).hash
    while ledger.prune(None, None):
        pass
    assert ledger.view().block_number(stale or b"") is None
    grow(source, random.Random(15), 10)
    grow(ledger, random.Random(15), 10)
    assert tip(ledger).hash == tip(source).hash
    with pytest.raises(Invalid, match="above the last durable"):
        ledger.start_import(ledger.durable())


def load(source: Ledger, target: Ledger, pieces: list[bytes]) -> None:
    loading = target.start_import(source.durable())
    for piece in pieces:
        loading.add(piece)
    finish(source, source.durable(), loading)


def pieces_of(source: Ledger, limit: int = 700) -> list[bytes]:
    view, cursor = source.view(), b""
    found = []
    while True:
        piece, following = view.export_state(source.durable(), cursor, limit)
        found.append(piece)
        if following is None:
            return found
        cursor = following


def test_pieces_that_are_not_the_state_are_refused(tmp_path: Path) -> None:
    source = Ledger.open(None, genesis())
    grow(source, random.Random(16))
    pieces = pieces_of(source)
    dice = random.Random(17)
    target = Ledger.open(str(tmp_path / "target"), genesis())
    for _ in range(150):
        wrong = list(pieces)
        place = dice.randrange(len(wrong))
        match dice.randrange(4):
            case 0:
                bits = bytearray(wrong[place])
                bits[dice.randrange(len(bits))] ^= 1 << dice.randrange(8)
                wrong[place] = bytes(bits)
            case 1:
                wrong[place] = wrong[place][: dice.randrange(len(wrong[place]))]
            case 2:
                del wrong[place]
            case _:
                wrong.insert(dice.randrange(len(wrong)), wrong[place])
        if wrong == pieces:
            continue
        with pytest.raises(Invalid):
            load(source, target, wrong)
        assert target.durable() == 0
        assert target.view().balance(0, ACCOUNTS[0]) > 0
    grow(target, random.Random(18), 3)
    assert target.durable() == 3


def test_an_import_that_ended_half_way_leaves_a_ledger_that_goes_on(tmp_path: Path) -> None:
    source = Ledger.open(None, genesis())
    grow(source, random.Random(19))
    pieces = pieces_of(source)
    path = str(tmp_path / "target")
    target = Ledger.open(path, genesis())
    for half in (1, len(pieces) // 2, len(pieces)):
        loading = target.start_import(source.durable())
        for piece in pieces[:half]:
            loading.add(piece)
        del loading
        target.close()
        target = Ledger.open(path, genesis())
        grow(target, random.Random(half), 3)
    carry(source, source.durable(), target)
    assert tip(target).hash == tip(source).hash


def test_a_ledger_goes_on_while_a_state_is_loaded(tmp_path: Path) -> None:
    source = Ledger.open(None, genesis())
    grow(source, random.Random(20))
    target = Ledger.open(str(tmp_path / "target"), genesis())
    loading = target.start_import(source.durable())
    for piece in pieces_of(source):
        loading.add(piece)
        grow(target, random.Random(len(piece)), 1)
        if target.durable() == 20:
            break
    assert target.durable() == min(20, len(pieces_of(source)))


def test_headers_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    source = Ledger.open(None, genesis())
    grow(source, random.Random(21))
    height, view = source.durable(), source.view()
    decision = source.decision(height)
    assert decision is not None
    heads = [view.head_record(h) or b"" for h in range(height - 3, height + 1)]
    for wrong in (
        [],
        heads[:-1],
        heads[::-1],
        [heads[0], heads[-1]],
        [*heads[:-1], heads[-1][:50]],
        [*heads[:-1], bytes([heads[-1][0] ^ 1]) + heads[-1][1:]],
    ):
        target = Ledger.open(None, genesis())
        loading = target.start_import(height)
        for piece in pieces_of(source):
            loading.add(piece)
        with pytest.raises(Invalid):
            loading.finish(wrong, *decision, b"")
        with pytest.raises(Unavailable, match="finished"):
            loading.add(b"")


def test_the_state_of_a_pruned_height_is_not_exported(ledger: Ledger) -> None:
    grow(ledger, random.Random(22))
    prune(ledger, 10, None)
    with pytest.raises(Rejected):
        ledger.view().export_state(5, b"", 100)
    with pytest.raises(Invalid, match="cursor"):
        ledger.view().export_state(ledger.durable(), b"\x09", 100)
    assert envelope_of(tip(ledger))
