"""Proof of work with real processes: honest words, two branches that become one, who joins late."""

import pytest

from clients.network import account_at
from e2e.stage import Stage, poll

pytestmark = pytest.mark.network

OPTIONS = ("--engine", "pow", "--block-time", "300")


def get_height(stage: Stage, index: int) -> int:
    return int(stage.call(index, "eth_blockNumber"), 16)


def count_peers(stage: Stage, index: int) -> int:
    return int(stage.call(index, "net_peerCount"), 16)


def is_mined(stage: Stage, index: int, transaction: str) -> bool:
    return stage.call(index, "eth_getTransactionReceipt", transaction) is not None


def agree(stage: Stage) -> bool:
    """Whether all nodes have the same block a little below their tips."""
    height = min(get_height(stage, i) for i in range(4)) - 2
    if height < 1:
        return False
    found = [stage.call(i, "eth_getBlockByNumber", hex(height), False) for i in range(4)]
    return len({block["hash"] for block in found if block is not None}) == 1


def test_two_branches_become_one_and_lose_no_transaction(stage: Stage) -> None:
    # However long it takes, neither side shall hold its own branch for final.
    assert "can rewrite this chain" in stage.up_with({"final_depth": 5000}, *OPTIONS).err
    poll(lambda: get_height(stage, 0) >= 3, "blocks are found at once")
    poll(lambda: agree(stage), "one chain")
    # The two that stay alone below have to know of each other, and not of the bootnodes only.
    poll(lambda: all(count_peers(stage, i) == 3 for i in range(4)), "all know each other")

    def stop(*indexes: int) -> None:
        for index in indexes:
            stage.do("stop", str(index))

    def start(*indexes: int) -> None:
        for index in indexes:
            stage.do("start", str(index))

    # A partition in time: two nodes never hear of what the other two did meanwhile.
    stop(2, 3)
    first = stage.send(0, account_at(0))
    poll(lambda: is_mined(stage, 1, first), "one side mines a transaction")
    stop(0, 1)
    start(2, 3)
    assert not is_mined(stage, 2, first)
    second = stage.send(2, account_at(1))
    poll(lambda: is_mined(stage, 3, second), "the other side mines another one")
    start(0, 1)
    poll(lambda: agree(stage), "the branches are one again")
    for index in range(4):
        poll(lambda i=index: is_mined(stage, i, first), "the first transaction is there")  # type: ignore[misc]
        poll(lambda i=index: is_mined(stage, i, second), "and the second")  # type: ignore[misc]
    stage.expect("status", "All miners together", "is reversed by 10% of the hash power")
    stage.expect("why-stalled", "Blocks need no votes: 4 of 4 nodes answer")
    assert "true: everything that was written keeps the rules" in stage.do("judge").out


def test_who_has_lost_everything_catches_up_by_work(stage: Stage) -> None:
    stage.up(*OPTIONS)
    poll(lambda: stage.status()[0]["final"] >= 3, "blocks become final")
    stage.do("kill", "3")
    for path in sorted(stage.validator(3).rglob("*"), reverse=True):
        inside = {"ledger", "journal"} & {part.name for part in (path, *path.parents)}
        if inside and path.is_file():
            path.unlink()
    stage.do("start", "3")
    poll(lambda: get_height(stage, 3) >= get_height(stage, 0) - 2, "the headers, then the blocks")
    poll(lambda: agree(stage), "one chain")
    poll(lambda: stage.status()[3]["final"] >= 3, "what is final elsewhere is final here")
    tags = {
        tag: int(stage.call(3, "eth_getBlockByNumber", tag, False)["number"], 16)
        for tag in ("finalized", "safe", "latest")
    }
    assert tags["finalized"] < tags["safe"] < tags["latest"]
