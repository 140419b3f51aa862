"""Catalogue S30 to S36, S41, S42: members that lie, for Tendermint.

What the catalogue names after PBFT stands here as its analogue: a primary is the proposer of a
round, a new view is the next round, what was prepared is what has a polka.
"""

from collections.abc import Callable
from functools import partial
from itertools import product
from typing import Any

from msgspec.structs import replace

from quorate.base.errors import Invalid
from quorate.base.types import Address, Nanoseconds
from quorate.consensus.certificate import (
    PRECOMMIT,
    PREVOTE,
    decode_certificate,
    verify_certificate,
)
from quorate.consensus.replica import Decision, Keys, Replica
from quorate.consensus.tendermint import Tendermint
from quorate.consensus.tendermint_rounds import Round
from quorate.consensus.tendermint_types import KEPT_ROUNDS, ROUNDS_AHEAD, Proposal, Vote
from quorate.node.wire import Tip
from quorate.simulator.bugs.tendermint import UnlockWithoutPolka
from quorate.simulator.plan import MS, SECOND
from quorate.simulator.scenarios.basics import FixedLeader
from quorate.simulator.scenarios.fallacies import require_blocks
from quorate.simulator.scenarios.liars import (
    DoubleVoter,
    Flooder,
    Liar,
    Silent,
    SlowProposer,
    TwoFaced,
)
from quorate.simulator.scenarios.registry import scenario
from quorate.simulator.scenarios.stage import Play, Stage, get_turns, make_members
from quorate.simulator.timing import PartiallySynchronous
from quorate.simulator.verdict import Outcome
from quorate.simulator.world import World

PARTIAL = PartiallySynchronous(delta_ns=50 * MS, gst_ns=20 * SECOND)
NOW = PartiallySynchronous(delta_ns=50 * MS, gst_ns=0)
PBFT = "Castro, Liskov, Practical Byzantine fault tolerance, OSDI 1999"
COMET = "CometBFT, specification of light client attacks and accountability"


@scenario(
    "S30",
    "equivocating-proposer",
    "a proposer that shows two proposals",
    source=PBFT,
    mitigation="two quorums share a correct member, which votes once in a round",
    timing=PARTIAL,
    breaks="agreement",
)
def equivocating_proposer(stage: Stage) -> Outcome:
    """One of four shows half of the others another proposal in its turn, and votes for both. No two
    blocks may be final at one height, and 20 must be made in 30 s. If more than a third were a
    quorum, each half would decide with the liar's help.
    """
    play = stage.build(rules=stage.mitigated, bug="" if stage.mitigated else "small-quorum")
    play.turn(3, TwoFaced)
    require_blocks(play, 20, 30_000)
    return play.judge()


@scenario(
    "S31a",
    "silent-proposer",
    "a proposer that says nothing",
    source=PBFT,
    mitigation="a proposer whose last proposal never came gets a short first timeout",
    timing=PARTIAL,
    breaks="throughput",
)
def silent_proposer(stage: Stage) -> Outcome:
    """One of four is silent. 100 blocks must be made in 30 s; it would be fewer, if each of its
    turns cost a whole timeout.
    """
    settings = {} if stage.mitigated else {"suspect_ms": 1_000}
    play = stage.build(engine_settings=settings)
    play.turn(3, Silent)
    return require_throughput(play, 100)


@scenario(
    "S31b",
    "slow-proposer",
    "a proposer that is just fast enough",
    source="Clement and others, Making Byzantine fault tolerant systems tolerate Byzantine faults"
    " (Aardvark), NSDI 2009",
    mitigation="proposers take turns, so it slows its own turns only",
    timing=PARTIAL,
    breaks="throughput",
)
def slow_proposer(stage: Stage) -> Outcome:
    """A proposer holds each proposal back for 900 ms, just under the timeout, so nobody can blame
    it. With proposers in turn 80 blocks are made in 30 s; a leader that stays makes one a second.
    """
    play = stage.build(rules=stage.mitigated, on_world=stage.without(FixedLeader))
    play.turn(play.get_turns(1)[0], SlowProposer)
    return require_throughput(play, 80)


