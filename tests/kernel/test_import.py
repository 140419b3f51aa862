"""Blocks of Ethereum itself: official ones that are valid or not, cuts, and changes."""

import json
from pathlib import Path
from typing import Any

import pytest

from kernel.chain import genesis as make_chain_genesis
from kernel.chain import integer, rlp
from kernel.vectors import vectors
from quorate._kernel import Invalid, Ledger, keccak256

BLOCKS = ("homestead", "eip150", "eip155", "eip158", "byzantium", "constantinople", "petersburg")
LATER_BLOCKS = ("istanbul", "muirGlacier", "berlin", "london", "arrowGlacier", "grayGlacier")
NAMES = {
    "Frontier": 0,
    "Homestead": 1,
    "EIP150": 2,
    "EIP158": 4,
    "Byzantium": 5,
    "Constantinople": 6,
    "ConstantinopleFix": 7,
    "Istanbul": 8,
    "Berlin": 10,
    "London": 11,
    "ArrowGlacier": 12,
}
"""How many of `BLOCKS` and `LATER_BLOCKS` hold in a network of the suite."""
NEVER = 1 << 60
MERGED = {"Paris": 0, "Shanghai": 1, "Cancun": 2}
TIMES = ("shanghaiTime", "cancunTime")


def make_config(network: str) -> dict[str, Any]:
    """Return geth's `config` for a network of the suite."""
    before, _, rest = network.partition("To")
    after, _, at = rest.partition("At")
    config: dict[str, Any] = {"chainId": 1, "terminalTotalDifficulty": NEVER}
    names = [f"{name}Block" for name in (*BLOCKS, *LATER_BLOCKS)]
    if before in MERGED:
        del config["terminalTotalDifficulty"]
        for name in TIMES[: MERGED[before]]:
            config[name] = 0
        if after:
            config[TIMES[MERGED[before]]] = 15_000
        elif before == "Paris":
            config["shanghaiTime"] = NEVER
        return config
    for name in names[: NAMES[before]]:
        config[name] = 0
    if after in MERGED:
        config["terminalTotalDifficulty"] = int(at.removeprefix("Diff"), 16)
        config["shanghaiTime"] = NEVER
    elif after:
        for name in names[NAMES[before] : NAMES[after]]:
            config[name] = int(at)
    return config


def make_genesis(case: dict[str, Any]) -> bytes:
    header = case["genesisBlockHeader"]
    genesis = {
        "config": make_config(case["network"]),
        "alloc": case["pre"],
        "nonce": header["nonce"],
        "timestamp": header["timestamp"],
        "extraData": header["extraData"],
        "gasLimit": header["gasLimit"],
        "difficulty": header["difficulty"],
        "mixHash": header["mixHash"],
        "coinbase": header["coinbase"],
    }
    for name in ("baseFeePerGas", "excessBlobGas", "blobGasUsed"):
        if name in header:
            genesis[name] = hex(int(header[name], 16))
    return json.dumps(genesis).encode()


def play(case: dict[str, Any]) -> str | None:
    """Import the blocks of a case; return what differs from what the suite says."""
    ledger = Ledger.open(None, make_genesis(case))
    if ledger.genesis_hash.hex() != case["genesisBlockHeader"]["hash"].removeprefix("0x"):
        return "genesis hash"
    for number, block in enumerate(case["blocks"]):
        try:
            ledger.import_blocks(bytes.fromhex(block["rlp"].removeprefix("0x")))
        except Invalid as error:
            if not any(name.startswith("expectException") for name in block):
                return f"block {number}: {error}"
        else:
            if any(name.startswith("expectException") for name in block):
                return f"block {number}: accepted"
    head = ledger.view().block_hash(ledger.durable())
    assert head is not None
    return None if head.hex() == case["lastblockhash"].removeprefix("0x") else "head"


def list_cases(folder: Path) -> list[tuple[str, dict[str, Any]]]:
    return [
        (f"{file.parent.name}/{name}", case)
        for file in sorted(folder.rglob("*.json"))
        for name, case in json.loads(file.read_text()).items()
    ]


SIDE_CHAINS = "an import is one chain: blocks of another branch are refused"
BARE = "the allocation has storage without code or nonce, which EIP-7610 rules out"
DAO = "the balances of the DAO are not moved"
OMITTED = {
    "UncleFromSideChain": SIDE_CHAINS,
    "powToPosBlockRejection": SIDE_CHAINS,
    "initialVal_BerlinToLondonAt5": SIDE_CHAINS,
    "HomesteadOverrideFrontier": SIDE_CHAINS,
    "blockChainFrontierWithLargerTDvsHomesteadBlockchain": SIDE_CHAINS,
    "_OOGRevert": BARE,
    "DaoTransactions": DAO,
}
"""Parts of names of cases that are not as the suite says, and why."""


@pytest.mark.parametrize(
    ("folder", "passed", "omitted"),
    [("ValidBlocks", 441, 1), ("InvalidBlocks", 128, 3), ("TransitionTests", 12, 9)],
)
def test_official_blocks(folder: str, passed: int, omitted: int) -> None:
    counts = {True: 0, False: 0}
    for name, case in list_cases(vectors("ethereum-tests/BlockchainTests") / folder):
        expected = not any(part in name for part in OMITTED)
        if not expected and "DaoTransactions" in name:
            counts[False] += 1
            continue
        try:
            differs = play(case)
        except Invalid as error:
            differs = str(error)
        assert (differs is None) == expected or not expected, f"{name}: {differs}"
        counts[differs is None] += 1
    assert counts == {True: passed, False: omitted}


