"""A small deterministic world for bare replicas: virtual time, faulty links, crashes, liars.

Everything random comes from one seed. Messages and records go through their codecs. A disk makes a
random prefix of what waits durable at a time, and a crash keeps a random part of what is under way.
Checked at every step: one vote for a voter, kind and round on the wire, also across restarts; one
decision a height; delivery in order.
"""

import heapq
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, Union

import msgspec

from quorate.base.errors import Invalid
from quorate.base.rng import Rng
from quorate.base.types import Address, Hash, Member
from quorate.consensus.certificate import (
    PROPOSAL,
    compute_digest,
    decode_certificate,
    decode_envelope,
    verify_certificate,
    verify_payloads,
)
from quorate.consensus.evidence import decode_evidence, verify_evidence
from quorate.consensus.replica import (
    NOTHING,
    Accuse,
    Base,
    Broadcast,
    CancelTimer,
    Check,
    Checkpoint,
    Decision,
    Deliver,
    Effect,
    Keys,
    Message,
    Persist,
    Send,
    SetTimer,
    Timer,
    Want,
)
from quorate.consensus.tendermint import Tendermint
from quorate.consensus.tendermint_types import Proposal, Settings, Status, Vote
from quorate.crypto.hashes import keccak256

MS = 1_000_000
CHAIN = keccak256(b"chain")

encode = msgspec.msgpack.Encoder().encode
decode_message = msgspec.msgpack.Decoder(Union[Tendermint.WIRE]).decode  # noqa: UP007
decode_record = msgspec.msgpack.Decoder(Union[Tendermint.RECORDS]).decode  # noqa: UP007


class CheapKeys(Keys):
    """Signatures that only this module's own actors could forge, and none does."""

    def __init__(self, index: int) -> None:
        self.address = keccak256(b"key" + index.to_bytes(4, "big"))[12:]

    def sign(self, digest: Hash) -> bytes:
        return keccak256(self.address + digest) + bytes(33)

    def verify(self, address: Address, digest: Hash, signature: bytes) -> bool:
        return signature == keccak256(address + digest) + bytes(33)


class Fault(AssertionError):
    """An invariant does not hold."""


class Links:
    """What the network does to messages, in parts of a thousand and milliseconds."""

    def __init__(self, loss: int = 0, dup: int = 0, slow: int = 0, delay: tuple[int, int] = (1, 5)):
        self.loss, self.dup, self.slow, self.delay = loss, dup, slow, delay


