"""Networks for development: commands in blocks, over the real kernel in memory."""

import json
from typing import Any

import pytest

from kernel.chain import ACCOUNTS, CHAIN_ID, COINBASE, KEYS, transaction
from quorate._kernel import Invalid, Ledger, Rejected
from quorate.base.types import Member
from quorate.crypto.hashes import keccak256
from quorate.ledger.application import Executed
from quorate.ledger.ethereum import EthereumLedger, open_ethereum
from quorate.ledger.genesis import VALIDATORS, is_dev_genesis, make_genesis
from quorate.ledger.payload import compose

ENVELOPE = b"\xe0" * 32
STRANGER = b"\x77" * 20
BOOKS = bytes.fromhex("0000000000000000000000000000000000001001")
START_MS = 1_700_000_000_000
GENESIS_TIME = 1_600_000_000
MEMBERS = sorted(Member(a, 1) for a in ACCOUNTS[:3])


def genesis(*, dev: bool = True, gas: str = "fees") -> bytes:
    return make_genesis(
        chain_id=CHAIN_ID,
        engine="tendermint",
        gas=gas,
        members=MEMBERS,
        balances=dict.fromkeys(ACCOUNTS, 10**24),
        gas_limit=30_000_000,
        timestamp=GENESIS_TIME,
        dev=dev,
    )


class Chain:
    """A ledger and a second one that executes the same payloads, a second per block."""

    def __init__(self, raw_genesis: bytes | None = None) -> None:
        self.genesis = raw_genesis or genesis()
        self.ledger = open_ethereum(None, self.genesis, COINBASE)
        self.other = open_ethereum(None, self.genesis, STRANGER)
        self.view = self.ledger.ledger.view()
        self.now_ms = START_MS
        self.salt = 0
        self.payloads: list[list[bytes]] = []

    def command(self, name: str, *arguments: bytes | int) -> bytes:
        self.salt += 1
        nonce = self.ledger.pool.nonce(BOOKS)
        words = [a if isinstance(a, bytes) else a.to_bytes(32, "big") for a in arguments]
        return self.view.encode_command(nonce, self.salt.to_bytes(8, "big"), name, words)

    def do(self, name: str, *arguments: bytes | int) -> Executed:
        return self.advance(self.command(name, *arguments))

    def admit(self, *raws: bytes) -> None:
        assert [error for _, error in self.ledger.add(list(raws))] == [None] * len(raws)

    def advance(self, *raws: bytes) -> Executed:
        """Admit items and make a block of what waits; both ledgers come to the same."""
        self.admit(*raws)
        self.now_ms += 1000
        payload = self.ledger.build(self.ledger.tip, self.now_ms, 1 << 20)
        return self.apply([payload])

    def apply(self, payloads: list[bytes]) -> Executed:
        assert self.ledger.check(self.ledger.tip, payloads[0], self.now_ms) is None
        self.payloads.append(payloads)
        executed = play(self.ledger, payloads)
        assert play(self.other, payloads) == executed
        return executed

    def get(self, account: bytes) -> int:
        return self.view.balance(-1, account)

    def block(self, at: int = -1) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.view.block_json(at, False) or b"null")
        return found

    def time(self, at: int = -1) -> int:
        return int(self.block(at)["timestamp"], 16)

    def refusal(self) -> str | None:
        """Why the last block's only command took no effect."""
        (receipt,) = json.loads(self.view.block_receipts_json(-1) or b"[]")
        if receipt["status"] == "0x1":
            return None
        words = bytes.fromhex(receipt["logs"][0]["data"][2:])
        return words[64 : 64 + int.from_bytes(words[32:64], "big")].decode()

    def send_as(self, sender: bytes, to: bytes, value: int = 0, data: bytes = b"") -> bytes:
        request = {
            "from": "0x" + sender.hex(),
            "to": "0x" + to.hex(),
            "value": hex(value),
            "input": "0x" + data.hex(),
            "nonce": hex(self.ledger.pool.nonce(sender)),
            "gas": hex(200_000),
            "maxFeePerGas": hex(10**10),
            "maxPriorityFeePerGas": "0x1",
        }
        return self.view.impersonate(json.dumps(request).encode())


