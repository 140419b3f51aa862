"""Catalogue S10 to S12, S14, S19 and R11 under Raft: leaders that are one no more, or should not
be, or cannot become one, and a follower that is given a state.
"""

from typing import Any

from quorate.base.types import Milliseconds, Nanoseconds
from quorate.consensus.raft import Raft
from quorate.consensus.raft_types import Append, Appended, Commit, RequestVote
from quorate.consensus.replica import Timer
from quorate.ledger.opaque import make_member_change
from quorate.node.wire import Decisions
from quorate.simulator.machine import Machine
from quorate.simulator.network import Link
from quorate.simulator.plan import MS, SECOND
from quorate.simulator.reads import LINEARIZABLE, LinearReads
from quorate.simulator.scenarios.registry import scenario
from quorate.simulator.scenarios.stage import Play, Stage, make_members
from quorate.simulator.steadiness import STEADY
from quorate.simulator.timing import PartiallySynchronous
from quorate.simulator.verdict import Outcome

PARTIAL = PartiallySynchronous(delta_ns=50 * MS, gst_ns=60 * SECOND)
SLOW = 1000
"""So many times as long as usual: half a second for what a disk makes durable."""
QUICK = {"heartbeat_ms": 40, "election_ms": 400}
ATTEMPT_MS = 60
"""For an election."""


class NeverDoubts(Raft):
    """A leader that goes on whether or not it hears from a majority: no CheckQuorum."""

    def on_timeout_quorum(self, now: Nanoseconds) -> None:
        self.set_timer(now, "quorum", SECOND)

    TIMEOUTS = {**Raft.TIMEOUTS, "quorum": on_timeout_quorum}  # noqa: RUF012


