"""What a transaction should offer."""

from typing import Any

from quorate.rpc.dispatch import Kind, Method, optional, required
from quorate.rpc.encoding import quantity
from quorate.rpc.errors import SERVER, RpcError
from quorate.rpc.parameters import (
    LATEST,
    Selector,
    parse_block_number,
    parse_number_or_quantity,
    wrong_type,
)
from quorate.rpc.store import Store

MAX_PERCENTILES = 100
MAX_BLOCKS = 1024


def parse_percentiles(value: Any) -> list[float]:
    """Return rising percentages."""
    if type(value) is not list:
        raise wrong_type(value, "[]float64")
    if len(value) > MAX_PERCENTILES:
        raise RpcError(SERVER, f"over the query limit {MAX_PERCENTILES}: {len(value)} percentiles")
    for index, item in enumerate(value):
        if type(item) not in (int, float):
            raise wrong_type(item, "float64")
        if not 0 <= item <= 100:
            raise RpcError(SERVER, f"invalid reward percentile: {item}")
        if index and item <= value[index - 1]:
            previous = value[index - 1]
            message = f"invalid reward percentile: #{index - 1}:{previous} >= #{index}:{item}"
            raise RpcError(SERVER, message)
    return [float(item) for item in value]


class Fees:
    """Prices, from the base fee and what recent transactions paid on top."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def methods(self) -> list[Method]:
        history = (
            required(parse_number_or_quantity),
            required(parse_block_number),
            optional(parse_percentiles, ()),
        )
        return [
            Method("eth_gasPrice", Kind.INLINE, self.get_gas_price),
            Method("eth_maxPriorityFeePerGas", Kind.INLINE, self.get_tip),
            Method("eth_baseFee", Kind.INLINE, self.get_base_fee),
            Method("eth_blobBaseFee", Kind.INLINE, self.get_blob_base_fee),
            Method("eth_feeHistory", Kind.SLOW, self.get_history, history),
        ]

    def get_gas_price(self) -> bytes:
        view = self.store.view
        return quantity(view.base_fee(LATEST) + view.suggest_tip())

    def get_tip(self) -> bytes:
        return quantity(self.store.view.suggest_tip())

    def get_base_fee(self) -> bytes:
        """Return the base fee of the next block."""
        return quantity(self.store.view.next_base_fee())

    def get_blob_base_fee(self) -> bytes:
        return quantity(self.store.view.next_blob_base_fee())

    def get_history(self, count: int, newest: Selector, percentiles: list[float]) -> bytes:
        view = self.store.view
        height = self.store.find_height(newest)
        if height is None:
            head = view.head()
            raise RpcError(SERVER, f"request beyond head block: requested {newest!r}, head {head}")
        if count == 0:
            return b'{"oldestBlock":"0x0","baseFeePerGas":[],"gasUsedRatio":[]}'
        return view.fee_history_json(min(count, MAX_BLOCKS), height, list(percentiles))
