"""Real processes of which one was down for long and takes over a state under Raft."""

import json
import re
import urllib.request
from typing import Any

import pytest

from clients.network import account_at
from e2e.stage import Stage, poll
from e2e.test_keyvalue import ask
from quorate.crypto.hashes import keccak256
from quorate.ledger.genesis import VALIDATORS

pytestmark = pytest.mark.network

SHORT_LOG = {"kept_entries": 8, "checkpoint_heights": 8}
"""So that the leader's log does not have what the last member lacks."""
BEHIND = 60
"""Heights that the last member misses; the others keep fewer, blocks and log alike."""


def settle(stage: Stage, options: dict[str, int], engine: dict[str, int]) -> None:
    """Change the network's settings while it is down."""
    path = stage.folder / "network.toml"
    text = path.read_text()
    for name, value in options.items():
        text, count = re.subn(rf"(?m)^{name} = \d+", f"{name} = {value}", text)
        assert count == 1, name
    lines = "".join(f"{name} = {value}\n" for name, value in engine.items())
    path.write_text(text.replace("[engine_settings]\n", f"[engine_settings]\n{lines}"))


def get_failure(stage: Stage, index: int, method: str, *parameters: Any) -> int:
    """Return the error's code of a call that fails."""
    with pytest.raises(AssertionError) as error:
        stage.call(index, method, *parameters)
    return int(re.search(r"'code': (-?\d+)", str(error.value))[1])  # type: ignore[index]


def is_gone(stage: Stage, index: int, height: int) -> bool:
    """Whether a validator does not hold the block of a height any more, or never did."""
    try:
        return stage.call(index, "eth_getBlockByNumber", hex(height), False) is None
    except AssertionError as error:
        return "4444" in str(error)


def read_state(stage: Stage, index: int, height: int) -> tuple[Any, ...]:
    """Return what a validator says of the state after a block."""
    block, at = stage.call(index, "eth_getBlockByNumber", hex(height), False), hex(height)
    data = {"to": "0x" + VALIDATORS.hex(), "data": "0x" + keccak256(b"validators()")[:4].hex()}
    return (
        block["stateRoot"],
        stage.call(index, "eth_getBalance", account_at(0).address, at),
        stage.call(index, "eth_getBalance", "0x" + "42" * 20, at),
        stage.call(index, "eth_getTransactionCount", account_at(0).address, at),
        stage.call(index, "eth_getCode", "0x" + VALIDATORS.hex(), at),
        stage.call(index, "eth_call", data, at),
    )


def have_one_state(stage: Stage, one: int, other: int) -> bool:
    """Whether two validators say the same of a state, which both may let go of meanwhile."""
    height = min(stage.height(one), stage.height(other)) - 3
    try:
        return read_state(stage, one, height) == read_state(stage, other, height)
    except TypeError:
        # The block is gone, or has not come.
        return False
    except AssertionError as error:
        if "4444" not in str(error):
            raise
        return False


def count_taken(stage: Stage, index: int) -> int:
    """Return how often a validator took over a state, as its log says."""
    log = (stage.validator(index) / "validator.log").read_text()
    return log.count(" INFO    state taken over ")


def test_a_member_comes_back_to_a_network_that_has_pruned(stage: Stage) -> None:
    stage.up("--engine", "raft", "--block-time", "20")
    sender = account_at(0)
    old = stage.pay(0, sender)
    stage.do("down")
    # On a busy machine members are behind now and then, and ask for what is then not pruned.
    keep = {"state_history": 16, "block_history": 16, "state_kept_s": 2}
    settle(stage, keep, SHORT_LOG)
    stage.up()
    stage.do("kill", "3")
    others = (0, 1, 2)
    first = max(stage.height(i) for i in others)
    stage.pay(1, sender)
    poll(lambda: min(stage.height(i) for i in others) > first + BEHIND, "the others go on")
    poll(lambda: all(is_gone(stage, i, first + 2) for i in others), "what it lacks is gone")
    stage.do("start", "3")
    poll(lambda: stage.height(3) >= first + BEHIND, "the last one is as far")
    check_taken(stage, old)
    # It takes part: with another one away it is needed.
    stage.do("kill", "2")
    stage.settle(3, stage.send(3, sender))


def check_taken(stage: Stage, old: str) -> None:
    """The last validator took over a state, and has all that the first one has from there on."""
    assert count_taken(stage, 3) >= 1
    stage.settle(3, stage.send(3, account_at(1)))
    poll(lambda: have_one_state(stage, 3, 0), "one state")
    assert get_failure(stage, 3, "eth_getBlockByNumber", "0x2", False) == 4444
    assert get_failure(stage, 3, "eth_getBalance", account_at(0).address, "0x2") == 4444
    assert stage.call(3, "eth_getTransactionReceipt", old) is None


def test_keys_and_values_are_taken_over(stage: Stage) -> None:
    stage.up("--engine", "raft", "--application", "keyvalue")
    for number in range(3):
        assert ask(stage, 0, "PUT", f"kv/k{number}", b"v%d" % number)[0] == 200
    stage.do("down")
    settle(stage, {"state_gap": 8, "state_interval": 8}, SHORT_LOG)
    stage.up()
    stage.do("kill", "3")
    for number in range(BEHIND):
        assert ask(stage, 1, "PUT", f"kv/n{number}", b"%d" % number)[0] == 200
    height = ask(stage, 1, "GET", "status")[1]["height"]
    stage.do("start", "3")
    poll(lambda: ask(stage, 3, "GET", "status")[1]["height"] >= height, "the last one is as far")
    assert count_taken(stage, 3) >= 1
    for key in ("k1", "n0", f"n{BEHIND - 1}"):
        found = [ask(stage, index, "GET", f"kv/{key}") for index in (0, 3)]
        assert found[0] == found[1]
        assert found[0][0] == 200
    # It proves what it holds, executes on, and says what it does not have.
    assert ask(stage, 3, "PUT", "kv/k1", b"new")[0] == 200
    assert ask(stage, 0, "GET", "kv/k1")[1]["value"] == "new"
    url = f"http://127.0.0.1:{stage.rpc + 3}/v1/watch?key=k0&from=1"
    with urllib.request.urlopen(url, timeout=30) as answer:
        assert b'"code":"compacted"' in answer.read()
    assert json.loads(stage.do("status", "-o", "json").out)["validators"][3]["height"] >= height
