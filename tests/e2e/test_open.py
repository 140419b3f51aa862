"""A network that anybody may join, of real processes: found by one bootnode, kept without it."""

import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import msgspec
import pytest

from e2e.stage import Stage, account_at, poll
from quorate.base.errors import Unavailable
from quorate.node.status import PeerStatus
from quorate.runtime.config import load_network, write_network
from quorate.runtime.folder import Folder
from quorate.runtime.ipc_client import ask_status


def get_peers(stage: Stage, index: int) -> list[PeerStatus]:
    """Return the peers that a node is connected to."""
    try:
        status = ask_status(Folder.of(stage.folder, index).socket)
    except Unavailable:
        return []
    return [peer for peer in status.peers if peer.connected]


def get_names(stage: Stage, index: int) -> list[str]:
    validators = load_network(stage.folder / "network.toml", {}).validators
    names = {v.pin[:20]: v.name for v in validators}
    return sorted(names[peer.address] for peer in get_peers(stage, index))


def count_refused(stage: Stage, index: int) -> int:
    """Return how many connections a node refused before their handshake."""
    with urlopen(f"http://127.0.0.1:{stage.metrics + index}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    found = re.search(r'quorate_p2p_refused_connections_total\{reason="limited"\} ([0-9]+)', text)
    return 0 if found is None else int(found[1])


@pytest.fixture
def five(tmp_path: Path) -> Iterator[Stage]:
    """Ports for five nodes, not started yet."""
    made = Stage(tmp_path / "network", validators=5)
    try:
        yield made
    finally:
        made.clean()


def test_a_fifth_node_joins_by_one_bootnode_and_outlives_it(five: Stage) -> None:
    stage = five
    stage.up("--engine", "pow", "--validators", "4")
    file = stage.folder / "network.toml"
    network = load_network(file, {})
    assert len(network.bootnodes) == 2
    # The newcomer's bootnode and nobody else: what it finds beyond, it was told.
    write_network(msgspec.structs.replace(network, bootnodes=network.bootnodes[:1]), file)
    stage.run(
        *("add", f"validator-4=127.0.0.1:{stage.p2p + 4}", "--network", str(file)),
        *("--rpc-port", str(stage.rpc + 4), "--metrics-port", str(stage.metrics + 4)),
    )
    stage.do("start", "4")
    others = [f"validator-{i}" for i in range(4)]
    poll(lambda: get_names(stage, 4) == others, "the newcomer knows all others")
    stage.do("kill", "0")
    poll(lambda: get_names(stage, 4) == others[1:], "the bootnode is gone")
    # A miner that nobody had heard of carries transactions as any other does.
    transaction = stage.send(4, account_at(0))
    stage.settle(1, transaction)
    stage.settle(4, transaction)
    # Nobody knows a bootnode any more, and a restart needs none: the book is kept.
    stage.do("stop", "4")
    stage.do("start", "4")
    poll(lambda: get_names(stage, 4) == others[1:], "the newcomer is back")
    assert all(peer.points == 0 for peer in get_peers(stage, 4))


def test_strangers_with_garbage_are_refused_and_bans_are_obeyed(stage: Stage) -> None:
    # All come from one range here, and ranges count: three connections and no more.
    limits = {"QUORATE_DISCOVERY_RANGE_LIMITS": "true", "QUORATE_DISCOVERY_INBOUND_PER_RANGE": "3"}
    asked = ["--engine", "pow", "--validators", "2", "--dir", str(stage.folder)]
    stage.run("up", "--detach", *stage.up_options(), *asked, env=limits)
    poll(lambda: len(get_peers(stage, 0)) == 1, "two nodes")
    place = ("127.0.0.1", stage.p2p)
    crowd = [socket.create_connection(place, timeout=10) for _ in range(8)]
    poll(lambda: count_refused(stage, 0) >= 5, "all but three refused")
    for stranger in crowd:
        stranger.close()
    for garbage in (b"GET / HTTP/1.1\r\n\r\n", bytes(1000), b"\x16\x03\x01\x00\x05hello"):
        with socket.create_connection(place, timeout=10) as stranger:
            stranger.sendall(garbage)
            stranger.settimeout(60)
            try:
                while stranger.recv(4096):
                    pass
            except ConnectionError:
                pass
    peers: list[dict[str, Any]] = []

    def is_alone() -> bool:
        peers[:] = json.loads(stage.do("peers", "--of", "0", "-o", "json").out)["peers"]
        return [(peer["peer"], peer["connected"]) for peer in peers] == [("validator-1", True)]

    poll(is_alone, lambda: f"validator-1 and nobody else, found {peers}")
    (peer,) = peers
    stage.do("peers", "ban", peer["identity"], "--of", "0", "--hours", "1")
    poll(lambda: not get_peers(stage, 0), "the banned one is gone")
    shown = stage.do("peers", "--of", "0").out
    assert f"has banned {peer['identity']}" in shown
    stage.do("peers", "unban", peer["identity"], "--of", "0")
    poll(lambda: len(get_peers(stage, 0)) == 1, "it is back")
    refused = stage.do("peers", "ban", "nonsense", "--of", "0", ok=False)
    assert refused.code == 1
    assert "nonsense: not an address" in refused.err
