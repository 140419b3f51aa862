"""Halts that users of other ledgers reported, each with our bound on recovery as a number.

The bounds are those of four validators on a LAN with the default timeouts. Without its mitigation
each scenario halts or degrades as was reported.
"""

from quorate.base.types import Address, Hash, Milliseconds, Nanoseconds
from quorate.consensus.replica import Decision
from quorate.consensus.tendermint import Tendermint
from quorate.ledger.opaque import make_member_change
from quorate.simulator.plan import MS, SECOND, Profile
from quorate.simulator.scenarios.registry import scenario
from quorate.simulator.scenarios.stage import Play, Stage, make_members
from quorate.simulator.timing import PartiallySynchronous
from quorate.simulator.verdict import Outcome

ALL = (0, 1, 2, 3)
PARTIAL = PartiallySynchronous(delta_ns=50 * MS, gst_ns=60 * SECOND)
NO_GROWTH = {"propose_step_ms": 1, "prevote_step_ms": 1, "precommit_step_ms": 1}
OFTEN_MS = 250


class NeverFollows(Tendermint):
    """A replica that does not go to the round in which it sees others (no L55-56), and tells
    nobody where it stands.
    """

    def note(self, now: Nanoseconds, voter: Address, round: int) -> None:
        if round <= self.round:
            super().note(now, voter, round)

    def on_timeout_status(self, now: Nanoseconds) -> None:
        self.set_timer(now, "status", SECOND)


class NeverCatchesUp(Tendermint):
    """A replica that takes no finished height from others."""

    def on_decision(self, now: Nanoseconds, sender: Address, m: Decision) -> None:
        self.drop("decision")


class Impatient(Tendermint):
    """A replica that answers with the same payload again and again, however thin the link."""

    def may_offer(self, now: Nanoseconds, sender: Address, value: Hash, size: int) -> bool:
        return True


def submit(play: Play, *indices: int, item: bytes = b"") -> None:
    """Give the same item to several machines."""
    item = play.submit(indices[0], item)
    for index in indices[1:]:
        play.submit(index, item)


def submit_for(play: Play, duration_ms: Milliseconds) -> None:
    """Let time pass while all machines get items."""
    play.submit_every(OFTEN_MS, play.now_ms + duration_ms)
    play.run(duration_ms)


def require_block(play: Play, within_ms: Milliseconds, *indices: int) -> None:
    """A new item must become final on these machines within a time, if all went well so far."""
    if play.world.findings:
        # Time stands still: there is nothing more to measure.
        return
    began = play.now_ms
    target = max(play.get_heights()) + 1
    submit(play, *indices)
    recovered = play.run(within_ms, lambda: min(map(play.get_height, indices)) >= target)
    play.stage.measure("recovery_ms", play.now_ms - began)
    play.require(
        "progress", recovered, f"no block within {within_ms} ms: heights {play.get_heights()}"
    )


@scenario(
    "besu#8307",
    "restart-together",
    "all validators restart together with round timeouts that drifted apart",
    source="hyperledger/besu issue 8307",
    mitigation="following a third of the power to its round (L55), and telling where one stands",
    timing=PARTIAL,
    breaks="progress",
)
def restart_together(stage: Stage) -> Outcome:
    """Each validator in turn is cut off for longer, so rounds and timeouts drift apart; then all
    are restarted, two seconds after one another. A block must follow within 15 s.
    """
    play = stage.build(timing=None, on_world=stage.without(NeverFollows))
    submit_for(play, 2_000)
    for lonely in ALL:
        cut = play.faults.partition(lonely)
        submit(play, *ALL)
        play.run(3_000 + 4_000 * lonely)
        play.faults.mend(cut)
    cut = play.faults.partition(0, 1)
    submit(play, *ALL)
    play.run(60_000)
    for index in ALL:
        play.faults.crash(index, restart_ns=(1 + 2 * index) * SECOND)
    play.faults.mend(cut)
    play.run(10_000)
    require_block(play, 15_000, *ALL)
    return play.judge()


