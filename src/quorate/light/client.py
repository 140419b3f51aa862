"""A light client: verified headers, accounts and storage from nodes that need not be trusted.

What is trusted: an anchor (usually genesis) and that fewer than a third of the voting power of a
validator set that was ever trusted lies. What is proved: block `h` by the certificate of `h + 1`,
whose payload carries the hash of block `h`.

The client jumps to the height asked for where it can, and halves the way where it cannot. A
certificate at height `t` is believed from a trusted height below it if

* its envelope names the validator set that was already proved for the next height, and more than
  two thirds of it signed (at any distance: correct members sign only the chain they are on); or
* the set is another one, but members with more than a third of the power of the trusted set signed
  it, so at least one correct member did, and more than two thirds of the named set did as well.

For the next height the named set must be the proved one. Source: Braithwaite et al., "A Tendermint
Light Client" (arXiv 2010.07031), sections 2 and 4. Deviations: the trusting period is a setting
that is off unless a clock is given, since members of a consortium leave by vote; there is one
provider, and comparing several is the caller's business.

Cost: one request for the certificate, one for the header, and one for the set where it changed.
"""

from collections.abc import Callable, Sequence
from typing import Any

from msgspec import Struct

from quorate.base.errors import Invalid, Unavailable
from quorate.base.types import Address, Hash, Height, Member, Milliseconds
from quorate.consensus.certificate import Certificate, decode_certificate, verify_certificate
from quorate.consensus.membership import MAX_MEMBERS, ValidatorSet
from quorate.crypto.hashes import HEAD_BYTES, keccak256
from quorate.ledger.payload import parse_head
from quorate.light.anchor import Anchor
from quorate.light.answers import read_bytes, read_int, read_list, read_object
from quorate.light.headers import Header, verify_header
from quorate.light.proofs import Account, verify_answer, verify_code

__all__ = ["LightClient", "Request"]

Request = Callable[[str, list[Any]], Any]
"""Ask a node: (method, parameters) -> result, raising whatever it raises."""

MAX_REMEMBERED = 1024
"""Verified heights that are kept to start from; the anchor is always kept."""
MAX_SLOTS = 1024


class Trusted(Struct, frozen=True):
    """A height whose certificate was verified, or the anchor."""

    height: Height
    time_ms: Milliseconds
    next_members: Hash
    """Hash of the set that agrees on the height after this one."""
    parent_block: Hash | None
    """Hash of the block before; None for the anchor."""


