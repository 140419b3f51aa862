"""debug_ and trace_: raw parts of blocks, and what happened inside transactions.

Tracers run transactions again, so they are as dear as calls and are served only where an operator
asks for these namespaces.
"""

from typing import Any

import msgspec

from quorate.base.types import Hash
from quorate.rpc.dispatch import TOO_LARGE_ANSWER, Kind, Method, optional, required
from quorate.rpc.encoding import NULL, data, to_hex
from quorate.rpc.errors import SERVER, BadArgument, RpcError, invalid_params
from quorate.rpc.parameters import (
    LATEST,
    Selector,
    parse_address,
    parse_block,
    parse_block_number,
    parse_call,
    parse_hash,
    parse_number_or_quantity,
    parse_quantity,
    wrong_type,
)
from quorate.rpc.settings import Settings
from quorate.rpc.store import Store

MAX_CALLS = 100
"""Of one trace_callMany."""
MAX_TRACE_BLOCKS = 100
"""That one trace_filter looks at."""
MAX_TRACE_ADDRESSES = 1000


def parse_options(value: Any) -> bytes:
    """Return the JSON of a tracer's options."""
    if type(value) is not dict:
        raise wrong_type(value, "tracers.TraceConfig")
    return msgspec.json.encode(value)


def parse_types(value: Any) -> bytes:
    """Return the JSON of a list of Parity's trace types."""
    if type(value) is not list:
        raise wrong_type(value, "[]string")
    for item in value:
        if item not in ("trace", "vmTrace", "stateDiff"):
            raise BadArgument(f"unknown trace type {item!r}, expected trace, vmTrace or stateDiff")
    return msgspec.json.encode(value)


def parse_path(value: Any) -> list[int]:
    """Return where a trace stands below its transaction."""
    if type(value) is not list:
        raise wrong_type(value, "[]hexutil.Uint64")
    return [parse_quantity(item) for item in value]


def parse_calls(value: Any) -> list[tuple[bytes, bytes]]:
    """Return calls with their trace types, both as JSON."""
    if type(value) is not list:
        raise wrong_type(value, "[][]interface")
    if len(value) > MAX_CALLS:
        raise BadArgument(f"{len(value)} calls, expected at most {MAX_CALLS}")
    pairs = []
    for item in value:
        if type(item) is not list or len(item) != 2:
            raise BadArgument("expected pairs of a call and a list of trace types")
        pairs.append((parse_call(item[0]), parse_types(item[1])))
    return pairs