class Machine:
    """A replica with its disk, its application and its timers."""

    def __init__(self, world: "World", keys: Keys, kind: type[Tendermint] = Tendermint) -> None:
        self.world, self.keys, self.kind = world, keys, kind
        self.me = keys.address
        self.journal: list[bytes] = []
        self.cut: tuple[int, int] | None = None
        self.durable = 0
        self.chain: list[Deliver] = []
        """What was delivered and applied, height 1 first; `durable` of them survive a crash."""
        self.pool: dict[bytes, None] = {}
        self.up = False
        self.epoch = 0
        self.accused: list[Accuse] = []
        self.voted_rounds = 0

    # ---- life

    def boot(self) -> None:
        world = self.world
        self.up = True
        self.epoch += 1
        del self.chain[self.durable :]
        self.delivered = self.durable
        self.queue: deque[Effect] = deque()
        self.writing: list[bytes] = []
        self.prepaid = 0
        self.timers: dict[Timer, int] = {}
        self.want: Want | None = None
        self.replica = self.kind(self.keys, CHAIN, Rng(world.rng.next()), world.settings)
        top = self.chain[-1] if self.chain else None
        base = Base(
            self.durable,
            top.envelope if top else CHAIN,
            top.certificate if top else b"",
            top.payloads if top else [],
            world.get_members(self.durable + 1),
            world.get_members(self.durable + 2),
        )
        self.replica.start(world.now, base, [decode_record(data) for data in self.journal])
        self.flush()

    def crash(self) -> None:
        """Lose everything but the disk, which keeps a random part of what is being written."""
        self.up = False
        if self.writing:
            self.journal += self.writing[: self.world.rng.below(len(self.writing) + 1)]
        self.writing = []

    def later(self, delay_ns: int, call: Callable[..., None], *args: Any) -> None:
        epoch = self.epoch

        def run() -> None:
            if self.up and self.epoch == epoch:
                call(*args)
                self.flush()

        self.world.later(delay_ns, run)

    # ---- effects

    def flush(self) -> None:
        self.queue.extend(self.replica.take())
        while self.up and self.queue and not self.writing:
            effect = self.queue.popleft()
            self.world.tell(self, effect)
            if type(effect) is Persist:
                if self.prepaid:
                    self.prepaid -= 1
                else:
                    self.write(effect)
            else:
                getattr(self, self.DO[type(effect)])(effect)

    def write(self, effect: Persist) -> None:
        """Group a random number of waiting records into one write."""
        waiting = [other for other in self.queue if type(other) is Persist]
        self.prepaid = self.world.rng.below(len(waiting) + 1)
        group = [effect, *waiting[: self.prepaid]]
        self.writing = [encode(one.record) for one in group]
        for data in self.writing:
            decode_record(data)
        if self.world.crash_at_persist == self.world.persists:
            self.world.persists += 1
            self.crash()
            self.world.later(50 * MS, self.boot)
            return
        self.world.persists += 1
        delay = self.world.fsync_ns
        self.later(delay and self.world.rng.below(2 * delay), self.written)

    def written(self) -> None:
        self.journal += self.writing
        self.writing = []

    def do_send(self, effect: Send) -> None:
        self.world.send(self, effect.to, effect.message)

    def do_broadcast(self, effect: Broadcast) -> None:
        for address in self.world.machines:
            self.world.send(self, address, effect.message)

    def do_set_timer(self, effect: SetTimer) -> None:
        self.timers[effect.timer] = number = self.world.count()
        self.later(effect.delay_ns, self.alarm, effect.timer, number)

    def alarm(self, timer: Timer, number: int) -> None:
        if self.timers.get(timer) == number:
            del self.timers[timer]
            self.replica.timeout(self.world.now, timer)

    def do_cancel_timer(self, effect: CancelTimer) -> None:
        self.timers.pop(effect.timer, None)

    def do_want(self, effect: Want) -> None:
        self.want = effect
        self.answer()

    def answer(self) -> None:
        want = self.want
        if want is None or not (self.pool or want.force):
            return
        self.want = None
        payload = NOTHING
        if want.build:
            payload = self.build(want.height)
        self.later(self.world.work_ns, self.submit, want.height, payload)

    def build(self, height: int) -> bytes:
        # As with a timestamp, no two payloads are alike.
        head = self.world.count().to_bytes(64, "big")
        return head + height.to_bytes(8, "big") + self.me + b"".join(list(self.pool)[:100])

    def submit(self, height: int, payload: bytes) -> None:
        self.replica.submit(self.world.now, height, payload)

    def do_check(self, effect: Check) -> None:
        self.later(self.world.work_ns, self.check, effect.height, effect.payload)

    def check(self, height: int, payload: bytes) -> None:
        valid = payload[64:72] == height.to_bytes(8, "big")
        self.replica.checked(self.world.now, height, payload, valid)

    def do_deliver(self, effect: Deliver) -> None:
        if effect.height != self.delivered + 1:
            raise Fault(f"delivered {effect.height} after {self.delivered}")
        self.delivered += 1
        self.world.check_decision(self, effect)
        self.later(self.world.work_ns, self.execute, effect)

    def execute(self, effect: Deliver) -> None:
        self.chain.append(effect)
        assert effect.height == len(self.chain)
        body = effect.payloads[0][92:]
        for at in range(0, len(body), 8):
            self.pool.pop(body[at : at + 8], None)
        members = self.world.get_members(effect.height + 2)
        self.replica.applied(self.world.now, effect.height, members)
        self.later(self.world.rng.below(1 + 20 * self.world.work_ns), self.commit, effect.height)

    def commit(self, height: int) -> None:
        self.durable = max(self.durable, height)

    def do_checkpoint(self, effect: Checkpoint) -> None:
        # Cutting waits until the application is there; here it hastens to be.
        self.durable = max(self.durable, effect.height)
        self.journal = [encode(record) for record in effect.records]

    def do_accuse(self, effect: Accuse) -> None:
        self.accused.append(effect)
        evidence = decode_evidence(effect.evidence)
        verify_evidence(
            evidence,
            CHAIN,
            self.world.get_members(evidence.height),
            evidence.height,
            self.keys.verify,
        )
        if effect.who not in self.world.liars:
            raise Fault(f"0x{effect.who.hex()} is accused, and honest")

    DO: ClassVar[dict[Any, str]] = {
        Send: "do_send",
        Broadcast: "do_broadcast",
        SetTimer: "do_set_timer",
        CancelTimer: "do_cancel_timer",
        Want: "do_want",
        Check: "do_check",
        Deliver: "do_deliver",
        Checkpoint: "do_checkpoint",
        Accuse: "do_accuse",
    }

    def give(self, number: int) -> None:
        """A client's transaction arrives."""
        transaction = keccak256(number.to_bytes(8, "big"))[:8]
        if not any(transaction in deliver.payloads[0] for deliver in self.chain):
            self.pool[transaction] = None
            self.answer()

    def receive(self, sender: Address, data: bytes) -> None:
        self.replica.receive(self.world.now, sender, decode_message(data))


