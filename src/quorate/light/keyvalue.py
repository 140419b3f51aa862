"""What a node of a key-value network says of a key, proved against its genesis file.

A certificate of height h + 1 covers a payload whose head names block h; the block's hash covers its
header, that the root of the state, and the trie's nodes lead from there to the entry, or show that
there is none.

Engines whose members trust each other (`raft`) have no certificates that a stranger could verify:
for them the certificate is not looked at, and what remains is that the entry belongs to a block
which the answering member vouches for. `verify_entry` then has to be told so.
"""

from typing import Annotated, Any, TypeAlias

import msgspec
from msgspec import Meta, Struct

from quorate._kernel import verify_proof
from quorate.base.errors import Invalid
from quorate.base.types import Hash, Height
from quorate.consensus.certificate import decode_certificate, verify_certificate
from quorate.consensus.membership import ValidatorSet
from quorate.crypto.hashes import keccak256
from quorate.ledger.keyvalue import get_genesis_hash, read_genesis
from quorate.ledger.operations import Entry
from quorate.ledger.payload import parse_head

__all__ = ["Proved", "verify_entry"]

HEADER_BYTES = 160
Revision: TypeAlias = Annotated[int, Meta(ge=0, lt=1 << 62)]


class Proved(Struct, frozen=True):
    """What a proof shows."""

    height: Height
    block: Hash
    state_root: Hash
    entry: Entry | None


class Answer(Struct, frozen=True):
    """What a node answers, by its shape alone."""

    header: bytes
    nodes: list[bytes]
    entry: tuple[bytes, Revision, Revision, Revision] | None
    certificate: bytes = b""
    payloads: list[tuple[bytes, bytes]] = []
    """Of each payload: its head, and the hash of its body."""


def verify_entry(
    genesis: bytes, engine: str, key: bytes, proof: dict[str, Any], *, trusting: bool = False
) -> Proved:
    """Return what is proved of a key. Raises Invalid for anything that does not fit.

    `trusting`: the answering node is trusted as to which block is final.
    """
    try:
        answer = msgspec.convert(proof, Answer)
    except msgspec.ValidationError as error:
        raise Invalid(f"proof: {error}") from None
    header, entry = answer.header, answer.entry
    if len(header) != HEADER_BYTES or header[:4] != b"qkv1":
        raise Invalid(f"header: found {header!r:.80}, expected {HEADER_BYTES} bytes of a block")
    height, block = int.from_bytes(header[8:16], "big"), keccak256(header)
    if not trusting:
        verify_block(genesis, engine, height, block, answer)
    root = header[96:128]
    shown = verify_proof(root, b"k" + key, answer.nodes)
    if (shown is None) != (entry is None):
        raise Invalid(f"key {key!r}: found an entry only here or only in the proof")
    if entry is None or shown is None:
        return Proved(height, block, root, None)
    found = Entry(*entry)
    numbers = (found.created, found.modified, found.version)
    expected = b"".join(n.to_bytes(8, "big") for n in numbers) + keccak256(found.value)
    if shown != expected:
        raise Invalid(f"key {key!r}: the proof shows another entry than the answer")
    return Proved(height, block, root, found)


def verify_block(genesis: bytes, engine: str, height: Height, block: Hash, answer: Answer) -> None:
    """Raise Invalid unless the certificate of the next height proves a block."""
    _, members, _, _ = read_genesis(genesis)
    certificate = decode_certificate(answer.certificate)
    envelope = certificate.envelope
    if (envelope.engine, envelope.height) != (engine, height + 1):
        raise Invalid(
            f"certificate: height {envelope.height} by {envelope.engine}, "
            f"expected {height + 1} by {engine}"
        )
    verify_certificate(certificate, get_genesis_hash(genesis), ValidatorSet(members))
    if len(answer.payloads) != 1:
        raise Invalid(f"certificate: {len(answer.payloads)} payloads, expected 1")
    head, body = answer.payloads[0]
    if keccak256(head + body) != envelope.payload:
        raise Invalid("payload: it is not the one that the certificate names")
    if parse_head(head)[0] != block:
        raise Invalid(f"block {height}: the certificate names another one than the answer")
