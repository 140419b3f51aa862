"""Miners that cheat: each keeps, invents or bends blocks around an otherwise correct node.

As other traitors (`actors`) they stand between their node and its links. Their node mines as
anybody does, so work costs them what it costs others; what they choose is whom to tell, when, and
what. Who needs more than that (to keep its blocks back and know when to show them) has another
engine.
"""

from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace

from quorate.base.rng import Rng
from quorate.base.types import Address, Hash, Height, Nanoseconds
from quorate.consensus.pow import Pow
from quorate.consensus.pow_headers import decode_header, make_header, put_nonce
from quorate.consensus.pow_tree import Node
from quorate.consensus.pow_types import Announce, Block, GetHeaders, Headers, Missing, Settings
from quorate.consensus.replica import Broadcast, Decision, Effect, Keys, Send
from quorate.crypto.hashes import HEAD_BYTES, hash_payload, keccak256
from quorate.ledger.payload import compose, parse_head
from quorate.node.wire import Transactions
from quorate.simulator.actors import Actor, Replayer, Silent
from quorate.simulator.clock_errors import Step
from quorate.simulator.plan import MS
from quorate.simulator.sealing import make_token

if TYPE_CHECKING:
    from quorate.simulator.machine import Machine

__all__ = [
    "MINERS",
    "BlockFlooder",
    "BlockReplayer",
    "BodySwapper",
    "Forger",
    "HeaderLiar",
    "InvalidMiner",
    "Miner",
    "Selfish",
    "SelfishPow",
    "TimeBender",
    "Tipster",
    "Whisperer",
]


class Miner(Actor):
    """Tells the truth, and can say which blocks are its own."""

    def is_own_block(self, hash: Hash) -> bool:
        """Whether a block of the tree was mined here."""
        node = self.replica.tree.blocks.get(hash)
        return (
            node is not None
            and node.header is not None
            and node.header.proposer == self.machine.address
        )


class SelfishPow(Pow):
    """Keeps its blocks back, and gives them out so that the work of others is lost.

    Source: Eyal and Sirer, "Majority is not enough: Bitcoin mining is vulnerable", FC 2014,
    algorithm 1.
    """

    __slots__ = ("public", "racing", "told")

    def __init__(self, keys: Keys, chain: Hash, rng: Rng, settings: Settings) -> None:
        super().__init__(keys, chain, rng, settings)
        self.told: dict[Hash, None] | None = {}
        """Our blocks that others may know; None: all of them, from now on."""
        self.public: Height = 0
        """The height of the longest branch that others know."""
        self.racing = False
        """Whether two branches of one length are out, one of them ours."""

    def is_hidden(self, node: Node) -> bool:
        return (
            self.told is not None
            and node.header is not None
            and node.header.proposer == self.me
            and node.hash not in self.told
        )

    def get_hidden(self) -> list[Node]:
        """Return our blocks on the way to our tip that nobody knows, oldest first."""
        return [node for node in self.tree.path if self.is_hidden(node)]

    def on_valid(self, now: Nanoseconds, node: Node) -> None:
        super().on_valid(now, node)
        if not self.is_hidden(node):
            return
        self.out = [effect for effect in self.out if not tells(effect, node)]
        if self.racing:
            # This block decides the race.
            self.racing = False
            self.publish(len(self.get_hidden()))

    def advance(self, now: Nanoseconds) -> None:
        super().advance(now)
        if self.told is not None:
            self.answer()

    def answer(self) -> None:
        """Have others found a block? Then answer by how far ahead we were."""
        known = [n for n in self.tree.blocks.values() if n.is_linked and not self.is_hidden(n)]
        public = max(n.height for n in known)
        if public <= self.public:
            return
        self.public = public
        hidden = self.get_hidden()
        lead = self.tree.head.height - public
        if not hidden:
            self.racing = False
        elif lead <= 1:
            # As far as they: a race. One ahead: all of it wins.
            self.racing = lead == 0
            self.publish(len(hidden))
        else:
            self.publish(1)

    def publish(self, count: int) -> None:
        """Give out our oldest hidden blocks."""
        for node in self.get_hidden()[:count]:
            assert self.told is not None
            assert node.header is not None
            self.told[node.hash] = None
            self.public = max(self.public, node.height)
            if node.payload is not None:
                self.out.append(Broadcast(Block(node.header.raw, node.payload)))

    def reveal(self) -> None:
        """Be honest from now on."""
        self.publish(len(self.get_hidden()))
        self.told = None

    def make_announcement(self) -> Announce | None:
        for node in reversed(self.tree.path):
            if node.header is not None and not self.is_hidden(node):
                work = node.work.to_bytes(32, "big")
                return Announce(node.header.raw, work, self.tree.root.height)
        return None

    def on_get_headers(self, now: Nanoseconds, sender: Address, m: GetHeaders) -> None:
        before = len(self.out)
        super().on_get_headers(now, sender, m)
        for index in range(before, len(self.out)):
            effect = self.out[index]
            if isinstance(effect, Send) and isinstance(effect.message, Headers):
                hidden = {node.hash for node in self.get_hidden()}
                raws = [raw for raw in effect.message.headers if keccak256(raw) not in hidden]
                self.out[index] = Send(effect.to, Headers(raws))


