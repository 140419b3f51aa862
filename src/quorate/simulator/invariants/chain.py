"""Agreement, and the proof of it: one block a height, and a certificate that a stranger accepts.

The layout of envelopes, statements and certificates is read here from its description (docstring of
`quorate.consensus.certificate`), by other code than the engine's.
"""

from collections.abc import Callable
from typing import Final

from quorate.base.types import Address, Hash, Height, Member
from quorate.crypto.hashes import keccak256

__all__ = [
    "Chain",
    "Report",
    "Verify",
    "compute_statement",
    "find_certificate_fault",
    "name_payload",
]

Report = Callable[[str, str, Address], None]
"""Called with a property that does not hold, what was found and expected, and whose it is."""
Verify = Callable[[Address, Hash, bytes], bool]

ENVELOPE_AT: Final = 1
ENVELOPE_END: Final = 181
SIGNATURES_AT: Final = 191
SIGNATURE_BYTES: Final = 85


def name_payload(payload: bytes) -> Hash:
    """Return what an envelope calls a payload, by arithmetic of the judge's own."""
    body = payload[64:]
    if len(body) >= 4096:
        pieces = (body[at : at + 1024] for at in range(0, len(body), 1024))
        body = b"".join(keccak256(piece) for piece in pieces).ljust(4096, b"\0")
    return keccak256(payload[:64] + keccak256(body))


def compute_statement(
    chain: Hash, kind: int, height: Height, round: int, value: Hash, valid_round: int = -1
) -> Hash:
    """Return the digest that a validator signs."""
    statement = b"quorate\x01" + chain + bytes((kind,)) + height.to_bytes(8, "big")
    statement += round.to_bytes(8, "big") + value + (valid_round + 1).to_bytes(4, "big")
    return keccak256(statement)


def find_certificate_fault(
    certificate: bytes,
    chain: Hash,
    height: Height,
    parent: Hash,
    payloads: list[bytes],
    members: list[Member],
    verify: Verify,
) -> str:
    """Return what is wrong with the proof of a height, or nothing.

    Counts: the signatures are of different members, which hold more than two thirds of the power.
    """
    envelope = certificate[ENVELOPE_AT:ENVELOPE_END]
    if len(certificate) < SIGNATURES_AT or certificate[0] != 1:
        return f"{len(certificate)} bytes, expected a certificate of version 1"
    found = int.from_bytes(envelope[16:24], "big")
    if found != height:
        return f"the envelope is of height {found}"
    if envelope[52:84] != parent:
        return f"the parent is 0x{envelope[52:84].hex()}, expected 0x{parent.hex()}"
    payload = name_payload(payloads[0]) if payloads else b""
    if len(payloads) != 1 or envelope[148:180] != payload:
        return "the payload is not the one that the envelope names"
    round = int.from_bytes(certificate[181:189], "big")
    digest = compute_statement(chain, 2, height, round, keccak256(envelope))
    powers = {member.address: member.power for member in members}
    total = sum(powers.values())
    signed = 0
    for at in range(SIGNATURES_AT, len(certificate), SIGNATURE_BYTES):
        signer, signature = certificate[at : at + 20], certificate[at + 20 : at + 85]
        # Taking the power away makes a signer that comes twice a stranger.
        power = powers.pop(signer, 0)
        if not power:
            return f"0x{signer.hex()} is no member, or signed twice"
        if not verify(signer, digest, signature):
            return f"the signature of 0x{signer.hex()} is not its own"
        signed += power
    if 3 * signed <= 2 * total:
        return f"power {signed} of {total} signed, expected more than two thirds"
    return ""


class Chain:
    """Told of every final height of every honest machine.

    Properties: "agreement" (one block a height), "order" (heights follow one another),
    "certificate" (a stranger accepts the proof), "result" (equal payloads leave equal members and
    the same time).
    """

    __slots__ = ("blocks", "chain", "envelopes", "members", "proved", "report", "tips", "verify")

    def __init__(
        self, chain: Hash, genesis: list[Member], verify: Verify | None, report: Report
    ) -> None:
        """`verify` None: certificates are not judged."""
        self.chain, self.verify, self.report = chain, verify, report
        self.blocks: dict[Height, tuple[Hash, Hash, int, list[Member]]] = {}
        """Block hash, envelope hash, time and members after it, as first made final."""
        self.members: dict[Height, list[Member]] = {1: genesis, 2: genesis}
        """Who agrees on a height."""
        self.envelopes: dict[Height, Hash] = {0: chain}
        self.proved: dict[bytes, None] = {}
        """Certificates that were judged."""
        self.tips: dict[Address, Height] = {}

    def start(self, who: Address, height: Height) -> None:
        """A machine starts from this height of its store."""
        self.tips[who] = height

    def decide(
        self,
        who: Address,
        height: Height,
        block: Hash,
        time_ms: int,
        members: list[Member],
        envelope: Hash,
        certificate: bytes,
        payloads: list[bytes],
    ) -> None:
        """A machine made a height final; `members` agree on the one two above."""
        tip = self.tips.get(who)
        if tip is not None and height != tip + 1:
            self.report("order", f"height {height} follows height {tip}", who)
        self.tips[who] = height
        known = self.blocks.get(height)
        if known is None:
            self.blocks[height] = (block, envelope, time_ms, members)
            self.members[height + 2] = members
            self.envelopes[height] = envelope
        else:
            self.compare(who, height, known, (block, envelope, time_ms, members))
        if self.verify is not None:
            self.prove(who, height, envelope, certificate, payloads)

    def install(self, who: Address, height: Height, block: Hash, members: list[Member]) -> None:
        """A machine takes over the state after a height that others made final."""
        self.tips[who] = height
        known = self.blocks.get(height)
        if known is None:
            self.report("order", f"takes over height {height}, which nobody made final", who)
        elif (known[0], known[3]) != (block, members):
            text = f"took over block 0x{block.hex()}, and another has 0x{known[0].hex()}"
            self.report("result", f"height {height}: {text}", who)

    def is_split(self, height: Height, envelope: Hash) -> bool:
        """Whether somebody else decided another envelope."""
        known = self.blocks.get(height)
        return known is not None and known[1] != envelope

    def compare(
        self,
        who: Address,
        height: Height,
        known: tuple[Hash, Hash, int, list[Member]],
        found: tuple[Hash, Hash, int, list[Member]],
    ) -> None:
        if known[1] != found[1]:
            self.report(
                "agreement",
                f"height {height}: decided 0x{found[1].hex()}, "
                f"and another decided 0x{known[1].hex()}",
                who,
            )
        elif known[0] != found[0]:
            self.report(
                "result",
                f"height {height}: block 0x{found[0].hex()}, and another has 0x{known[0].hex()}",
                who,
            )
        elif known != found:
            self.report("result", f"height {height}: {found[2:]}, and another has {known[2:]}", who)

    def prove(
        self,
        who: Address,
        height: Height,
        envelope: Hash,
        certificate: bytes,
        payloads: list[bytes],
    ) -> None:
        members, parent = self.members.get(height), self.envelopes.get(height - 1)
        if certificate in self.proved or members is None or parent is None:
            return
        self.proved[certificate] = None
        assert self.verify is not None
        fault = find_certificate_fault(
            certificate, self.chain, height, parent, payloads, members, self.verify
        )
        if not fault and keccak256(certificate[ENVELOPE_AT:ENVELOPE_END]) != envelope:
            fault = f"it proves another envelope than 0x{envelope.hex()}"
        if fault:
            self.report("certificate", f"height {height}: {fault}", who)