class LightClient:
    """Proves what one node says. Not thread-safe."""

    def __init__(
        self,
        anchor: Anchor,
        request: Request,
        *,
        clock: Callable[[], Milliseconds] | None = None,
        trusting_period_ms: Milliseconds = 14 * 24 * 3600 * 1000,
    ) -> None:
        """With a `clock`, trust in a validator set ends `trusting_period_ms` after its block."""
        members = ValidatorSet(anchor.members)
        self.anchor = anchor
        self.request = request
        self.clock = clock
        self.trusting_period_ms = trusting_period_ms
        start = Trusted(anchor.height, anchor.time_ms, members.hash, None)
        self._trusted: dict[Height, Trusted] = {anchor.height: start}
        self._sets: dict[Hash, ValidatorSet] = {members.hash: members}
        self._headers: dict[Height, Header] = {}

    # ---- what callers ask

    def get_header(self, height: Height) -> Header:
        """Return the verified header of a block. Raises Invalid for a lie, Unavailable if there is
        no certificate of the next height yet."""
        header = self._headers.get(height)
        if header is None:
            block = self.get_block_hash(height)
            answer = self.request("eth_getBlockByNumber", [hex(height), False])
            header = verify_header(read_object(answer, f"block {height}"), height, block)
            _remember(self._headers, height, header)
        return header

    def get_caveat(self) -> str:
        """What a proof rests on beside the anchor, in one line; empty: what the class says."""
        return ""

    def get_block_hash(self, height: Height) -> Hash:
        """Return the verified hash of a block, for which two thirds have signed."""
        if height < 0:
            raise Invalid(f"height {height}, expected at least 0")
        if height == 0:
            return self.anchor.chain
        if height < self.anchor.height:
            raise Unavailable(f"block {height} is before the trusted height {self.anchor.height}")
        block = self.verify_height(height + 1).parent_block
        if block is None:
            raise AssertionError("only the anchor has no parent block")
        return block

    def get_head(self) -> Header:
        """Return the newest header that a certificate proves, as far as the node tells."""
        head = read_int(self.request("eth_blockNumber", []), "eth_blockNumber")
        return self.get_header(max(0, head - 1))

    def get_account(self, address: Address, height: Height) -> Account:
        """Return the verified account after a block."""
        return self.get_proof(address, [], height)[0]

    def get_storage(self, address: Address, slots: Sequence[int], height: Height) -> list[int]:
        """Return the verified values of an account's storage slots after a block, in order."""
        return self.get_proof(address, slots, height)[1]

    def get_proof(
        self, address: Address, slots: Sequence[int], height: Height
    ) -> tuple[Account, list[int]]:
        """Return the account and the storage slots after a block, both verified."""
        if len(slots) > MAX_SLOTS:
            raise Invalid(f"{len(slots)} slots, expected at most {MAX_SLOTS}")
        root = self.get_header(height).state_root
        keys = [slot.to_bytes(32, "big") for slot in slots]
        parameters = ["0x" + address.hex(), ["0x" + key.hex() for key in keys], hex(height)]
        answer = read_object(self.request("eth_getProof", parameters), "eth_getProof")
        return verify_answer(root, address, keys, answer)

    def get_code(self, address: Address, height: Height) -> bytes:
        """Return the verified code of an account after a block."""
        account = self.get_account(address, height)
        answer = self.request("eth_getCode", ["0x" + address.hex(), hex(height)])
        return verify_code(account, read_bytes(answer, "eth_getCode"))

    # ---- how trust moves

    def verify_height(self, height: Height) -> Trusted:
        """Return what the certificate of a height proves, following the validator sets to it."""
        known = self._trusted.get(height)
        if known is not None:
            return known
        trusted = self._trusted[max(h for h in self._trusted if h < height)]
        goals = [height]
        while goals:
            goal = goals[-1]
            reached = self._step(trusted, goal)
            if reached is not None:
                trusted = reached
                _remember(self._trusted, goal, reached, keep=self.anchor.height)
                goals.pop()
            elif goal == trusted.height + 1:
                raise AssertionError("a step of one height is proved or refused")
            else:
                goals.append((trusted.height + goal) // 2)
        return trusted

    def _step(self, trusted: Trusted, height: Height) -> Trusted | None:
        """Return what the certificate proves; None if too few trusted members signed it, so that
        heights between must be verified first. Raises Invalid for a certificate that is wrong."""
        self._check_age(trusted)
        certificate, head = self._fetch_certificate(height)
        envelope = certificate.envelope
        if height == trusted.height + 1 and envelope.members != trusted.next_members:
            raise Invalid(
                f"certificate of height {height}: validator set 0x{envelope.members.hex()}, "
                f"expected 0x{trusted.next_members.hex()} as height {trusted.height} says"
            )
        if envelope.members != trusted.next_members:
            believed = self._get_set(trusted.height + 1, trusted.next_members)
            signers = [address for address, _ in certificate.signatures]
            if sum(believed.powers.get(signer, 0) for signer in set(signers)) < believed.third:
                return None
        members = self._get_set(height, envelope.members)
        verify_certificate(certificate, self.anchor.chain, members)
        parent_block, time_ms, _ = parse_head(head)
        return Trusted(height, time_ms, envelope.next_members, parent_block)

    def _fetch_certificate(self, height: Height) -> tuple[Certificate, bytes]:
        """Return the node's certificate of a height and the payload head that its envelope names.

        Nothing is proved yet but that they belong together, to this height and to this engine.
        """
        answer = self.request("quorate_getCertificate", [hex(height)])
        if answer is None:
            raise Unavailable(
                f"height {height} is not certified yet; its certificate proves block {height - 1}"
            )
        fields = read_object(answer, f"certificate of height {height}")
        certificate = decode_certificate(read_bytes(fields.get("raw"), "raw"))
        envelope = certificate.envelope
        if (envelope.height, envelope.engine) != (height, self.anchor.engine):
            raise Invalid(
                f"certificate: height {envelope.height} by {envelope.engine}, "
                f"expected {height} by {self.anchor.engine}"
            )
        payloads = read_list(fields, "payloads", 1)
        shown = read_object(payloads[0] if payloads else None, "payload")
        head = read_bytes(shown.get("head"), "head", HEAD_BYTES)
        found = keccak256(head + read_bytes(shown.get("bodyHash"), "bodyHash", 32))
        if found != envelope.payload:
            raise Invalid(
                f"payload of height {height}: hash 0x{found.hex()}, "
                f"expected 0x{envelope.payload.hex()}"
            )
        return certificate, head

    def _get_set(self, height: Height, expected: Hash) -> ValidatorSet:
        """Return the validator set with a hash; where it is unknown, ask for that of `height`."""
        known = self._sets.get(expected)
        if known is not None:
            return known
        answer = self.request("quorate_getValidators", [hex(height)])
        members = ValidatorSet(_read_members(answer, height))
        if members.hash != expected:
            raise Invalid(
                f"validators of height {height}: hash 0x{members.hash.hex()}, "
                f"expected 0x{expected.hex()}"
            )
        _remember(self._sets, expected, members)
        return members

    def _check_age(self, trusted: Trusted) -> None:
        if self.clock is None:
            return
        age_ms = self.clock() - trusted.time_ms
        if age_ms > self.trusting_period_ms:
            raise Unavailable(
                f"trusted height {trusted.height} is {age_ms // 1000} s old, expected at most "
                f"{self.trusting_period_ms // 1000} s: start from a newer anchor"
            )


def _read_members(answer: Any, height: Height) -> list[Member]:
    what = f"validators of height {height}"
    members = []
    for entry in read_list({what: answer}, what, MAX_MEMBERS):
        fields = read_object(entry, what)
        address = read_bytes(fields.get("address"), "address", 20)
        members.append(Member(address, read_int(fields.get("power"), "power", 96)))
    return members


def _remember(table: dict[Any, Any], key: Any, value: Any, keep: Any = None) -> None:
    """Put a value in a bounded table; the oldest but `keep` makes room."""
    if len(table) >= MAX_REMEMBERED:
        oldest = next(entry for entry in table if entry != keep)
        del table[oldest]
    table[key] = value
