"""A light client of proof of work believes what was worked for, and nothing else."""

from collections.abc import Callable
from typing import Any

import pytest

from quorate._kernel import seal
from quorate.base.errors import Invalid, Unavailable
from quorate.base.types import Member
from quorate.consensus.pow_difficulty import compute_next_target, compute_target, compute_work
from quorate.consensus.pow_headers import encode_certificate, make_header, put_nonce
from quorate.crypto.hashes import HEAD_BYTES, hash_body, hash_payload, keccak256
from quorate.ledger.payload import compose
from quorate.light import Anchor, WorkClient, make_light_client

CHAIN = keccak256(b"work")
RULES = {"initial_difficulty": 256, "min_difficulty": 256, "interval_ms": 1000, "window": 8}
ANCHOR = Anchor(CHAIN, "pow", 0, [Member(b"\1" * 20, 1)], 0, RULES)
FINAL = 20


def find(header: bytes, target: int) -> bytes:
    nonce = seal(header, target.to_bytes(32, "big"), 0, 1 << 30)
    assert nonce is not None
    return put_nonce(header, nonce)


class Chain:
    """A node that shows a chain; `change` may twist each header before it is worked for."""

    def __init__(self, change: Callable[[int, dict[str, Any]], None] = lambda h, f: None) -> None:
        self.raws: list[bytes] = []
        self.payloads: list[bytes] = []
        parent, time_ms, target = CHAIN, 1_000_000, compute_target(256)
        for height in range(1, FINAL + 1):
            before, time_ms = time_ms, time_ms + 700
            payload = compose(keccak256(b"block%d" % (height - 1)), time_ms, b"\2" * 20, b"")
            fields: dict[str, Any] = {
                "height": height,
                "proposer": b"\2" * 20,
                "parent": parent,
                "timestamp_ms": time_ms,
                "target": target,
                "payload_hash": hash_payload(payload),
            }
            change(height, fields)
            time_ms = fields["timestamp_ms"]
            raw = find(make_header(**fields), fields["target"])
            self.raws.append(raw)
            self.payloads.append(payload)
            parent = keccak256(raw)
            if height > 1:
                target = compute_next_target(
                    target,
                    time_ms - before,
                    interval_ms=1000,
                    window=8,
                    easiest=compute_target(256),
                )

    def request(self, method: str, parameters: list[Any]) -> Any:
        first = int(parameters[0], 16)
        if method == "quorate_getHeaders":
            count = int(parameters[1], 16)
            return ["0x" + raw.hex() for raw in self.raws[first - 1 : first - 1 + min(count, 7)]]
        assert method == "quorate_getCertificate"
        if first > FINAL:
            return None
        payload = self.payloads[first - 1]
        return {
            "raw": "0x" + encode_certificate(self.raws[first - 1], 1, 0).hex(),
            "payloads": [
                {
                    "head": "0x" + payload[:HEAD_BYTES].hex(),
                    "bodyHash": "0x" + hash_body(payload[HEAD_BYTES:]).hex(),
                }
            ],
        }


def test_a_block_is_proved_by_the_header_over_it() -> None:
    chain = Chain()
    client = make_light_client(ANCHOR, chain.request)
    assert isinstance(client, WorkClient)
    assert client.get_block_hash(0) == CHAIN
    assert client.get_block_hash(5) == keccak256(b"block5")
    assert client.get_height() == 6
    assert client.get_block_hash(FINAL - 1) == keccak256(b"block%d" % (FINAL - 1))
    assert client.work >= FINAL * 256
    assert "whoever spends more can show another chain" in client.get_caveat()


def test_what_is_not_final_yet_is_not_proved() -> None:
    client = WorkClient(ANCHOR, Chain().request)
    with pytest.raises(Unavailable, match=f"height {FINAL + 1} is not final yet"):
        client.get_block_hash(FINAL)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("target", compute_target(300), "expected parent"),
        ("target", compute_target(200), "expected parent"),
        ("parent", keccak256(b"elsewhere"), "expected parent"),
        ("height", 99, "height 99"),
        ("timestamp_ms", 1_000_000, "expected a later one"),
    ],
)
def test_headers_against_the_rules_are_refused(field: str, value: Any, message: str) -> None:
    def change(height: int, fields: dict[str, Any]) -> None:
        if height == 9:
            fields[field] = value

    client = WorkClient(ANCHOR, Chain(change).request)
    with pytest.raises(Invalid, match=message):
        client.get_block_hash(12)
    assert client.get_height() == 8


def test_a_header_without_its_work_is_refused() -> None:
    chain = Chain()
    raw = chain.raws[4]
    nonces = (put_nonce(raw, nonce) for nonce in range(1000))
    chain.raws[4] = next(r for r in nonces if r != raw)
    with pytest.raises(Invalid, match="header 5: its work does not meet its target"):
        WorkClient(ANCHOR, chain.request).get_block_hash(4)


def test_headers_from_the_future_are_refused() -> None:
    client = WorkClient(ANCHOR, Chain().request, clock=lambda: 900_000)
    with pytest.raises(Invalid, match="in the future"):
        client.get_block_hash(3)


def test_a_certificate_of_another_chain_is_refused() -> None:
    chain, other = Chain(), Chain(lambda h, f: f.update(proposer=b"\3" * 20))

    def request(method: str, parameters: list[Any]) -> Any:
        return (other if method == "quorate_getCertificate" else chain).request(method, parameters)

    with pytest.raises(Invalid, match="as the chain of work has it"):
        WorkClient(ANCHOR, request).get_block_hash(3)


def test_a_changed_payload_is_refused() -> None:
    chain = Chain()
    chain.payloads[3] = compose(keccak256(b"lie"), 1, b"\2" * 20, b"")
    with pytest.raises(Invalid, match="payload of height 4"):
        WorkClient(ANCHOR, chain.request).get_block_hash(3)


def test_work_is_counted_as_it_was_done() -> None:
    chain = Chain()
    client = WorkClient(ANCHOR, chain.request)
    client.follow(FINAL)
    targets = [int.from_bytes(raw[116:148], "big") for raw in chain.raws]
    assert client.work == sum(map(compute_work, targets))
    assert targets[-1] < targets[0]
