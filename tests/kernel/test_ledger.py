"""The tree of executed blocks: finality, commits, proofs, rollback; in memory and on disk."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from kernel.chain import (
    ACCOUNTS,
    CHAIN_ID,
    CODE,
    CONTRACT,
    FUNDS,
    KEYS,
    SLOT_7,
    extend,
    genesis,
    payload,
    tip,
    transaction,
)
from quorate._kernel import Corrupt, Invalid, Ledger, Unavailable, View, keccak256, verify_proof

LATER_MS = 10**12
STRANGER = b"\x77" * 20


@pytest.fixture(params=["memory", "disk"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    path = str(tmp_path / "ledger") if request.param == "disk" else None
    opened = Ledger.open(path, genesis())
    yield opened
    opened.close()


def test_genesis_is_block_zero(ledger: Ledger) -> None:
    block = tip(ledger)
    assert (block.number, block.hash) == (0, ledger.genesis_hash)
    assert ledger.chain_id == CHAIN_ID
    assert ledger.durable() == ledger.final() == 0
    assert ledger.decision(0) is None
    view = ledger.view()
    assert view.head() == 0
    assert view.balance(0, ACCOUNTS[0]) == FUNDS
    assert view.code(0, CONTRACT) == CODE
    assert view.storage(0, CONTRACT, SLOT_7) == (5).to_bytes(32, "big")


def test_execute_is_deterministic_and_idempotent(ledger: Ledger) -> None:
    parent = tip(ledger)
    body = payload(parent, transaction(KEYS[0], 0, STRANGER, 5))
    first = ledger.execute(parent.hash, [body], bytes(32))
    again = ledger.execute(parent.hash, [body], bytes(32))
    other = Ledger.open(None, genesis()).execute(parent.hash, [body], bytes(32))
    assert first.hash == again.hash == other.hash
    assert (first.number, first.transactions, first.skipped) == (1, 1, [])
    assert first.gas_used == 21000
    assert ledger.final() == 0
    ledger.finalize(first.hash, b"\x01" * 32, b"c", [body])
    ledger.commit()
    assert ledger.execute(parent.hash, [body], bytes(32)).hash == first.hash


def test_state_is_seen_through_layers_before_and_after_a_commit(ledger: Ledger) -> None:
    data = SLOT_7 + (9).to_bytes(32, "big")
    first = extend(ledger, transaction(KEYS[0], 0, CONTRACT, 0, data))
    second = extend(ledger, transaction(KEYS[0], 1, STRANGER, 3))
    roots = [ledger.storage_root(b, CONTRACT) for b in (ledger.genesis_hash, first.hash)]
    for _ in range(2):
        assert ledger.storage(first.hash, CONTRACT, [SLOT_7, bytes(32)]) == [data[32:], bytes(32)]
        assert ledger.storage(second.hash, CONTRACT, [SLOT_7]) == [data[32:]]
        assert ledger.storage(ledger.genesis_hash, CONTRACT, [SLOT_7])[0][-1] == 5
        assert ledger.storage_root(second.hash, CONTRACT) == roots[1] != roots[0]
        assert ledger.commit() == 2
    view = ledger.view()
    assert [view.balance(h, STRANGER) for h in range(3)] == [0, 0, 3]
    assert view.nonce(2, ACCOUNTS[0]) == 2
    assert view.balance(second.hash, STRANGER) == 3


def test_views_show_only_what_is_committed(ledger: Ledger) -> None:
    block = extend(ledger, transaction(KEYS[0], 0, STRANGER, 3))
    view = ledger.view()
    assert (ledger.final(), ledger.durable(), view.head()) == (1, 0, 0)
    assert view.block_hash(1) is None
    assert view.block_number(block.hash) is None
    with pytest.raises(Unavailable, match=r"^header not found$"):
        view.balance(1, STRANGER)
    with pytest.raises(Unavailable, match=r"^header for hash not found$"):
        view.nonce(block.hash, STRANGER)
    assert ledger.commit() == ledger.durable() == view.head() == 1
    assert view.block_hash(1) == block.hash
    assert view.block_number(block.hash) == 1


def test_finalize_forgets_the_siblings_and_their_branches(ledger: Ledger) -> None:
    root = tip(ledger)
    bodies = [payload(root, transaction(KEYS[i], 0, STRANGER, i + 1)) for i in range(3)]
    siblings = [ledger.execute(root.hash, [body], bytes(32)) for body in bodies]
    nephew = ledger.execute(siblings[1].hash, [payload(siblings[1])], b"\x05" * 32)
    child = ledger.execute(siblings[0].hash, [payload(siblings[0])], b"\x06" * 32)
    with pytest.raises(Invalid, match="height 2 on"):
        ledger.finalize(child.hash, b"\x01" * 32, b"", [])
    ledger.finalize(siblings[0].hash, b"\x01" * 32, b"", [bodies[0]])
    assert ledger.block(child.hash) is not None
    for lost in (siblings[1], siblings[2], nephew):
        assert ledger.block(lost.hash) is None
        with pytest.raises(Unavailable, match="not executed here"):
            ledger.finalize(lost.hash, b"\x01" * 32, b"", [])
    with pytest.raises(Unavailable):
        ledger.execute(root.hash, [bodies[1]], bytes(32))
    ledger.commit()
    with pytest.raises(Unavailable, match="height 1 is final with other payloads"):
        Ledger.execute(ledger, root.hash, [bodies[1]], bytes(32))


def test_speculative_siblings_are_bounded_and_the_oldest_goes(ledger: Ledger) -> None:
    root = tip(ledger)
    blocks = [
        ledger.execute(root.hash, [payload(root, timestamp_ms=1000 * i + 1000)], bytes(32))
        for i in range(40)
    ]
    kept = [ledger.block(block.hash) is not None for block in blocks]
    assert sum(kept) == 16
    assert kept == sorted(kept)


def test_payloads_of_one_second_keep_their_milliseconds(ledger: Ledger) -> None:
    root = tip(ledger)
    bodies = [payload(root, timestamp_ms=1000 + i) for i in range(3)]
    blocks = [ledger.execute(root.hash, [body], bytes(32)) for body in bodies]
    assert len({block.hash for block in blocks}) == 1
    assert [block.timestamp_ms for block in blocks] == [1000, 1001, 1002]
    ledger.finalize(blocks[0].hash, b"\x01" * 32, b"", [bodies[1]])
    assert tip(ledger).timestamp_ms == 1001
    ledger.commit()
    assert tip(ledger).timestamp_ms == 1001


def test_unknown_parent_is_unavailable_and_a_malformed_payload_invalid(ledger: Ledger) -> None:
    root = tip(ledger)
    with pytest.raises(Unavailable, match="not executed here, expected as a parent"):
        ledger.execute(b"\x09" * 32, [payload(root)], bytes(32))
    with pytest.raises(Unavailable, match="not executed here"):
        ledger.check(b"\x09" * 32, payload(root), LATER_MS)
    with pytest.raises(Invalid, match="payload"):
        ledger.execute(root.hash, [b"\x01"], bytes(32))
    with pytest.raises(Invalid, match="parent: 3 bytes, expected 32"):
        ledger.execute(b"abc", [payload(root)], bytes(32))
    with pytest.raises(Invalid):
        ledger.check(root.hash, payload(root, b"junk"), LATER_MS)
    ledger.check(root.hash, payload(root, transaction(KEYS[0], 0, STRANGER)), LATER_MS)


def test_decisions_are_kept_with_all_payloads(ledger: Ledger) -> None:
    root = tip(ledger)
    bodies = [payload(root, transaction(KEYS[i], 0, STRANGER)) for i in range(2)]
    block = ledger.execute(root.hash, bodies, bytes(32))
    ledger.finalize(block.hash, b"\x02" * 32, b"proof", bodies)
    assert ledger.decision(1) == (b"\x02" * 32, b"proof", bodies)
    ledger.commit()
    assert ledger.decision(1) == ledger.view().decision(1) == (b"\x02" * 32, b"proof", bodies)
    assert ledger.decision(2) is None


def test_proofs_verify_against_the_state_root(ledger: Ledger) -> None:
    block = extend(ledger, transaction(KEYS[0], 0, CONTRACT, 0, SLOT_7 + (9).to_bytes(32, "big")))
    ledger.commit()
    absent = (8).to_bytes(32, "big")
    answer = json.loads(ledger.view().proof_json(block.hash, CONTRACT, [SLOT_7, absent]))
    nodes = [bytes.fromhex(node[2:]) for node in answer["accountProof"]]
    leaf = verify_proof(block.state_root, CONTRACT, nodes)
    storage_hash = bytes.fromhex(answer["storageHash"][2:])
    assert leaf is not None
    assert storage_hash == ledger.storage_root(block.hash, CONTRACT)
    assert storage_hash in leaf
    assert bytes.fromhex(answer["codeHash"][2:]) == keccak256(CODE)
    shown = []
    for slot, entry in zip((SLOT_7, absent), answer["storageProof"], strict=True):
        proof = [bytes.fromhex(node[2:]) for node in entry["proof"]]
        shown.append(verify_proof(storage_hash, slot, proof))
    assert shown == [b"\x09", None]
    assert [entry["value"] for entry in answer["storageProof"]] == ["0x9", "0x0"]
    nobody = json.loads(ledger.view().proof_json(block.number, STRANGER, [SLOT_7]))
    nodes = [bytes.fromhex(node[2:]) for node in nobody["accountProof"]]
    assert verify_proof(block.state_root, STRANGER, nodes) is None
    assert (nobody["balance"], nobody["nonce"]) == ("0x0", "0x0")
    with pytest.raises(Invalid, match="proof: node 0 has hash"):
        verify_proof(bytes(32), STRANGER, nodes)


def test_rollback_forgets_what_is_above(ledger: Ledger) -> None:
    blocks = [extend(ledger, transaction(KEYS[0], i, STRANGER, 1)) for i in range(3)]
    ledger.commit()
    extend(ledger, transaction(KEYS[0], 3, STRANGER, 1))
    ledger.rollback(1)
    assert ledger.final() == ledger.durable() == 1
    assert ledger.block(1) is not None
    assert ledger.block(2) is None
    assert ledger.view().block_number(blocks[1].hash) is None
    again = extend(ledger, transaction(KEYS[0], 1, STRANGER, 1))
    assert again.hash == blocks[1].hash
    other = extend(ledger, transaction(KEYS[1], 0, STRANGER, 9))
    assert other.hash != blocks[2].hash
    assert ledger.commit() == 3
    assert ledger.view().balance(3, STRANGER) == 11
    with pytest.raises(Unavailable, match="height 4: not stored, the last one is 3"):
        ledger.rollback(4)


def test_threads_execute_check_and_commit_side_by_side(ledger: Ledger) -> None:
    failures: list[BaseException] = []
    done = threading.Event()

    def commits() -> None:
        try:
            while not done.is_set():
                ledger.commit()
                ledger.view().balance(ledger.durable(), STRANGER)
        except BaseException as error:
            failures.append(error)

    def checks() -> None:
        try:
            while not done.is_set():
                parent = tip(ledger)
                ledger.check(parent.hash, payload(parent), LATER_MS)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for work in (commits, checks)]
    for thread in threads:
        thread.start()
    for nonce in range(200):
        extend(ledger, transaction(KEYS[0], nonce, STRANGER, 1))
    done.set()
    for thread in threads:
        thread.join()
    assert not failures
    assert ledger.commit() == 200
    assert ledger.view().balance(200, STRANGER) == 200


# ---- on disk


def test_reopening_continues_at_the_durable_height(tmp_path: Path) -> None:
    path = str(tmp_path / "ledger")
    ledger = Ledger.open(path, genesis())
    first = extend(ledger, transaction(KEYS[0], 0, STRANGER, 1))
    ledger.commit()
    extend(ledger, transaction(KEYS[0], 1, STRANGER, 1))
    ledger.close()
    with pytest.raises(Unavailable, match="ledger: closed"):
        ledger.commit()
    again = Ledger.open(path, genesis())
    assert again.final() == again.durable() == 1
    block = tip(again)
    assert (block.hash, block.transactions) == (first.hash, 1)
    second = extend(again, transaction(KEYS[0], 1, STRANGER, 1))
    assert again.commit() == second.number == 2
    assert again.view().balance(2, STRANGER) == 2
    again.close()


def test_a_second_writer_is_refused_and_readers_are_welcome(tmp_path: Path) -> None:
    path = str(tmp_path / "ledger")
    with pytest.raises(Unavailable, match="no store here yet"):
        View.open(path)
    ledger = Ledger.open(path, genesis())
    with pytest.raises(Unavailable, match=r"process [0-9]+ holds it"):
        Ledger.open(path, genesis())
    view = View.open(path)
    assert (view.genesis_hash, view.chain_id, view.head()) == (ledger.genesis_hash, CHAIN_ID, 0)
    extend(ledger, transaction(KEYS[0], 0, STRANGER, 1))
    ledger.commit()
    assert view.head() == 1
    ledger.close()
    assert view.balance(1, STRANGER) == 1
    Ledger.open(path, genesis()).close()
    view.close()
    with pytest.raises(Unavailable, match="view: closed"):
        view.head()


def test_another_genesis_is_refused_with_both_hashes(tmp_path: Path) -> None:
    path = str(tmp_path / "ledger")
    ledger = Ledger.open(path, genesis())
    ledger.close()
    other = genesis(gasLimit=hex(15_000_000))
    found = Ledger.open(None, other).genesis_hash.hex()
    with pytest.raises(Invalid, match=f"hash 0x{found}, expected 0x{ledger.genesis_hash.hex()}"):
        Ledger.open(path, other)
    settings = json.loads(genesis())
    settings["config"]["quorate"]["gas"] = "free"
    with pytest.raises(Invalid, match="genesis: "):
        Ledger.open(path, json.dumps(settings).encode())
    spaced = json.dumps(json.loads(genesis()), indent=2).encode()
    Ledger.open(path, spaced).close()
    with pytest.raises(Invalid):
        Ledger.open(None, b"{")


def test_a_damaged_file_is_corrupt(tmp_path: Path) -> None:
    folder = tmp_path / "ledger"
    ledger = Ledger.open(str(folder), genesis())
    for nonce in range(600):
        extend(ledger, transaction(KEYS[0], nonce, STRANGER, 1))
    ledger.commit()
    ledger.close()
    del ledger
    file = folder / "data.mdb"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(Corrupt, match=r"data.mdb has [0-9]+ bytes, expected [0-9]+"):
        Ledger.open(str(folder), genesis())
    file.write_bytes(b"\x00" * len(whole))
    with pytest.raises(Corrupt):
        Ledger.open(str(folder), genesis())


def commit_for_ever(ledger: Ledger) -> None:
    while True:
        extend(ledger, transaction(KEYS[0], ledger.final(), STRANGER, 1))
        ledger.commit()


def test_a_failed_commit_changes_nothing(tmp_path: Path) -> None:
    path = str(tmp_path / "ledger")
    ledger = Ledger.open(path, genesis(), 1 << 20)
    with pytest.raises(Unavailable, match=r"its map is full, open it with a larger `map_bytes`"):
        commit_for_ever(ledger)
    durable = ledger.durable()
    last = tip(ledger)
    assert ledger.final() == last.number == durable + 1
    view = ledger.view()
    assert (view.head(), view.balance(durable, STRANGER)) == (durable, durable)
    extend(ledger, transaction(KEYS[0], durable + 1, STRANGER, 1))
    with pytest.raises(Unavailable, match="map is full"):
        ledger.commit()
    assert ledger.storage(last.hash, CONTRACT, [SLOT_7])[0][-1] == 5
    assert ledger.decision(durable + 2) is not None
    view.close()
    ledger.close()
    del ledger, view
    again = Ledger.open(path, genesis(), 1 << 24)
    assert again.final() == durable
    assert extend(again, transaction(KEYS[0], durable, STRANGER, 1)).hash == last.hash
    assert again.commit() == durable + 1
    again.close()