def play(ledger: EthereumLedger, payloads: list[bytes]) -> Executed:
    executed = ledger.execute(ledger.tip, payloads, ENVELOPE)
    ledger.finalize(executed, ENVELOPE, b"proof", payloads)
    ledger.settle()
    ledger.commit()
    return executed


@pytest.fixture
def chain() -> Chain:
    return Chain()


# ---- what it is


def test_genesis_says_it_for_good() -> None:
    assert is_dev_genesis(genesis())
    assert not is_dev_genesis(genesis(dev=False))
    assert Ledger.open(None, genesis()).view().is_dev
    assert not Ledger.open(None, genesis(dev=False)).view().is_dev


def test_a_store_does_not_become_one_for_development(tmp_path: Any) -> None:
    path = str(tmp_path / "store")
    Ledger.open(path, genesis(dev=False), 1 << 24).close()
    with pytest.raises(Invalid, match="config"):
        Ledger.open(path, genesis(), 1 << 24)


def test_elsewhere_commands_and_unsigned_transactions_are_worth_nothing(chain: Chain) -> None:
    usual = open_ethereum(None, genesis(dev=False), COINBASE)
    command = chain.command("setBalance", STRANGER, 5)
    unsigned = chain.send_as(ACCOUNTS[0], STRANGER, 1)
    # r may be of no point of the curve; else some address signed, whom nobody knows.
    words = ("invalid sender", "intrinsic gas too low", "insufficient funds")
    for _, error in usual.add([command, unsigned]):
        assert error is not None
        assert error.startswith(words)
    payload = compose(usual.tip, START_MS, COINBASE, rlp_list([command]))
    assert usual.check(usual.tip, payload, START_MS) is not None
    executed = play(usual, [payload])
    assert (executed.items, len(executed.skipped)) == (0, 1)


# ---- accounts


def test_accounts_are_changed_by_commands(chain: Chain) -> None:
    chain.do("setBalance", STRANGER, 7 * 10**18)
    assert chain.get(STRANGER) == 7 * 10**18
    chain.do("setNonce", STRANGER, 42)
    chain.do("setCode", STRANGER, bytes.fromhex("60016000526001601ff3"))
    chain.do("setStorageAt", STRANGER, 3, 9)
    assert chain.view.nonce(-1, STRANGER) == 42
    assert chain.view.code(-1, STRANGER).hex() == "60016000526001601ff3"
    assert int.from_bytes(chain.view.storage(-1, STRANGER, (3).to_bytes(32, "big")), "big") == 9
    call = json.dumps({"to": "0x" + STRANGER.hex()}).encode()
    assert chain.view.call(-1, call, None, 100_000) == b"\x01"
    chain.do("setBalance", STRANGER, 0)
    chain.do("setCode", STRANGER, b"")
    assert chain.view.code(-1, STRANGER) == b""


def test_a_command_is_a_transaction_that_tools_can_decode(chain: Chain) -> None:
    raw = chain.command("setBalance", STRANGER, 5)
    chain.advance(raw)
    found = json.loads(chain.view.transaction_json(keccak256(raw)) or b"null")
    assert (found["type"], found["from"], found["to"]) == (
        "0x2",
        "0x" + BOOKS.hex(),
        "0x" + BOOKS.hex(),
    )
    assert found["input"].startswith("0x" + keccak256(b"setBalance(address,uint256)")[:4].hex())
    receipt = json.loads(chain.view.receipt_json(keccak256(raw)) or b"null")
    assert (receipt["status"], receipt["gasUsed"]) == ("0x1", "0x0")


