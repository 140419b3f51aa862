"""Catalogue S2 to S7: what everybody who builds a distributed system meets first."""

from typing import Any

from quorate.base.types import Address, Height, Member
from quorate.consensus.certificate import PRECOMMIT
from quorate.consensus.membership import ValidatorSet
from quorate.consensus.tendermint import Tendermint
from quorate.consensus.tendermint_types import Proposal, Vote
from quorate.simulator.causality import run_hybrid_clocks
from quorate.simulator.detectors.words import describe_report
from quorate.simulator.plan import MS, SECOND
from quorate.simulator.scenarios.registry import scenario
from quorate.simulator.scenarios.stage import Stage
from quorate.simulator.timing import Asynchronous, PartiallySynchronous
from quorate.simulator.tracer import Tracer
from quorate.simulator.verdict import Outcome

PARTIAL = PartiallySynchronous(delta_ns=50 * MS, gst_ns=8 * SECOND)
HOUR = 3_600 * SECOND


@scenario(
    "S2",
    "four-outcomes",
    "the four outcomes of a request",
    source="Birrell, Nelson, Implementing remote procedure calls, 1984: at most once",
    mitigation="a request that is sent again has the same identity, and is executed once",
    timing=PARTIAL,
    breaks="exactly once",
)
def four_outcomes(stage: Stage) -> Outcome:
    """A client sends four requests and hears of one: the first is done and answered, of the second
    the answer is lost, the third never arrives, the fourth is late. It cannot tell these apart, so
    after two seconds it sends the three again, to another validator.
    """
    play = stage.build()
    play.run(500)
    requests = [b"request %d." % n for n in range(1, 5)]
    play.submit(0, requests[0])
    play.submit(1, requests[1])
    play.faults.crash(2, restart_ns=4 * SECOND)
    play.submit(2, requests[2])
    play.faults.pause(3, 5 * SECOND)
    play.at(play.now_ms + 5_001, play.submit, 3, requests[3])
    play.run(2_000)
    for request in requests[1:]:
        play.submit(0, request if stage.mitigated else request + b" again")
    play.run(8_000)
    times = [play.count_final(0, request) for request in requests]
    stage.say(f"executions of each request: {times}")
    play.require("exactly once", times == [1] * 4, f"executed {times} times, expected once each")
    return play.judge()


@scenario(
    "S3",
    "two-generals",
    "two generals",
    source="Gray, Notes on data base operating systems, 1978",
    mitigation="nobody acts as if the other knew: what is decided stays, and is told until it is",
    timing=PARTIAL,
    breaks="common knowledge",
)
def two_generals(stage: Stage) -> Outcome:
    """Two validators, both needed. The link fails at the message by which the second one would know
    of a decision too. Whatever message was the last, its sender cannot know that it came: no
    protocol makes both know at once. Agreement asks for less: the other learns the same later.
    """
    play = stage.build(2)

    def fail(source: int, target: int, m: Any) -> bool:
        last = isinstance(m, Vote) and (m.kind, m.height) == (PRECOMMIT, 3)
        if source == 0 and last and not play.faults.cuts:
            play.faults.silence(0, target)
        return bool(play.faults.cuts) and source == 0

    play.lose(fail)
    play.submit_every(300, 3_000)
    play.run(6_000)
    heights = play.get_heights()
    stage.say(f"heights five seconds after the cut: {heights}")
    if not stage.mitigated:
        same = heights[0] == heights[1]
        play.require("common knowledge", same, f"heights {heights}, expected the same of both")
    return play.judge()


