"""Tendermint: Byzantine agreement on one value after another, by rounds and locks.

Source: Buchman, Kwon, Milosevic, "The latest gossip on BFT consensus", arXiv 1807.04938, Algorithm
1. `L36` at a line here means line 36 there.

Model: n members by voting power, Byzantine power below n/3, partial synchrony (safety needs none).
Links may lose, repeat, delay and reorder; `tendermint_links` sends again and says how.

In our words. A height is decided in rounds. The proposer of a round proposes a value; each replica
prevotes for it if it is valid and does not contradict its lock. More than two thirds of prevotes
for a value (a polka) make it valid; who sees them while prevoting locks it and precommits it. More
than two thirds of precommits decide. Otherwise everybody goes to the next round, and a locked
replica gives up its lock only for a polka of a later round.

Invariants: one proposal, one prevote, one precommit of a replica in a round, also across crashes
(`Persist` before `Broadcast`); what a correct replica precommits has a polka; two values are never
decided at one height.

Cost for n members and one round: n proposals and 2 n^2 votes. A replica signs two votes (and a
proposal in its turn), and verifies one proposal and about 4n/3 votes.

Deviations:
* Work on demand. A height begins when there is something to agree on: round 0 starts its timeout
  when the application says so (`Want`, `submit`), a proposal comes, or more than a third of the
  power is seen at work. The proposer runs the propose timeout too, since its application may fail
  to answer. Later rounds insist on a payload.
* `valid(v)` is asked of the application before we prevote for a new value (L23). A polka or a
  quorum of precommits includes a correct replica that found it valid, so L28, L36 and L49 do not
  wait for our own answer; a clock that is off locally then cannot hold up a decision.
* L36 and L49 need the value; which round's proposal brought it does not matter.
* L47 for nil: a quorum of precommits for nil starts the next round at once, since this one can no
  longer decide and others learn of the round by L55.
* A proposal of an earlier value (L16) is followed by the prevotes that made it valid: members that
  are many rounds further have forgotten them, and cannot vote without (L28).
* L55 counts voters at or above a round, not only in it: a correct one among them went through it.
* A proposer whose last proposal never came gets a short first timeout (`suspect_ms`) until it
  proposes again, so a member that is down does not cost a whole timeout at every turn. Timeouts
  never matter to safety, and grow to the full ones by round.
* A proposal is sent while it is written. A crash may lose the record, so a replica that restarts
  does not propose where it may have done so before; it prevotes nil there at once, and a nil
  prevote of the proposer ends everybody's wait for its proposal.
* Our own votes count when they are cast; effects are ordered, so nothing that follows from them is
  visible before they are durable. No copies come back (`ECHO`); those that do are dropped.
* The paper knows no restarts. Besides votes and proposals, a polka that made a value valid and the
  entry into a later round are durable with the votes that justify them: otherwise a crash and a
  member that falls silent could leave correct replicas locked, or apart in rounds, for ever.
* A value is an envelope (`certificate`) around a payload; proposed again it keeps its envelope.
"""

from typing import ClassVar

from quorate.base.errors import Invalid
from quorate.base.native import mypyc_attr
from quorate.base.rng import Rng
from quorate.base.types import Address, Hash, Height, Nanoseconds
from quorate.consensus.certificate import (
    NIL,
    PRECOMMIT,
    PREVOTE,
    PROPOSAL,
    Certificate,
    Envelope,
    compute_digest,
    decode_certificate,
    decode_envelope,
    encode_certificate,
    encode_envelope,
    verify_certificate,
    verify_payloads,
)
from quorate.consensus.evidence import Offences, Statement
from quorate.consensus.replica import (
    NOTHING,
    Broadcast,
    Check,
    Decision,
    Deliver,
    Keys,
    Message,
    Record,
    Situation,
    Timer,
    Want,
)
from quorate.consensus.tendermint_heights import Heights
from quorate.consensus.tendermint_rounds import Round, Verified
from quorate.consensus.tendermint_situation import describe_situation
from quorate.consensus.tendermint_types import (
    ENGINE,
    Decided,
    Entered,
    Polka,
    Proposal,
    Proposed,
    Settings,
    Status,
    Vote,
    Voted,
)
from quorate.crypto.hashes import hash_payload, keccak256


