"""What eth_getLogs, filters and subscriptions select by, and eth_getLogs itself."""

from typing import Any

from msgspec import Struct

from quorate._kernel import Rejected
from quorate.base.types import Address, Hash, Height
from quorate.rpc.dispatch import Kind, Method, required
from quorate.rpc.errors import INVALID_PARAMS, LIMIT, SERVER, BadArgument, RpcError
from quorate.rpc.parameters import (
    LATEST,
    MAX_FILTER_ADDRESSES,
    MAX_TOPICS,
    parse_address,
    parse_block_number,
    parse_hash,
    wrong_type,
)
from quorate.rpc.settings import Settings
from quorate.rpc.store import Store

MAX_TOPIC_ALTERNATIVES = 1000


class Criteria(Struct, frozen=True):
    """Which logs: of one block or of a range, from certain addresses, with certain topics."""

    block: Hash | None = None
    first: int = LATEST
    last: int = LATEST
    addresses: tuple[Address, ...] = ()
    topics: tuple[tuple[Hash, ...] | None, ...] = ()
    """Alternatives by position; None accepts anything there."""

    def match(self, address: Address, topics: list[Hash]) -> bool:
        """Whether a log's address and topics are asked for."""
        if self.addresses and address not in self.addresses:
            return False
        if len(self.topics) > len(topics):
            return False
        return all(
            wanted is None or found in wanted
            for wanted, found in zip(self.topics, topics, strict=False)
        )


def parse_criteria(value: Any) -> Criteria:
    if type(value) is not dict:
        raise wrong_type(value, "filters.input")
    block, first, last = None, LATEST, LATEST
    if value.get("blockHash") is not None:
        if value.get("fromBlock") is not None or value.get("toBlock") is not None:
            raise BadArgument(
                "cannot specify both BlockHash and FromBlock/ToBlock, choose one or the other"
            )
        block = parse_hash(value["blockHash"])
    else:
        if value.get("fromBlock") is not None:
            first = parse_range_end(value["fromBlock"])
        if value.get("toBlock") is not None:
            last = parse_range_end(value["toBlock"])
    return Criteria(
        block, first, last, parse_addresses(value.get("address")), parse_topics(value.get("topics"))
    )


def parse_range_end(value: Any) -> int:
    selector = parse_block_number(value)
    assert isinstance(selector, int)
    return selector


def parse_addresses(value: Any) -> tuple[Address, ...]:
    if value is None:
        return ()
    items = value if type(value) is list else [value]
    if len(items) > MAX_FILTER_ADDRESSES:
        raise RpcError(INVALID_PARAMS, "exceed max addresses")
    return tuple(parse_address(item) for item in items)


def parse_topics(value: Any) -> tuple[tuple[Hash, ...] | None, ...]:
    if value is None:
        return ()
    if type(value) is not list:
        raise wrong_type(value, "[]interface {}")
    if len(value) > MAX_TOPICS:
        raise RpcError(INVALID_PARAMS, "exceed max topics")
    topics: list[tuple[Hash, ...] | None] = []
    for item in value:
        if item is None:
            topics.append(None)
        elif type(item) is list:
            if len(item) > MAX_TOPIC_ALTERNATIVES:
                raise RpcError(INVALID_PARAMS, "exceed max topics")
            # A null among alternatives, or none at all, accepts anything.
            anything = not item or any(option is None for option in item)
            topics.append(None if anything else tuple(parse_hash(option) for option in item))
        elif type(item) is str:
            topics.append((parse_hash(item),))
        else:
            raise BadArgument("invalid topic(s)")
    return tuple(topics)


class Logs:
    """eth_getLogs within bounds on blocks and on results."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self.settings = settings
        self.store = store

    def methods(self) -> list[Method]:
        return [Method("eth_getLogs", Kind.SLOW, self.get_logs, (required(parse_criteria),))]

    def get_logs(self, criteria: Criteria) -> bytes:
        """Return the JSON of all logs that match."""
        if criteria.block is not None:
            height = self.store.view.block_number(criteria.block)
            # Between the two looks at the store the block may have been abandoned.
            found = None
            if height is not None:
                found = self.read(criteria, height, height, criteria.block)
            if found is None:
                raise RpcError(SERVER, "unknown block")
            return found
        first, last = self.store.get_height(criteria.first), self.store.get_height(criteria.last)
        if first > last:
            raise RpcError(INVALID_PARAMS, "invalid block range params")
        # Looked at last: meanwhile `latest` may have become a newer block.
        if last > self.store.view.head():
            raise RpcError(INVALID_PARAMS, "block range extends beyond current head block")
        return self.read(criteria, first, last) or b"[]"

    def read(
        self, criteria: Criteria, first: Height, last: Height, tip: Hash | None = None
    ) -> bytes | None:
        """Return the JSON of the logs in [first, last]. Raises RpcError where they are too many.

        None where the block at `last` is another one than `tip`, if that is given.
        """
        blocks, most = last - first + 1, self.settings.max_log_blocks
        if blocks > most:
            message = f"block range is too wide: {blocks} blocks, at most {most}"
            raise RpcError(LIMIT, message)
        limit = self.settings.max_logs
        addresses = list(criteria.addresses)
        topics = [None if options is None else list(options) for options in criteria.topics]
        try:
            return self.store.view.logs_json(first, last, addresses, topics, limit, tip)
        except Rejected as error:
            if len(error.args) > 1:
                # With a code of its own: what was asked for is pruned.
                raise
            raise RpcError(LIMIT, f"query returned more than {limit} results") from None