def test_commands_take_effect_once(chain: Chain) -> None:
    raw = chain.command("increaseTime", 60)
    chain.advance(raw)
    assert chain.ledger.add([raw])[0][1] == "nonce too low: next nonce 1, tx nonce 0"
    chain.now_ms += 1000
    body = compose(chain.ledger.tip, chain.now_ms, COINBASE, rlp_list([raw]))
    executed = chain.apply([body])
    assert executed.skipped[0][1].startswith("nonce too low")
    assert chain.view.dev_clock()[1] == 60


def rlp_list(raws: list[bytes]) -> bytes:
    from kernel.chain import rlp

    return rlp(raws)


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("setBalance", (VALIDATORS, 1), "says who agrees"),
        ("setStorageAt", (BOOKS, 0, 1), "keeps the books"),
        ("setNonce", (STRANGER, (1 << 64) - 1), "nonce has max value"),
        ("setNonce", (STRANGER, 1 << 64), "less than 2\\^64"),
        ("setBalance", (b"\xff" * 32, 1), "expected an address"),
        ("setBalance", (STRANGER,), "expected 2 words"),
        ("setCode", (STRANGER, bytes(50_000)), "at most 49152"),
        ("setCode", (STRANGER, b"\xef\x01\x00"), "0xef01"),
        ("increaseTime", (1 << 41,), "expected at most"),
        ("mine", (0, 1), "expected 1 to 4096"),
        ("mine", (5000, 1), "expected 1 to 4096"),
        ("setNextBlockBaseFeePerGas", (10**18 + 1,), "expected at most 1000000000000000000"),
        ("setBlockGasLimit", (10,), "expected 5000"),
        ("setMining", (2, 0), "expected 0 or 1"),
        ("setMining", (1, 86_401), "expected at most 86400"),
    ],
)
def test_unsound_commands_are_refused_before_they_wait(
    chain: Chain, name: str, arguments: tuple[bytes | int, ...], words: str
) -> None:
    with pytest.raises(Rejected, match=words):
        chain.command(name, *arguments)


def test_an_unknown_command_is_invalid(chain: Chain) -> None:
    with pytest.raises(Invalid, match="not known"):
        chain.command("selfdestruct", 1)


def test_a_payload_with_a_malformed_command_is_invalid(chain: Chain) -> None:
    raw = chain.command("setBalance", STRANGER, 5)
    # The last byte of calldata stands before the access list and the signature of 66 bytes.
    broken = bytearray(raw)
    place = raw.index(keccak256(b"setBalance(address,uint256)")[:4])
    broken[place] ^= 0xFF
    payload = compose(chain.ledger.tip, START_MS, COINBASE, rlp_list([bytes(broken)]))
    reason = chain.ledger.check(chain.ledger.tip, payload, START_MS)
    assert reason is not None
    assert "selector" in reason


def test_an_empty_account_gets_no_storage(chain: Chain) -> None:
    chain.do("setStorageAt", STRANGER, 1, 1)
    assert "EIP-7610" in (chain.refusal() or "")
    assert chain.view.storage(-1, STRANGER, (1).to_bytes(32, "big")) == bytes(32)


# ---- impersonation


def test_anybody_can_be_sent_for_contracts_too(chain: Chain) -> None:
    contract = b"\x55" * 20
    chain.do("setBalance", contract, 10**18)
    chain.do("setCode", contract, b"\x00")
    raw = chain.send_as(contract, STRANGER, 5)
    executed = chain.advance(raw)
    assert executed.skipped == []
    assert chain.get(STRANGER) == 5
    found = json.loads(chain.view.transaction_json(keccak256(raw)) or b"null")
    assert found["from"] == "0x" + contract.hex()
    trace = chain.view.trace_transaction(keccak256(raw), b'{"tracer":"callTracer"}')
    assert trace is not None
    assert json.loads(trace)["from"] == "0x" + contract.hex()


def test_who_has_nothing_cannot_pay_even_when_impersonated(chain: Chain) -> None:
    assert "insufficient funds" in (chain.ledger.add([chain.send_as(STRANGER, BOOKS)])[0][1] or "")