@scenario(
    "besu#7642",
    "resync",
    "all validators halt after one of them synchronised again",
    source="hyperledger/besu issue 7642",
    mitigation="a replica takes finished heights by their certificates, and votes at once",
    timing=PARTIAL,
    breaks="progress",
)
def resync(stage: Stage) -> Outcome:
    """A validator that is hundreds of heights behind comes back, and another one goes: the late
    one's vote is needed. A block must follow within 10 s, and again when the other returns.
    """
    play = stage.build(timing=None, on_world=stage.without(NeverCatchesUp))
    submit_for(play, 1_000)
    play.faults.crash(3)
    submit_for(play, 60_000)
    play.faults.start(3)
    play.run(1_000)
    play.faults.crash(0)
    require_block(play, 10_000, 1, 2, 3)
    play.faults.start(0)
    require_block(play, 10_000, *ALL)
    return play.judge()


@scenario(
    "besu#6398",
    "one-down",
    "one validator of four is down and production degrades",
    source="hyperledger/besu issue 6398",
    mitigation="a proposer whose last proposal never came gets a short first timeout",
    timing=PARTIAL,
    breaks="production",
)
def one_down(stage: Stage) -> Outcome:
    """With a block every second, one of four proposers is silent. At least 50 blocks must be made
    in 60 s.
    """
    slow = {"suspect_ms": 3000, "propose_ms": 3000}
    play = stage.build(
        timing=None,
        engine_settings={} if stage.mitigated else slow,
        node_settings={"block_time_ms": 1000},
    )
    play.run(5_000)
    play.faults.crash(2)
    before = max(play.get_heights())
    play.run(60_000)
    made = min(map(play.get_height, (0, 1, 3))) - before
    stage.measure("blocks", made)
    play.require("production", made >= 50, f"{made} blocks in 60 s, expected at least 50")
    return play.judge()


@scenario(
    "besu#8425",
    "add-validator",
    "adding a validator halts the chain",
    source="hyperledger/besu issue 8425",
    mitigation="a new validator follows before it is voted in, and votes two heights later",
    timing=PARTIAL,
    breaks="progress",
)
def add_validator(stage: Stage) -> Outcome:
    """Two validators are added to four: six need five. If the new ones follow already, a block is
    made within 10 s; if they are yet to be started, four are not enough.
    """
    play = stage.build(machines=make_members(1, 1, 1, 1, 0, 0), timing=None, start=False)
    for index in (*ALL, 4, 5) if stage.mitigated else ALL:
        play.faults.start(index)
    submit_for(play, 4_000)
    for new in (4, 5):
        submit(play, *ALL, item=make_member_change(play.machines[new].address, 1))
        play.run(2_000)
    require_block(play, 10_000, *ALL)
    return play.judge()


@scenario(
    "quorum#1728",
    "remove-validator",
    "removing a validator halts the chain",
    source="Consensys/quorum issue 1728",
    mitigation="the validator that is down is removed, not one of the last quorum",
    timing=PARTIAL,
    breaks="progress",
)
def remove_validator(stage: Stage) -> Outcome:
    """One validator of four is down, and one is removed: three need three. A block must follow
    within 10 s, which it does if the dead one was removed.
    """
    play = stage.build(timing=None)
    submit_for(play, 2_000)
    play.faults.crash(3)
    gone = play.machines[3 if stage.mitigated else 0]
    submit(play, 1, 2, item=make_member_change(gone.address, 0))
    play.run(5_000)
    require_block(play, 10_000, 1, 2)
    return play.judge()


