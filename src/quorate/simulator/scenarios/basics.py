"""Catalogue S2 to S7: what everybody who builds a distributed system meets first."""

from quorate.simulator.plan import MS, SECOND
from quorate.simulator.scenarios.registry import scenario
from quorate.simulator.scenarios.stage import Stage
from quorate.simulator.timing import PartiallySynchronous
from quorate.simulator.verdict import Outcome

PARTIAL = PartiallySynchronous(delta_ns=50 * MS, gst_ns=8 * SECOND)


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
    stage.measure("heights while split", max(play.get_heights()) - before)
    return play.judge()
