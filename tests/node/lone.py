"""The least engine: one member decides, in the order of its address, and the others follow."""

from collections.abc import Iterable
from typing import Any, ClassVar

from quorate.base.rng import Rng
from quorate.base.types import Address, Hash, Height, Member, Nanoseconds
from quorate.consensus.replica import (
    Base,
    Broadcast,
    Check,
    Checkpoint,
    Decision,
    Deliver,
    Keys,
    Message,
    Persist,
    Record,
    Replica,
    Situation,
    Timer,
    Want,
)
from quorate.crypto.hashes import hash_payload, keccak256

CHECKPOINT_HEIGHTS = 8


class Decided(Record, frozen=True, array_like=True, gc=False, tag=1):
    decision: Decision


class Lone(Replica):
    """The first member signs the hash of each payload; that signature is the certificate."""

    WIRE: ClassVar[tuple[type[Message], ...]] = (Decision,)
    RECORDS: ClassVar[tuple[type[Record], ...]] = (Decided,)

    def start(self, now: Nanoseconds, base: Base, journal: Iterable[Record]) -> None:
        self.height: Height = base.height + 1
        self.parent = base.envelope
        self.members = {base.height + 1: base.members, base.height + 2: base.next_members}
        for record in journal:
            if isinstance(record, Decided) and record.decision.height == self.height:
                self.deliver(record.decision)
        self.enter()

    def enter(self) -> None:
        if self.height in self.members:
            leads = self.members[self.height][0].address == self.me
            self.out.append(Want(self.height, self.parent, build=leads))

    def submit(self, now: Nanoseconds, height: Height, payload: bytes) -> None:
        if payload and height == self.height:
            self.out.append(Check(height, payload))

    def checked(
        self, now: Nanoseconds, height: Height, payload: bytes, valid: bool, envelope: Hash = b""
    ) -> None:
        if height == self.height and valid:
            certificate = self.keys.sign(hash_payload(payload))
            self.decide(Decision(height, [payload], certificate))

    def on_decision(self, now: Nanoseconds, sender: Address, m: Decision) -> None:
        if m.height != self.height or self.height not in self.members or len(m.payloads) != 1:
            self.drop("height")
            return
        leader = self.members[self.height][0].address
        if not self.keys.verify(leader, hash_payload(m.payloads[0]), m.certificate):
            self.drop("certificate")
            return
        self.decide(m)

    def decide(self, decision: Decision) -> None:
        self.out.append(Persist(Decided(decision)))
        leads = self.members[self.height][0].address == self.me
        if leads:
            self.out.append(Broadcast(decision))
        self.deliver(decision)
        self.enter()

    def deliver(self, m: Decision) -> None:
        self.parent = keccak256(self.parent + hash_payload(m.payloads[0]))
        self.out.append(Deliver(m.height, m.payloads, self.parent, m.certificate))
        self.height += 1

    def timeout(self, now: Nanoseconds, timer: Timer) -> None:
        self.drop("timeout")

    def applied(self, now: Nanoseconds, height: Height, members: list[Member]) -> None:
        waited = self.height not in self.members
        self.members[height + 2] = members
        if waited:
            self.enter()
        if height % CHECKPOINT_HEIGHTS == 0:
            self.out.append(Checkpoint(height, []))

    def get_situation(self, now: Nanoseconds) -> Situation:
        return Situation(self.height, 0, "follow", None, "a decision", "", [], None)

    def get_shown(self, message: Message) -> Height:
        return message.height - 1 if isinstance(message, Decision) else -1

    HANDLERS: ClassVar[dict[type[Message], Any]] = {Decision: on_decision}


def make_lone(keys: Keys, chain: Hash) -> Replica:
    return Lone(keys, chain, Rng(1))