@scenario(
    "tendermint#8679",
    "many-rounds",
    "rounds grow without end",
    source="tendermint/tendermint issue 8679",
    mitigation="timeouts that grow with the round, up to a minute",
    timing=PARTIAL,
    breaks="rounds",
)
def many_rounds(stage: Stage) -> Outcome:
    """Votes come through and blocks do not, as on a path whose MTU nobody tells. In ten minutes
    there may be fewer than 80 rounds, and a block must follow within 90 s of the repair.
    """
    settings = {} if stage.mitigated else NO_GROWTH
    play = stage.build(timing=None, engine_settings=settings)
    submit_for(play, 1_000)
    submit(play, *ALL, item=bytes(2000))
    play.faults.limit_frames(1500)
    play.run(600_000)
    rounds = max(map(play.get_round, ALL))
    stage.measure("rounds", rounds)
    play.require("rounds", rounds < 80, f"round {rounds} in 10 min, expected less than 80")
    play.faults.heal()
    require_block(play, 90_000, *ALL)
    return play.judge()


@scenario(
    "fabric#3992",
    "evicted",
    "a member that was evicted and added again never joins",
    source="hyperledger/fabric issue 3992",
    mitigation="who is behind takes finished heights by their certificates, member or not",
    timing=PARTIAL,
    breaks="progress",
)
def evicted(stage: Stage) -> Outcome:
    """A validator is removed, stops, misses much, is added again and starts. Its vote must count
    within 10 s, which shows when another one stops.
    """
    play = stage.build(timing=None, on_world=stage.without(NeverCatchesUp))
    address = play.machines[3].address
    submit_for(play, 2_000)
    submit(play, *ALL, item=make_member_change(address, 0))
    play.run(2_000)
    play.faults.crash(3)
    submit_for(play, 20_000)
    submit(play, 0, 1, 2, item=make_member_change(address, 1))
    play.run(2_000)
    play.faults.start(3)
    require_block(play, 10_000, *ALL)
    play.faults.crash(0)
    require_block(play, 10_000, 1, 2, 3)
    return play.judge()


@scenario(
    "besu#10917",
    "first-block",
    "the first block fails at round 0 and the chain never starts",
    source="hyperledger/besu issue 10917",
    mitigation="replicas tell where they stand and follow each other to higher rounds",
    timing=PARTIAL,
    breaks="progress",
)
def first_block(stage: Stage) -> Outcome:
    """The validators of a new network start 20 s apart, the first proposer last of all. The first
    block must come within 10 s of the third start, the next within 10 s of the fourth.
    """
    play = stage.build(
        timing=None,
        start=False,
        on_world=stage.without(NeverFollows),
        node_settings={"block_time_ms": 1000},
    )
    leader = find_first_proposer(play)
    others = [index for index in ALL if index != leader]
    for index in others:
        play.faults.start(index)
        play.submit(index)
        play.run(20_000 if index != others[-1] else 1_000)
    require_block(play, 10_000, *others)
    play.faults.start(leader)
    require_block(play, 10_000, *ALL)
    return play.judge()


def find_first_proposer(play: Play) -> int:
    """Return the machine that proposes the first block, as a replica that runs says."""
    machine = play.machines[0]
    machine.start()
    assert machine.node is not None
    leader = machine.node.replica.get_situation(0).leader
    machine.crash()
    return play.world.get_machine(leader or machine.address).index


@scenario(
    "Q1",
    "thin-links",
    "copies of a large block hold up the votes",
    source="found by the scenario of tendermint issue 8679",
    mitigation="the same payload goes to the same peer after growing pauses only",
    timing=PARTIAL,
    breaks="progress",
)
def thin_links(stage: Stage) -> Outcome:
    """A block of 60 kB takes three seconds over each link, longer than the first timeouts, and
    votes queue behind it. It must be final within a minute, the next block within 15 s.
    """
    thin = Profile(name="thin links", bandwidth_bytes_per_ms=20)
    play = stage.build(timing=None, profile=thin, on_world=stage.without(Impatient))
    submit_for(play, 1_000)
    target = max(play.get_heights()) + 1
    submit(play, *ALL, item=bytes(60_000))
    began = play.now_ms
    final = play.run(60_000, lambda: min(play.get_heights()) >= target)
    stage.measure("large_block_ms", play.now_ms - began)
    play.require("progress", final, f"not final within 60 s: heights {play.get_heights()}")
    require_block(play, 15_000, *ALL)
    return play.judge()