def test_the_books_are_nobodys_to_send_for(chain: Chain) -> None:
    with pytest.raises(Rejected, match="dev commands only"):
        chain.send_as(BOOKS, STRANGER)


# ---- time


def test_commands_alone_take_no_time_and_no_fee(chain: Chain) -> None:
    chain.advance(transaction(KEYS[0], 0, STRANGER, 5))
    before, price = chain.block(), chain.view.next_base_fee()
    chain.do("setBalance", STRANGER, 1)
    chain.do("setBalance", STRANGER, 2)
    after = chain.block()
    assert after["timestamp"] == before["timestamp"]
    assert after["baseFeePerGas"] == before["baseFeePerGas"]
    assert chain.view.next_base_fee() == price
    chain.advance(transaction(KEYS[0], 1, STRANGER, 5))
    assert chain.time() == chain.now_ms // 1000
    assert int(chain.block()["baseFeePerGas"], 16) == price


def test_time_is_increased_and_goes_on(chain: Chain) -> None:
    chain.do("increaseTime", 3600)
    chain.advance(transaction(KEYS[0], 0, STRANGER, 5))
    assert chain.time() == chain.now_ms // 1000 + 3600
    chain.advance(transaction(KEYS[0], 1, STRANGER, 5))
    assert chain.time() == chain.now_ms // 1000 + 3600
    assert chain.ledger.get_block(chain.ledger.tip).timestamp_ms == chain.now_ms


def test_the_next_block_that_counts_has_the_time_that_was_asked_for(chain: Chain) -> None:
    asked = START_MS // 1000 + 10**6
    chain.do("setNextBlockTimestamp", asked)
    chain.do("setBalance", STRANGER, 1)
    chain.advance(transaction(KEYS[0], 0, STRANGER, 5))
    assert chain.time() == asked
    chain.advance(transaction(KEYS[0], 1, STRANGER, 5))
    assert chain.time() == asked + 1


def test_time_is_never_set_back(chain: Chain) -> None:
    chain.advance(transaction(KEYS[0], 0, STRANGER, 5))
    for name in ("setNextBlockTimestamp", "setTime"):
        chain.do(name, chain.time())
        assert "is lower than or equal to previous block's timestamp" in (chain.refusal() or "")
    chain.do("setTime", chain.time() + 500)
    at = chain.time()
    chain.advance(transaction(KEYS[0], 1, STRANGER, 5))
    assert chain.time() == at + 501


def test_time_ends_and_does_not_turn_back(chain: Chain) -> None:
    chain.do("setTime", 1 << 40)
    chain.advance(transaction(KEYS[0], 0, STRANGER, 5))
    end = chain.time()
    chain.do("mine", 3, 1 << 40)
    for _ in range(2):
        chain.advance()
        assert chain.time() >= end
    chain.do("increaseTime", 1 << 40)
    assert "expected at most" in (chain.refusal() or "")


def test_price_and_gas_limit_of_the_next_block(chain: Chain) -> None:
    chain.do("setNextBlockBaseFeePerGas", 123)
    assert chain.view.next_base_fee() == 123
    chain.do("setBlockGasLimit", 20_000_000)
    chain.advance(transaction(KEYS[0], 0, STRANGER, 5))
    block = chain.block()
    assert (block["baseFeePerGas"], block["gasLimit"]) == (hex(123), hex(20_000_000))


def test_no_block_is_made_for_what_a_lower_limit_has_no_room_for(chain: Chain) -> None:
    chain.do("setMining", 1, 0)
    chain.admit(transaction(KEYS[0], 0, STRANGER, 5))
    chain.do("setBlockGasLimit", 5_000)
    chain.do("setMining", 0, 0)
    assert not chain.ledger.has_work(1 << 20)
    chain.do("setBlockGasLimit", 30_000_000)
    assert chain.ledger.has_work(1 << 20)
    assert chain.advance().items == 1
    assert not chain.ledger.has_work(1 << 20)


