"""From votes to a transferable proof that a stranger can verify, in a contract too.

Everything that is hashed or signed is a concatenation of fixed-size big-endian fields, hashed with
keccak256, so that a contract checks it with `abi.encodePacked`, `keccak256` and `ecrecover`.

Envelope, 180 bytes; its keccak256 is what is agreed on:

    offset  bytes
    0       16     name of the engine, ASCII, padded with zero bytes
    16      8      height
    24      8      round (slot, view) in which it was first proposed
    32      20     its first proposer
    52      32     hash of the parent's envelope (height 1: the genesis block's hash)
    84      32     hash of the validator set of this height (`membership.hash_members`)
    116     32     hash of the validator set of the next height
    148     32     payload hash, keccak256(64 bytes of head || hash_body(body))

Statement, 93 bytes; its keccak256 is what a validator signs, with 65 bytes r, s, parity (a contract
gives `ecrecover` the parity plus 27):

    offset  bytes
    0       8      "quorate" and 0x01
    8       32     chain: the genesis block's hash
    40      1      kind: 0 proposal, 1 prevote, 2 precommit
    41      8      height
    49      8      round
    57      32     envelope hash, zero for nil
    89      4      proposals: the valid round plus one; zero for votes

Certificate: the envelope, then a round, then signatures of precommits of that round for the
envelope's hash by more than two thirds of the voting power, sorted by address:

    0       1      version, 1
    1       180    envelope
    181     8      round of the precommits
    189     2      number of signatures
    191     85 n   each: 20 bytes address, 65 bytes signature
"""

from collections.abc import Callable, Sequence
from struct import Struct
from typing import Final, TypeAlias

from quorate.base.errors import Invalid
from quorate.base.types import ZERO_HASH, Address, Hash, Height, Member
from quorate.consensus.certificate_types import Certificate as Certificate
from quorate.consensus.certificate_types import Envelope as Envelope
from quorate.consensus.keys import verify_signature
from quorate.consensus.membership import MAX_MEMBERS, ValidatorSet
from quorate.crypto.hashes import hash_payload, keccak256

PROPOSAL: Final = 0
PREVOTE: Final = 1
PRECOMMIT: Final = 2
NIL: Final = ZERO_HASH
"""The vote for no value."""

DOMAIN: Final = b"quorate\x01"
VERSION: Final = 1
ENVELOPE: Final = Struct(">16sQQ20s32s32s32s32s")
STATEMENT: Final = Struct(">8s32sBQQ32sI")
"""The layouts above."""
_pack_envelope: Final = ENVELOPE.pack
_pack_beginning: Final = Struct(">16sQQ").pack
_pack_statement: Final = STATEMENT.pack
ENGINE_LETTERS: Final = b"abcdefghijklmnopqrstuvwxyz0123456789-"
ENVELOPE_BYTES: Final = 180
SIGNATURE_BYTES: Final = 65
ENTRY_BYTES: Final = 20 + SIGNATURE_BYTES
PREFIX_BYTES: Final = 1 + ENVELOPE_BYTES + 8 + 2
MAX_CERTIFICATE_BYTES: Final = PREFIX_BYTES + MAX_MEMBERS * ENTRY_BYTES

Verify: TypeAlias = Callable[[Address, Hash, bytes], bool]


def encode_envelope(envelope: Envelope) -> bytes:
    """Return the 180 bytes of the layout above."""
    return _pack_envelope(
        envelope.engine.encode("ascii"),
        envelope.height,
        envelope.round,
        envelope.proposer,
        envelope.parent,
        envelope.members,
        envelope.next_members,
        envelope.payload,
    )


def decode_envelope(data: bytes) -> Envelope:
    """Return the envelope of exactly its own encoding. Raises Invalid."""
    if len(data) != ENVELOPE_BYTES:
        raise Invalid(f"envelope: {len(data)} bytes, expected {ENVELOPE_BYTES}")
    padded, height, round, proposer, parent, members, next_members, payload = ENVELOPE.unpack(data)
    name = padded.rstrip(b"\0")
    if not name or name.strip(ENGINE_LETTERS):
        raise Invalid(f"envelope: engine name 0x{padded.hex()}, expected a-z 0-9 -")
    if height > 2**62 or round >= 2**31:
        raise Invalid(f"envelope: height {height} and round {round}, expected at most 2**62, 2**31")
    return Envelope(
        name.decode("ascii"), height, round, proposer, parent, members, next_members, payload
    )


def names(envelope: bytes, engine: bytes, height: Height, round: int, payload: Hash) -> bool:
    """Whether an encoded envelope names this engine (16 bytes, padded), height, round and payload,
    none of them above its bounds.
    """
    return (
        len(envelope) == ENVELOPE_BYTES
        and envelope[:32] == _pack_beginning(engine, height, round)
        and envelope[148:] == payload
    )