@scenario(
    "S4",
    "split-brain",
    "split brain by disjoint quorums",
    source="Davidson, Garcia-Molina, Skeen, Consistency in partitioned networks, 1985",
    mitigation="a quorum is more than two thirds, so two of them share a correct member",
    timing=PARTIAL,
    breaks="agreement",
)
def split_brain(stage: Stage) -> Outcome:
    """Four validators fall into two halves, and clients write to both.

    With quorums of three neither half decides until they meet again. If more than a third were
    enough, each half would decide alone, and the two would have different blocks at one height.
    """
    play = stage.build(rules=stage.mitigated, bug="" if stage.mitigated else "small-quorum")
    play.run(200)
    before = max(play.get_heights())
    play.faults.partition(0, 1)
    play.submit_every(500, 6_000)
    play.run(6_000)
    stage.measure("heights_while_split", max(play.get_heights()) - before)
    return play.judge()


@scenario(
    "S5",
    "flp",
    "a scheduler that keeps everybody undecided",
    source="Fischer, Lynch, Paterson 1985; Dwork, Lynch, Stockmeyer 1988",
    mitigation="after some unknown time messages have a bound",
    timing=Asynchronous(fairness_ns=HOUR),
    breaks="termination",
)
def flp(stage: Stage) -> Outcome:
    """Nobody is faulty and nothing is lost, but an adversary holds back the one message that would
    settle a round, its proposal, until the round is over. It can do so for ever.
    With partial synchrony it has to stop at GST (30 s), and a block follows within 20 s.
    """
    synchrony = PartiallySynchronous(delta_ns=50 * MS, gst_ns=30 * SECOND, lossy=False)
    play = stage.build(timing=synchrony if stage.mitigated else stage.timing)
    play.lose(lambda *message: isinstance(message[2], Proposal))
    for index in range(4):
        play.submit(index, b"the critical one")
    play.run(30_000)
    stage.measure("undecided_rounds", max(play.get_round(i) for i in range(4)))
    decided = play.run(20_000, lambda: min(play.get_heights()) > 0)
    stage.measure("decided_after_ms", play.now_ms)
    play.require("termination", decided, "nothing decided in 50 s, expected a block")
    return play.judge()


class Sticky(ValidatorSet):
    """The same member proposes at every height, while it is trusted."""

    def get_proposer(self, height: Height, round: int) -> Address:
        return super().get_proposer(1, round)


class FixedLeader(Tendermint):
    """A replica of an engine in which the leader stays."""

    def know_members(self, height: Height, members: list[Member]) -> None:
        self.sets[height] = Sticky(members)


@scenario(
    "S6",
    "gray-leader",
    "a leader whose disk is slow while its heart beats",
    source="Huang and others, Gray failure: the Achilles' heel of cloud-scale systems, HotOS 2017",
    mitigation="proposers take turns, and one whose proposal did not come is not waited for",
    timing=PARTIAL,
    breaks="throughput",
)
def gray_leader(stage: Stage) -> Outcome:
    """Calls and syncs of one validator take about a second. Its heartbeats are fine, so no detector
    suspects it. With proposers in turn at least 80 blocks are made in 30 s; were it the leader at
    every height, and trusted as its heart beats, each block would wait for it.
    """
    play = stage.build(
        rules=stage.mitigated,
        on_world=stage.without(FixedLeader),
        engine_settings={} if stage.mitigated else {"suspect_ms": 1_000},
        detector="heartbeat",
    )
    machine = play.machines[0]
    assert machine.node is not None
    leader = machine.node.replica.get_situation(0).leader
    play.faults.slow(play.world.get_machine(leader or machine.address).index, 3_500)
    play.submit_every(100, 30_000)
    play.run(30_000)
    blocks = sorted(play.get_heights())[1]
    stage.measure("blocks", blocks)
    assert play.world.detection is not None
    stage.measure("suspicions", len(play.world.detection.report().changes))
    play.require("throughput", blocks >= 80, f"{blocks} blocks in 30 s, expected at least 80")
    return play.judge()