def test_no_account_breaks_the_making_of_blocks(chain: Chain) -> None:
    history = bytes.fromhex("0000f90827f1c53a10cb7a02335b175320002935")
    # Loops for ever, fails, reverts, ends itself: what the system calls before each block.
    for nonce, code in enumerate(("5b5f56", "fe", "5f5ffd", "5fff")):
        chain.do("setCode", history, bytes.fromhex(code))
        assert chain.advance(transaction(KEYS[0], nonce, STRANGER, 5)).items == 1
    chain.do("setBalance", STRANGER, (1 << 256) - 1)
    assert chain.advance(transaction(KEYS[0], 4, STRANGER, 5)).items == 1
    assert chain.get(STRANGER) == (1 << 256) - 1
    chain.do("setNonce", ACCOUNTS[1], (1 << 64) - 2)
    chain.admit(transaction(KEYS[1], (1 << 64) - 2, STRANGER, 0))
    chain.advance()
    assert not chain.ledger.has_work(1 << 20)


# ---- blocks


def test_mined_blocks_are_made_without_transactions(chain: Chain) -> None:
    chain.do("mine", 4, 10)
    first = chain.time()
    times = []
    while chain.ledger.has_work(1 << 20):
        assert len(times) < 10
        chain.advance()
        times.append(chain.time())
    assert times == [first + 10, first + 20, first + 30]
    assert chain.view.dev_clock()[3] == 0
    chain.advance(transaction(KEYS[0], 0, STRANGER, 5))
    assert chain.time() == first + 31


def test_transactions_wait_where_blocks_are_made_when_asked_for(chain: Chain) -> None:
    chain.do("setMining", 1, 0)
    assert chain.view.dev_mining() == (True, 0)
    chain.admit(transaction(KEYS[0], 0, STRANGER, 5))
    assert not chain.ledger.has_work(1 << 20)
    assert chain.advance().items == 0
    # Commands do not wait.
    assert chain.do("setBalance", STRANGER, 7).items == 1
    assert chain.get(STRANGER) == 7
    assert not chain.ledger.has_work(1 << 20)
    # The block that was asked for has what waits, and so have those after it, in which more fits.
    assert chain.do("mine", 2, 0).items == 2
    assert chain.get(STRANGER) == 12
    chain.admit(transaction(KEYS[1], 0, STRANGER, 5))
    assert chain.ledger.has_work(1 << 20)
    assert chain.advance().items == 1
    chain.admit(transaction(KEYS[2], 0, STRANGER, 5))
    assert not chain.ledger.has_work(1 << 20)
    chain.do("setMining", 0, 0)
    assert chain.view.dev_mining() == (False, 0)
    assert chain.ledger.has_work(1 << 20)
    assert chain.advance().items == 1
    assert chain.get(STRANGER) == 22