def require_throughput(play: Play, blocks: int) -> Outcome:
    """So many blocks must be made in 30 s, wherever they are final first."""
    play.submit_every(100, 30_000)
    play.run(30_000)
    made = max(play.get_heights())
    play.stage.measure("blocks", made)
    play.require("throughput", made >= blocks, f"{made} blocks in 30 s, expected at least {blocks}")
    return play.judge()


def replace_some(addresses: list[Address], replica: type[Replica]) -> Callable[[World], None]:
    """Return what makes the machines of some identities run another replica."""

    def install(world: World) -> None:
        usual = world.make_replica

        def make_replica(keys: Keys, *arguments: Any) -> Any:
            kind = replica if keys.address in addresses else usual
            return kind(keys, *arguments)

        world.make_replica = make_replica

    return install


def decide_alone(play: Play, *, restart: bool) -> None:
    """Bring about that one decides round 0 alone and is cut off, and two others are locked.

    The proposer of round 1 knows nothing of the value. Those who are locked may be restarted.
    """
    alone, ignorant, *locked = play.get_turns(4)
    address = play.machines[alone].address

    def hide(_: int, target: int, m: Any) -> bool:
        if isinstance(m, Proposal):
            return m.round == 0 and target == ignorant
        if isinstance(m, Vote) and (m.round, m.voter) == (0, address):
            return m.kind == PRECOMMIT or target == ignorant
        return isinstance(m, Decision | Tip)

    play.lose(hide)
    for index in range(4):
        play.submit(index, b"what is decided alone")
    decided = play.run(5_000, lambda: play.get_height(alone) == 1)
    play.faults.partition(alone)
    found = f"heights {play.get_heights()}, expected 1 of machine {alone}"
    play.require("the scene", decided, found)
    if restart:
        for index in locked:
            play.faults.crash(index, restart_ns=100 * MS)
    play.run(12_000)
    play.stage.say(f"heights after the cut: {play.get_heights()}")


@scenario(
    "S32",
    "dropped-lock",
    "the next proposer drops what has a polka",
    source=PBFT + ": a new view must carry what was prepared",
    mitigation="a locked replica votes for something else only on a polka of a later round",
    timing=PARTIAL,
    breaks="agreement",
)
def dropped_lock(stage: Stage) -> Outcome:
    """One validator decides in round 0 and is cut off at once; two others are locked on the same
    value. The proposer of round 1 claims to know nothing of it and proposes another. Those who are
    locked refuse it; if they did not, they would decide it.
    """
    bug = "" if stage.mitigated else "t1-unlock-without-polka"
    play = stage.build(rules=False, bug=bug)
    decide_alone(play, restart=False)
    return play.judge()


def is_proved(play: Play, index: int) -> bool:
    """Whether a machine's answer convinces a reader; that of a liar names a payload of its own."""
    machine = play.machines[index]
    assert machine.node is not None
    execution = machine.node.execution
    certificate = decode_certificate(execution.certificate)
    if not machine.is_honest:
        envelope = replace(certificate.envelope, payload=bytes(32))
        certificate = replace(certificate, envelope=envelope)
    members = execution.application.members(execution.final.height)
    try:
        verify_certificate(certificate, play.world.chain, members, machine.keys.verify)
    except Invalid:
        return False
    return True