class World:
    """Machines, links between them, and the judge."""

    def __init__(
        self,
        seed: int,
        powers: Iterable[int] = (1, 1, 1, 1),
        *,
        settings: Settings | None = None,
        links: Links | None = None,
        kinds: dict[int, type[Tendermint]] | None = None,
        machines: dict[int, type[Machine]] | None = None,
        spare: int = 0,
        work_ns: int = MS,
        fsync_ns: int = MS,
        keys: Callable[[int], Keys] = CheapKeys,
    ) -> None:
        self.rng = Rng(seed)
        self.now = 0
        self.sequence = 0
        self.events: list[tuple[int, int, Callable[[], None]]] = []
        self.settings = settings or Settings()
        self.links = links or Links()
        self.work_ns, self.fsync_ns = work_ns, fsync_ns
        self.persists = 0
        self.crash_at_persist: int | None = None
        self.members: dict[int, list[Member]] = {}
        """Membership from these heights on."""
        self.liars: dict[Address, None] = {}
        self.decisions: dict[int, Hash] = {}
        self.said: dict[tuple[Address, int, int, int], Hash] = {}
        self.cut: dict[tuple[Address, Address], None] = {}
        self.sent: dict[str, int] = {}
        self.hears: Callable[[Address, Message], bool] | None = None
        """A script's say in who hears what."""
        self.talk: list[str] | None = None
        """What the replicas do, in words, if somebody wants to read it."""
        self.sync = True
        self.machines: dict[Address, Machine] = {}
        weights = list(powers)
        self.names: dict[Address, str] = {}
        founders = []
        for index in range(len(weights) + spare):
            key = keys(index)
            maker = (machines or {}).get(index, Machine)
            self.machines[key.address] = maker(
                self, key, (kinds or {}).get(index, (kinds or {}).get(-1, Tendermint))
            )
            self.names[key.address] = "ABCDEFGHIJKLMNOP"[index]
            if index < len(weights):
                founders.append(Member(key.address, weights[index]))
            if maker is not Machine:
                self.liars[key.address] = None
        self.members[1] = sorted(founders, key=lambda member: member.address)
        self.all = list(self.machines.values())

    def boot(self) -> "World":
        for machine in self.all:
            machine.boot()
        self.later(100 * MS, self.sync_all)
        return self

    def get_members(self, height: int) -> list[Member]:
        return self.members[max(start for start in self.members if start <= height)]

    def honest(self) -> list[Machine]:
        return [machine for machine in self.all if machine.me not in self.liars]

    # ---- time

    def count(self) -> int:
        self.sequence += 1
        return self.sequence

    def later(self, delay_ns: int, call: Callable[[], None]) -> None:
        heapq.heappush(self.events, (self.now + delay_ns, self.count(), call))

    def run(self, seconds: float, until: Callable[[], bool] | None = None) -> bool:
        """Run for some virtual time, or until something is so; return whether it became so."""
        end = self.now + int(seconds * 1000) * MS
        while self.events and self.events[0][0] <= end:
            self.now, _, call = heapq.heappop(self.events)
            call()
            if until is not None and until():
                return True
        self.now = end
        return until is None or until()

    def is_idle(self) -> bool:
        """Whether nothing is under way but the harness's own sync."""
        return not any(machine.timers or machine.writing for machine in self.all if machine.up)

    # ---- links

    def send(self, source: Machine, to: Address, message: Message) -> None:
        data = encode(message)
        self.check_wire(message)
        name = type(message).__name__
        self.sent[name] = self.sent.get(name, 0) + 1
        target = self.machines[to]
        if to == source.me:
            source.later(0, source.receive, source.me, data)
            return
        links, rng = self.links, self.rng
        if (source.me, to) in self.cut:
            return
        if self.hears is not None and not self.hears(to, message):
            return
        for _ in range(1 + (rng.below(1000) < links.dup)):
            if rng.below(1000) < links.loss:
                continue
            low, high = links.delay
            delay = (low * MS) + rng.below((high - low) * MS + 1)
            if rng.below(1000) < links.slow:
                delay *= 50
            self.later(delay, lambda: self.arrive(source.me, target, data))

    def arrive(self, sender: Address, target: Machine, data: bytes) -> None:
        if target.up and (sender, target.me) not in self.cut:
            target.receive(sender, data)
            target.flush()

    def partition(self, *groups: Iterable[int]) -> None:
        """Cut all links between groups of machines, by index; no group: heal."""
        self.cut = {}
        side = {self.all[i].me: number for number, group in enumerate(groups) for i in group}
        for one in self.machines:
            for other in self.machines:
                if side.get(one) != side.get(other):
                    self.cut[one, other] = None

    def sync_all(self) -> None:
        """What a node's block sync does: feed decisions to a replica that is behind."""
        for machine in self.all:
            peer = self.all[self.rng.below(len(self.all))]
            if (
                self.sync
                and machine.up
                and peer.up
                and peer.me not in self.liars
                and (peer.me, machine.me) not in self.cut
                and len(peer.chain) > machine.delivered + 1
            ):
                for deliver in peer.chain[machine.delivered : machine.delivered + 20]:
                    data = encode(Decision(deliver.height, deliver.payloads, deliver.certificate))
                    machine.later(
                        2 * machine.world.work_ns * deliver.height % 7,
                        machine.receive,
                        peer.me,
                        data,
                    )
        self.later(100 * MS, self.sync_all)

    # ---- the judge

    def check_wire(self, message: Message) -> None:
        """A voter says one thing in a round, whoever carries it."""
        if isinstance(message, Vote):
            who, kind, value = message.voter, message.kind, message.value
            digest = compute_digest(CHAIN, kind, message.height, message.round, value)
            if not self.all[0].keys.verify(who, digest, message.signature):
                return  # forged by a liar, who can say what it likes
        elif isinstance(message, Proposal):
            value = keccak256(message.envelope)
            digest = compute_digest(
                CHAIN, PROPOSAL, message.height, message.round, value, message.valid_round
            )
            proposers = [
                m.address
                for m in self.get_members(message.height)
                if self.all[0].keys.verify(m.address, digest, message.signature)
            ]
            if not proposers:
                raise Fault("a proposal nobody signed")
            who, kind = proposers[0], PROPOSAL
        else:
            return
        if who in self.liars or who not in self.machines:
            return
        key = (who, kind, message.height, message.round)
        if self.said.setdefault(key, value) != value:
            raise Fault(f"{self.names[who]} said two things of kind {kind} in {key[2:]}")

    def check_decision(self, machine: Machine, effect: Deliver) -> None:
        if machine.me in self.liars:
            return
        certificate = decode_certificate(effect.certificate)
        members = self.get_members(effect.height)
        try:
            value = verify_certificate(certificate, CHAIN, members, machine.keys.verify)
            verify_payloads(certificate.envelope, effect.payloads)
        except Invalid as error:
            raise Fault(f"no proof: {error}") from error
        if value != effect.envelope or certificate.envelope.height != effect.height:
            raise Fault("the certificate is of something else")
        if self.decisions.setdefault(effect.height, value) != value:
            raise Fault(f"two decisions at height {effect.height}")

    def heights(self) -> list[int]:
        return [machine.delivered for machine in self.honest()]

    # ---- words

    def tell(self, machine: Machine, effect: Effect) -> None:
        """Add a line for an effect, when it is carried out."""
        if self.talk is None:
            return
        words = self.name_effect(effect)
        if words:
            self.talk.append(f"{self.now / MS:7.1f} {self.names[machine.me]} {words}")

    def name_effect(self, effect: Effect) -> str:
        if isinstance(effect, Broadcast):
            return f"to all: {self.name_message(effect.message)}"
        if isinstance(effect, Send):
            return f"to {self.names[effect.to]}: {self.name_message(effect.message)}"
        if isinstance(effect, Persist):
            return f"writes {type(effect.record).__name__.lower()}"
        if isinstance(effect, Want):
            return "wants " + ("a payload" if effect.build else "to know of work")
        if isinstance(effect, SetTimer) and effect.timer.kind != "status":
            return f"starts {effect.timer.kind} timeout, {effect.delay_ns // MS} ms"
        if isinstance(effect, Deliver):
            envelope = decode_certificate(effect.certificate).envelope
            maker = f"{self.names[envelope.proposer]}{envelope.round}"
            return f"delivers height {effect.height}: {maker}"
        if isinstance(effect, Accuse):
            return f"accuses {self.names[effect.who]}"
        return ""

    def name_value(self, value: Hash) -> str:
        """A value is named by its proposer and round; a liar's second one by its hash."""
        if value == bytes(32):
            return "nil"
        for machine in self.all:
            known = machine.replica.values.get(value)
            if known is not None:
                return f"{self.names[known[0].proposer]}{known[0].round}"
        return f"value {value.hex()[:4]}"

    def name_message(self, m: Message) -> str:
        if isinstance(m, Proposal):
            envelope = decode_envelope(m.envelope)
            maker = f"{self.names[envelope.proposer]}{envelope.round}"
            valid = f", valid in {m.valid_round}" if m.valid_round >= 0 else ""
            return f"proposal {m.height}/{m.round} {maker}{valid}"
        if isinstance(m, Vote):
            kind = "prevote" if m.kind == 1 else "precommit"
            value = self.name_value(m.value)
            return f"{kind} {m.height}/{m.round} {value} of {self.names[m.voter]}"
        if isinstance(m, Decision):
            return f"decision {m.height}"
        assert isinstance(m, Status)
        return f"status {m.height}/{m.round}"
