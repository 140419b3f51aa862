"""A validator that begins with the state of a block instead of genesis, on a running network."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.stage import Stage, account_at, poll
from ports import free_port_blocks

pytestmark = pytest.mark.network

PAYMENTS = 6


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """One validator, with room for a follower."""
    made = Stage(tmp_path / "network", validators=1)
    made.rpc, made.p2p, made.metrics = free_port_blocks(2, 3)
    try:
        yield made
    finally:
        made.clean()


def test_a_newcomer_begins_with_a_snapshot_and_comes_to_the_same(
    stage: Stage, tmp_path: Path
) -> None:
    stage.up()
    for _ in range(PAYMENTS):
        stage.pay(0, account_at(0))
    settings, file = stage.folder / "network.toml", str(tmp_path / "state.snapshot")
    ledger = str(stage.validator(0) / "ledger")
    height, block = stage.run("snapshot", "export", ledger, "-o", file).out.split()
    genesis = str(stage.folder / "genesis.json")
    verified = stage.run("snapshot", "verify", file, "--genesis", genesis).out.split()
    assert verified == [height, block]

    stage.run("add", f"validator-1=127.0.0.1:{stage.p2p + 1}", "--network", str(settings))
    newcomer = str(stage.validator(1))
    stage.run("snapshot", "import", file, "--network", str(settings), "--folder", newcomer)
    # The others let in whom their settings name.
    for command in ("stop", "start"):
        stage.do(command, "0")
    stage.do("start", "1")
    stage.settle(1, stage.pay(0, account_at(0)))

    poll(lambda: stage.height(0) == stage.height(1), "one height")
    head = stage.height(0)
    mine, theirs = (stage.call(index, "eth_getBlockByNumber", hex(head), False) for index in (1, 0))
    assert (mine["hash"], mine["stateRoot"]) == (theirs["hash"], theirs["stateRoot"])
    paid = [stage.call(index, "eth_getBalance", "0x" + "42" * 20, "latest") for index in (0, 1)]
    assert paid == [hex(PAYMENTS + 1)] * 2
    # It began with the file and not with genesis.
    assert stage.call(1, "eth_capabilities")["state"]["oldestBlock"] == hex(int(height))
    with pytest.raises(AssertionError, match="4444"):
        stage.call(1, "eth_getBalance", "0x" + "42" * 20, "0x1")
    found = stage.run("db", "check", str(stage.validator(1) / "ledger"), ok=False)
    assert found.code == 0, found
