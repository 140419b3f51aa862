"""Ranges of eth_getLogs while blocks come."""

from typing import cast

from quorate import _kernel
from quorate.rpc.logs import Logs, parse_criteria
from quorate.rpc.settings import Settings
from quorate.rpc.store import Store
from rpc.fakes import FakeView


class GrowingView(FakeView):
    """Whoever asks for its head finds one more block each time."""

    def head(self) -> int:
        self.height += 1
        return self.height


def test_a_block_that_comes_meanwhile_is_not_beyond_the_head() -> None:
    store = Store("", cast("_kernel.View", GrowingView(3)))
    criteria = parse_criteria({"fromBlock": "earliest", "toBlock": "latest"})
    found = Logs(Settings(), store).get_logs(criteria)
    assert found.startswith(b"[")