class Debug:
    """Raw parts of blocks and geth's tracers."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self.settings = settings
        self.store = store

    def methods(self) -> list[Method]:
        slow, block, tx = Kind.SLOW, required(parse_block), required(parse_hash)
        number, options = required(parse_block_number), optional(parse_options)
        call = (required(parse_call), optional(parse_block, LATEST), optional(parse_options, b"{}"))
        return [
            Method("debug_getRawHeader", slow, self.get_raw_header, (block,)),
            Method("debug_getRawBlock", slow, self.get_raw_block, (block,)),
            Method("debug_getRawReceipts", slow, self.get_raw_receipts, (block,)),
            Method("debug_getRawTransaction", slow, self.get_raw_transaction, (tx,)),
            Method("debug_getBadBlocks", Kind.INLINE, self.get_bad_blocks),
            Method("debug_traceTransaction", slow, self.trace_transaction, (tx, options)),
            Method("debug_traceBlockByHash", slow, self.trace_block, (tx, options)),
            Method("debug_traceBlockByNumber", slow, self.trace_block, (number, options)),
            Method("debug_traceCall", slow, self.trace_call, call),
        ]

    def get_raw_header(self, selector: Selector) -> bytes:
        return self.render(self.store.view.header_raw(self.store.locate(selector)))

    def get_raw_block(self, selector: Selector) -> bytes:
        return self.render(self.store.view.block_raw(self.store.locate(selector)))

    def render(self, raw: bytes | None) -> bytes:
        if raw is None:
            raise RpcError(SERVER, "block not found")
        return data(raw)

    def get_raw_receipts(self, selector: Selector) -> bytes:
        receipts = self.store.view.receipts_raw(self.store.locate(selector))
        if receipts is None:
            raise RpcError(SERVER, "block not found")
        return msgspec.json.encode([to_hex(receipt) for receipt in receipts])

    def get_raw_transaction(self, transaction: Hash) -> bytes:
        return data(self.store.view.transaction_raw(transaction) or b"")

    def get_bad_blocks(self) -> bytes:
        """Return none: blocks are agreed on before they run, and skip what does not apply."""
        return b"[]"

    def trace_transaction(self, transaction: Hash, options: bytes | None) -> bytes:
        trace = self.store.view.trace_transaction(transaction, options)
        if trace is None:
            raise RpcError(SERVER, "transaction not found")
        return trace

    def trace_block(self, selector: Selector, options: bytes | None) -> bytes:
        trace = self.store.view.trace_block(self.store.locate(selector), options)
        if trace is None:
            name = to_hex(selector) if isinstance(selector, bytes) else f"#{selector}"
            raise RpcError(SERVER, f"block {name} not found")
        return trace

    def trace_call(self, request: bytes, selector: Selector, options: bytes) -> bytes:
        located = self.store.locate(selector)
        return self.store.view.trace_call(located, request, options, self.settings.gas_cap)


class Trace:
    """Parity's traces."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self.settings = settings
        self.store = store

    def methods(self) -> list[Method]:
        slow, block, tx = Kind.SLOW, required(parse_block), required(parse_hash)
        types, latest = required(parse_types), optional(parse_block, LATEST)
        call = required(parse_call)
        return [
            Method("trace_block", slow, self.trace_block, (block,)),
            Method("trace_transaction", slow, self.trace_transaction, (tx,)),
            Method("trace_get", slow, self.get, (tx, required(parse_path))),
            Method("trace_filter", slow, self.filter, (required(parse_filter),)),
            Method("trace_replayTransaction", slow, self.replay_transaction, (tx, types)),
            Method("trace_replayBlockTransactions", slow, self.replay_block, (block, types)),
            Method("trace_call", slow, self.call, (call, types, latest)),
            Method("trace_callMany", slow, self.call_many, (required(parse_calls), latest)),
        ]

    def trace_block(self, selector: Selector) -> bytes:
        return self.store.view.parity_block(self.store.locate(selector)) or NULL

    def trace_transaction(self, transaction: Hash) -> bytes:
        return self.store.view.parity_transaction(transaction) or NULL

    def get(self, transaction: Hash, path: list[int]) -> bytes:
        traces = msgspec.json.decode(self.trace_transaction(transaction)) or []
        found = (trace for trace in traces if trace["traceAddress"] == path)
        return msgspec.json.encode(next(found, None))

    def filter(self, wanted: "Filter") -> bytes:
        """Return the traces of a range of blocks from or to certain addresses."""
        first, last = (self.store.get_height(height) for height in (wanted.first, wanted.last))
        last = min(last, self.store.view.head())
        if last - first >= MAX_TRACE_BLOCKS:
            message = f"{last - first + 1} blocks, expected at most {MAX_TRACE_BLOCKS}"
            raise invalid_params(message)
        found: list[bytes] = []
        passed, size = 0, 0
        for height in range(first, last + 1):
            for trace in filter(wanted.match, msgspec.json.decode(self.trace_block(height)) or []):
                passed += 1
                if passed <= wanted.after:
                    continue
                if len(found) == wanted.count:
                    return join(found)
                found.append(msgspec.json.encode(trace))
                size += len(found[-1]) + 1
                if size > self.settings.max_response_bytes:
                    raise TOO_LARGE_ANSWER
        return join(found)

    def replay_transaction(self, transaction: Hash, types: bytes) -> bytes:
        return self.store.view.parity_replay_transaction(transaction, types) or NULL

    def replay_block(self, selector: Selector, types: bytes) -> bytes:
        return self.store.view.parity_replay_block(self.store.locate(selector), types) or NULL

    def call(self, request: bytes, types: bytes, selector: Selector) -> bytes:
        return self.call_many([(request, types)], selector)[1:-1]

    def call_many(self, calls: list[tuple[bytes, bytes]], selector: Selector) -> bytes:
        """Trace calls, each over what the one before it left; together they share the gas cap."""
        located = self.store.locate(selector)
        return self.store.view.parity_calls(located, calls, self.settings.gas_cap)


class Filter(msgspec.Struct, frozen=True):
    """What trace_filter asks for."""

    first: int
    last: int
    senders: frozenset[str]
    receivers: frozenset[str]
    after: int
    count: int

    def match(self, trace: dict[str, Any]) -> bool:
        action = trace["action"]
        to = action.get("to") or (trace.get("result") or {}).get("address")
        return (not self.senders or action.get("from") in self.senders) and (
            not self.receivers or to in self.receivers
        )


def join(items: list[bytes]) -> bytes:
    return b"[" + b",".join(items) + b"]"


def parse_filter(value: Any) -> Filter:
    if type(value) is not dict:
        raise wrong_type(value, "TraceFilter")

    def addresses(name: str) -> frozenset[str]:
        items = value.get(name) or []
        if type(items) is not list or len(items) > MAX_TRACE_ADDRESSES:
            raise BadArgument(f"{name}: expected a list of at most {MAX_TRACE_ADDRESSES} addresses")
        return frozenset(to_hex(parse_address(item)) for item in items)

    def number(name: str, default: int) -> int:
        found = value.get(name)
        return default if found is None else parse_number_or_quantity(found)

    def height(name: str) -> int:
        found = value.get(name)
        selector = LATEST if found is None else parse_block_number(found)
        assert not isinstance(selector, bytes)
        return selector

    return Filter(
        height("fromBlock"),
        height("toBlock"),
        addresses("fromAddress"),
        addresses("toAddress"),
        number("after", 0),
        number("count", 10_000),
    )
