"""Tendermint over links that lose, repeat, delay and reorder: what to hold, ask for and send again.

The paper assumes gossip: what one correct process receives, all receive. Here a replica whose
height is under way and that makes no progress tells `STATUS_PEERS` others in turn what it has
(`Status`), and each answers with what it lacks: the proposal, votes (of anybody, under their own
signatures, so a partly connected network works), or the decision, if it is one height behind.

* Answers provoke no answers, and a replica answers one peer at most twice in a status interval.
* The same payload goes to the same peer after growing pauses only, since what seems lost may be on
  its way over a thin link, and more copies of it would hold up the votes behind them.
* An idle replica sends nothing. One that hears of something it lacks asks in its next interval.
* Messages of the next height are held (`HELD_PER_SENDER`), since fast peers are often one ahead.
* What lies further ahead is dropped: block sync feeds `Decision` messages to a replica far behind.
"""

from abc import abstractmethod
from typing import Final

from quorate.base.native import mypyc_attr
from quorate.base.types import MILLISECOND, Address, Hash, Height, Member, Nanoseconds
from quorate.consensus.certificate import NIL, Envelope, compute_digest
from quorate.consensus.evidence import (
    Offences,
    Statement,
    encode_evidence,
    get_offence,
    make_evidence,
)
from quorate.consensus.membership import ValidatorSet, make_validators
from quorate.consensus.quorum import VoteSet
from quorate.consensus.replica import (
    Accuse,
    CancelTimer,
    Decision,
    Message,
    Replica,
    Send,
    SetTimer,
    Timer,
)
from quorate.consensus.tendermint_rounds import Round, Verified
from quorate.consensus.tendermint_types import (
    ENGINE,
    HELD_PER_SENDER,
    KEPT_ROUNDS,
    ROUNDS_AHEAD,
    STATUS_PEERS,
    STATUS_ROUNDS,
    Held,
    Proposal,
    Settings,
    Status,
    Vote,
)

