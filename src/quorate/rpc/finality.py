"""quorate_getFinality: how sure a block is, where blocks are seen before they are final."""

from typing import Any

import msgspec

from quorate.consensus.pow_difficulty import compute_reversal_probability
from quorate.rpc.dispatch import Kind, Method, optional
from quorate.rpc.encoding import NULL, to_hex
from quorate.rpc.errors import BadArgument
from quorate.rpc.parameters import LATEST, Selector, parse_block, wrong_type
from quorate.rpc.store import Store

SHARES = (0.1, 0.25, 0.4)
"""Parts of all hash power that an attacker may have, where the caller names none."""


def parse_share(value: Any) -> float:
    """Return a part of the hash power, from 0 to 1."""
    if type(value) not in (int, float):
        raise wrong_type(value, "float64")
    if not 0 <= value <= 1:
        raise BadArgument(f"share {value}, expected 0 to 1")
    return float(value)


class Finality:
    """What lies above a block, and what that is worth."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def methods(self) -> list[Method]:
        parameters = (optional(parse_block, LATEST), optional(parse_share))
        return [Method("quorate_getFinality", Kind.INLINE, self.describe, parameters)]

    def describe(self, block: Selector, share: float | None) -> bytes:
        """Return a block's confirmations, itself counted, and whether it is final here.

        Where blocks are found by work: the probability that an attacker with this share of all hash
        power, who begins at the block, ever replaces it (Nakamoto 2008, section 11).
        """
        view = self.store.view
        height = self.store.find_height(block)
        found = None if height is None else view.block_hash(height)
        if height is None or found is None:
            return NULL
        latest, safe, final, is_open = view.tips()
        confirmations = max(latest - height, 0) + 1
        answer: dict[str, Any] = {
            "blockNumber": hex(height),
            "blockHash": to_hex(found),
            "confirmations": hex(confirmations),
            "safe": height <= safe,
            "final": height <= final,
            "latestNumber": hex(latest),
            "safeNumber": hex(safe),
            "finalNumber": hex(final),
        }
        if is_open:
            answer["reversal"] = [
                {"share": part, "probability": compute_reversal_probability(confirmations, part)}
                for part in (SHARES if share is None else (share,))
            ]
        return msgspec.json.encode(answer)
