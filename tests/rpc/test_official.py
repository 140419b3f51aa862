"""What of the official JSON-RPC suite passes, over its own chain; and why the rest does not."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kernel.vectors import vectors
from quorate._kernel import Ledger
from quorate.node.status import NodeStatus
from quorate.rpc.settings import NAMESPACES, Settings
from rpc.conftest import send
from rpc.fakes import FakeQuestions, FakeView, Node, running
from rpc.mill import Mill
from rpc.official import find_difference, read_case

SUITE = "execution-apis/tests"
BLOBS = "no blobs are served, so transactions with them are refused"
BUILDING = "blocks are agreed on, with their gas limit; none is built for a consensus client"
LAST_NONCE = "the last nonce cannot be used (EIP-2681), nor does it wrap around to zero"
OMITTED = {
    "eth_sendRawTransaction/send-blob-tx": BLOBS,
    "testing_buildBlockV1/build-block-empty-transactions": BUILDING,
    "testing_buildBlockV1/build-block-from-mempool": BUILDING,
    "testing_buildBlockV1/build-block-invalid-transaction": BUILDING,
    "testing_buildBlockV1/build-block-with-transactions": BUILDING,
    "eth_simulateV1/ethSimulate-overflow-nonce": LAST_NONCE,
}
"""Cases whose answers differ, and why."""
CASES = 232


class Holder(Mill):
    """A validator that takes transactions and makes no blocks."""

    def __init__(self, ledger: Ledger) -> None:
        super().__init__(ledger)
        self.holds = True

    def get_status(self) -> NodeStatus:
        return FakeQuestions(FakeView(self.ledger.durable())).get_status()


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    folder = vectors(SUITE)
    ledger = Ledger.open(None, (folder / "genesis.json").read_bytes())
    ledger.import_blocks((folder / "chain.rlp").read_bytes())
    place: Path = tmp_path_factory.mktemp("node")
    with running(place, Settings(namespaces=NAMESPACES), ledger.view(), Holder(ledger)) as found:
        yield found


def ask(node: Node, request: str) -> Any:
    return json.loads(send(node, request.encode())[2])


def test_the_official_suite(node: Node) -> None:
    passed, differ = 0, {}
    for path in sorted(vectors(SUITE).glob("*/*.io")):
        case = read_case(path)
        found = (
            find_difference(ask(node, one.request), one.response, case.shape_only)
            for one in case.exchanges
        )
        difference = next((text for text in found if text is not None), None)
        if difference is None:
            passed += 1
        else:
            differ[case.name] = difference
    unexpected = {name: text for name, text in differ.items() if name not in OMITTED}
    assert not unexpected
    assert set(differ) == set(OMITTED), "what passes is no omission"
    assert passed == CASES - len(OMITTED)