@scenario(
    "S33",
    "read-quorum",
    "reads that wait for matching answers never end",
    source="Berger, Reiser, Bessani, Making reads in BFT state machine replication fast,"
    " linearizable, and live, SRDS 2021",
    mitigation="one answer with a certificate, which the reader verifies",
    timing=PARTIAL,
    breaks="reads end",
)
def read_quorum(stage: Stage) -> Outcome:
    """A reader wants the same answer of three out of four. One lies to readers, and leaves a
    correct one behind, so that only two can answer alike. With certificates one answer is enough,
    and the liar has none for its own.
    """
    play = stage.build(node_settings={"block_time_ms": 1_000})
    play.turn(3, Liar)
    play.run(2_000)
    play.faults.deafen(2)
    ended = 0
    for _ in range(20):
        play.run(500)
        if stage.mitigated:
            believed = [index for index in range(4) if is_proved(play, index)]
            ended += bool(believed) and 3 not in believed
        else:
            nodes = [machine.node for machine in play.machines[:3]]
            answers = [node.execution.final.block for node in nodes if node is not None]
            ended += answers.count(answers[0]) == 3
    stage.measure("reads_ended_of_20", ended)
    play.require("reads end", ended == 20, f"{ended} of 20 reads ended, expected all")
    return play.judge()


@scenario(
    "S34",
    "hidden-lock",
    "a lock that nobody else knows of",
    source="Buchman, Kwon, Milosevic 2018, section on validValue; malachite issue 956",
    mitigation="whoever sees a polka proposes its value again (validValue)",
    timing=PARTIAL,
    breaks="progress",
)
def hidden_lock(stage: Stage) -> Outcome:
    """One validator alone sees the polka of round 0 in time and locks. Then another one is gone, so
    everybody's vote is needed. A block must follow within 30 s. If proposers always offered
    something new, the locked one would refuse it for ever.
    """
    play = stage.build(rules=stage.mitigated, bug="" if stage.mitigated else "t3-no-valid-value")
    locked, *_, gone = play.get_turns(4)
    address = play.machines[locked].address

    def hide(_: int, target: int, m: Any) -> bool:
        if isinstance(m, Proposal):
            return m.round == 0 and target == gone
        return isinstance(m, Vote) and (m.kind, m.round, m.voter) == (PREVOTE, 0, address)

    play.lose(hide)
    for index in range(4):
        play.submit(index, b"what is locked")
    play.run(20_000, lambda: min(play.get_round(i) for i in range(4)) >= 1)
    play.faults.crash(gone)
    play.world.network.hear(None)
    decided = play.run(30_000, lambda: play.get_height(locked) > 0)
    stage.measure("decided_after_ms", play.now_ms)
    play.require("progress", decided, f"heights {play.get_heights()} after 30 s, expected 1")
    return play.judge()


class DropsOwnVotes(Tendermint):
    """A replica that takes no vote of its own from others, however old."""

    def on_vote(self, now: Nanoseconds, sender: Address, m: Vote) -> None:
        if m.voter != self.me:
            super().on_vote(now, sender, m)


@scenario(
    "Q2",
    "forgotten-vote",
    "a validator forgets a vote that a polka needs",
    source="found by seed 30326 on links that lose a fifth",
    mitigation="its own old vote counts when others bring it back",
    timing=NOW,
    breaks="progress",
)
def forgotten_vote(stage: Stage) -> Outcome:
    """One of four locks in round 0 on a polka that nobody else sees. Twenty rounds fail, more than
    votes are kept for; then another voter of that polka is gone, and everybody is needed. A block
    must follow within 30 s. The last voter of the polka has forgotten its vote, and could not
    complete the polka if it took its own vote for a mere copy.
    """
    haste = {"propose_ms": 50, "propose_step_ms": 20, "prevote_ms": 20, "precommit_ms": 20}
    settings = {**haste, "prevote_step_ms": 10, "precommit_step_ms": 10, "status_ms": 50}
    play = stage.build(timing=None, engine_settings=settings, on_world=stage.without(DropsOwnVotes))
    locked, *_, gone, late = play.get_turns(4)
    address = play.machines[locked].address

    def hide(_: int, target: int, m: Any) -> bool:
        if isinstance(m, Proposal):
            return m.round > 0 or target == late
        return isinstance(m, Vote) and (m.kind, m.round, m.voter) == (PREVOTE, 0, address)

    play.lose(hide)
    play.run(300)
    for index in range(4):
        play.submit(index, b"what is locked")
    play.run(60_000, lambda: min(play.get_round(i) for i in range(4)) >= KEPT_ROUNDS + 4)
    play.faults.crash(gone)
    play.world.network.hear(None)
    began = play.now_ms
    decided = play.run(30_000, lambda: play.get_height(locked) > 0)
    stage.measure("decided_after_ms", play.now_ms - began)
    play.require("progress", decided, f"heights {play.get_heights()} after 30 s, expected 1")
    return play.judge()


