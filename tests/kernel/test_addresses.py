"""The index of addresses: who takes part, on branches that come and go, across restarts."""

import json
from pathlib import Path
from typing import Any

import pytest

from kernel.chain import ACCOUNTS, CONTRACT, KEYS, extend, genesis, transaction
from kernel.test_branches import LOGGER, STRANGER, Walk
from kernel.vectors import vectors
from quorate._kernel import AddressIndex, Ledger, Rejected, View, keccak256

FORWARDS, CREATES, FAILS, ENDS, DELEGATES = (bytes([0xD0 + i]) * 20 for i in range(5))
FRIEND = b"\x99" * 20
MAKE = "6360015ff35f526004601c5ff0"
CODES = {
    # Sends what it gets to the address that it is given.
    FORWARDS: "5f5f5f5f345f355af100",
    # Creates a contract whose code is a zero; the second one reverts then.
    CREATES: MAKE + "00",
    FAILS: MAKE + "5f5ffd",
    # Ends itself, for the good of the address that it is given.
    ENDS: "5f35ff",
    # Runs the code of the address that it is given.
    DELEGATES: "5f5f5f5f5f355af400",
}
TOP = 1 << 62


def word(address: bytes) -> bytes:
    return address.rjust(32, b"\0")


def make_ledger() -> Ledger:
    alloc: dict[str, object] = {
        account.hex(): {"balance": "0x5", "code": "0x" + code} for account, code in CODES.items()
    }
    alloc[ACCOUNTS[0].hex()] = {"balance": hex(10**24)}
    return Ledger.open(None, genesis(alloc=alloc))


def catch_up(index: AddressIndex, view: View, blocks: int = 100) -> None:
    for _ in range(200):
        height, latest = index.update(view, blocks)
        if height == latest:
            return
    raise AssertionError(f"block {height} of {latest}")


def find(index: AddressIndex, view: View, address: bytes) -> list[tuple[int, int]]:
    found, more = index.search(view, address, 0, True, 10_000)
    down, _ = index.search(view, address, TOP, False, 10_000)
    assert not more
    assert down == found[::-1]
    return found


def test_parties_of_inner_calls_are_found() -> None:
    ledger = make_ledger()
    targets = (FRIEND, FRIEND, FRIEND, FRIEND, FORWARDS, (4).to_bytes(20, "big"))
    callees = (FORWARDS, CREATES, FAILS, ENDS, DELEGATES, FORWARDS)
    for nonce, (to, target) in enumerate(zip(callees, targets, strict=True)):
        extend(ledger, transaction(KEYS[0], nonce, to, 3, word(target), gas=200_000))
    extend(ledger, transaction(KEYS[0], 6, b"", 0, bytes.fromhex("60015ff3"), gas=200_000))
    ledger.commit()
    view = ledger.view()
    index = AddressIndex.open(None)
    assert index.heights(view) == (0, 7)
    assert index.update(view, 3) == (3, 7)
    assert index.update(view, 100) == (7, 7)

    assert find(index, view, ACCOUNTS[0]) == [(height, 0) for height in range(1, 8)]
    assert find(index, view, FRIEND) == [(1, 0), (4, 0)], "an argument alone is no part"
    assert find(index, view, FORWARDS) == [(1, 0), (5, 0), (6, 0)]
    assert find(index, view, (4).to_bytes(20, "big")) == [], "precompiles would be everywhere"
    assert index.search(view, ACCOUNTS[0], 3, False, 2) == ([(3, 0), (2, 0)], True)
    assert index.search(view, ACCOUNTS[0], 6, True, 2) == ([(6, 0), (7, 0)], False)

    assert index.sent(view, ACCOUNTS[0], 4) == (5, 0)
    assert index.sent(view, ACCOUNTS[0], 7) is None

    made = make_address(CREATES, 0)
    assert index.creator(view, made) == (2, 0, CREATES)
    assert index.creator(view, make_address(ACCOUNTS[0], 6)) == (7, 0, ACCOUNTS[0])
    failed = make_address(FAILS, 0)
    assert index.creator(view, failed) is None, "what is reverted is not there"
    assert find(index, view, failed) == [(3, 0)]
    assert index.creator(view, FRIEND) is None


