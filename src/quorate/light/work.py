"""A light client of proof of work: simplified payment verification (Nakamoto 2008, section 8).

What is trusted: an anchor (genesis and its rules), and that the chain which the node shows is the
one with the most work. What is proved: that this much work was done for the chain of headers from
genesis on, by the rules for targets and times, and that block `h` is in it: header `h + 1` names a
payload, which carries the hash of block `h`. Blocks that the node calls final are shown, so at
least `final_depth` more lie over them at an honest node, whose work a liar had to do as well.

What it does not prove: that no heavier chain exists. Ask several nodes, and believe the one that
shows the most work (`work`); with little hash power, anyone can make another chain.

Cost: 180 bytes and two hashes for each header since genesis, once.
"""

from collections.abc import Callable, Sequence
from typing import Any

from quorate.base.errors import Invalid, Unavailable
from quorate.base.types import Hash, Height, Milliseconds
from quorate.consensus.certificate import ENVELOPE_BYTES
from quorate.consensus.pow_difficulty import (
    compute_next_target,
    compute_target,
    compute_work,
    format_rate,
)
from quorate.consensus.pow_headers import Header as WorkHeader
from quorate.consensus.pow_headers import decode_certificate, decode_header
from quorate.crypto.hashes import HEAD_BYTES, compute_seal, keccak256
from quorate.ledger.payload import parse_head
from quorate.light.anchor import Anchor
from quorate.light.answers import read_bytes, read_int, read_list, read_object
from quorate.light.client import LightClient, Request
from quorate.light.headers import Header

__all__ = ["WorkClient", "make_light_client"]

MAX_BATCH = 512
MAX_HEADERS = 1 << 24
MAX_AHEAD_MS: Milliseconds = 60_000


class WorkClient(LightClient):
    """Proves what one node says of a chain of work. Not thread-safe."""

    def __init__(
        self,
        anchor: Anchor,
        request: Request,
        *,
        clock: Callable[[], Milliseconds] | None = None,
    ) -> None:
        """With a `clock`, headers from its future are refused. Raises Invalid."""
        super().__init__(anchor, request, clock=clock)
        if not anchor.pow or anchor.height:
            raise Invalid("anchor: a chain of work is followed from a genesis file with its rules")
        self.rules = anchor.pow
        self.work = 0
        """Of the headers that were verified."""
        self._hashes: list[Hash] = [anchor.chain]
        self._time_ms = self._first_ms = 0
        self._target = compute_target(self.rules["initial_difficulty"])
        """Of the next header."""

    def get_height(self) -> Height:
        """Return the height up to which headers were verified."""
        return len(self._hashes) - 1

    def get_caveat(self) -> str:
        height = self.get_height()
        elapsed_ms = max(self._time_ms - self._first_ms, 1)
        rate = format_rate(self.work * 1000 // elapsed_ms)
        return (
            f"what is proved is work: {self.work} hashes for {height} blocks, about {rate}; "
            "whoever spends more can show another chain, so compare nodes"
        )

    def get_block_hash(self, height: Height) -> Hash:
        """Return the verified hash of a block: the header after it was found by work."""
        if height < 0:
            raise Invalid(f"height {height}, expected at least 0")
        if height == 0:
            return self.anchor.chain
        if height + 1 > self.get_height():
            self.follow(height + 1)
        answer = self.request("quorate_getCertificate", [hex(height + 1)])
        if answer is None:
            raise Unavailable(f"height {height + 1} is not final yet; it proves block {height}")
        fields = read_object(answer, f"certificate of height {height + 1}")
        header = decode_certificate(read_bytes(fields.get("raw"), "raw")).header
        if header.hash != self._hashes[height + 1]:
            raise Invalid(
                f"certificate of height {height + 1}: header 0x{header.hash.hex()}, "
                f"expected 0x{self._hashes[height + 1].hex()} as the chain of work has it"
            )
        payloads = read_list(fields, "payloads", 1)
        shown = read_object(payloads[0] if payloads else None, "payload")
        head = read_bytes(shown.get("head"), "head", HEAD_BYTES)
        found = keccak256(head + read_bytes(shown.get("bodyHash"), "bodyHash", 32))
        if found != header.payload_hash:
            raise Invalid(
                f"payload of height {height + 1}: hash 0x{found.hex()}, "
                f"expected 0x{header.payload_hash.hex()}"
            )
        return parse_head(head)[0]

    def get_head(self) -> Header:
        """Return the newest header of a block that can be proved, as far as the node tells."""
        answer = self.request("eth_getBlockByNumber", ["finalized", False])
        final = read_int(read_object(answer, "finalized block").get("number"), "number")
        return self.get_header(max(0, final - 1))

    # ---- the chain of headers

    def follow(self, height: Height) -> None:
        """Verify headers up to a height. Raises Invalid, or Unavailable if it is not final yet."""
        if height > MAX_HEADERS:
            raise Invalid(f"height {height}, expected at most {MAX_HEADERS}")
        while self.get_height() < height:
            first = self.get_height() + 1
            count = min(MAX_BATCH, height - first + 1)
            raws = self._fetch(first, count)
            if not raws:
                raise Unavailable(
                    f"height {height} is not final yet, {first - 1} is; "
                    f"it proves block {height - 1}"
                )
            for raw in raws:
                self._verify(decode_header(raw))

    def _fetch(self, first: Height, count: int) -> Sequence[bytes]:
        answer = self.request("quorate_getHeaders", [hex(first), hex(count)])
        entries = read_list({"headers": answer}, "headers", count)
        return [read_bytes(entry, "header", ENVELOPE_BYTES) for entry in entries]

    def _verify(self, header: WorkHeader) -> None:
        """Take the next header into the chain. Raises Invalid."""
        height = self.get_height() + 1
        expected = (height, self._hashes[-1], self._target)
        if (header.height, header.parent, header.target) != expected:
            raise Invalid(
                f"header {height}: height {header.height}, parent 0x{header.parent.hex()}, "
                f"target {header.target:#x}, expected parent 0x{expected[1].hex()}, "
                f"target {expected[2]:#x}"
            )
        if header.timestamp_ms <= self._time_ms:
            raise Invalid(f"header {height}: time {header.timestamp_ms} ms, expected a later one")
        if self.clock is not None and header.timestamp_ms > self.clock() + MAX_AHEAD_MS:
            raise Invalid(f"header {height}: time {header.timestamp_ms} ms is in the future")
        if compute_seal(header.get_sealed(), header.nonce) > header.target:
            raise Invalid(f"header {height}: its work does not meet its target")
        if height > 1:
            self._target = compute_next_target(
                header.target,
                header.timestamp_ms - self._time_ms,
                interval_ms=self.rules["interval_ms"],
                window=self.rules["window"],
                easiest=compute_target(self.rules["min_difficulty"]),
            )
        else:
            self._first_ms = header.timestamp_ms
        self._time_ms = header.timestamp_ms
        self.work += compute_work(header.target)
        self._hashes.append(header.hash)


def make_light_client(
    anchor: Anchor, request: Callable[[str, list[Any]], Any], **options: Any
) -> LightClient:
    """Return the light client for the engine of an anchor."""
    return (WorkClient if anchor.pow else LightClient)(anchor, request, **options)