@scenario(
    "S35a",
    "amnesia",
    "validators that forget what they locked",
    source=COMET + ", scenarios 3 and 4",
    mitigation="a lock is in the journal before the precommit is said",
    timing=PARTIAL,
    breaks="agreement",
)
def amnesia(stage: Stage) -> Outcome:
    """One validator decides in round 0 and is cut off at once. The two that are locked on its value
    crash and start again, and the next proposer knows nothing. If the locks were lost, they would
    decide something else.
    """
    play = stage.build(rules=False, bug="" if stage.mitigated else "t4-amnesia")
    decide_alone(play, restart=True)
    return play.judge()


class Blind(Tendermint):
    """A replica that reports nobody."""

    def accuse(self, *arguments: Any) -> None:
        """Contradictions are not noticed."""


@scenario(
    "S35b",
    "equivocation",
    "a validator that votes twice in a round goes unpunished",
    source=COMET + ", scenario 1",
    mitigation="both votes together are evidence that convinces a stranger",
    timing=PARTIAL,
    breaks="accountability",
)
def equivocation(stage: Stage) -> Outcome:
    """One of four votes for the proposal and for nil, and everybody hears both. Somebody must have
    evidence against it within 20 s, and nobody else may be accused.
    """
    play = stage.build(on_world=stage.without(Blind))
    accused: dict[Address, None] = {}
    play.world.on_accuse.append(lambda _, effect: accused.setdefault(effect.who))
    play.turn(3, DoubleVoter)
    play.submit_every(100, 20_000)
    play.run(20_000, lambda: bool(accused))
    names = [play.world.get_machine(address).name for address in accused]
    stage.say(f"accused after {play.now_ms} ms: {', '.join(names) or 'nobody'}")
    liar = play.machines[3].name
    play.require("accountability", names == [liar], f"accused: {names}, expected [{liar}]")
    return play.judge()


@scenario(
    "S35c",
    "flip-flop",
    "validators that change their minds without a reason",
    source=COMET + ", scenario 2",
    mitigation="fewer than a third of the power lies",
    timing=PARTIAL,
    breaks="agreement",
)
def flip_flop(stage: Stage) -> Outcome:
    """One validator decides in round 0 and is cut off at once. Of the two that are locked one votes
    for whatever comes next: its vote is not enough. If both do, the next proposal is decided too.
    """
    members = make_members(1, 1, 1, 1)
    liars = get_turns(members, 4)[2 : 3 if stage.mitigated else 4]
    bug = replace_some([members[i].address for i in liars], UnlockWithoutPolka)
    play = stage.build(machines=members, rules=False, on_world=bug)
    for index in liars:
        play.turn(index, Liar)
    decide_alone(play, restart=False)
    return play.judge()


class KeepsAll(Tendermint):
    """A replica that keeps the votes of every round it hears of."""

    def get_round(self, round: int) -> Round | None:
        return self.make_round(round)

    def forget_rounds(self) -> None:
        """Nothing is forgotten."""