@mypyc_attr(allow_interpreted_subclasses=True)
class Tendermint(Heights):
    """One validator, or a follower that does not vote."""

    __slots__ = ()

    WIRE: ClassVar[tuple[type[Message], ...]] = (Decision, Proposal, Vote, Status)
    RECORDS: ClassVar[tuple[type[Record], ...]] = (Proposed, Voted, Polka, Decided, Entered)
    ECHO: ClassVar[bool] = False

    def __init__(self, keys: Keys, chain: Hash, rng: Rng, settings: Settings | None = None) -> None:
        super().__init__(keys, chain, rng)
        self.settings = settings or Settings()
        self.sets = {}
        self.suspects = {}
        self.timers = {}
        self.held = {}
        self.answered = {}
        self.verified = Verified()
        self.offences = Offences()
        self.cursor = 0
        self.last = None
        self.entered = False
        self.opened_at = None
        self.owed = None
        self.doubts = {}
        self.heights_since_checkpoint = 0
        self.bytes_since_checkpoint = 0
        self.tail = []
        self.forget_height()

    # ---- inputs

    def submit(self, now: Nanoseconds, height: Height, payload: bytes) -> None:
        if height != self.height or not self.entered:
            return
        if payload == NOTHING:
            self.wake(now)
            return
        if (
            self.step != "propose"
            or self.rounds[self.round].proposal is not None
            or self.valid_value is not None
            or not self.is_proposer()
            or self.is_in_doubt()
        ):
            return
        if len(payload) > self.settings.max_payload_bytes:
            self.drop("own payload too large")
            return
        envelope = Envelope(
            ENGINE,
            height,
            self.round,
            self.me,
            self.parent,
            self.validators.hash,
            self.sets[height + 1].hash,
            hash_payload(payload),
        )
        self.propose(envelope, payload, -1)
        self.wake(now)
        self.evaluate(now)

    def checked(
        self, now: Nanoseconds, height: Height, payload: bytes, valid: bool, envelope: Hash = b""
    ) -> None:
        if height != self.height or not self.entered:
            return
        answered = [value for waiting, value in self.pending if waiting == payload]
        if answered:
            self.pending = [(other, value) for other, value in self.pending if other != payload]
            self.verdicts.update(dict.fromkeys(answered, valid))
            self.evaluate(now)

    def timeout(self, now: Nanoseconds, timer: Timer) -> None:
        armed = self.timers.get(timer.kind)
        if armed is None or armed[0] != timer:
            return
        kind = timer.kind
        del self.timers[kind]
        if kind == "propose":
            self.on_timeout_propose(now)
        elif kind == "prevote":
            self.on_timeout_prevote(now)
        elif kind == "precommit":
            self.on_timeout_precommit(now)
        elif kind == "pace":
            self.open_height(now)
        else:
            self.on_timeout_status(now)

    def get_situation(self, now: Nanoseconds) -> Situation:
        return describe_situation(self)

    # ---- rounds

    def start_round(self, now: Nanoseconds, round: int) -> None:
        """L11-13."""
        self.cancel_round_timers()
        if self.me in self.validators.powers:
            ended = self.rounds.get(round - 1)
            votes = list(ended.precommits.votes.values()) if ended is not None else []
            self.persist(Entered(self.height, round, votes))
        self.round = round
        self.step = "propose"
        self.moved = True
        self.make_round(round)
        self.forget_rounds()
        if not self.awake:
            self.awake = True
            self.stir(now)
        self.begin_round(now)

    def begin_round(self, now: Nanoseconds) -> None:
        """L14-21, in so far as it has not been done before a crash."""
        if self.step == "propose":
            if not self.is_proposer() or self.is_in_doubt():
                if not self.awake:
                    self.out.append(Want(self.height, self.parent, build=False))
            elif self.rounds[self.round].proposal is None:
                if self.valid_value is not None:  # L15
                    envelope, payload = self.values[self.valid_value]
                    self.propose(envelope, payload, self.valid_round)  # L16
                    self.show_polka(self.valid_round, self.valid_value)
                else:
                    self.want_payload()  # L18
            if self.awake:
                self.set_timer(now, "propose", self.get_propose_timeout())  # L21
        self.evaluate(now)

    def want_payload(self) -> None:
        self.out.append(Want(self.height, self.parent, build=True, force=self.awake))

    def wake(self, now: Nanoseconds) -> None:
        """There is something to agree on: let the timeouts of round 0 run."""
        if self.awake:
            return
        self.awake = self.moved = True
        self.stir(now)
        if "pace" in self.timers:
            self.cancel_timer("pace")
            self.opened_at = now
        if self.step == "propose":
            if (
                self.is_proposer()
                and self.rounds[self.round].proposal is None
                and not self.is_in_doubt()
            ):
                self.want_payload()
            self.set_timer(now, "propose", self.get_propose_timeout())
            self.evaluate(now)

    # ---- the rules

    def propose(self, envelope: Envelope, payload: bytes, valid_round: int) -> None:
        """L19. Sent while it is written: `is_in_doubt` sees to it that there is never a second."""
        height, round = self.height, self.round
        encoded = encode_envelope(envelope)
        value = keccak256(encoded)
        digest = compute_digest(self.chain, PROPOSAL, height, round, value, valid_round)
        signature = self.keys.sign(digest)
        proposal = Proposal(height, round, valid_round, encoded, payload, signature)
        self.out.append(Broadcast(proposal))
        self.persist(Proposed(proposal))
        self.journaled[value] = None
        self.verdicts[value] = True
        self.keep_proposal(self.rounds[round], value, proposal, envelope)

    def show_polka(self, round: int, value: Hash) -> None:
        """Say the prevotes that a proposal refers to.

        Others need them to vote for it (L28), and to ask for them may take longer than the round.
        """
        for vote in self.rounds[round].prevotes.get_votes(value):
            self.out.append(Broadcast(vote))

    def cast(self, kind: int, value: Hash) -> None:
        """Vote, once in a round; a follower does not."""
        me, height, round = self.me, self.height, self.round
        power = self.validators.powers.get(me)
        state = self.rounds[round]
        votes = state.get_votes(kind)
        if power is None or me in votes.votes:
            return
        digests = state.get_digests(kind)
        digest = digests.get(value)
        if digest is None:
            digest = digests[value] = compute_digest(self.chain, kind, height, round, value)
        vote = Vote(kind, height, round, value, me, self.keys.sign(digest))
        if value != NIL:
            self.journal_value(value)
        self.persist(Voted(vote))
        self.out.append(Broadcast(vote))
        votes.add(vote, power)
        self.moved = True

    def evaluate(self, now: Nanoseconds) -> None:
        """Apply the rules of the current round; each may enable those after it."""
        if not self.entered:
            return
        state = self.rounds[self.round]
        if self.step == "propose":
            if state.proposal is not None:
                self.consider_proposal(*state.proposal)
            elif self.awake and self.is_renounced(state):
                self.give_up()
        # What follows is about quorums.
        if self.step != "propose" and state.prevotes.has_any_quorum():
            self.consider_polka(state)
            if self.step == "prevote":
                self.consider_prevotes(now, state)
        if state.precommits.has_any_quorum():
            self.consider_precommits(now, self.round, state)

    def is_renounced(self, state: Round) -> bool:
        """Whether the proposer will not propose: it prevoted nil, or is in doubt and us."""
        proposer = self.validators.get_proposer(self.height, self.round)
        vote = state.prevotes.votes.get(proposer)
        if vote is None:
            return proposer == self.me and self.is_in_doubt()
        return vote.value == NIL

    def give_up(self) -> None:
        """L59-60, by the timeout or because there is nothing to wait for."""
        self.cast(PREVOTE, NIL)  # L59
        self.step = "prevote"  # L60
        self.cancel_timer("propose")

    def consider_proposal(self, value: Hash, proposal: Proposal) -> None:
        """L22-33."""
        valid_round = proposal.valid_round
        if valid_round == -1:  # L22
            free = self.locked_round == -1 or self.locked_value == value
            verdict = self.verdicts.get(value)
            if free and verdict is None:
                return
            accept = free and bool(verdict)  # L23
        else:
            earlier = self.rounds.get(valid_round)
            if earlier is None or earlier.prevotes.quorum != value:  # L28
                return
            accept = self.locked_round <= valid_round or self.locked_value == value  # L29
        self.cast(PREVOTE, value if accept else NIL)  # L24, L26, L30, L32
        self.step = "prevote"  # L27, L33
        self.cancel_timer("propose")

    def consider_polka(self, state: Round) -> None:
        """L36-43."""
        value = state.prevotes.quorum
        if state.polka or value is None or value == NIL or value not in self.values:
            return
        state.polka = True
        self.journal_value(value)
        self.persist(Polka(state.prevotes.get_votes(value)))
        self.valid_value, self.valid_round = value, self.round  # L42-43
        if self.step == "prevote":  # L37
            self.locked_value, self.locked_round = value, self.round  # L38-39
            self.cast(PRECOMMIT, value)  # L40
            self.step = "precommit"  # L41
            self.cancel_timer("prevote")

    def consider_prevotes(self, now: Nanoseconds, state: Round) -> None:
        """L34-35, L44-46."""
        if state.prevotes.quorum == NIL:  # L44
            self.cast(PRECOMMIT, NIL)  # L45
            self.step = "precommit"  # L46
            self.cancel_timer("prevote")
        elif not state.prevote_timeout and state.prevotes.has_any_quorum():  # L34
            state.prevote_timeout = True
            settings = self.settings
            self.set_timer(
                now, "prevote", self.get_timeout(settings.prevote_ms, settings.prevote_step_ms)
            )  # L35

    def consider_precommits(self, now: Nanoseconds, round: int, state: Round) -> None:
        """L47-54."""
        value = state.precommits.quorum
        if value is not None and value != NIL:  # L49
            known = self.values.get(value)
            if known is not None:
                signatures = [
                    (vote.voter, vote.signature) for vote in state.precommits.get_votes(value)
                ]
                self.decide(Certificate(known[0], round, signatures), value, known[1])
            return
        if round != self.round:
            return
        if value == NIL:
            self.start_round(now, round + 1)
        elif not state.precommit_timeout and state.precommits.has_any_quorum():  # L47
            state.precommit_timeout = True
            settings = self.settings
            self.set_timer(
                now,
                "precommit",
                self.get_timeout(settings.precommit_ms, settings.precommit_step_ms),
            )  # L48

    def decide(self, certificate: Certificate, value: Hash, payload: bytes) -> None:
        """L51-53. What follows waits for `applied`.

        The record guards nothing that is said: without it a restart finds the precommits that
        decided, its own in the journal, the others by asking. So it waits for company on its way
        to the disk, the next record of whatever kind.
        """
        self.cancel_round_timers()
        encoded = encode_certificate(certificate)
        decision = Decision(self.height, [payload], encoded)
        self.out.append(Deliver(self.height, decision.payloads, value, encoded))
        kept = [] if value in self.journaled else decision.payloads
        self.journal_owed()
        self.owed = Decided(self.height, kept, encoded)
        self.advance_height(value, decision)

    # ---- timeouts

    def on_timeout_propose(self, now: Nanoseconds) -> None:
        """L57-60."""
        if self.rounds[self.round].proposal is None and not self.is_proposer():
            self.suspects[self.validators.get_proposer(self.height, self.round)] = None
        self.give_up()
        self.evaluate(now)

    def on_timeout_prevote(self, now: Nanoseconds) -> None:
        """L61-64."""
        self.cast(PRECOMMIT, NIL)  # L63
        self.step = "precommit"  # L64
        self.evaluate(now)

    def on_timeout_precommit(self, now: Nanoseconds) -> None:
        """L65-67."""
        self.start_round(now, self.round + 1)

    # ---- messages

    def receive(self, now: Nanoseconds, sender: Address, message: Message) -> None:
        # No table of handlers, since most of what a simulated run does comes through here.
        if type(message) is Vote:
            self.on_vote(now, sender, message)
        elif type(message) is Proposal:
            self.on_proposal(now, sender, message)
        elif type(message) is Status:
            self.on_status(now, sender, message)
        elif type(message) is Decision:
            self.on_decision(now, sender, message)

    def get_shown(self, message: Message) -> Height:
        """Nobody speaks of a height before the last one is executed."""
        if type(message) is Vote:
            return message.height - 1
        if type(message) is Proposal:
            return message.height - 1
        assert isinstance(message, (Status, Decision))
        return message.height - 1

    def on_proposal(self, now: Nanoseconds, sender: Address, m: Proposal) -> None:
        if sender == self.me:
            return
        if m.height + 1 >= self.height:
            # It proposes again, be it late: its next turn gets a full timeout.
            self.suspects.pop(sender, None)
        if m.height != self.height or not self.entered:
            self.hold(now, sender, m)
            return
        state = self.get_round(m.round)
        if state is None:
            self.drop("round")
            return
        value = keccak256(m.envelope)
        if value in state.proposals:
            self.drop("duplicate")
            return
        try:
            envelope = decode_envelope(m.envelope)
        except Invalid:
            self.drop("envelope")
            return
        fault = self.find_fault(m, envelope)
        if fault is not None:
            self.drop(fault)
            return
        proposer = self.validators.get_proposer(m.height, m.round)
        digest = compute_digest(self.chain, PROPOSAL, m.height, m.round, value, m.valid_round)
        if not self.is_signed(proposer, digest, m.signature):
            self.drop("signature")
            return
        known = self.values.get(value)
        if (known is None or known[1] != m.payload) and (
            hash_payload(m.payload) != envelope.payload
        ):
            self.drop("payload hash")
            return
        self.suspects.pop(proposer, None)
        if state.proposal is not None and not self.is_second_needed(state, value, m):
            return
        self.keep_proposal(state, value, m, envelope)
        if m.round >= self.round and value not in self.verdicts:
            self.verdicts[value] = None
            self.pending.append((m.payload, value))
            self.out.append(Check(m.height, m.payload))
        if m.round <= self.round:
            self.wake(now)
        self.note(now, proposer, m.round)
        self.follow(now, m.round, state)

    def is_second_needed(self, state: Round, value: Hash, m: Proposal) -> bool:
        """Accuse a proposer of two proposals; whether others may have decided on the second one.

        Only a value with a third of the votes behind it is kept, which bounds what a proposer can
        make us hold.
        """
        assert state.proposal is not None
        first_value, first = state.proposal
        self.accuse(
            self.validators.get_proposer(m.height, m.round),
            PROPOSAL,
            m.round,
            Statement(first_value, first.valid_round, first.signature),
            Statement(value, m.valid_round, m.signature),
        )
        third = self.validators.third
        return any(
            votes.tally.get(value, 0) >= third for votes in (state.prevotes, state.precommits)
        )

    def on_vote(self, now: Nanoseconds, sender: Address, m: Vote) -> None:
        if sender == self.me:
            return
        if m.height != self.height or not self.entered:
            self.hold(now, sender, m)
            return
        voter, round = m.voter, m.round
        power = self.validators.powers.get(voter)
        if power is None or (voter == self.me and round >= self.round):
            # Our own of a round that is over may have been forgotten, and be needed for its polka.
            self.drop("stranger" if power is None else "duplicate")
            return
        state = self.rounds.get(round) or self.get_round(round)
        if state is None:
            if round > self.highest.get(voter, -1) and round > self.round:
                if self.is_vote_signed(m, {}):
                    self.note(now, voter, round)
            else:
                self.drop("round")
            return
        votes = state.prevotes if m.kind == PREVOTE else state.precommits
        if voter not in votes.votes:
            if votes.quorum is not None:
                # It can change nothing any more, so it is not worth verifying.
                self.drop("late")
                return
        elif voter == self.me or votes.has(voter, m.value):
            self.drop("duplicate")
            return
        elif not votes.has_room(voter, m.value):
            self.drop("conflicts")
            return
        if not self.is_vote_signed(m, state.get_digests(m.kind)):
            return
        first = votes.add(m, power)
        self.moved = True
        if first is not None:
            self.accuse(
                voter,
                m.kind,
                round,
                Statement(first.value, -1, first.signature),
                Statement(m.value, -1, m.signature),
            )
        # Every rule about votes is about a quorum of them, but for what a proposer renounces.
        matters = votes.power >= votes.quorum_power
        if (
            m.kind == PREVOTE
            and (m.value == NIL or not self.awake)
            and round == self.round
            and self.is_renounced(state)
        ):
            matters = True
            self.wake(now)
        if round > self.highest.get(voter, -1):
            self.note(now, voter, round)
        if matters:
            self.follow(now, round, state)

    def follow(self, now: Nanoseconds, round: int, state: Round) -> None:
        """Apply the rules that a new message of a round may have enabled."""
        if round == self.round or not self.entered:
            self.evaluate(now)
            return
        self.consider_precommits(now, round, state)
        if self.entered and round < self.round and self.step == "propose":
            # The polka that a proposal refers to may be complete now (L28).
            self.evaluate(now)

    def note(self, now: Nanoseconds, voter: Address, round: int) -> None:
        """Wake for a third of the power at work; L55-56: follow a third to a higher round."""
        if not self.entered or round <= self.highest.get(voter, -1) or voter == self.me:
            return
        self.highest[voter] = round
        powers, third = self.validators.powers, self.validators.third
        if round > self.round:
            power = 0
            for number, who in sorted(
                ((number, who) for who, number in self.highest.items()), reverse=True
            ):
                if number <= self.round:
                    break
                power += powers[who]
                if power >= third:
                    self.start_round(now, number)  # L56
                    return
        if not self.awake and sum(powers[who] for who in self.highest) >= third:
            self.wake(now)

    def on_decision(self, now: Nanoseconds, sender: Address, m: Decision) -> None:
        """A finished height from a peer or from sync, judged by its certificate alone."""
        validators = self.sets.get(m.height)
        if m.height != self.height or validators is None:
            self.hold(now, sender, m)
            return
        try:
            certificate = decode_certificate(m.certificate)
            envelope = certificate.envelope
            if (envelope.engine, envelope.height, envelope.parent) != (
                ENGINE,
                m.height,
                self.parent,
            ):
                raise Invalid(f"decision: not a Tendermint successor at height {m.height}")
            verify_payloads(envelope, m.payloads)
            value = verify_certificate(certificate, self.chain, validators, self.is_signed)
        except Invalid:
            self.drop("decision")
            return
        self.decide(certificate, value, m.payloads[0])
        if self.height in self.sets:
            self.release_decision(now)
