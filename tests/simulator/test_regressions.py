"""Bugs of nodes that seeds have found, each as the shortest script that shows it."""

from quorate.simulator.plan import MS, SECOND
from quorate.simulator.scenarios.stage import Play, Stage
from quorate.simulator.timing import PartiallySynchronous

TIMING = PartiallySynchronous(delta_ns=50 * MS, gst_ns=0)


def build(count: int, **plan: object) -> Play:
    return Stage(True, 1, TIMING).build(count, **plan)


def test_block_that_a_fast_clock_made_does_not_stop_the_next_ones() -> None:
    """Seed 1989: with a fixed interval, a block one hour ahead was waited for, again and again."""
    play = build(1, node_settings={"block_time_ms": 500})
    play.faults.step_clock(0, 3_600_000)
    play.run(2_000)
    play.faults.correct_clock(0)
    before = play.get_height(0)
    play.run(10_000)
    assert play.get_height(0) - before >= 15


def test_validator_with_a_fast_clock_does_not_slow_the_others_down() -> None:
    play = build(4, node_settings={"block_time_ms": 500})
    play.faults.step_clock(2, 9_000)
    play.run(30_000)
    assert min(play.get_heights()) >= 50
    assert play.world.now == 30 * SECOND