def test_how_blocks_are_asked_for_is_no_part_of_the_state(chain: Chain) -> None:
    chain.do("setMining", 1, 86_400)
    chain.do("increaseTime", 1 << 39)
    chain.do("setNextBlockTimestamp", 1 << 40)
    chain.do("setNextBlockBaseFeePerGas", 10**18)
    chain.do("mine", 4096, 1 << 40)
    assert chain.view.dev_mining() == (True, 86_400)
    # More is not a block for many tools.
    assert len(chain.block()["extraData"]) == 2 + 2 * 32
    chain.do("revertTo", 0)
    assert chain.refusal() is None
    assert chain.view.dev_mining() == (True, 86_400)
    assert chain.view.dev_clock()[1:] == (GENESIS_TIME - chain.now_ms // 1000, 0, 0, 0)


# ---- what is kept


def test_nothing_that_a_revert_may_bring_back_is_pruned_or_left_out(chain: Chain) -> None:
    for value in range(20):
        chain.do("setBalance", STRANGER, value)
    with pytest.raises(Invalid, match="a chain for development is not pruned: evm_revert"):
        chain.ledger.ledger.prune(8, 8)
    with pytest.raises(Invalid, match="is not begun with a state"):
        chain.other.ledger.start_import(100)
    chain.do("revertTo", 1)
    assert chain.refusal() is None


def test_blocks_with_commands_are_not_imported(chain: Chain) -> None:
    chain.advance(transaction(KEYS[0], 0, STRANGER, 5))
    chain.do("setBalance", STRANGER, 5)
    blocks = b"".join(chain.view.block_raw(h) or b"" for h in (1, 2))
    with pytest.raises(Invalid, match="rules of their own"):
        Ledger.open(None, chain.genesis).import_blocks(blocks)
    with pytest.raises(Invalid):
        Ledger.open(None, genesis(dev=False)).import_blocks(blocks)


# ---- snapshots


def deploy_counter(chain: Chain) -> bytes:
    """A contract that adds one to slot 0 at each call."""
    contract = b"\x66" * 20
    chain.do("setCode", contract, bytes.fromhex("60005460010160005500"))
    return contract


def test_state_goes_back_and_the_chain_goes_on(chain: Chain) -> None:
    counter = deploy_counter(chain)
    slot = bytes(32)
    snapshot = chain.view.head()
    first = transaction(KEYS[0], 0, counter, 0, gas=100_000)
    chain.advance(first)
    chain.advance(transaction(KEYS[1], 0, STRANGER, 5))
    assert chain.view.storage(-1, counter, slot)[-1] == 1
    chain.do("increaseTime", 10**6)
    chain.do("mine", 1, 1)
    height = chain.view.head()
    chain.do("revertTo", snapshot)
    assert chain.refusal() is None
    assert chain.view.head() == height + 1
    assert chain.view.storage(-1, counter, slot) == bytes(32)
    assert (chain.get(STRANGER), chain.view.nonce(-1, ACCOUNTS[0])) == (0, 0)
    # Time goes on from when the snapshot was taken.
    assert chain.time() == chain.time(snapshot)
    # What was undone is not found by its hash, and may come again.
    assert chain.view.receipt_json(keccak256(first)) is None
    chain.advance(first)
    receipt = json.loads(chain.view.receipt_json(keccak256(first)) or b"null")
    assert receipt["blockNumber"] == hex(height + 2)
    assert chain.view.storage(-1, counter, slot)[-1] == 1
    assert chain.time() == chain.time(snapshot) + 1


def test_a_snapshot_serves_again_and_what_came_between_does_not(chain: Chain) -> None:
    first = chain.view.head()
    chain.do("setBalance", STRANGER, 1)
    second = chain.view.head()
    chain.do("setBalance", STRANGER, 2)
    chain.do("revertTo", first)
    by = chain.view.head()
    assert [chain.view.is_reverted(h) for h in range(by + 1)] == [
        h in (second, second + 1) for h in range(by + 1)
    ]
    chain.do("revertTo", second)
    assert "undone by a revert" in (chain.refusal() or "")
    chain.do("setBalance", STRANGER, 3)
    chain.do("revertTo", by)
    assert chain.refusal() is None
    assert chain.get(STRANGER) == 0
    chain.do("revertTo", first)
    assert chain.refusal() is None
    assert chain.view.is_reverted(by)
    assert not chain.view.is_reverted(first)
    chain.do("revertTo", 10_000)
    assert "not in this chain" in (chain.refusal() or "")


def test_going_back_keeps_validators_and_the_history_of_blocks(chain: Chain) -> None:
    snapshot = chain.view.head()
    for value in range(3):
        chain.do("setBalance", STRANGER, value + 1)
    before = chain.view.storage(-1, VALIDATORS, bytes(32))
    chain.do("revertTo", snapshot)
    assert chain.view.storage(-1, VALIDATORS, bytes(32)) == before
    history = bytes.fromhex("0000f90827f1c53a10cb7a02335b175320002935")
    head = chain.view.head()
    for height in range(head):
        known = chain.view.storage(-1, history, height.to_bytes(32, "big"))
        assert known == chain.view.block_hash(height)


def test_logs_of_what_was_undone_are_found_in_their_block_only(chain: Chain) -> None:
    contract = b"\x44" * 20
    chain.do("setCode", contract, bytes.fromhex("60006000a000"))
    snapshot = chain.view.head()
    chain.advance(transaction(KEYS[0], 0, contract, 0, gas=100_000))
    height = chain.view.head()
    find = [contract]
    assert len(json.loads(chain.view.logs_json(0, height, find, [], 9) or b"[]")) == 1
    chain.do("revertTo", snapshot)
    assert json.loads(chain.view.logs_json(0, height + 1, find, [], 9) or b"[]") == []
    assert len(json.loads(chain.view.logs_json(height, height, find, [], 9) or b"[]")) == 1


def test_a_revert_stands_alone_in_what_is_proposed(chain: Chain) -> None:
    snapshot = chain.view.head()
    chain.do("setBalance", STRANGER, 1)
    chain.admit(chain.command("setBalance", STRANGER, 2), transaction(KEYS[0], 0, b"\x88" * 20, 5))
    chain.admit(chain.command("revertTo", snapshot))
    assert chain.advance().items == 2
    assert (chain.get(STRANGER), chain.get(b"\x88" * 20)) == (2, 5)
    assert chain.advance().items == 1
    assert (chain.get(STRANGER), chain.get(b"\x88" * 20)) == (0, 0)


def test_a_revert_that_is_not_first_takes_no_effect(chain: Chain) -> None:
    chain.do("setBalance", STRANGER, 1)
    raws = []
    for arguments in (("setBalance", STRANGER, 2), ("revertTo", 0)):
        raws.append(chain.command(*arguments))
        chain.admit(raws[-1])
    chain.now_ms += 1000
    payload = compose(chain.ledger.tip, chain.now_ms, COINBASE, rlp_list(raws))
    chain.apply([payload])
    assert chain.get(STRANGER) == 2
    receipts = json.loads(chain.view.block_receipts_json(-1) or b"[]")
    assert [receipt["status"] for receipt in receipts] == ["0x1", "0x0"]


def test_commands_come_before_transactions_of_all_payloads(chain: Chain) -> None:
    """HoneyBadger agrees on several payloads, which make one block."""
    plain = transaction(KEYS[0], 0, STRANGER, 5)
    command = chain.command("setBalance", STRANGER, 100)
    chain.now_ms += 1000
    payloads = [
        compose(chain.ledger.tip, chain.now_ms, COINBASE, rlp_list([raw]))
        for raw in (plain, command)
    ]
    chain.apply(payloads)
    assert chain.get(STRANGER) == 105
    assert chain.block()["transactions"] == [
        "0x" + keccak256(raw).hex() for raw in (command, plain)
    ]


# ---- the pool, and a new start


def test_a_dropped_transaction_leaves_every_pool(chain: Chain) -> None:
    waiting = transaction(KEYS[0], 3, STRANGER, 5)
    chain.admit(waiting)
    assert chain.ledger.counts()[1] == 1
    chain.do("dropTransaction", keccak256(waiting))
    assert chain.ledger.counts() == (0, 0, 0)


def test_a_replica_that_starts_again_goes_on_alike(tmp_path: Any) -> None:
    path = str(tmp_path / "store")
    chain = Chain()
    counter = deploy_counter(chain)
    snapshot = chain.view.head()
    chain.advance(transaction(KEYS[0], 0, counter, 0, gas=100_000))
    chain.do("increaseTime", 1000)
    chain.do("revertTo", snapshot)
    chain.do("mine", 3, 7)
    replica = open_ethereum(path, chain.genesis, STRANGER, map_bytes=1 << 26)
    for payloads in chain.payloads[:-1]:
        play(replica, payloads)
    replica.ledger.close()
    replica = open_ethereum(path, chain.genesis, STRANGER, map_bytes=1 << 26)
    for payloads in chain.payloads[-1:]:
        play(replica, payloads)
    assert replica.tip == chain.ledger.tip
    assert replica.has_work(1 << 20)