CHAIN = "execution-apis/tests"


@pytest.fixture(scope="module")
def genesis() -> bytes:
    return (vectors(CHAIN) / "genesis.json").read_bytes()


@pytest.fixture(scope="module")
def chain() -> bytes:
    return (vectors(CHAIN) / "chain.rlp").read_bytes()


def test_the_official_chain_with_all_forks(genesis: bytes, chain: bytes, tmp_path: Path) -> None:
    ledger = Ledger.open(str(tmp_path), genesis)
    assert ledger.import_blocks(chain) == (54, len(chain))
    assert ledger.import_blocks(chain) == (0, len(chain)), "what is there is passed over"
    view = ledger.view()
    head = json.loads((vectors(CHAIN) / "headfcu.json").read_text())["params"][0]["headBlockHash"]
    assert view.block_hash(54) == bytes.fromhex(head[2:])
    assert b"".join(view.block_raw(height) or b"" for height in range(1, 55)) == chain
    ledger.close()
    again = Ledger.open(str(tmp_path), genesis)
    assert (again.durable(), again.import_blocks(chain)) == (54, (0, len(chain)))


def test_pieces_of_any_size_give_the_same_chain(genesis: bytes, chain: bytes) -> None:
    ledger = Ledger.open(None, genesis)
    rest, count = b"", 0
    for start in range(0, len(chain), 997):
        rest += chain[start : start + 997]
        new, read = ledger.import_blocks(rest)
        rest, count = rest[read:], count + new
    assert (count, rest) == (54, b"")


def test_any_changed_byte_of_a_block_is_refused_and_nothing_before_it_lost(
    genesis: bytes, chain: bytes
) -> None:
    first = Ledger.open(None, genesis)
    view = first.view()
    first.import_blocks(chain)
    sizes = [len(view.block_raw(height) or b"") for height in range(1, 4)]
    start = sum(sizes[:2])
    ledger = Ledger.open(None, genesis)
    assert ledger.import_blocks(chain[:start]) == (2, start)
    tried = refused = 0
    for at in range(start, start + sizes[2], 7):
        changed = bytearray(chain[start : start + sizes[2]])
        changed[at - start] ^= 0x01
        copy = Ledger.open(None, genesis)
        copy.import_blocks(chain[:start])
        tried += 1
        try:
            copy.import_blocks(bytes(changed))
        except Invalid:
            refused += 1
        assert copy.durable() in (2, 3)
    # The rest fell into nonce, mix hash and extra data, which say what they like.
    assert refused > 0.8 * tried


@pytest.mark.parametrize(
    ("blocks", "words"),
    [
        (b"\x01", "expected the RLP of a block, which is a list"),
        (b"\xc0", "expected the RLP of one"),
        (b"\xf8\x02\xc0\xc0", "expected the RLP of one"),
    ],
)
def test_what_is_no_block_is_refused(genesis: bytes, blocks: bytes, words: str) -> None:
    ledger = Ledger.open(None, genesis)
    with pytest.raises(Invalid, match=words):
        ledger.import_blocks(blocks)
    assert ledger.durable() == 0


EMPTY_TRIE = bytes.fromhex("56e81f171bcc55a6ff8345e692c0f86e5b48e01b996cadc001622fb5e363b421")
NO_OMMERS = bytes.fromhex("1dcc4de8dec75d7aab85b567b6ccd41ad312451b948a7413f0a142fd40d49347")
SLOT_SECONDS = 12


def extend_empty(ledger: Ledger, count: int) -> bytes:
    """Return the RLP of so many empty blocks, of the rules of Paris, above genesis."""
    genesis = json.loads(ledger.view().header_json(0) or b"")
    parent, base_fee = ledger.genesis_hash, int(genesis["baseFeePerGas"], 16)
    root = bytes.fromhex(genesis["stateRoot"][2:])
    blocks = []
    for number in range(1, count + 1):
        base_fee -= base_fee // 8
        numbers = map(integer, (0, number, int(genesis["gasLimit"], 16), 0, number * SLOT_SECONDS))
        roots = (root, EMPTY_TRIE, EMPTY_TRIE)
        last = (b"", bytes(32), bytes(8), integer(base_fee))
        header = rlp([parent, NO_OMMERS, bytes(20), *roots, bytes(256), *numbers, *last])
        parent = keccak256(header)
        body = header + rlp([]) + rlp([])
        blocks.append(wrap(body))
    return b"".join(blocks)


def wrap(body: bytes) -> bytes:
    """Return the RLP of a list from that of its items."""
    size = integer(len(body))
    return bytes((0xF7 + len(size),)) + size + body


def test_more_small_blocks_in_one_piece_than_wait_for_the_disk() -> None:
    config = {"chainId": 1, "shanghaiTime": NEVER}
    ledger = Ledger.open(None, make_chain_genesis(config=config))
    blocks = extend_empty(ledger, 5000)
    assert ledger.import_blocks(blocks) == (5000, len(blocks))
    assert ledger.durable() == 5000


def test_total_difficulty_goes_on_where_an_import_ended(genesis: bytes, chain: bytes) -> None:
    # The chain changes to proof of stake by its total difficulty, on the way.
    ledger = Ledger.open(None, genesis)
    start, count = 0, 0
    while start < len(chain):
        new, size = ledger.import_blocks(chain[start : start + 700])
        if not size:
            new, size = ledger.import_blocks(chain[start : start + 70_000])
        start, count = start + size, count + new
    assert count == 54
    ledger.rollback(20)
    assert ledger.import_blocks(chain) == (34, len(chain)), "what is known of the branch that went"