SelfishPow.HANDLERS = {**Pow.HANDLERS, GetHeaders: SelfishPow.on_get_headers}


def tells(effect: Effect, node: Node) -> bool:
    """Whether an effect gives a block away."""
    if not isinstance(effect, Broadcast) or not isinstance(effect.message, Block):
        return False
    assert node.header is not None
    return effect.message.header == node.header.raw


class Selfish(Miner):
    """Mines as `SelfishPow`, until the faults are over."""

    title = "mines selfishly"

    def __init__(self, machine: "Machine", shared: dict[Any, Any] | None = None) -> None:
        super().__init__(machine, shared)
        machine.make_replica = SelfishPow

    def twist(self, to: Address, m: Any) -> list[Any]:
        if self.world.healed and self.replica.told is not None:
            self.replica.reveal()
        if isinstance(m, Block) and self.is_own_block(keccak256(m.header)):
            self.world.witness("hidden block published")
        return [m]


class TimeBender(Miner):
    """Its clock is wrong on purpose, by as much as others barely bear."""

    title = "bends time"

    def before_start(self) -> None:
        future_ms = self.world.engine_settings.get("future_ms", Settings().future_ms)
        by_ms = (future_ms - 1, 2 * future_ms, -future_ms, future_ms // 2)[self.hows.choose(4)]
        if not self.machine.clock.errors and not self.world.healed:
            self.machine.clock.add_error(Step(self.world.now, by_ms * MS))


class Whisperer(Miner):
    """Tells each of its blocks to some peers only."""

    title = "whispers"

    def twist(self, to: Address, m: Any) -> list[Any]:
        if isinstance(m, Block | Announce) and self.act % 2 and not self.world.healed:
            return []
        return [m]


class InvalidMiner(Miner):
    """Does the work for blocks that the application must refuse."""

    title = "mines what is invalid"

    def twist(self, to: Address, m: Any) -> list[Any]:
        if not isinstance(m, Block) or not self.act or not self.is_own_block(keccak256(m.header)):
            return [m]
        if self.act > 12:
            return [m]
        header = decode_header(m.header)
        parent, time, proposer = parse_head(m.payload)
        body = m.payload[HEAD_BYTES:]
        kind = self.act % 4
        if kind == 0:
            payload = m.payload + b"\xc1"
        elif kind == 1:
            payload = compose(keccak256(parent), time, proposer, body)
        elif kind == 2:
            payload = compose(parent, time, proposer, b"\xff" + body)
        else:
            payload = compose(parent, time, proposer, repeat_items(body))
        raw = make_header(
            height=header.height,
            proposer=header.proposer,
            parent=header.parent,
            timestamp_ms=header.timestamp_ms,
            target=header.target,
            payload_hash=hash_payload(payload),
        )
        # The luck of the nonce that its node found goes into this block instead.
        spoiled = Block(put_nonce(raw, self.find_nonce(raw, header.target)), payload)
        return [spoiled, m] if self.act % 2 else [spoiled]

    def find_nonce(self, raw: bytes, target: int) -> int:
        return self.machine.rig.make_nonce(raw, target)


def repeat_items(body: bytes) -> bytes:
    """Return the body with each of its items twice; other bodies than the light application's as
    they are.
    """
    try:
        items = msgspec.msgpack.decode(body, type=list[bytes])
    except msgspec.MsgspecError:
        return body
    return msgspec.msgpack.encode(items * 2)


class BodySwapper(Miner):
    """Sends right headers with bodies that are not theirs (CVE-2012-2459, in a way)."""

    title = "swaps bodies"

    def twist(self, to: Address, m: Any) -> list[Any]:
        if not isinstance(m, Block) or not self.act:
            return [m]
        payload = m.payload + b"\x00" if self.act % 2 else m.payload[:HEAD_BYTES] + b"\x90"
        swapped = replace(m, payload=payload)
        return [swapped] if self.act > 8 else [swapped, m]


class Forger(Miner):
    """Sends headers whose work, target, time or height is wrong."""

    title = "forges headers"

    def twist(self, to: Address, m: Any) -> list[Any]:
        if not isinstance(m, Block) or not self.act:
            return [m]
        header = decode_header(m.header)
        kind = self.act % 5
        height, time_ms, target = header.height, header.timestamp_ms, header.target
        if kind == 0:
            height += 1 + self.how % 100
        elif kind == 1:
            time_ms = max(time_ms - (1 << self.how % 16), 0)
        elif kind == 2:
            time_ms += 1 << self.how % 22
        elif kind == 3:
            target = min(target * 2, (1 << 256) - 2)
        raw = make_header(
            height=height,
            proposer=header.proposer,
            parent=header.parent,
            timestamp_ms=time_ms,
            target=target,
            payload_hash=header.payload_hash,
        )
        # Cheap where it is the work that is wrong; done for it everywhere else.
        nonce = self.how if kind == 4 else self.machine.rig.make_nonce(raw, target)
        return [replace(m, header=put_nonce(raw, nonce)), m]


class Tipster(Miner):
    """Boasts of work that nobody did, and answers nothing."""

    title = "boasts"

    def twist(self, to: Address, m: Any) -> list[Any]:
        if isinstance(m, Announce) and self.act:
            work = int.from_bytes(m.work, "big") << self.act % 4 * 8
            boast = (work + self.how + 1).to_bytes(64, "big")[-32:]
            return [replace(m, work=boast)]
        if isinstance(m, Headers | Block) and self.act > 10:
            return []
        return [m]


class HeaderLiar(Miner):
    """Answers those that catch up with too little, too much, or something else."""

    title = "lies to who catches up"

    def twist(self, to: Address, m: Any) -> list[Any]:
        if not self.act:
            return [m]
        if isinstance(m, Headers) and m.headers:
            kind = self.act % 5
            if kind == 0:
                return [replace(m, headers=[])]
            if kind == 1:
                return [replace(m, headers=m.headers[1:])]
            if kind == 2:
                return [replace(m, headers=m.headers[::-1])]
            if kind == 3:
                return [m, m]
            return [replace(m, headers=m.headers[: self.how % len(m.headers)])]
        if isinstance(m, Block) and self.act > 12:
            header = decode_header(m.header)
            return [Missing([(header.height, header.hash)])]
        if isinstance(m, Decision) and self.act > 8:
            data = bytearray(m.certificate)
            data[self.how % len(data)] ^= 1
            return [replace(m, certificate=bytes(data))]
        if isinstance(m, GetHeaders) and self.act > 13:
            return [m, replace(m, locator=[(self.how, keccak256(b"%d" % self.how))])]
        return [m]


class BlockFlooder(Miner):
    """Adds orphans without end, garbage, and items, to what it says."""

    title = "floods with orphans"

    def twist(self, to: Address, m: Any) -> list[Any]:
        if self.act == 15:
            return [m, self.how.to_bytes(4, "big") * (1 + self.how % 50)]
        if self.act == 14:
            return [m, Transactions([b"flood %d" % (self.how % 256)], bool(self.how % 2))]
        if not isinstance(m, Block) or not self.act:
            return [m]
        header = decode_header(m.header)
        raw = make_header(
            height=header.height + 1 + self.how % 50,
            proposer=header.proposer,
            parent=keccak256(b"nowhere %d" % self.how),
            timestamp_ms=header.timestamp_ms + 1,
            target=min(header.target << self.act % 8, (1 << 256) - 2),
            payload_hash=header.payload_hash,
        )
        target = decode_header(raw).target
        nonce = make_token(raw, target) if self.act % 2 else self.how
        return [m, replace(m, header=put_nonce(raw, nonce))]


class BlockReplayer(Replayer):
    """Says old things again."""

    def twist(self, to: Address, m: Any) -> list[Any]:
        said = [m]
        if self.act % 4 == 3 and self.kept:
            said.append(self.kept[self.how % len(self.kept)])
        self.kept.append(m)
        del self.kept[:-64]
        return said


MINERS: tuple[type[Actor], ...] = (
    Silent,
    Selfish,
    Whisperer,
    InvalidMiner,
    BodySwapper,
    Forger,
    Tipster,
    HeaderLiar,
    BlockFlooder,
    BlockReplayer,
    TimeBender,
)
"""Characters of traitors where work counts; which one a number means stays the same."""