@scenario(
    "S6b",
    "one-bad-link",
    "one bad link makes observers disagree about who is alive",
    source="Das, Gupta, Motivala, SWIM, DSN 2002: indirect probes",
    mitigation="before it suspects somebody, a detector asks others to look",
    timing=PARTIAL,
    breaks="no false suspicion",
)
def one_bad_link(stage: Stage) -> Outcome:
    """The link between two of four validators is cut for five seconds; both are well, and reach the
    other two. With heartbeats each of the two takes the other for dead, and the others do not. With
    SWIM a third one answers for them, and nobody is suspected.
    """
    play = stage.build(detector="swim" if stage.mitigated else "heartbeat")
    play.run(1_000)
    for one, other in ((0, 1), (1, 0)):
        play.faults.silence(one, other)
    play.submit_every(200, 6_000)
    play.run(5_000)
    assert play.world.detection is not None
    report = play.world.detection.report()
    names = [machine.name for machine in play.machines]
    for line in describe_report(report, names):
        stage.say(line)
    found = f"{report.total.mistakes} suspicions of the living, expected none"
    play.require("no false suspicion", not report.total.mistakes, found)
    return play.judge()


@scenario(
    "S7",
    "clock-step",
    "a clock that is set back keeps a lease alive",
    source="Gray, Cheriton, Leases, SOSP 1989: a lease rests on bounded clock drift",
    mitigation="a lease runs by the monotonic clock, which nobody sets",
    timing=PARTIAL,
    breaks="fresh reads",
)
def clock_step(stage: Stage) -> Outcome:
    """A validator answers reads alone while its last block is younger than two seconds. It is cut
    off, and its wall clock is set back by ten. By that clock the lease still runs when the others
    have long gone on; by the monotonic one it has ended.
    """
    play = stage.build(node_settings={"block_time_ms": 200})
    heard: dict[int, int] = {}
    play.world.on_final.append(lambda machine, _: heard.update({machine.index: machine.now()}))
    play.run(2_000)
    play.faults.partition(3)
    play.faults.step_clock(3, -10_000)
    play.run(4_000)
    reader = play.machines[3]
    assert reader.node is not None
    if stage.mitigated:
        age_ms = (reader.now() - heard[3]) // MS
    else:
        age_ms = reader.wall_ms() - reader.node.execution.final.timestamp_ms
    behind = play.get_height(0) - play.get_height(3)
    stage.say(f"the reader takes its last block to be {age_ms} ms old, and is {behind} behind")
    stale = age_ms < 2_000 and behind > 0
    play.require("fresh reads", not stale, f"a read that is {behind} blocks old, expected none")
    return play.judge()


@scenario(
    "S7b",
    "clock-ahead",
    "one clock that is ahead drags all logical time along",
    source="Kulkarni and others, Logical physical clocks, OPODIS 2014, on resilience",
    mitigation="a time that is ahead by more than clocks may differ is refused, with an alarm",
    timing=PARTIAL,
    breaks="hybrid time",
)
def clock_ahead(stage: Stage) -> Outcome:
    """The wall clock of one validator jumps an hour ahead. Hybrid logical clocks take the greatest
    time they hear of, so every machine's follows with the next message. With a bound of 100 ms the
    message is refused, and the alarm names its sender.
    """
    tracer = stage.tracer = stage.tracer or Tracer()
    play = stage.build()
    play.submit_every(250, 4_000)
    play.at(2_000, play.faults.step_clock, 3, 3_600_000)
    play.run(4_000)
    times, clocks = run_hybrid_clocks(tracer.events, 100 * MS, refuse=stage.mitigated)
    mine = [event for event in tracer.events if event.machine == 0]
    ahead_ms = max(times[event.number].l_ns - event.wall_ns for event in mine) // MS
    stage.measure("ahead_ms", ahead_ms)
    alarms = [alarm for index in range(3) for alarm in clocks[index].alarms]
    stage.say(f"first alarm: validator {alarms[0].sender}, of {len(alarms)}")
    play.require("hybrid time", ahead_ms <= 100, f"{ahead_ms} ms ahead, expected at most 100")
    return play.judge()
