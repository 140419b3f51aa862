"""An entry with everything that convinces a stranger of it; `light/keyvalue.py` is who judges."""

from typing import Any

from quorate.base.errors import Unavailable
from quorate.crypto.hashes import HEAD_BYTES, hash_body
from quorate.ledger.keyvalue import KeyValueLedger

__all__ = ["make_proof"]


def make_proof(ledger: KeyValueLedger, key: bytes) -> dict[str, Any]:
    """Return an entry of the newest provable height, with its proof. Raises Unavailable.

    A block is proved by the certificate of the height after it, whose payload names the block.
    """
    height = ledger.store.final() - 1
    if height < 0:
        raise Unavailable("no height is certified yet")
    header, nodes, entry = ledger.store.prove(key, height)
    decision = ledger.store.decision(height + 1)
    if decision is None:
        raise Unavailable(f"height {height + 1}: its certificate is not here")
    _, certificate, payloads = decision
    heads = [(payload[:HEAD_BYTES], hash_body(payload[HEAD_BYTES:])) for payload in payloads]
    return {
        "height": height,
        "header": header,
        "nodes": nodes,
        "entry": entry,
        "certificate": certificate,
        "payloads": heads,
    }