def make_address(creator: bytes, nonce: int) -> bytes:
    body = b"\x94" + creator + (bytes((nonce,)) if nonce else b"\x80")
    return keccak256(bytes((0xC0 + len(body),)) + body)[12:]


def test_a_page_holds_all_of_its_last_block() -> None:
    ledger = make_ledger()
    for height in range(3):
        raws = (transaction(KEYS[0], 100 * height + i, FRIEND, 1) for i in range(100))
        extend(ledger, *raws)
    ledger.commit()
    view, index = ledger.view(), AddressIndex.open(None)
    catch_up(index, view)
    found, more = index.search(view, FRIEND, TOP, False, 101)
    assert (len(found), more, found[-1]) == (200, True, (2, 0))
    found, more = index.search(view, FRIEND, 2, True, 1)
    assert (len(found), more, found[0]) == (100, True, (2, 0))
    assert find(index, view, FRIEND) == [(h, i) for h in range(1, 4) for i in range(100)]


def read_all(view: View) -> dict[bytes, list[tuple[int, int]]]:
    """Return where each address takes part, by the transactions alone."""
    places: dict[bytes, list[tuple[int, int]]] = {}
    for height in range(1, view.head() + 1):
        for index, found in enumerate(
            json.loads(view.block_json(height, True) or b"")["transactions"]
        ):
            for name in {found["from"], found["to"]}:
                places.setdefault(bytes.fromhex(name[2:]), []).append((height, index))
    return places


@pytest.mark.parametrize("seed", range(6))
def test_branches_leave_nothing_behind(seed: int, tmp_path: Path) -> None:
    walk = Walk(None, seed)
    dice = walk.dice
    folder = str(tmp_path / "addresses")
    index = AddressIndex.open(folder)
    for _ in range(120):
        alive = [found for found in walk.steps if walk.is_above(found, walk.final)]
        action = dice.randrange(10)
        if action < 5:
            walk.grow(walk.tip if dice.random() < 0.6 else dice.choice(alive))
        elif action < 8:
            walk.adopt(dice.choice(alive))
        elif action == 8:
            walk.finalize(dice.randrange(3))
        elif dice.random() < 0.5:
            index.close()
            del index
            index = AddressIndex.open(folder)
        walk.adopt(walk.tip)
        walk.ledger.commit()
        view = walk.ledger.view()
        if dice.random() < 0.6:
            catch_up(index, view, dice.randrange(1, 4))
            expected = read_all(view)
            for address in (*ACCOUNTS, STRANGER, LOGGER, CONTRACT):
                assert find(index, view, address) == expected.get(address, [])
            nonces = walk.steps[walk.tip].nonces
            for account, count in zip(ACCOUNTS, nonces, strict=True):
                sent = [index.sent(view, account, nonce) for nonce in range(count + 1)]
                assert sent[-1] is None
                assert all(place in expected[account] for place in sent[:-1])
        else:
            # What it has not taken in yet may lack, what is gone must not be found.
            expected = read_all(view)
            for address in (*ACCOUNTS, STRANGER):
                assert set(find(index, view, address)) <= set(expected.get(address, []))
    assert walk.reorgs > 3
    index.close()


def test_another_ledger_begins_anew(tmp_path: Path) -> None:
    folder = str(tmp_path / "addresses")
    ledger = make_ledger()
    extend(ledger, transaction(KEYS[0], 0, FRIEND, 1))
    extend(ledger, transaction(KEYS[0], 1, FRIEND, 1))
    ledger.commit()
    index = AddressIndex.open(folder)
    catch_up(index, ledger.view())
    other = Ledger.open(None, genesis())
    assert index.update(other.view(), 10) == (0, 0)
    assert find(index, other.view(), FRIEND) == []

    # The same chain, a block less so far, and then another one of the same genesis block.
    catch_up(index, ledger.view())
    behind = make_ledger()
    extend(behind, transaction(KEYS[0], 0, FRIEND, 1))
    behind.commit()
    assert index.update(behind.view(), 10) == (2, 1)
    assert find(index, behind.view(), FRIEND) == [(1, 0)]
    extend(behind, transaction(KEYS[0], 1, STRANGER, 1))
    behind.commit()
    catch_up(index, behind.view())
    assert find(index, behind.view(), FRIEND) == [(1, 0)]
    assert find(index, behind.view(), STRANGER) == [(2, 0)]


