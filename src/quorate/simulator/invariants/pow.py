"""The rules of proof of work, judged by what miners seal, say, validate and adopt.

Sources: Nakamoto 2008, sections 4 and 5 (work, and the longest chain as the one with most of it);
Garay, Kiayias, Leonardos, "The Bitcoin backbone protocol", EUROCRYPT 2015 (common prefix, chain
growth). Header and target follow the docstrings of `quorate.consensus.pow_headers` and
`quorate.consensus.pow_difficulty`; the arithmetic here is its own.

Properties:

    header          what an honest machine says, adopts or mines on names its parent, the height
                    after it, a later time, the target that follows from its parent, and has a seal
    valid tip       every block that is adopted was found valid by the same machine, and so were
                    all below it
    heaviest chain  a machine follows the heaviest block among those that it found valid, of equally
                    heavy ones the first
    mined on        what is sealed lies on the tip of its machine
    write first     a miner's block is durable before it is told
    time            no block is adopted that is further ahead of the true time than the bound
    final depth     what is final lies as deep as was agreed
    banned block    no machine holds a block for invalid that others found valid
    one verdict     machines with the right time agree on whether a block is valid
    common prefix   in the end the chains of all machines differ in a few blocks at most
"""

from collections.abc import Callable, Iterable

from quorate.base.types import Address, Hash, Height, Nanoseconds
from quorate.crypto.hashes import keccak256
from quorate.simulator.invariants.chain import Report

__all__ = ["Known", "PowRules", "compute_following", "compute_fork_depth"]

HEADER_BYTES = 180
NAME = b"pow" + bytes(13)
PATIENCE_NS: Nanoseconds = 20_000_000_000
"""After this long a machine must have adopted what it found to be heavier."""
MOST_INTERVALS = 8
PREFIX_BLOCKS = 6
"""Healed chains may differ in so many blocks: two that were found at once, a few times in a row."""

VerifySeal = Callable[[bytes, int, int], bool]
"""Called with a header whose nonce is zero, the nonce and the target."""


class Known:
    """A block by its header, with what follows from it by the judge's own arithmetic."""

    __slots__ = (
        "following",
        "hash",
        "height",
        "next_target",
        "parent",
        "proposer",
        "target",
        "time_ms",
        "work",
    )

    def __init__(
        self,
        hash: Hash,
        height: Height,
        parent: Hash,
        proposer: Address,
        time_ms: int,
        target: int,
        work: int,
        next_target: int,
    ) -> None:
        self.hash, self.height, self.parent, self.proposer = hash, height, parent, proposer
        self.time_ms, self.target, self.next_target = time_ms, target, next_target
        self.work = work
        """From genesis on."""
        self.following = (
            (height + 1).to_bytes(8, "big"),
            time_ms.to_bytes(8, "big"),
            next_target.to_bytes(32, "big"),
        )
        """Height, time (or rather more) and target of a header over this one, as it shows them."""


