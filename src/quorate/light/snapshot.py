"""A state as a file, with the proof that it is the state of a certified block.

A file is a beginning and frames. A frame is the length of its content (4 bytes, big-endian), a hash
(32) and the content; the hash is the keccak256 of the hash before it (zero at first) and the
content, so that what is cut off, changed or moved is seen at the frame where it happens:

    bytes   content
    16      "quorate snapshot"
    4       version, 1
    frame   JSON: what it is (`About`)
    frame   MessagePack: what it rests on (`Proof`)
    frames  pieces of the state (`View.export_state`), in order
    frame   empty: the end

The hashes protect against accidents only. What makes a state believable is the chain of reasons
from the genesis file: a light client follows the validators to the certificate of the next height,
whose payload names the block; the block's header names the state root; and the pieces, once they
are built into a state, have that root or not. A hash that the reader trusts takes the place of the
light client where a network's engine convinces no stranger, or where its members changed so much
since genesis that the certificate alone does not show it.
"""

from collections.abc import Callable, Iterator
from typing import Annotated, Any, BinaryIO, Final, TypeAlias

import msgspec
from msgspec import Meta, Struct

from quorate._kernel import Ledger, StateImport, View
from quorate.base.errors import Invalid, Unavailable
from quorate.base.types import Hash, Height, Member
from quorate.consensus import ENGINES
from quorate.consensus.certificate import decode_certificate, hash_envelope
from quorate.consensus.membership import hash_members
from quorate.crypto.hashes import HEAD_BYTES, hash_body, hash_payload, keccak256
from quorate.ledger.ethereum import encode_sets, read_view_members
from quorate.ledger.payload import parse_head
from quorate.light.anchor import read_genesis
from quorate.light.client import LightClient

__all__ = ["About", "Proof", "Reader", "get_chain", "install", "prove", "write_snapshot"]

MAGIC: Final = b"quorate snapshot"
VERSION: Final = 1
MAX_FRAME_BYTES: Final = 64 << 20
PIECE_BYTES: Final = 1 << 20
MAX_HEADS: Final = 257
"""BLOCKHASH sees 256 ancestors."""
Progress = Callable[[int], None]
"""Told the bytes that were written or read so far."""


# What is shown to people has to be what it seems.
Name: TypeAlias = Annotated[str, Meta(max_length=128, pattern=r"^[\x21-\x7e ]*$")]
HexHash: TypeAlias = Annotated[str, Meta(pattern="^0x[0-9a-f]{64}$")]