def test_what_is_pruned_is_not_found() -> None:
    ledger = make_ledger()
    for nonce in range(40):
        extend(ledger, transaction(KEYS[0], nonce, FORWARDS, 1, word(FRIEND)))
    ledger.commit()
    view, early, late = ledger.view(), AddressIndex.open(None), AddressIndex.open(None)
    catch_up(early, view)
    assert len(find(early, view, FRIEND)) == 40
    while ledger.prune(10, 20):
        pass
    catch_up(late, view)
    first = next(h for h in range(1, 41) if is_whole(view, h))
    assert 1 < first <= 21
    assert find(early, view, FRIEND) == [(height, 0) for height in range(first, 41)]
    assert find(late, view, FORWARDS) == find(early, view, FORWARDS)
    # Of blocks without the state below them, only what they say themselves is known.
    traced = find(late, view, FRIEND)
    assert 0 < len(traced) < len(find(late, view, FORWARDS))
    assert early.sent(view, ACCOUNTS[0], 3) is None
    assert late.sent(view, ACCOUNTS[0], 39) == (40, 0)
    extend(ledger, transaction(KEYS[0], 40, FRIEND, 1))
    ledger.commit()
    catch_up(late, view)
    assert find(late, view, FRIEND)[-1] == (41, 0)


def is_whole(view: View, height: int) -> bool:
    try:
        return view.block_json(height, True) is not None
    except Rejected:
        return False


def test_one_process_writes_and_others_read(tmp_path: Path) -> None:
    folder = str(tmp_path / "addresses")
    first = AddressIndex.open(folder)
    second = AddressIndex.open(folder)
    assert first.is_writer
    ledger = make_ledger()
    extend(ledger, transaction(KEYS[0], 0, FRIEND, 1))
    ledger.commit()
    catch_up(first, ledger.view())
    assert find(second, ledger.view(), FRIEND) == [(1, 0)]


def list_parties(frame: dict[str, Any], is_inner: bool = False) -> set[str]:
    """Return both ends of all calls of geth's call tracer, less precompiled contracts inside."""
    ends = {frame["from"], frame.get("to")} - {None}
    found = {end for end in ends if not (is_inner and int(end, 16) < 1 << 16)}
    for call in frame.get("calls", []):
        found |= list_parties(call, True)
    return found


def test_the_official_chain_has_the_parties_that_the_call_tracer_shows() -> None:
    folder = vectors("execution-apis/tests")
    ledger = Ledger.open(None, (folder / "genesis.json").read_bytes())
    ledger.import_blocks((folder / "chain.rlp").read_bytes())
    view, index = ledger.view(), AddressIndex.open(None)
    catch_up(index, view)
    places: dict[str, list[tuple[int, int]]] = {}
    sent = set()
    for height in range(1, view.head() + 1):
        traces = json.loads(view.trace_block(height, b'{"tracer": "callTracer"}') or b"")
        block = json.loads(view.block_json(height, True) or b"")
        pairs = zip(traces, block["transactions"], strict=True)
        for place, (trace, found) in enumerate(pairs):
            for party in list_parties(trace["result"]) | {found["from"]}:
                places.setdefault(party, []).append((height, place))
            sent.add((found["from"], int(found["nonce"], 16), (height, place)))
    assert len(places) > 20
    for name, expected in places.items():
        assert find(index, view, bytes.fromhex(name[2:])) == expected, name
    for name, nonce, place in sent:
        assert index.sent(view, bytes.fromhex(name[2:]), nonce) == place
