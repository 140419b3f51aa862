"""An application of one's own: auctions that nobody can run in secret.

A call is JSON: {"open": NAME, "minimum": 10, "seconds": 60} or {"bid": NAME, "amount": 12}. The
highest bid stands under the key `auction/NAME`, where everybody may read, watch and prove it.
"""

import json
from collections.abc import Callable

from quorate.ledger.machine import Context, Machine, Refused, State


class Auction(Machine):
    def apply(self, state: State, call: bytes, context: Context) -> bytes:
        try:
            asked = json.loads(call)
            name = asked.get("open") or asked["bid"]
            key = f"auction/{name}".encode()
            found = state.get(key)
            if "open" in asked:
                sale = open_sale(found, int(asked["minimum"]), int(asked["seconds"]), context)
            else:
                sale = bid(found, int(asked["amount"]), context)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Refused(f"not a call of an auction: {type(error).__name__}") from None
        written = json.dumps(sale, sort_keys=True).encode()
        state.put(key, written)
        return written

    def example(self, choose: Callable[[int], int]) -> bytes:
        name = f"lot {choose(3)}"
        if choose(4):
            return json.dumps({"bid": name, "amount": 10 + choose(90)}).encode()
        return json.dumps({"open": name, "minimum": 10, "seconds": 5}).encode()


def open_sale(
    found: bytes | None, minimum: int, seconds: int, context: Context
) -> dict[str, object]:
    if found is not None:
        raise Refused("there is an auction of this name")
    return {"bid": minimum, "bidder": "", "ends_ms": context.timestamp_ms + 1000 * seconds}


def bid(found: bytes | None, amount: int, context: Context) -> dict[str, object]:
    if found is None:
        raise Refused("there is no auction of this name")
    sale: dict[str, object] = json.loads(found)
    if context.timestamp_ms > int(str(sale["ends_ms"])):
        raise Refused("the auction has ended")
    if amount <= int(str(sale["bid"])):
        raise Refused(f"the highest bid is {sale['bid']}")
    return {**sale, "bid": amount, "bidder": context.client.hex()}