class About(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a snapshot is of; hashes in hexadecimal."""

    application: Name
    engine: Name
    chain_id: Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]
    genesis: HexHash
    height: Annotated[Height, Meta(ge=1, lt=1 << 40)]
    block: HexHash
    state_root: HexHash
    software: Name


class Proof(Struct, frozen=True, array_like=True):
    """What a state rests on."""

    heads: list[bytes]
    """Headers of the ancestors that execution may name, and of the block itself."""
    envelope: Hash
    certificate: bytes
    payloads: list[bytes]
    next_certificate: bytes
    next_head: bytes
    next_body: Hash
    """Of the payload of the next height: its head, and the hash of its body."""
    members: list[list[Member]]
    """Who agrees on the height, on the next one and on the one after that."""


# ---- writing


def write_snapshot(
    out: BinaryIO, view: View, height: Height, engine: str, software: str, progress: Progress
) -> About:
    """Write the snapshot of a height whose next one is final. Raises Unavailable, Rejected."""
    decision, following = view.decision(height), view.decision(height + 1)
    block = view.head_record(height)
    if height < 1 or decision is None or following is None or block is None:
        raise Unavailable(f"height {height}: it and the next one are expected to be final blocks")
    envelope, certificate, payloads = decision
    first = max(height + 1 - MAX_HEADS, view.history()[2], 1)
    heads = [record for h in range(first, height + 1) if (record := view.head_record(h))]
    payload = following[2][0]
    proof = Proof(
        heads,
        envelope,
        certificate,
        payloads,
        following[1],
        payload[:HEAD_BYTES],
        hash_body(payload[HEAD_BYTES:]),
        [read_view_members(view, max(height - back, 0)) for back in (2, 1, 0)],
    )
    header = msgspec.json.decode(view.header_json(height) or b"{}", type=dict[str, Any])
    about = About(
        application="ethereum",
        engine=engine,
        chain_id=view.chain_id,
        genesis="0x" + view.genesis_hash.hex(),
        height=height,
        block="0x" + (view.block_hash(height) or b"").hex(),
        state_root=header["stateRoot"],
        software=software,
    )
    writer = Writer(out)
    writer.add(msgspec.json.encode(about))
    writer.add(msgspec.msgpack.encode(proof))
    cursor: bytes | None = b""
    while cursor is not None:
        piece, cursor = view.export_state(height, cursor, PIECE_BYTES)
        if piece:
            writer.add(piece)
        progress(writer.written)
    writer.add(b"")
    return about


class Writer:
    """Writes frames."""

    __slots__ = ("last", "out", "written")

    def __init__(self, out: BinaryIO) -> None:
        self.out, self.last = out, bytes(32)
        self.written = out.write(MAGIC + VERSION.to_bytes(4, "big"))

    def add(self, content: bytes) -> None:
        if len(content) > MAX_FRAME_BYTES:
            raise Invalid(
                f"snapshot: a part of {len(content)} bytes, expected at most {MAX_FRAME_BYTES}"
            )
        self.last = keccak256(self.last + content)
        self.written += self.out.write(len(content).to_bytes(4, "big") + self.last)
        self.written += self.out.write(content)


# ---- reading


class Reader:
    """Reads a snapshot from its beginning to its end, once. Raises Invalid for what is none."""

    __slots__ = ("about", "file", "frame", "last", "proof", "read")

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.last, self.frame, self.read = file, bytes(32), 0, 0
        beginning = self.take(len(MAGIC) + 4)
        if beginning[: len(MAGIC)] != MAGIC:
            raise Invalid("snapshot: found another beginning, expected that of a snapshot")
        version = int.from_bytes(beginning[len(MAGIC) :], "big")
        if version != VERSION:
            raise Invalid(f"snapshot: version {version}, expected {VERSION}")
        try:
            self.about = msgspec.json.decode(self.take_frame(), type=About)
            self.proof = msgspec.msgpack.decode(self.take_frame(), type=Proof)
        except msgspec.MsgspecError as error:
            raise Invalid(f"snapshot: {error}") from None

    def take(self, count: int) -> bytes:
        found = self.file.read(count)
        self.read += len(found)
        if len(found) != count:
            raise Invalid(f"snapshot: ends after {self.read} bytes, within part {self.frame}")
        return found

    def take_frame(self) -> bytes:
        """Return the content of the next frame, whose hash is right."""
        length = int.from_bytes(self.take(4), "big")
        if length > MAX_FRAME_BYTES:
            raise Invalid(
                f"snapshot: part {self.frame} of {length} bytes, expected at most {MAX_FRAME_BYTES}"
            )
        expected, content = self.take(32), self.take(length)
        self.last = keccak256(self.last + content)
        if self.last != expected:
            raise Invalid(f"snapshot: part {self.frame} is damaged: its hash is another one")
        self.frame += 1
        return content

    def pieces(self) -> Iterator[bytes]:
        """Return the pieces of the state; to the end of the file."""
        while piece := self.take_frame():
            yield piece
        if self.file.read(1):
            raise Invalid(f"snapshot: more bytes after its end at {self.read}")


# ---- believing


def prove(reader: Reader, genesis: bytes, trusted: Hash | None = None) -> str:
    """Raise Invalid unless the proof leads from a genesis file to the block of a snapshot.

    `trusted` is the hash of that block, from somebody who is trusted. Returns in words what the
    block rests on. Nothing of the state is looked at.
    """
    about, proof = reader.about, reader.proof
    chain, chain_id = get_chain(genesis)
    if about.genesis != "0x" + chain.hex():
        raise Invalid(
            f"snapshot: of the network with genesis {about.genesis}, expected 0x{chain.hex()}"
        )
    if about.chain_id != chain_id:
        raise Invalid(f"snapshot: of chain id {about.chain_id}, expected {chain_id} of genesis")
    if about.application != "ethereum":
        raise Invalid(f"snapshot: of the application {about.application!r}, expected 'ethereum'")
    block = proof.heads[-1][:32] if proof.heads else b""
    if about.block != "0x" + block.hex():
        raise Invalid(f"snapshot: header of block 0x{block.hex()}, expected {about.block}")
    if len(proof.members) != 3 or len(proof.next_head) != HEAD_BYTES:
        raise Invalid("snapshot: its proof lacks parts")
    if trusted is not None and trusted != block:
        raise Invalid(f"snapshot: block 0x{block.hex()}, expected 0x{trusted.hex()}, as trusted")
    engine = ENGINES.get(about.engine)
    if engine is None or engine.open:
        raise Invalid(f"snapshot: of the engine {about.engine!r}, expected one with members")
    if not engine.proves:
        if trusted is None:
            raise Invalid(
                f"snapshot: members of {about.engine} trust each other, and nothing in it convinces"
                f" a stranger: give --trust {about.block}, if somebody you trust says the same"
            )
        return "the hash that is trusted"
    check_sets(proof, about.height)
    if trusted is not None:
        return "the hash that is trusted"
    follow(about, proof, genesis, block)
    return "certificates, from genesis on"


def get_chain(genesis: bytes) -> tuple[Hash, int]:
    """Return the hash of a genesis file's block, and its chain id. Raises Invalid."""
    ledger = Ledger.open(None, genesis)
    try:
        return ledger.genesis_hash, ledger.chain_id
    finally:
        ledger.close()


def check_sets(proof: Proof, height: Height) -> None:
    """Raise Invalid unless both certificates and the member sets belong together."""
    own = decode_certificate(proof.certificate).envelope
    following = decode_certificate(proof.next_certificate).envelope
    if (own.height, following.height) != (height, height + 1):
        raise Invalid(
            f"snapshot: certificates of heights {own.height} and {following.height}, "
            f"expected {height} and {height + 1}"
        )
    is_chain = hash_envelope(own) == proof.envelope == following.parent
    if not is_chain or [hash_payload(p) for p in proof.payloads] != [own.payload]:
        raise Invalid(f"snapshot: the certificate of height {height} is not that of its block")
    named = [own.members, following.members, following.next_members]
    if [hash_members(members) for members in proof.members] != named:
        raise Invalid("snapshot: its members are not those that the certificates name")


def follow(about: About, proof: Proof, genesis: bytes, block: Hash) -> None:
    """Let a light client follow the validators from genesis to the next height's certificate."""
    following = about.height + 1

    def answer(method: str, parameters: list[Any]) -> Any:
        if method == "quorate_getCertificate" and parameters == [hex(following)]:
            payload = {"head": proof.next_head, "bodyHash": proof.next_body}
            shown = {name: "0x" + value.hex() for name, value in payload.items()}
            return {"raw": "0x" + proof.next_certificate.hex(), "payloads": [shown]}
        if method == "quorate_getValidators" and parameters == [hex(following)]:
            members = proof.members[1]
            return [{"address": "0x" + m.address.hex(), "power": hex(m.power)} for m in members]
        raise Unavailable("not in the snapshot")

    try:
        client = LightClient(read_genesis(genesis), answer)
        proved = client.get_block_hash(about.height)
    except Unavailable:
        raise Invalid(
            "snapshot: the validators changed so much since genesis that its certificate alone "
            f"convinces nobody: give --trust {about.block}, if somebody you trust says the same"
        ) from None
    if proved != block or parse_head(proof.next_head)[0] != block:
        raise Invalid(
            f"snapshot: block 0x{block.hex()}, expected 0x{proved.hex()}, as is certified"
        )


def install(reader: Reader, ledger: Ledger, progress: Progress) -> int:
    """Build the state of a proved snapshot in a new ledger; how many accounts it has.

    Raises Invalid, and leaves the ledger as it was, unless the state root is that of the block.
    """
    about, proof = reader.about, reader.proof
    loading: StateImport = ledger.start_import(about.height)
    for piece in reader.pieces():
        loading.add(piece)
        progress(reader.read)
    accounts = loading.accounts
    sets = {
        max(about.height - back, 0): m for back, m in zip((2, 1, 0), proof.members, strict=True)
    }
    loading.finish(
        proof.heads, proof.envelope, proof.certificate, proof.payloads, encode_sets(sets)
    )
    # What genesis left.
    while ledger.prune(None, None):
        pass
    return accounts
