"""Leaders that come back when the second one after them begins."""

from quorate.simulator.displace import Displacement
from quorate.simulator.plan import SECOND
from quorate.simulator.scenarios.crashes import PARTIAL, start
from quorate.simulator.scenarios.stage import Stage
from quorate.simulator.verdict import Outcome

FAST = {"heartbeat_ms": 40, "election_ms": 300}


def displace(seed: int, bug: str = "") -> Outcome:
    """Return what comes of a network that has no other fault."""
    play = start(Stage(True, seed, PARTIAL), 3, bug=bug, engine_settings=FAST, timing=None)
    Displacement(play.world, play.faults, 20 * SECOND).plan_next()
    play.submit_every(40, 15_000)
    play.run(20_000)
    return play.judge()


def test_correct_members_agree_whoever_leads() -> None:
    displaced = 0
    for seed in range(3):
        outcome = displace(seed)
        assert (outcome.verdict, outcome.findings) == ("true", [])
        displaced += outcome.sometimes["leader displaced"]
    assert displaced >= 2


def test_members_that_do_not_compare_entries_part_ways() -> None:
    found = [displace(seed, "r7-no-match") for seed in range(8)]
    assert any(o.get_class() in ("agreement", "commitment") for o in found if o.findings)
