"""Proof-of-work replicas by themselves: a port for one, and a small network in virtual time.

Seals are tokens: the nonce that this module grants for a header is a hash of it.
"""

import heapq
import math
from collections.abc import Callable
from typing import Any

from consensus.network import CHAIN
from quorate.base.rng import Rng
from quorate.base.types import Address, Hash, Height
from quorate.consensus.pow import Pow
from quorate.consensus.pow_difficulty import compute_work
from quorate.consensus.pow_headers import decode_header, make_header, put_nonce
from quorate.consensus.pow_types import (
    Announce,
    Block,
    GetBlocks,
    GetHeaders,
    Headers,
    Kept,
    Missing,
    Settings,
)
from quorate.consensus.replica import (
    Base,
    Blame,
    Broadcast,
    Check,
    Checkpoint,
    Decision,
    Deliver,
    Effect,
    Head,
    Keys,
    Message,
    Persist,
    Recall,
    Recalled,
    Seal,
    Send,
    SetTimer,
    Timer,
    Want,
)
from quorate.crypto.hashes import hash_payload, keccak256
from quorate.node.interpreter import MAX_UNWRITTEN

MS = 1_000_000
SECOND = 1000 * MS
START_MS = 1_800_000_000_000
MINER = b"\x11" * 20
ALICE, BOB = b"\xa1" * 20, b"\xb2" * 20


def make_nonce(header: bytes) -> int:
    return int.from_bytes(keccak256(b"nonce" + header)[:8], "big")


class TokenKeys(Keys):
    def __init__(self, address: Address) -> None:
        self.address = address

    def sign(self, digest: Hash) -> bytes:
        return bytes(65)

    def verify(self, address: Address, digest: Hash, signature: bytes) -> bool:
        return True

    def verify_seal(self, header: bytes, nonce: int, target: int) -> bool:
        return nonce == make_nonce(header)


def make_payload(timestamp_ms: int, body: bytes = b"", proposer: Address = MINER) -> bytes:
    return b"\1\0\0\0" + timestamp_ms.to_bytes(8, "big") + proposer + bytes(32) + body


class Made:
    """A block as somebody made it."""

    def __init__(self, raw: bytes, payload: bytes, height: Height, time_ms: int) -> None:
        self.raw, self.payload, self.height, self.time_ms = raw, payload, height, time_ms
        self.hash = keccak256(raw)


class Single:
    """One replica, fed by hand. Time stands still unless moved; blocks come from `extend`."""

    def __init__(
        self, journal: list[Kept] | None = None, base: Base | None = None, **settings: Any
    ) -> None:
        defaults: dict[str, Any] = {"interval_ms": 1000, "final_depth": 4, "safe_depth": 1}
        self.settings = Settings(**{**defaults, **settings})
        self.now = 100 * SECOND
        self.replica = Pow(TokenKeys(b"\xee" * 20), CHAIN, Rng(1), self.settings)
        self.replica.wall_ms = START_MS
        self.targets: dict[Hash, int] = {}
        base = base or Base(0, CHAIN, b"", [], [], [])
        self.replica.start(self.now, base, journal or [])
        # What a start waits for is not what these tests are about.
        self.replica.started_at = -(10**12)
        self.genesis = Made(b"", b"", 0, START_MS - 1_000_000)
        self.genesis.hash = CHAIN
        self.first = self.replica.take()
        self.verdict: Callable[[Check], bool] = lambda check: True

    def extend(
        self,
        parent: Made | None = None,
        *,
        after_ms: int = 1000,
        body: bytes = b"",
        target: int | None = None,
        height: int | None = None,
        seal: bool = True,
        time_ms: int | None = None,
    ) -> Made:
        """Make a block over another, with the target that the rules prescribe where its parent is
        known here.
        """
        parent = parent or self.genesis
        if target is None:
            node = self.replica.tree.blocks.get(parent.hash)
            target = node.next_target if node is not None else self.targets[parent.hash]
        time_ms = parent.time_ms + after_ms if time_ms is None else time_ms
        payload = make_payload(time_ms, body)
        raw = make_header(
            height=parent.height + 1 if height is None else height,
            proposer=MINER,
            parent=parent.hash,
            timestamp_ms=time_ms,
            target=target,
            payload_hash=hash_payload(payload),
        )
        made = Made(put_nonce(raw, make_nonce(raw) if seal else 7), payload, 0, time_ms)
        made.height = parent.height + 1
        return made

    def hear(self, sender: Address, message: Message) -> list[Effect]:
        self.replica.receive(self.now, sender, message)
        return self.settle()

    def settle(self) -> list[Effect]:
        """Answer what is asked of the application; return all other effects."""
        rest: list[Effect] = []
        while effects := self.replica.take():
            for effect in effects:
                if isinstance(effect, Check):
                    valid = self.verdict(effect)
                    self.replica.checked(
                        self.now, effect.height, effect.payload, valid, effect.envelope
                    )
                elif isinstance(effect, Deliver):
                    rest.append(effect)
                    self.replica.applied(self.now, effect.height, [])
                else:
                    rest.append(effect)
        return rest

    @property
    def head(self) -> Hash:
        return self.replica.tree.head.hash