MAX_ANSWERED: Final = 2048
OFFER_BYTES_PER_MS: Final = 1000
"""How thin a link may be before payloads are sent again that have not come through yet."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Links(Replica):
    """The state of a Tendermint replica and its dealings with links; rules are in a subclass."""

    __slots__ = (
        "answered",
        "awake",
        "cursor",
        "entered",
        "height",
        "held",
        "highest",
        "last",
        "locked_round",
        "locked_value",
        "moved",
        "offences",
        "offered",
        "parent",
        "pending",
        "round",
        "rounds",
        "sets",
        "settings",
        "step",
        "stirred",
        "suspects",
        "timers",
        "valid_round",
        "valid_value",
        "validators",
        "values",
        "verdicts",
        "verified",
    )

    settings: Settings
    height: Height
    """The height after the last decision."""
    entered: bool
    """Whether the application has come to `height - 1`, so that `height` can begin."""
    parent: Hash
    validators: ValidatorSet
    sets: dict[Height, ValidatorSet]
    round: int
    step: str
    """"propose", "prevote" or "precommit"."""
    rounds: dict[int, Round]
    values: dict[Hash, tuple[Envelope, bytes]]
    """What the envelope hashes stand for."""
    locked_value: Hash | None
    locked_round: int
    valid_value: Hash | None
    valid_round: int
    awake: bool
    """Whether there is something to agree on, so that timeouts run."""
    stirred: bool
    """Whether somebody showed that it has something that this replica lacks."""
    moved: bool
    """Whether there was progress since the last status tick."""
    highest: dict[Address, int]
    """The highest round in which a voter was seen."""
    held: dict[Address, list[Message]]
    """Messages of the height that comes next."""
    timers: dict[str, tuple[Timer, Nanoseconds]]
    """The timers that run, by kind, and when they fall."""
    suspects: dict[Address, None]
    """Proposers whose last proposal never came."""
    last: Decision | None
    answered: dict[Address, Nanoseconds]
    """When a peer was last answered."""
    offered: dict[tuple[Address, Hash], tuple[int, Nanoseconds]]
    """How often a payload went to a peer in answers at this height, and when it may go again."""
    cursor: int
    verified: Verified
    offences: Offences
    verdicts: dict[Hash, bool | None]
    """What the application says of a value; None while it has not answered."""
    pending: list[tuple[bytes, Hash]]
    """Payloads that are being checked."""

    def set_timer(self, now: Nanoseconds, kind: str, delay_ns: Nanoseconds) -> None:
        timer = Timer(kind, self.height, self.round) if kind != "status" else Timer(kind)
        self.cancel_timer(kind)
        self.timers[kind] = (timer, now + delay_ns)
        self.out.append(SetTimer(timer, delay_ns))

    def cancel_timer(self, kind: str) -> None:
        armed = self.timers.pop(kind, None)
        if armed is not None:
            self.out.append(CancelTimer(armed[0]))

    def cancel_round_timers(self) -> None:
        """Cancel all that belong to a round of a height."""
        for kind in [kind for kind in self.timers if kind != "status"]:
            self.cancel_timer(kind)

    def is_signed(self, who: Address, digest: Hash, signature: bytes) -> bool:
        """Whether the signature is good; a good one is verified once."""
        if self.keys.are_cheap:
            return self.keys.verify(who, digest, signature)
        if self.verified.has(who, digest, signature):
            return True
        if not self.keys.verify(who, digest, signature):
            return False
        self.verified.add(who, digest, signature)
        return True

    def is_vote_signed(self, m: Vote, digests: dict[Hash, Hash]) -> bool:
        """Whether a vote is its voter's; `digests` are what good ones like it signed."""
        known = digests.get(m.value)
        digest = known or compute_digest(self.chain, m.kind, m.height, m.round, m.value)
        if not self.is_signed(m.voter, digest, m.signature):
            self.drop("signature")
            return False
        if known is None:
            digests[m.value] = digest
        return True

    def accuse(self, who: Address, kind: int, round: int, one: Statement, other: Statement) -> None:
        """Report two statements that exclude each other, each offence once."""
        evidence = make_evidence(who, kind, self.height, round, one, other)
        if self.offences.admit(get_offence(evidence), self.height):
            self.out.append(Accuse(who, encode_evidence(evidence)))

    # ---- rounds

    def is_proposer(self) -> bool:
        return self.validators.get_proposer(self.height, self.round) == self.me

    def make_round(self, round: int) -> Round:
        """Return a round's state, creating it."""
        state = self.rounds.get(round)
        if state is None:
            state = self.rounds[round] = Round(self.validators.total)
        return state

    def get_round(self, round: int) -> Round | None:
        """Return the state of a round whose messages are kept, None for one that is too far."""
        state = self.rounds.get(round)
        if state is not None:
            return state
        if self.round - KEPT_ROUNDS <= round <= self.round + ROUNDS_AHEAD:
            return self.make_round(round)
        proposal = self.rounds[self.round].proposal
        if proposal is not None and proposal[1].valid_round == round:
            return self.make_round(round)
        return None

    def forget_rounds(self) -> None:
        """Keep the last rounds and those that a lock or a valid value needs."""
        oldest = self.round - KEPT_ROUNDS
        if not any(number < oldest for number in self.rounds):
            return
        kept = (self.valid_round, self.locked_round)
        self.rounds = {
            number: state
            for number, state in self.rounds.items()
            if number >= oldest or number in kept
        }
        used = {self.valid_value: None, self.locked_value: None}
        for state in self.rounds.values():
            used.update(dict.fromkeys(state.proposals))
        self.values = {value: known for value, known in self.values.items() if value in used}
        self.verdicts = {value: said for value, said in self.verdicts.items() if value in used}
        self.pending = [(payload, value) for payload, value in self.pending if value in used]

    def keep_proposal(
        self, state: Round, value: Hash, proposal: Proposal, envelope: Envelope
    ) -> None:
        if state.proposal is None:
            state.proposal = (value, proposal)
        state.proposals[value] = proposal
        self.values[value] = (envelope, proposal.payload)
        self.moved = True

    def get_timeout(self, base_ms: int, step_ms: int) -> Nanoseconds:
        ms = min(base_ms + self.round * step_ms, self.settings.max_timeout_ms)
        return ms * MILLISECOND

    def get_propose_timeout(self) -> Nanoseconds:
        settings = self.settings
        full_ns = self.get_timeout(settings.propose_ms, settings.propose_step_ms)
        if self.validators.get_proposer(self.height, self.round) not in self.suspects:
            return full_ns
        return min(full_ns, (settings.suspect_ms << 2 * min(self.round, 16)) * MILLISECOND)

    def find_fault(self, m: Proposal, envelope: Envelope) -> str | None:
        """Return why a proposal cannot be one of a correct proposer, judged without signatures."""
        if len(m.payload) > self.settings.max_payload_bytes:
            return "payload too large"
        if m.valid_round == -1:
            if envelope.round != m.round:
                return "proposal"
        elif not envelope.round <= m.valid_round < m.round:
            return "proposal"
        if (
            envelope.engine != ENGINE
            or envelope.height != m.height
            or envelope.proposer != self.validators.get_proposer(m.height, envelope.round)
            or envelope.parent != self.parent
            or envelope.members != self.validators.hash
            or envelope.next_members != self.sets[m.height + 1].hash
        ):
            return "envelope"
        return None

    # ---- messages of the next height

    def hold(self, now: Nanoseconds, sender: Address, m: Proposal | Vote | Decision) -> None:
        """Keep a message of the next height for later, within bounds; drop any other.

        A replica that waits for the application has not entered its height. The others may be in
        the next one by then, and what they said there must not have to be asked for.
        """
        first = self.height + 1 if self.entered else self.height
        if not first <= m.height <= self.height + 1:
            self.drop("stale" if m.height < first else "ahead")
            return
        if sender not in self.validators.powers and not any(
            sender in validators.powers for validators in self.sets.values()
        ):
            self.drop("stranger")
            return
        queue = self.held.setdefault(sender, [])
        kind = type(m)
        if (
            len(queue) >= HELD_PER_SENDER
            or (
                kind is not Vote
                and any(type(other) is kind and other.height == m.height for other in queue)
            )
            or m in queue
        ):
            self.drop("ahead")
            return
        queue.append(m)
        if self.entered:
            # Somebody has decided this height, so there is a decision to ask for.
            self.stir(now)

    def release_held(self, now: Nanoseconds) -> None:
        """Take up what was held for the height that has just been entered."""
        held, self.held = self.held, {}
        for sender, messages in held.items():
            for message in messages:
                self.receive(now, sender, message)

    def release_decision(self, now: Nanoseconds) -> None:
        """Take up a held decision of a height whose members have become known."""
        for sender, messages in self.held.items():
            for message in messages:
                if type(message) is Decision:
                    messages.remove(message)
                    self.receive(now, sender, message)
                    return

    # ---- asking

    def stir(self, now: Nanoseconds) -> None:
        """Make sure that this replica asks others in its next status interval."""
        self.stirred = True
        if "status" not in self.timers:
            self.set_timer(now, "status", self.settings.status_ms * MILLISECOND)

    def on_timeout_status(self, now: Nanoseconds) -> None:
        """Ask if nothing has moved; stop ticking when there is nothing under way."""
        if not self.entered or not (self.awake or self.stirred):
            return
        if not self.moved:
            self.tell_status()
        self.moved = self.stirred = False
        self.set_timer(now, "status", self.settings.status_ms * MILLISECOND)

    def tell_status(self) -> None:
        """Send what this replica has to the next few members."""
        others = [address for address in self.validators.addresses if address != self.me]
        if not others:
            return
        status = self.make_status()
        for _ in range(min(STATUS_PEERS, len(others))):
            self.cursor = (self.cursor + 1) % len(others)
            self.out.append(Send(others[self.cursor], status))

    def make_status(self) -> Status:
        """Describe the rounds in which something is missing: the current one first."""
        wanted = [self.round]
        current = self.rounds[self.round]
        if current.proposal is not None and current.proposal[1].valid_round >= 0:
            wanted.append(current.proposal[1].valid_round)
        for number, state in self.rounds.items():
            # A decision whose value has not come yet.
            quorum = state.precommits.quorum
            if quorum is not None and quorum != NIL and quorum not in self.values:
                wanted.append(number)
        rounds = [
            self.describe_round(number, self.rounds.get(number))
            for number in list(dict.fromkeys(wanted))[:STATUS_ROUNDS]
        ]
        return Status(self.height, self.round, self.awake, rounds)

    def describe_round(self, number: int, state: Round | None) -> Held:
        if state is None:
            return Held(number, False, False, b"", b"")
        return Held(
            number,
            self.has_proposal(state),
            state.prevotes.quorum is not None,
            self.encode_bits(state.prevotes),
            self.encode_bits(state.precommits),
        )

    def has_proposal(self, state: Round) -> bool:
        """Whether the value is there: the proposal, or what a quorum wants if that is another."""
        for votes in (state.precommits, state.prevotes):
            if votes.quorum is not None and votes.quorum != NIL:
                return votes.quorum in self.values
        return state.proposal is not None

    def encode_bits(self, votes: VoteSet[Vote]) -> bytes:
        """Return who voted, one bit for each member in the order of the set, lowest bit first."""
        bits = 0
        for index, address in enumerate(self.validators.addresses):
            if address in votes.votes:
                bits |= 1 << index
        return bits.to_bytes((len(self.validators.addresses) + 7) // 8, "little")

    # ---- answering

    def on_status(self, now: Nanoseconds, sender: Address, m: Status) -> None:
        """Answer with what the sender lacks, and learn how far it is."""
        if sender == self.me:
            return
        if m.height == self.height - 1 and self.last is not None:
            size = sum(len(payload) for payload in self.last.payloads)
            if self.may_answer(now, sender) and self.may_offer(now, sender, self.parent, size):
                self.out.append(Send(sender, self.last))
            return
        if m.height != self.height or not self.entered:
            if m.height == self.height + 1 and self.entered:
                self.stir(now)
            self.drop("stale" if m.height < self.height else "ahead")
            return
        if self.may_answer(now, sender):
            for held in m.rounds:
                state = self.rounds.get(held.round)
                if state is not None:
                    self.answer(now, sender, held, state)
        if any(self.lacks(held) for held in m.rounds):
            self.stir(now)
        if m.awake and sender in self.validators.powers:
            self.note(now, sender, m.round)

    def may_answer(self, now: Nanoseconds, sender: Address) -> bool:
        """Whether this sender was not answered just now; then it is."""
        last = self.answered.get(sender)
        if last is not None and now - last < self.settings.status_ms * MILLISECOND // 2:
            self.drop("impatient")
            return False
        if len(self.answered) >= MAX_ANSWERED:
            self.answered.clear()
        self.answered[sender] = now
        return True

    def may_offer(self, now: Nanoseconds, sender: Address, value: Hash, size: int) -> bool:
        """Whether a payload may go to a peer (again); then it does, and the next time is later."""
        times, due = self.offered.get((sender, value), (0, now))
        if now < due:
            return False
        pause_ms = self.settings.status_ms + size // OFFER_BYTES_PER_MS << times
        pause_ms = min(pause_ms, self.settings.max_timeout_ms)
        self.offered[sender, value] = (min(times + 1, 16), now + pause_ms * MILLISECOND)
        return True

    def answer(self, now: Nanoseconds, sender: Address, held: Held, state: Round) -> None:
        """Send what is here and not there: at most a proposal and every vote of one round."""
        if not held.proposal:
            proposal = self.find_proposal(state)
            if proposal is not None and self.may_offer(
                now, sender, proposal.signature[:32], len(proposal.payload)
            ):
                self.out.append(Send(sender, proposal))
        known = int.from_bytes(held.prevotes, "little")
        polka = state.prevotes.quorum
        if polka is not None and not held.polka:
            # All of them: what the sender has of some voters may be votes for something else.
            for vote in state.prevotes.get_votes(polka):
                self.out.append(Send(sender, vote))
            known = -1
        self.send_missing(sender, state.prevotes, known)
        self.send_missing(sender, state.precommits, int.from_bytes(held.precommits, "little"))

    def send_missing(self, sender: Address, votes: VoteSet[Vote], known: int) -> None:
        for index, address in enumerate(self.validators.addresses):
            vote = votes.votes.get(address)
            if vote is not None and not known >> index & 1:
                self.out.append(Send(sender, vote))

    def find_proposal(self, state: Round) -> Proposal | None:
        """Return the proposal that matters most: of the value with a quorum, or else the first."""
        for votes in (state.precommits, state.prevotes):
            if votes.quorum is not None and votes.quorum in state.proposals:
                return state.proposals[votes.quorum]
        return state.proposal[1] if state.proposal is not None else None

    def lacks(self, held: Held) -> bool:
        """Whether the sender of a status has something of a round that is missing here."""
        state = self.rounds.get(held.round)
        if state is None:
            return held.round >= self.round
        if held.proposal and not self.has_proposal(state):
            return True
        mine = int.from_bytes(self.encode_bits(state.prevotes), "little")
        if state.prevotes.quorum is None and int.from_bytes(held.prevotes, "little") & ~mine:
            return True
        mine = int.from_bytes(self.encode_bits(state.precommits), "little")
        return bool(int.from_bytes(held.precommits, "little") & ~mine)

    @abstractmethod
    def note(self, now: Nanoseconds, voter: Address, round: int) -> None:
        """Remember that a member is in this round; the rules may follow it (L55)."""

    def know_members(self, height: Height, members: list[Member]) -> None:
        """Remember who agrees on a height; equal sets share one object."""
        for known in self.sets.values():
            if list(known.members) == members:
                self.sets[height] = known
                return
        self.sets[height] = make_validators(tuple(members))