def get_parent(envelope: bytes) -> Hash:
    """Return the parent that an encoded envelope names."""
    return envelope[52:84]


def hash_envelope(envelope: Envelope) -> Hash:
    """Return what is agreed on: keccak256 of the encoded envelope."""
    return keccak256(encode_envelope(envelope))


def compute_digest(
    chain: Hash, kind: int, height: Height, round: int, value: Hash, valid_round: int = -1
) -> Hash:
    """Return what a validator signs for a proposal or a vote; the layout is in the docstring."""
    return keccak256(_pack_statement(DOMAIN, chain, kind, height, round, value, valid_round + 1))


def encode_certificate(certificate: Certificate) -> bytes:
    """Return the layout above."""
    parts = [
        bytes((VERSION,)),
        encode_envelope(certificate.envelope),
        certificate.round.to_bytes(8, "big"),
        len(certificate.signatures).to_bytes(2, "big"),
    ]
    for address, signature in certificate.signatures:
        parts += (address, signature)
    return b"".join(parts)


def decode_certificate(data: bytes) -> Certificate:
    """Return the certificate of exactly its own encoding. Raises Invalid."""
    if not PREFIX_BYTES <= len(data) <= MAX_CERTIFICATE_BYTES:
        raise Invalid(
            f"certificate: {len(data)} bytes, expected {PREFIX_BYTES}..{MAX_CERTIFICATE_BYTES}"
        )
    if data[0] != VERSION:
        raise Invalid(f"certificate: version {data[0]}, expected {VERSION}")
    envelope = decode_envelope(data[1 : 1 + ENVELOPE_BYTES])
    round = int.from_bytes(data[181:189], "big")
    count = int.from_bytes(data[189:191], "big")
    if round >= 2**31:
        raise Invalid(f"certificate: round {round}, expected less than 2**31")
    if len(data) != PREFIX_BYTES + count * ENTRY_BYTES:
        raise Invalid(
            f"certificate: {len(data)} bytes with {count} signatures, "
            f"expected {PREFIX_BYTES + count * ENTRY_BYTES}"
        )
    signatures = [
        (data[at : at + 20], data[at + 20 : at + ENTRY_BYTES])
        for at in range(PREFIX_BYTES, len(data), ENTRY_BYTES)
    ]
    return Certificate(envelope, round, signatures)


def verify_certificate(
    certificate: Certificate,
    chain: Hash,
    members: ValidatorSet | Sequence[Member],
    verify: Verify = verify_signature,
) -> Hash:
    """Return the hash of the envelope that is proven final at its height. Raises Invalid.

    `members` are those of the envelope's height, from genesis or from a block that is already
    trusted; the envelope names their hash and that of the next height's, so a light client follows
    changes. Costs one signature recovery for each signature.
    """
    envelope = certificate.envelope
    height = envelope.height
    validators = members if isinstance(members, ValidatorSet) else ValidatorSet(members)
    if envelope.members != validators.hash:
        raise Invalid(
            f"certificate of height {height}: validator set 0x{envelope.members.hex()}, "
            f"expected 0x{validators.hash.hex()}"
        )
    if certificate.round < envelope.round:
        raise Invalid(
            f"certificate of height {height}: round {certificate.round}, "
            f"expected at least {envelope.round}"
        )
    value = hash_envelope(envelope)
    digest = compute_digest(chain, PRECOMMIT, height, certificate.round, value)
    power = _tally(certificate, validators)
    for address, signature in certificate.signatures:
        if not verify(address, digest, signature):
            raise Invalid(
                f"certificate of height {height}: the signature of 0x{address.hex()} is not its own"
            )
    if power < validators.quorum:
        raise Invalid(
            f"certificate of height {height}: power {power} of {validators.total}, "
            f"expected at least {validators.quorum}"
        )
    return value


def _tally(certificate: Certificate, validators: ValidatorSet) -> int:
    power, last = 0, b""
    for address, _ in certificate.signatures:
        share = validators.powers.get(address)
        if share is None or address <= last:
            raise Invalid(
                f"certificate of height {certificate.envelope.height}: signer 0x{address.hex()}, "
                "expected members in rising order of address"
            )
        power, last = power + share, address
    return power


def verify_payloads(envelope: Envelope, payloads: Sequence[bytes]) -> None:
    """Raise Invalid unless these are the payloads that the envelope names (exactly one)."""
    if len(payloads) != 1:
        raise Invalid(f"height {envelope.height}: {len(payloads)} payloads, expected 1")
    found = hash_payload(payloads[0])
    if found != envelope.payload:
        raise Invalid(
            f"height {envelope.height}: payload 0x{found.hex()}, "
            f"expected 0x{envelope.payload.hex()}"
        )
