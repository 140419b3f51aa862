"""Catalogue S1: the eight fallacies of distributed computing, each as what it costs to believe it.

Source: Deutsch and others at Sun Microsystems, 1994; Rotem-Gal-Oz, "Fallacies of distributed
computing explained", 2006.
"""

from itertools import pairwise
from typing import Any

from quorate.base.types import Address, Hash, Nanoseconds
from quorate.consensus.quorum import VoteSet
from quorate.consensus.replica import Send
from quorate.consensus.tendermint import Tendermint
from quorate.consensus.tendermint_rounds import Round
from quorate.consensus.tendermint_types import Proposal, Vote
from quorate.simulator.keys import SimulatedKeys
from quorate.simulator.plan import MS, SECOND, Profile
from quorate.simulator.scenarios.liars import Forger
from quorate.simulator.scenarios.registry import scenario
from quorate.simulator.scenarios.stage import Play, Stage
from quorate.simulator.timing import Lossy, PartiallySynchronous, Synchronous
from quorate.simulator.verdict import Outcome
from quorate.simulator.world import World

SOURCE = "Deutsch and others, the eight fallacies of distributed computing, 1994"
LAN = Synchronous(delta_ns=50 * MS)
CUT = PartiallySynchronous(delta_ns=50 * MS, gst_ns=60 * SECOND)


def require_blocks(play: Play, blocks: int, within_ms: int) -> None:
    """All machines must have so many blocks within a time, while clients submit."""
    play.submit_every(100, within_ms)
    made = play.run(within_ms, lambda: min(play.get_heights()) >= blocks)
    play.stage.measure("blocks_everywhere", min(play.get_heights()))
    play.stage.measure("time_ms", play.now_ms)
    found = f"heights {play.get_heights()} after {within_ms} ms, expected {blocks} everywhere"
    play.require("progress", made, found)


class NeverAsks(Tendermint):
    """A replica that sends everything once."""

    def on_timeout_status(self, now: Nanoseconds) -> None:
        """Nothing is asked for."""


@scenario(
    "S1a",
    "fallacy-reliable",
    "the network is reliable",
    source=SOURCE,
    mitigation="who makes no progress tells what it has, and is sent what it lacks",
    timing=Lossy(loss_permille=300, delta_ns=50 * MS),
    breaks="progress",
)
def fallacy_reliable(stage: Stage) -> Outcome:
    """Three of ten messages are lost, for ever. Twenty blocks must be made within 40 s. An engine
    that sends everything once stands still as soon as one quorum is incomplete.
    """
    play = stage.build(on_world=stage.without(NeverAsks))
    require_blocks(play, 20, 40_000)
    return play.judge()


@scenario(
    "S1b",
    "fallacy-latency",
    "latency is zero",
    source=SOURCE,
    mitigation="timeouts grow by round until they fit",
    timing=PartiallySynchronous(delta_ns=450 * MS, gst_ns=0, known=False),
    breaks="progress",
)
def fallacy_latency(stage: Stage) -> Outcome:
    """Every message takes 400 ms, and the timeouts are a tenth of what that needs. A block must
    come within 30 s; with timeouts that do not grow each round ends before its proposal comes.
    """
    short = {"propose_ms": 50, "prevote_ms": 40, "precommit_ms": 40, "suspect_ms": 50}
    growth = 100 if stage.mitigated else 1
    steps = {f"{step}_step_ms": growth for step in ("propose", "prevote", "precommit")}
    play = stage.build(base_delay_ns=400 * MS, engine_settings={**short, **steps})
    require_blocks(play, 1, 30_000)
    return play.judge()


@scenario(
    "S1c",
    "fallacy-bandwidth",
    "bandwidth is infinite",
    source=SOURCE,
    mitigation="a bound on the size of what is proposed",
    timing=CUT,
    breaks="progress",
)
def fallacy_bandwidth(stage: Stage) -> Outcome:
    """Links carry 200 kB a second, and 2 MB wait in every pool. Payloads of at most 20 kB go out
    in a tenth of a second, so ten blocks are made in 10 s. One payload with everything in it takes
    ten seconds over each link, and every timeout ends before it is there.
    """
    thin = Profile(name="thin links", bandwidth_bytes_per_ms=200)
    bound = {"max_payload_bytes": 20_000} if stage.mitigated else {}
    play = stage.build(timing=None, profile=thin, node_settings=bound)
    play.run(500)
    items = [b"%4d" % n + bytes(10_000) for n in range(200)]
    for machine in play.machines:
        assert machine.node is not None
        machine.node.application.add(items)
    require_blocks(play, 10, 10_000)
    return play.judge()


class Trusting(SimulatedKeys):
    """Keys that take every signature for good."""

    def verify(self, address: Address, digest: Hash, signature: bytes) -> bool:
        return True


def believe(world: World) -> None:
    """Let all machines believe every signature."""
    for machine in world.machines:
        machine.keys = Trusting(machine.address)


@scenario(
    "S1d",
    "fallacy-secure",
    "the network is secure",
    source=SOURCE,
    mitigation="every statement is signed, and every signature is verified",
    timing=LAN,
    breaks="agreement",
)
def fallacy_secure(stage: Stage) -> Outcome:
    """One of four proposes two things, and sends each half of the others the votes of everybody for
    its one, forged. Twenty blocks must be made in 30 s, the same for all.
    """
    play = stage.build(rules=False, on_world=None if stage.mitigated else believe)
    play.turn(3, Forger)
    require_blocks(play, 20, 30_000)
    return play.judge()