@scenario(
    "S36",
    "nil-flood",
    "a flood of nil votes for far rounds",
    source="CometBFT, HeightVoteSet: at most two rounds ahead are kept for each peer",
    mitigation="votes of rounds far ahead count as presence and are not kept",
    timing=NOW,
    breaks="bounded memory",
)
def nil_flood(stage: Stage) -> Outcome:
    """One of four votes nil, and with each vote for a hundred rounds to come. Blocks must be made
    all the same, 20 in 30 s, and nobody may keep more rounds than its bound.
    """
    play = stage.build(on_world=stage.without(KeepsAll))
    play.turn(3, Flooder)
    kept: list[int] = []

    def look() -> None:
        nodes = [machine.node for machine in play.machines[:3]]
        kept.extend(len(node.replica.rounds) for node in nodes if node)  # type: ignore[attr-defined]

    for time in range(10, 5_000, 10):
        play.at(time, look)
    require_blocks(play, 20, 30_000)
    bound = KEPT_ROUNDS + ROUNDS_AHEAD + 3
    stage.measure("rounds_kept", max(kept))
    play.require("bounded memory", max(kept) <= bound, f"{max(kept)} rounds, expected {bound}")
    return play.judge()


@scenario(
    "S41a",
    "three-of-three",
    "a third of silent members stops three",
    source="Dwork, Lynch, Stockmeyer 1988, table 1: n > 3f",
    mitigation="a fourth member",
    timing=PARTIAL,
    breaks="progress",
)
def three_of_three(stage: Stage) -> Outcome:
    """One member is silent. Four make 20 blocks in 30 s without it; three cannot make one, since a
    quorum of three of them would have to include it. A network that went on would be unsafe.
    """
    play = stage.build(4 if stage.mitigated else 3)
    play.turn(len(play.machines) - 1, Silent)
    require_blocks(play, 20, 30_000)
    return play.judge()


@scenario(
    "S41b",
    "half-conspire",
    "half of the members in a conspiracy fork four",
    source="Pease, Shostak, Lamport, Reaching agreement in the presence of faults, 1980: n > 3f",
    mitigation="fewer than a third of the power lies",
    timing=PARTIAL,
    breaks="agreement",
)
def half_conspire(stage: Stage) -> Outcome:
    """Two-faced members show one proposal to one half and another to the other, and vote for both.
    One of four forks nobody; two of four fork the other two, whatever these do.
    """
    play = stage.build(rules=stage.mitigated)
    shown: dict[Any, Any] = {}
    for index in (3,) if stage.mitigated else (2, 3):
        play.turn(index, partial(TwoFaced, shown=shown))
    require_blocks(play, 20, 30_000)
    return play.judge()


@scenario(
    "S42",
    "twins",
    "a validator whose key runs on two machines",
    source="Bano and others, Twins: BFT systems made robust, OPODIS 2021",
    mitigation="a quorum is more than two thirds",
    timing=PARTIAL,
    breaks="agreement",
)
def twins(stage: Stage) -> Outcome:
    """Every way to split three validators between two twins of the fourth, for a second, followed
    by every way for another: 32 networks, since at first it does not matter which twin is which. No
    two blocks may be final at one height in any of them.
    """
    members = make_members(1, 1, 1, 1)
    members.append(replace(members[3], name="validator-3-twin", power=0))
    outcomes = []
    for first, then in product((0, 1, 2, 4), range(8)):
        play = stage.build(
            machines=members, rules=False, bug="" if stage.mitigated else "small-quorum"
        )
        for index in (3, 4):
            play.turn(index, Liar)
        play.run(50)
        play.submit_every(100, 2_000)
        for sides in (first, then):
            group = [i for i in range(3) if sides >> i & 1]
            cut = play.faults.partition(*group, 4)
            play.run(1_000)
            play.faults.mend(cut)
        # Without the quorum a network may also stop, which would say less.
        outcomes.append(play.judge(progress=stage.mitigated))
        if outcomes[-1].verdict != "true":
            break
    stage.measure("networks", len(outcomes))
    return outcomes[-1]