def block(made: Made) -> Block:
    return Block(made.raw, made.payload)


def announce(made: Made, work: int, final: int = 0) -> Announce:
    return Announce(made.raw, work.to_bytes(32, "big"), final)


def grow(
    one: Single, count: int, parent: Made | None = None, sender: Address = ALICE
) -> list[Made]:
    """Let the replica hear a branch, block by block."""
    made = []
    for _ in range(count):
        parent = one.extend(parent)
        made.append(parent)
        one.hear(sender, block(parent))
    return made


def blames(effects: list[Effect]) -> list[str]:
    return [effect.reason for effect in effects if isinstance(effect, Blame)]


def sent(effects: list[Effect], kind: type) -> list[object]:
    return [e.message for e in effects if isinstance(e, Send) and isinstance(e.message, kind)]


class Machine:
    """A replica of a network, with its disk, store and rate."""

    def __init__(self, world: "World", index: int, rate: int, settings: Settings) -> None:
        self.world, self.index, self.rate, self.settings = world, index, rate, settings
        self.address = bytes([index + 1]) * 20
        self.peers: dict[Address, None] = {}
        self.journal: list[Kept] = []
        self.unwritten: list[Kept] = []
        """Records that a crash loses."""
        self.chain: list[Deliver] = []
        self.heads: list[Head] = []
        self.blamed: list[tuple[Address, str]] = []
        self.life = 0
        self.boot()

    def boot(self) -> None:
        self.life += 1
        self.search = 0
        self.unwritten = []
        self.timers: dict[Timer, int] = {}
        self.replica = Pow(
            TokenKeys(self.address), CHAIN, Rng(self.index * 1000 + self.life), self.settings
        )
        self.replica.wall_ms = self.world.wall_ms
        last = self.chain[-1] if self.chain else None
        base = Base(0, CHAIN, b"", [], [], [])
        if last is not None:
            base = Base(last.height, last.envelope, last.certificate, last.payloads, [], [])
        self.replica.start(self.world.now, base, list(self.journal))
        self.flush()

    def give(self, call: Callable[..., None], *arguments: Any) -> None:
        self.replica.wall_ms = self.world.wall_ms
        call(self.world.now, *arguments)
        self.flush()

    def later(self, delay: int, call: Callable[..., None], *arguments: Any) -> None:
        life = self.life
        self.world.at(delay, lambda: self.give(call, *arguments) if self.life == life else None)

    def flush(self) -> None:
        world, replica = self.world, self.replica
        for effect in replica.take():
            world.note(self, effect)
            match effect:
                case Send(to, message):
                    world.send(self, to, message)
                case Broadcast(message):
                    for peer in list(self.peers):
                        world.send(self, peer, message)
                case Persist(record, urgent):
                    assert isinstance(record, Kept)
                    self.unwritten.append(record)
                    if urgent or len(self.unwritten) > MAX_UNWRITTEN:
                        self.journal += self.unwritten
                        self.unwritten = []
                case Checkpoint(_, records):
                    self.journal = [r for r in records if isinstance(r, Kept)]
                    self.unwritten = []
                case SetTimer(timer, delay):
                    self.set_timer(timer, delay)
                case Want(height, parent):
                    assert parent == replica.tree.head.hash
                    time_ms = max(world.wall_ms, replica.tree.head.timestamp_ms + 1)
                    payload = make_payload(time_ms, b"", self.address)
                    self.later(MS // 10, replica.submit, height, payload)
                case Check(height, payload, parent, envelope):
                    assert replica.tree.blocks[parent].verdict == "valid"
                    self.later(MS // 10, replica.checked, height, payload, True, envelope)
                case Head():
                    self.heads.append(effect)
                case Deliver():
                    if effect.height == len(self.chain) + 1:
                        self.chain.append(effect)
                    else:
                        assert self.chain[effect.height - 1].envelope == effect.envelope
                    self.later(MS // 10, replica.applied, effect.height, [])
                case Seal(_, header, target):
                    self.seal(header, target)
                case Recall(to, first, count, bodies):
                    self.recall(to, first, count, bodies)
                case Blame(who, reason):
                    self.blamed.append((who, reason))
                case _:
                    raise AssertionError(effect)

    def set_timer(self, timer: Timer, delay: int) -> None:
        self.timers[timer] = number = self.timers.get(timer, 0) + 1
        life = self.life

        def fall() -> None:
            if self.life == life and self.timers[timer] == number:
                self.give(self.replica.timeout, timer)

        self.world.at(delay, fall)

    def seal(self, header: bytes, target: int) -> None:
        self.search += 1
        if not header or not self.rate:
            return
        search, life = self.search, self.life
        tries = compute_work(target)
        luck = -math.log((self.world.rng.below(1 << 32) + 1) / (1 << 32))
        delay = int(tries * SECOND / self.rate * luck)

        def find() -> None:
            if self.life == life and self.search == search:
                self.give(self.replica.sealed, header, make_nonce(header))

        self.world.at(max(delay, 1), find)

    def recall(self, to: Address, first: int, count: int, bodies: bool) -> None:
        decisions = [
            Decision(effect.height, effect.payloads if bodies else [], effect.certificate)
            for effect in self.chain[first - 1 : first - 1 + count]
        ]
        self.world.send(self, to, Recalled(decisions))


class World:
    """Machines, links with a delay and losses, one queue of events."""

    def __init__(self, rates: list[int], seed: int = 1, loss: int = 0, **settings: Any) -> None:
        self.rng = Rng(seed)
        self.now = 0
        self.loss = loss
        self.queue: list[tuple[int, int, Callable[[], None]]] = []
        self.sequence = 0
        self.messages = 0
        self.talk: list[str] | None = None
        self.blocks: dict[Hash, str] = {}
        self.cut: set[tuple[int, int]] = set()
        defaults: dict[str, Any] = {
            "interval_ms": 5000,
            "initial_difficulty": 1 << 20,
            "final_depth": 16,
            "safe_depth": 1,
        }
        self.settings = Settings(**{**defaults, **settings})
        self.machines = [Machine(self, i, rate, self.settings) for i, rate in enumerate(rates)]
        self.by_address = {m.address: m for m in self.machines}

    @property
    def wall_ms(self) -> int:
        return START_MS + self.now // MS

    def note(self, machine: Machine, effect: Effect) -> None:
        """Write down what a machine does, for dialogues."""
        text = "" if self.talk is None else self.describe(effect)
        if self.talk is not None and text:
            self.talk.append(f"{self.now / MS:9.1f} {self.name(machine.address)} {text}")

    def name(self, address: Address) -> str:
        return "ABCDEFGH"[address[0] - 1]

    def name_block(self, hash: Hash) -> str:
        """Blocks are named by height and miner; the second of a miner at a height gets a mark."""
        return self.blocks.get(hash, "genesis")

    def learn(self, raw: bytes) -> str:
        header = decode_header(raw)
        if header.hash not in self.blocks:
            name = f"{header.height}{self.name(header.proposer).lower()}"
            while name in self.blocks.values():
                name += "'"
            self.blocks[header.hash] = name
        return self.blocks[header.hash]

    def learn_all(self) -> None:
        for machine in self.machines:
            for node in machine.replica.tree.blocks.values():
                if node.header is not None:
                    self.learn(node.header.raw)

    def describe(self, effect: Effect) -> str:
        match effect:
            case Send(to, message):
                return f"to {self.name(to)}: {self.describe_message(message)}"
            case Broadcast(message):
                return f"to all: {self.describe_message(message)}"
            case Persist(Kept(header, _)):
                return f"keeps {self.learn(header)}"
            case Check(_, _, parent, envelope):
                self.learn_all()
                return f"checks {self.name_block(envelope)} over {self.name_block(parent)}"
            case Head(_, _, envelope, _):
                return f"has the tip {self.name_block(envelope)}"
            case Deliver():
                return f"delivers {self.name_block(effect.envelope)}"
            case Want(height, parent):
                return f"wants block {height} over {self.name_block(parent)}"
            case Seal(height, header, _):
                return f"mines block {height}" if header else "rests"
            case Recall(to, first, count, bodies):
                what = "blocks" if bodies else "headers"
                return f"lets its store send {self.name(to)} {count} {what} from {first} on"
            case Blame(who, reason):
                return f"blames {self.name(who)}: {reason}"
            case Checkpoint(height, records):
                return f"may cut its journal at {height}, {len(records)} blocks stay"
        return ""

    def describe_message(self, message: Message) -> str:
        match message:
            case Announce(header, _, final):
                return f"tip {self.learn(header)}, final {final}"
            case Block(header, _):
                return f"block {self.learn(header)}"
            case GetHeaders(locator):
                return f"headers after {' '.join(self.name_block(h) for _, h in locator)}?"
            case Headers(headers):
                return f"headers {' '.join(self.learn(raw) for raw in headers)}"
            case GetBlocks(places):
                return f"blocks {' '.join(self.name_block(h) for _, h in places)}?"
            case Missing(places):
                return f"not here: {' '.join(self.name_block(h) for _, h in places)}"
        raise AssertionError(message)

    def connect(self, a: int, b: int) -> None:
        for one, other in ((a, b), (b, a)):
            machine, peer = self.machines[one], self.machines[other]
            machine.peers[peer.address] = None
            machine.give(machine.replica.met, peer.address)

    def mesh(self) -> None:
        for a in range(len(self.machines)):
            for b in range(a):
                self.connect(a, b)

    def at(self, delay: int, call: Callable[[], None]) -> None:
        self.sequence += 1
        heapq.heappush(self.queue, (self.now + delay, self.sequence, call))

    def send(self, source: Machine, to: Address, message: Message) -> None:
        target = self.by_address[to]
        self.messages += 1
        if to not in source.peers or (source.index, target.index) in self.cut:
            return
        if self.rng.below(1000) < self.loss:
            return
        life = target.life
        delay = (20 + self.rng.below(60)) * MS

        def arrive() -> None:
            if target.life == life:
                target.give(target.replica.receive, source.address, message)

        self.at(delay, arrive)

    def partition(self, *groups: list[int]) -> None:
        self.cut = {
            (a, b)
            for one in groups
            for other in groups
            if one is not other
            for a in one
            for b in other
        }

    def run(self, seconds: float) -> None:
        end = self.now + int(seconds * SECOND)
        while self.queue and self.queue[0][0] <= end:
            self.now, _, call = heapq.heappop(self.queue)
            call()
        self.now = end