class OwnVotesOnly(Tendermint):
    """A replica that relays nothing: it answers with its own votes and proposals."""

    def send_missing(self, sender: Address, votes: VoteSet[Vote], known: int) -> None:
        mine = votes.votes.get(self.me)
        if mine is not None:
            self.out.append(Send(sender, mine))

    def find_proposal(self, state: Round) -> Proposal | None:
        return super().find_proposal(state) if self.is_proposer() else None


@scenario(
    "S1e",
    "fallacy-topology",
    "the topology does not change",
    source=SOURCE,
    mitigation="votes and proposals are relayed under their own signatures, whoever is asked",
    timing=CUT,
    breaks="progress",
)
def fallacy_topology(stage: Stage) -> Outcome:
    """Five validators reach each other only along a line, and after ten seconds along another one.
    A quorum is four, and the middle one hears two: six blocks in 30 s need relays.
    """
    play = stage.build(5, timing=None, on_world=stage.without(OwnVotesOnly))
    play.run(100)

    def line(*order: int) -> None:
        for i, one in enumerate(order):
            for other in (*order[: max(i - 1, 0)], *order[i + 2 :]):
                play.faults.silence(one, other)

    line(0, 1, 2, 3, 4)
    play.at(10_000, play.world.network.heal)
    play.at(10_001, line, 2, 4, 1, 0, 3)
    require_blocks(play, 6, 30_000)
    return play.judge()


@scenario(
    "S1f",
    "fallacy-administrator",
    "there is one administrator",
    source=SOURCE,
    mitigation="nobody takes a validator down while another one is missing",
    timing=LAN,
    breaks="pauses",
)
def fallacy_administrator(stage: Stage) -> Outcome:
    """Two operators maintain a validator each, ten seconds long. Four tolerate one that is down. If
    the second looks whether all are there before it begins, blocks never pause for four seconds.
    """
    play = stage.build(node_settings={"block_time_ms": 200})
    made: list[int] = []
    play.world.on_final.append(lambda *_: made.append(play.now_ms))
    play.at(5_000, play.faults.crash, 0, 10 * SECOND)
    play.at(18_000 if stage.mitigated else 7_000, play.faults.crash, 1, 10 * SECOND)
    play.run(30_000)
    pause = max(later - earlier for earlier, later in pairwise(made))
    stage.measure("longest_pause_ms", pause)
    play.require("pauses", pause < 4_000, f"a pause of {pause} ms, expected less than 4000")
    return play.judge()


@scenario(
    "S1g",
    "fallacy-transport",
    "transport cost is zero",
    source=SOURCE,
    mitigation="an idle network says nothing: blocks come when there is something to agree on",
    timing=LAN,
    breaks="cost",
)
def fallacy_transport(stage: Stage) -> Outcome:
    """Nobody submits anything for a minute. With a block every 200 ms four validators send about
    eight thousand messages about nothing; on demand they may send a hundred.
    """
    settings = {} if stage.mitigated else {"block_time_ms": 200}
    play = stage.build(node_settings=settings)
    sent: list[int] = []

    def count(*message: Any) -> bool:
        sent.append(message[0])
        return False

    play.lose(count)
    play.run(60_000)
    stage.measure("messages", len(sent))
    play.require("cost", len(sent) <= 100, f"{len(sent)} messages, expected at most 100")
    return play.judge()


class WaitsForAll(Tendermint):
    """A replica whose quorum is everybody."""

    def enter_height(self, now: Nanoseconds) -> None:
        super().enter_height(now)
        for state in self.rounds.values():
            demand_all(state, self.validators.total)

    def make_round(self, round: int) -> Round:
        state = super().make_round(round)
        demand_all(state, self.validators.total)
        return state


def demand_all(state: Round, total: int) -> None:
    for votes in (state.prevotes, state.precommits):
        votes.quorum_power = total


@scenario(
    "S1h",
    "fallacy-homogeneous",
    "the network is homogeneous",
    source=SOURCE,
    mitigation="a quorum does not wait for the slowest",
    timing=PartiallySynchronous(delta_ns=500 * MS, gst_ns=0),
    breaks="throughput",
)
def fallacy_homogeneous(stage: Stage) -> Outcome:
    """One of four is far away, has a slow disk and a clock that runs a fifth too slow. The others
    need not wait: 80 blocks in 20 s. If everybody had to vote, all would be as slow as that one.
    """
    play = stage.build(rules=stage.mitigated, on_world=stage.without(WaitsForAll))
    for link in play.world.network.select(lambda a, b: 3 in (a.index, b.index)):
        link.penalty_ns = 200 * MS
    play.faults.slow(3, 200)
    play.faults.drift(3, -200_000)
    play.submit_every(100, 20_000, 0, 1, 2)
    play.run(20_000)
    blocks = max(play.get_heights())
    stage.measure("blocks", blocks)
    play.require("throughput", blocks >= 80, f"{blocks} blocks in 20 s, expected at least 80")
    return play.judge()