def elect(play: Play, index: int, election_ms: Milliseconds = 1000) -> None:
    """Let a machine stand for election again and again, and nobody else, until those that heard the
    last leader have forgotten it.
    """
    node, network = play.machines[index].node, play.world.network
    assert node is not None
    unheard = network.unheard

    def is_unheard(link: Link, frame: bytes) -> bool:
        rival = link.source.index != index and isinstance(play.world.decode(frame), RequestVote)
        return rival or (unheard is not None and unheard(link, frame))

    network.hear(is_unheard)
    for _ in range(2 * election_ms // ATTEMPT_MS):
        if not node.leads():
            node.timeout(Timer("election"))
            play.run(ATTEMPT_MS, node.leads)
    network.hear(unheard)
    play.require("the scene", node.leads(), f"machine {index} does not lead")
    # So that what it writes as a leader is durable.
    play.run(ATTEMPT_MS)


def start(stage: Stage, count: int, **plan: Any) -> Play:
    """Return a network of Raft that machine 0 leads."""
    play = stage.build(count, engine="raft", **plan)
    elect(play, 0, plan.get("engine_settings", {}).get("election_ms", 1000))
    return play


@scenario(
    "S10",
    "figure-8",
    "an entry that a majority holds is overwritten",
    source="Ongaro, Ousterhout, extended version 2014, section 5.4.2 and figure 8",
    mitigation="a leader counts only entries of its own term",
    timing=PARTIAL,
    breaks="commitment",
)
def figure_8(stage: Stage) -> Outcome:
    """Five members. The leader gives an entry to one other and goes down. Another one is elected
    without that entry, writes one of its own, and goes down. The first comes back, is elected
    again, and gives its old entry to a third: a majority holds it. It goes down, the other one
    comes back with its later entry, is elected, and overwrites what a majority held. Nothing is
    lost as long as nobody called it committed.
    """
    bug = "" if stage.mitigated else "r1-old-term"
    play = start(stage, 5, bug=bug, engine_settings={"max_append_bytes": 1, "election_ms": 3000})
    lost = {(0, 2), (0, 3), (0, 4)}
    limit = [2]

    def is_lost(source: int, target: int, m: Any) -> bool:
        if type(m) is Append and m.entries and m.entries[-1].index <= limit[0]:
            return (source, target) in lost
        # Nobody sees a later entry, or hears what is committed, before the end.
        late = type(m) is Append and (m.entries or m.commit >= limit[0])
        return limit[0] == 2 and (isinstance(m, Commit | Decisions) or bool(late))

    play.lose(is_lost)
    play.submit(0)
    play.run(60)
    play.faults.crash(0)
    lost |= {(4, 0), (4, 1), (4, 2), (4, 3)}
    elect(play, 4, 3000)
    play.faults.crash(4)
    play.faults.start(0)
    lost.remove((0, 2))
    elect(play, 0, 3000)
    play.run(500, lambda: play.get_height(0) > 0)
    stage.say(f"heights after a majority held the entry: {play.get_heights()}")
    play.faults.crash(0)
    play.faults.start(4)
    lost.clear()
    limit[0] = 1 << 30
    elect(play, 4, 3000)
    play.run(3_000)
    return play.judge()


@scenario(
    "S11",
    "deaf-follower",
    "a follower that hears nobody deposes every leader",
    source="Ongaro, thesis, sections 4.2.3, 6.2 and 9.6; Howard, Abraham, Raft does not guarantee "
    "liveness in the face of network faults, 2020",
    mitigation="PreVote, CheckQuorum, and no votes while a leader is heard",
    timing=PARTIAL,
    breaks=STEADY,
)
def deaf_follower(stage: Stage) -> Outcome:
    """A follower is heard and hears nobody. Its elections time out one after the other; if each
    begins a new term, the leader steps down for each of them, though it never lost a message.
    """
    play = start(stage, 3, bug="" if stage.mitigated else "r12-no-prevote")
    play.submit_every(100, 20_000, 0)
    play.run(500)
    term = play.get_round(0)
    play.faults.deafen(2)
    play.run(15_000)
    terms = max(play.get_round(i) for i in (0, 1)) - term
    stage.measure("terms that the deaf follower began", terms)
    play.require(STEADY, terms == 0, f"{terms} more terms while 0 and 1 hear each other")
    return play.judge()


@scenario(
    "S11b",
    "deaf-leader",
    "a leader that hears nobody keeps everybody waiting",
    source="Jensen, Howard, Mortier, Examining Raft's behaviour during partial network failures, "
    "2021; thesis, section 6.2",
    mitigation="CheckQuorum: a leader that hears no majority for an election timeout steps down",
    timing=PARTIAL,
    breaks="progress",
)
def deaf_leader(stage: Stage) -> Outcome:
    """The leader is heard and hears nobody: its heartbeats keep all others from an election, and no
    acknowledgement ever reaches it.
    """
    play = start(stage, 3, on_world=stage.without(NeverDoubts))
    play.submit_every(100, 20_000)
    play.run(500)
    play.faults.deafen(0)
    before = max(play.get_heights())
    play.run(15_000)
    grown = max(play.get_heights()) - before
    stage.measure("heights in 15 s", grown)
    play.require("progress", grown > 0, "no height in 15 s, expected another leader")
    return play.judge()


@scenario(
    "S11c",
    "partial-partition",
    "two members that cannot reach each other depose each other for ever",
    source="Lianza, Snook, A Byzantine failure in the real world, Cloudflare 2020; Howard, Abraham "
    "2020",
    mitigation="PreVote, and no votes while a leader is heard",
    timing=PARTIAL,
    breaks=STEADY,
)
def partial_partition(stage: Stage) -> Outcome:
    """The link between the leader and one follower is cut; the third hears both. The one that
    misses the leader stands for election and wins, then the old leader misses the new one and
    stands, and so on, each time with a pause for everybody.
    """
    play = start(stage, 3, bug="" if stage.mitigated else "r12-no-prevote")
    play.submit_every(100, 25_000, 2)
    play.run(500)
    term = play.get_round(2)
    play.faults.deafen(0, 1)
    play.faults.deafen(1, 0)
    play.run(20_000)
    terms = play.get_round(2) - term
    stage.measure("changes of the leader in 20 s", terms)
    play.require(STEADY, terms == 0, f"{terms} more terms, expected that the leader stays")
    return play.judge()


def depose(play: Play) -> tuple[LinearReads, int]:
    """Cut the leader off until another one has answered for something new; return at which height,
    and a judge of reads that knows of it.
    """
    reads = LinearReads(play.world)
    play.submit(0)
    play.run(500)
    play.faults.partition(0, notice=False)
    play.submit(1)
    before = play.get_height(1)
    play.run(20_000, lambda: play.get_height(1) > before)
    reads.on_answer(play.machines[1], play.get_height(1))
    return reads, play.get_height(1)


@scenario(
    "S19",
    "stale-read",
    "a deposed leader that does not know it answers a read",
    source="Ongaro, thesis, section 6.4",
    mitigation="ReadIndex: a majority confirms the leader before it answers",
    timing=PARTIAL,
    breaks=LINEARIZABLE,
)
def stale_read(stage: Stage) -> Outcome:
    """The leader is cut off. The others have elected another one, which has decided something and
    told a client so, while the first still takes itself for the leader, and is asked to read.
    """
    bug = "" if stage.mitigated else "r14-unconfirmed"
    play = start(stage, 3, bug=bug, engine_settings=QUICK)
    # Its clock is slow, so that it finds out later than the others that nobody hears it.
    play.faults.drift(0, -800_000)
    reads, height = depose(play)
    stage.say(f"height {height} was told to a client, the old leader is at {play.get_height(0)}")
    reads.read(play.machines[0])
    play.run(2_000)
    return play.judge()


@scenario(
    "S19b",
    "slow-lease",
    "a lease outlasts its time by a clock that is too slow",
    source="Ongaro, thesis, section 6.4.1",
    mitigation="leases are off unless asked for, and as long as clocks may be off at most",
    timing=PARTIAL,
    breaks=LINEARIZABLE,
)
def slow_lease(stage: Stage) -> Outcome:
    """As a stale read, but with leases: the leader answers without asking while its lease lasts.
    Its clock runs at a fifth of the speed, far beyond the bound that leases rely on, and the others
    have long elected another leader when its own clock still allows it to read.
    """
    settings = {**QUICK, "lease_reads": not stage.mitigated}
    play = start(stage, 3, engine_settings=settings)
    play.faults.drift(0, -800_000)
    reads, _ = depose(play)
    reads.read(play.machines[0])
    play.run(2_000)
    stage.measure("reads that were answered", sum(height >= 0 for _, i, height in reads.events) - 1)
    return play.judge()


def is_installing(machine: Machine) -> bool:
    return machine.node is not None and machine.node.states.phase == "installing"


def get_commit(machine: Machine) -> int:
    """Return the commit index of a machine's replica."""
    replica = None if machine.node is None else machine.node.replica
    return replica.commit if isinstance(replica, Raft) else 0


@scenario(
    "S14",
    "snapshot-race",
    "a snapshot that arrives late throws away what was acknowledged after it",
    source="Ongaro, Ousterhout, extended version 2014, figure 13, rule 6; Ongaro, thesis, section "
    "5.3",
    mitigation="entries behind the snapshot's last one stay if the log agrees with it there",
    timing=PARTIAL,
    breaks="commitment",
)
def snapshot_race(stage: Stage) -> Outcome:
    """A follower that was away takes over the state at a height. While it writes that state, the
    leader's entries come after all, up to one above the snapshot; the follower acknowledges them,
    and by that the leader commits. Then the snapshot is there. If it replaces the whole log, the
    committed entry is held by the leader alone.
    """
    far = {"state_interval": 4, "state_gap": 4, "state_chunk_bytes": 100}
    bug = "" if stage.mitigated else "raft-forgets-suffix"
    play = start(stage, 3, bug=bug, node_settings=far)
    play.faults.crash(2)
    for _ in range(9):
        play.submit(0)
        play.run(100)
    late = play.machines[2]
    heard = [-1]

    def is_lost(source: int, target: int, m: Any) -> bool:
        # At first the log does not reach the follower, then it does not hear of the commitment.
        if target == 2 and isinstance(m, Append | Commit):
            return m.commit > heard[0]
        return isinstance(m, Decisions) or (
            source == 1 and isinstance(m, Appended) and heard[0] >= 0
        )

    play.lose(is_lost)
    play.faults.start(2)
    play.faults.slow(2, SLOW)
    installs = play.run(10_000, lambda: is_installing(late))
    play.require("the scene", installs, "no state is taken over")
    play.faults.slow(2, 1)
    heard[0] = max(get_commit(machine) for machine in play.machines)
    play.submit(0)
    play.run(3_000)
    node = late.node
    stage.measure("states taken over", 0 if node is None else node.counters.get("states_taken", 0))
    stage.say(f"heights in the end: {play.get_heights()}")
    return play.judge()


class SameTimeouts(Raft):
    """Everybody waits equally long before it stands for election."""

    def set_timer(self, now: Nanoseconds, kind: str, delay_ns: Nanoseconds) -> None:
        even_ns = self.settings.election_ms * MS
        super().set_timer(now, kind, even_ns if kind == "election" else delay_ns)


@scenario(
    "S12",
    "dueling-candidates",
    "two that stand at the same time take the votes from each other for ever",
    source="Lamport, Paxos made simple, 2001, section 2.4 (dueling proposers); Ongaro, Ousterhout, "
    "extended version 2014, section 5.2",
    mitigation="each member draws its election timeout anew before each election",
    timing=PARTIAL,
    breaks="progress",
)
def dueling_candidates(stage: Stage) -> Outcome:
    """Two of three members are left, over links of equal length. Both notice in the same moment
    that the leader is gone, both may win, both vote for themselves, and neither has a majority.
    With equal timeouts they do the same again in each term, as two proposers of Paxos that outbid
    each other.
    """
    play = start(stage, 3, on_world=stage.without(SameTimeouts), jitter_ns=1)
    play.submit(0)
    play.run(500)
    term = max(play.get_round(i) for i in (1, 2))
    play.faults.crash(0)
    before = max(play.get_heights())
    play.submit_every(500, 20_000, 1, 2)
    play.run(20_000)
    stage.measure("terms in 20 s", max(play.get_round(i) for i in (1, 2)) - term)
    grown = max(play.get_heights()) - before
    play.require("progress", grown > 0, "no height in 20 s with two of three members")
    return play.judge()


@scenario(
    "R11",
    "voted-out-leader",
    "a leader that is voted out takes the only copy of the last entry with it",
    source="Ongaro, thesis, section 4.2.2 and figure 4.6; Ongaro, Ousterhout 2014, section 6, and "
    "Hoch, Configuration changes, raft-dev 2014",
    mitigation="who is voted out stands for election until the new set has decided something",
    timing=PARTIAL,
    breaks="progress",
)
def voted_out_leader(stage: Stage) -> Outcome:
    """The leader has two of four powers and is voted out. It has written the next entry, which
    takes majorities of the old set and of the new one, when it loses power, and the others do not
    hold that entry. Then nobody is elected without its vote, and it votes for nobody whose log ends
    before its own: it has to stand itself, for a set that it is no member of any more.
    """
    play = start(
        stage,
        3,
        bug="" if stage.mitigated else "r11-leaves-at-once",
        machines=make_members(2, 1, 1),
    )
    leader = play.machines[0]
    gone = make_member_change(leader.member.address, 0)
    play.submit(0, gone)
    # Its next entry reaches nobody, and nobody hears what is committed meanwhile.
    play.run(500, lambda: play.get_height(0) > 0)
    play.faults.silence(0)
    play.submit(0)
    play.run(100)
    play.faults.crash(0)
    play.faults.heal()
    play.faults.start(0)
    before = max(play.get_heights())
    play.submit_every(500, 20_000, 1, 2)
    play.run(20_000)
    grown = max(play.get_heights()) - before
    stage.measure("heights in 20 s", grown)
    play.require("progress", grown > 0, "no height in 20 s, and nobody is down")
    return play.judge()