def compute_following(
    target: int, elapsed_ms: int, interval_ms: int, window: int, min_difficulty: int
) -> int:
    """Return the target after a block: the mean of `window` block times, of which this one is the
    last and the others took an interval each, stretches or shrinks it.
    """
    counted = sorted((0, elapsed_ms, MOST_INTERVALS * interval_ms))[1]
    whole = window * interval_ms
    easiest = (1 << 256) // min_difficulty - 1
    return sorted((1, target * (whole - interval_ms + counted) // whole, easiest))[1]


class Follower:
    """What one machine has found valid, and where it is, in one life."""

    __slots__ = ("heavier", "highest", "root", "since", "tip", "valid")

    def __init__(self, root: Hash) -> None:
        self.root = root
        """Its last final block."""
        self.tip = root
        self.highest: Height = 0
        """The greatest height of any tip."""
        self.valid: dict[Hash, None] = {root: None}
        self.heavier = b""
        """A valid block that is heavier than the tip."""
        self.since: Nanoseconds = 0


class PowRules:
    """Told what machines seal, say, validate, adopt and make final."""

    __slots__ = (
        "blocks",
        "born",
        "followers",
        "interval_ms",
        "kept",
        "min_difficulty",
        "now",
        "report",
        "right",
        "verdicts",
        "verify_seal",
        "window",
    )

    def __init__(
        self,
        genesis: Hash,
        *,
        interval_ms: int,
        window: int,
        initial_difficulty: int,
        min_difficulty: int,
        verify_seal: VerifySeal,
        report: Report,
    ) -> None:
        self.interval_ms, self.window = interval_ms, window
        self.min_difficulty = min_difficulty
        self.verify_seal, self.report = verify_seal, report
        target = (1 << 256) // initial_difficulty - 1
        origin = Known(genesis, 0, b"", b"", 0, target, 0, target)
        self.blocks: dict[Hash, Known] = {genesis: origin}
        """All blocks whose headers are right."""
        self.right: dict[bytes, Hash] = {}
        """The hashes of those headers: most are told many times."""
        self.now: Nanoseconds = 0
        """Of the one who tells."""
        self.born: dict[Hash, Nanoseconds] = {}
        """When each of them was first told."""
        self.followers: dict[Address, Follower] = {}
        self.kept: dict[Address, dict[Hash, None]] = {}
        """Blocks that each machine has in its journal, or had."""
        self.verdicts: dict[Hash, tuple[bool, Address]] = {}

    # ---- headers

    def find_header_fault(self, raw: bytes, *, sealed: bool = True) -> str:
        """Return what is wrong with a header, or nothing; a right one is known from then on."""
        if raw in self.right:
            return ""
        if len(raw) != HEADER_BYTES or raw[:16] != NAME:
            return f"{len(raw)} bytes of 0x{raw[:16].hex()}, expected a header of {HEADER_BYTES}"
        parent = self.blocks.get(raw[52:84])
        if parent is not None and not sealed:
            # Most of what is looked at is mined, and right.
            next_height, time, next_target = parent.following
            if raw[16:24] == next_height and raw[84:92] > time and raw[116:148] == next_target:
                return ""
        height, time_ms = int.from_bytes(raw[16:24], "big"), int.from_bytes(raw[84:92], "big")
        target = int.from_bytes(raw[116:148], "big")
        if parent is None:
            return f"height {height}: the parent 0x{raw[52:84].hex()} is not known"
        if height != parent.height + 1:
            return f"height {height} follows height {parent.height}"
        if time_ms <= parent.time_ms:
            return f"height {height}: time {time_ms}, expected more than {parent.time_ms}"
        if target != parent.next_target:
            return f"height {height}: target {target:#x}, expected {parent.next_target:#x}"
        nonce = int.from_bytes(raw[92:100], "big")
        if not sealed:
            return ""
        if not self.verify_seal(raw[:92] + bytes(8) + raw[100:], nonce, target):
            return f"height {height}: nonce {nonce} is no work for the target"
        following = target
        if parent.height:
            following = compute_following(
                target, time_ms - parent.time_ms, self.interval_ms, self.window, self.min_difficulty
            )
        work = parent.work + (1 << 256) // (target + 1)
        digest = self.right[raw] = keccak256(raw)
        self.born[digest] = self.now
        self.blocks[digest] = Known(
            digest, height, parent.hash, raw[32:52], time_ms, target, work, following
        )
        return ""

    def keep(self, who: Address, header: bytes) -> None:
        """A block is durable at a machine."""
        self.kept.setdefault(who, {})[self.get_hash(header)] = None

    def get_hash(self, header: bytes) -> Hash:
        known = self.right.get(header)
        return keccak256(header) if known is None else known

    def tell(self, who: Address, header: bytes) -> None:
        """An honest machine sends a whole block."""
        if header[32:52] == who and self.get_hash(header) not in self.kept.get(who, ()):
            height = int.from_bytes(header[16:24], "big")
            self.report("write first", f"tells of its block of height {height} too early", who)
        self.say(who, [header])

    def say(self, who: Address, headers: Iterable[bytes]) -> None:
        """An honest machine passes headers on."""
        for raw in headers:
            fault = self.find_header_fault(raw)
            if fault:
                self.report("header", fault, who)

    # ---- machines

    def start(self, who: Address, root: Hash) -> None:
        """A machine begins a life with this final block."""
        self.followers[who] = Follower(root)

    def judge(
        self, who: Address, now: Nanoseconds, digest: Hash, valid: bool, *, timely: bool = True
    ) -> None:
        """A machine found a block valid or not; `timely`: its clock is right."""
        follower, block = self.followers[who], self.blocks.get(digest)
        if timely:
            known = self.verdicts.setdefault(digest, (valid, who))
            if known[0] != valid:
                words = ("invalid", "valid")
                self.report(
                    "one verdict",
                    f"block 0x{digest.hex()} is {words[valid]}, "
                    f"and {words[known[0]]} to 0x{known[1].hex()}",
                    who,
                )
        if not valid:
            return
        if block is None:
            self.report("header", f"validates 0x{digest.hex()}, whose header is not right", who)
            return
        if block.parent not in follower.valid:
            text = f"validates height {block.height} before its parent"
            self.report("valid tip", text, who)
        follower.valid[digest] = None
        heavier = self.blocks.get(follower.heavier) or self.blocks[follower.tip]
        if block.work > heavier.work:
            follower.since = follower.since if follower.heavier else now
            follower.heavier = digest

    def adopt(self, who: Address, digest: Hash, latest_ms: int = 1 << 62) -> int:
        """A machine has a new tip, whose time may be `latest_ms` at most; return how many blocks
        it abandons.
        """
        follower, block = self.followers[who], self.blocks.get(digest)
        before = self.blocks[follower.tip]
        if digest not in follower.valid:
            self.report("valid tip", f"adopts 0x{digest.hex()}, which it did not find valid", who)
        if block is None:
            self.report("header", f"adopts 0x{digest.hex()}, whose header is not right", who)
            return 0
        if block.time_ms > latest_ms:
            text = f"adopts height {block.height} of time {block.time_ms}, expected {latest_ms}"
            self.report("time", text, who)
        if block.work < before.work:
            text = f"adopts height {block.height} of work {block.work}, had {before.work}"
            self.report("heaviest chain", text, who)
        elif block.work == before.work and digest != before.hash:
            text = f"leaves height {before.height} for one as heavy that came later"
            self.report("heaviest chain", text, who)
        follower.tip = digest
        follower.highest = max(follower.highest, block.height)
        heavier = self.blocks.get(follower.heavier)
        if heavier is not None and block.work >= heavier.work:
            follower.heavier = b""
        return compute_fork_depth(self.blocks, before.hash, digest)

    def mine(self, who: Address, header: bytes) -> None:
        """A machine searches a nonce for this header."""
        fault = self.find_header_fault(header, sealed=False)
        if fault:
            self.report("header", f"seals {fault}", who)
        elif header[52:84] != self.followers[who].tip:
            height = int.from_bytes(header[16:24], "big")
            self.report("mined on", f"height {height} is sealed on another block than the tip", who)

    def decide(self, who: Address, digest: Hash, depth: int) -> None:
        """A machine made a block final, that must be so deep under its tip."""
        follower, block = self.followers[who], self.blocks.get(digest)
        if block is not None and follower.highest < block.height + depth:
            text = f"height {block.height} is final under height {follower.highest}"
            self.report("final depth", f"{text}, expected {depth} blocks", who)
        if digest not in follower.valid:
            text = f"0x{digest.hex()} is final, which it did not find valid"
            self.report("valid tip", text, who)
        follower.root = digest

    def look(self, who: Address, now: Nanoseconds) -> None:
        """Judge whether a machine has followed what it found to be heavier."""
        follower = self.followers[who]
        if follower.heavier and now - follower.since > PATIENCE_NS:
            tip, heavier = self.blocks[follower.tip], self.blocks[follower.heavier]
            self.report(
                "heaviest chain",
                f"stays at height {tip.height} of work {tip.work}, "
                f"knows height {heavier.height} of {heavier.work}",
                who,
            )

    def judge_bans(self, who: Address, digests: Iterable[Hash]) -> None:
        """Judge what a machine holds for invalid, asked or not."""
        for digest in digests:
            valid, other = self.verdicts.get(digest, (False, b""))
            if valid and other != who:
                text = f"0x{digest.hex()} is invalid, and valid to 0x{other.hex()}"
                self.report("banned block", text, who)

    def judge_prefix(self, who: Iterable[Address]) -> int:
        """Judge how far the chains of machines agree; return by how many blocks they differ."""
        tips = [(address, self.followers[address].tip) for address in who]
        deepest = 0
        for address, tip in tips[1:]:
            depth = compute_fork_depth(self.blocks, tip, tips[0][1])
            deepest = max(deepest, depth, compute_fork_depth(self.blocks, tips[0][1], tip))
            if depth > PREFIX_BLOCKS:
                text = f"{depth} blocks up to height {self.blocks[tip].height} are its own"
                self.report("common prefix", text, address)
        return deepest


def compute_fork_depth(blocks: dict[Hash, Known], one: Hash, other: Hash) -> int:
    """Return how many blocks of the chain up to `one` are not in the chain up to `other`."""
    first, second, depth = blocks[one], blocks[other], 0
    while second.height > first.height:
        second = blocks[second.parent]
    while first.hash != second.hash:
        depth += 1
        if first.height == second.height:
            second = blocks[second.parent]
        first = blocks[first.parent]
    return depth
