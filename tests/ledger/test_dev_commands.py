"""Networks for development: any commands, sound or not, in any order, from a seed."""

import random

import pytest

from kernel.chain import ACCOUNTS, COINBASE
from ledger.test_dev import BOOKS, STRANGER, Chain
from quorate._kernel import Invalid, Rejected
from quorate.ledger.genesis import VALIDATORS

PLACES = [BOOKS, VALIDATORS, STRANGER, ACCOUNTS[0], COINBASE, bytes(20), bytes(19) + b"\x01"]
EDGES = [0, 1, 4096, 5000, 86_400, 1 << 40, (1 << 47) + 1, 10**18, (1 << 64) - 1, (1 << 256) - 1]
COMMANDS: dict[str, str] = {
    "setBalance": "an",
    "setNonce": "an",
    "setCode": "ac",
    "setStorageAt": "ann",
    "increaseTime": "n",
    "setTime": "n",
    "setNextBlockTimestamp": "n",
    "setNextBlockBaseFeePerGas": "n",
    "setBlockGasLimit": "n",
    "mine": "nn",
    "revertTo": "h",
    "dropTransaction": "n",
    "setMining": "nn",
}
"""Arguments by kind: an account, a number, a code, a height."""


def draw_argument(kind: str, dice: random.Random, head: int) -> bytes | int:
    if kind == "a":
        return dice.choice(PLACES)
    if kind == "c":
        return dice.randbytes(dice.choice((0, 1, 30)))
    return dice.randrange(head + 2) if kind == "h" else dice.choice(EDGES)


def draw_raw(chain: Chain, dice: random.Random) -> bytes | None:
    """A command or an unsigned transaction, now and then with a bit turned; None if unsound."""
    try:
        if dice.random() < 0.3:
            raw = chain.send_as(dice.choice(PLACES), dice.choice(PLACES), dice.randrange(3))
        else:
            name, kinds = dice.choice(list(COMMANDS.items()))
            drawn = [draw_argument(kind, dice, chain.view.head()) for kind in kinds]
            raw = chain.command(name, *drawn)
    except (Invalid, Rejected):
        return None
    if dice.random() < 0.1:
        broken = bytearray(raw)
        broken[dice.randrange(len(broken))] ^= 1 << dice.randrange(8)
        raw = bytes(broken)
    return raw


@pytest.mark.parametrize("seed", range(4))
def test_whatever_is_sent_two_ledgers_come_to_the_same_and_to_an_end(seed: int) -> None:
    chain, dice = Chain(), random.Random(seed)
    for _ in range(60):
        for _ in range(3):
            raw = draw_raw(chain, dice)
            if raw is not None:
                chain.ledger.add([raw])
        chain.now_ms += 1000
        limit = dice.choice((1 << 20, 300, 2000))
        chain.apply([chain.ledger.build(chain.ledger.tip, chain.now_ms, limit)])
    for _ in range(64):
        if not chain.ledger.has_work(1 << 20) or chain.view.dev_clock()[3]:
            return
        chain.advance()
    raise AssertionError("blocks without end")
