"""The bytes of Raft's certificates, as `Certificate` lays them out, and who is enough."""

from quorate.base.errors import Invalid
from quorate.base.types import Address, Member
from quorate.consensus.certificate import ENVELOPE_BYTES, decode_envelope, encode_envelope
from quorate.consensus.raft_types import PREFIX_BYTES, VERSION, Certificate


def encode_certificate(certificate: Certificate) -> bytes:
    """Return the bytes of a certificate."""
    envelope = encode_envelope(certificate.envelope)
    return compose_certificate(envelope, certificate.term, certificate.index, certificate.holders)


def compose_certificate(envelope: bytes, term: int, index: int, holders: list[Address]) -> bytes:
    """Return the same around an envelope that is encoded already."""
    return b"".join(
        (
            bytes((VERSION,)),
            envelope,
            term.to_bytes(8, "big"),
            index.to_bytes(8, "big"),
            len(holders).to_bytes(2, "big"),
            *holders,
        )
    )


def decode_certificate(data: bytes) -> Certificate:
    """Return the certificate of exactly its own encoding. Raises Invalid."""
    if len(data) < PREFIX_BYTES or data[0] != VERSION:
        found = f"{len(data)} bytes" + (f" of version {data[0]}" if data else "")
        raise Invalid(f"raft certificate: {found}, expected version {VERSION}")
    count = int.from_bytes(data[PREFIX_BYTES - 2 : PREFIX_BYTES], "big")
    if len(data) != PREFIX_BYTES + 20 * count:
        raise Invalid(
            f"raft certificate: {len(data)} bytes with {count} members, "
            f"expected {PREFIX_BYTES + 20 * count}"
        )
    return Certificate(
        decode_envelope(data[1 : 1 + ENVELOPE_BYTES]),
        int.from_bytes(data[181:189], "big"),
        int.from_bytes(data[189:197], "big"),
        [data[at : at + 20] for at in range(PREFIX_BYTES, len(data), 20)],
    )


def has_majority(members: tuple[Member, ...], holders: dict[Address, None]) -> bool:
    """Whether these hold more than half of the power of a set."""
    total = power = 0
    for member in members:
        total += member.power
        if member.address in holders:
            power += member.power
    return 2 * power > total
