"""The quality of service of detectors: hand-made histories, and whole runs."""

import msgspec
import pytest

from quorate.base.errors import Invalid
from quorate.simulator.detectors import DETECTORS
from quorate.simulator.detectors.quality import (
    HOUR_NS,
    Disagreement,
    Monitor,
    Quality,
    Report,
    draw_matrix,
)
from quorate.simulator.detectors.words import describe_report
from quorate.simulator.faults import Faults
from quorate.simulator.plan import MS, SECOND
from quorate.simulator.run import run
from quorate.simulator.timing import Synchronous
from quorate.simulator.verdict import Outcome
from quorate.simulator.world import World
from simulator.networks import make_plan


def make_monitor(processes: int) -> Monitor:
    monitor = Monitor("hand-made", processes)
    for process in range(processes):
        monitor.start(0, process)
    return monitor


def test_mistakes_have_a_rate_a_duration_and_a_recurrence() -> None:
    monitor = make_monitor(2)
    for time, suspected in ((100, True), (130, False), (300, True), (320, False), (900, True)):
        monitor.change(time, 0, 1, suspected)
    assert monitor.report(1_000).pairs[0][1] == Quality(
        detections=0,
        missed=0,
        detection_ns=0,
        detection_max_ns=0,
        mistakes=3,
        mistakes_per_hour=3 * HOUR_NS // 1_000,
        mistake_duration_ns=50,
        mistake_recurrence_ns=400,
        accuracy_ppm=850_000,
    )


def test_detection_is_measured_from_the_crash() -> None:
    monitor = make_monitor(3)
    monitor.change(500, 2, 0, True)
    monitor.stop(1_000, 0)
    monitor.change(1_070, 1, 0, True)
    report = monitor.report(2_000)
    assert (report.total.detections, report.total.missed) == (2, 0)
    assert (report.total.detection_ns, report.total.detection_max_ns) == (35, 70)
    [of_two] = [pair for pair in report.pairs[2][:1] if pair]
    assert (of_two.mistakes, of_two.mistake_duration_ns) == (1, 500)


def test_a_crash_that_nobody_notices_is_missed() -> None:
    monitor = make_monitor(2)
    monitor.stop(100, 0)
    monitor.start(150, 0)
    monitor.stop(300, 0)
    assert monitor.report(400).total.missed == 2
    assert monitor.report(400).total.mistakes == 0


def test_time_in_which_one_is_down_counts_for_nothing() -> None:
    monitor = make_monitor(2)
    monitor.stop(100, 1)
    monitor.change(150, 0, 1, True)
    monitor.start(600, 1)
    monitor.change(640, 0, 1, False)
    monitor.change(690, 0, 1, True)
    monitor.change(700, 0, 1, False)
    pair = monitor.report(740).pairs[0][1]
    assert pair is not None
    assert (pair.detections, pair.mistakes, pair.mistake_duration_ns) == (1, 1, 10)
    assert pair.accuracy_ppm == 950_000


def test_observers_that_disagree_show_a_gray_failure() -> None:
    monitor = make_monitor(4)
    monitor.change(100, 1, 0, True)
    monitor.change(250, 2, 0, True)
    monitor.change(300, 3, 0, True)
    monitor.change(900, 1, 0, False)
    report = monitor.report(1_000)
    assert report.disagreements == [
        Disagreement(0, 100, 250, [1], [2, 3]),
        Disagreement(0, 250, 300, [1, 2], [3]),
        Disagreement(0, 900, 1_000, [2, 3], [1]),
    ]
    assert draw_matrix(report, 260) == [" ...", "# ..", "#. .", "... "]


def test_the_matrix_follows_crashes() -> None:
    monitor = make_monitor(3)
    monitor.change(100, 0, 2, True)
    monitor.stop(200, 1)
    monitor.start(400, 1)
    report = monitor.report(500)
    assert draw_matrix(report, 300) == [" .#", "---", ".. "]
    assert draw_matrix(report, 500) == [" .#", ". .", ".. "]


def play(world: World) -> None:
    """A crash, a pause, and links that work one way."""
    faults = Faults(world)
    world.after(2 * SECOND, faults.crash, 1, 3 * SECOND)
    world.after(6 * SECOND, faults.pause, 2, 2 * SECOND)
    world.after(9 * SECOND, faults.silence, 3, 0)


def run_with(detector: str, **more: object) -> Outcome:
    plan = make_plan(duration_ms=12_000, detector=detector, detector_settings=more)
    return run(plan, on_world=play)


@pytest.mark.parametrize("name", DETECTORS)
def test_a_detector_never_touches_the_nodes(name: str) -> None:
    without, outcome = run_with(""), run_with(name)
    assert outcome.digest == without.digest
    assert outcome.detection is not None
    assert outcome.detection.total.detections >= 3
    assert outcome.detection == run_with(name).detection


def get_report(outcome: Outcome) -> Report:
    assert outcome.detection is not None
    return outcome.detection


def test_detectors_differ_as_their_papers_say() -> None:
    reports = {name: get_report(run_with(name)) for name in DETECTORS}
    assert reports["perfect"].total.mistakes == 0
    assert reports["perfect"].total.detection_ns == 50 * MS
    # A paused process and one that cannot be heard are no crashes: whoever suspects them errs.
    assert reports["heartbeat"].total.mistakes >= 4
    assert reports["phi"].total.detection_ns < reports["heartbeat"].total.detection_ns
    # SWIM asks around, so one deaf observer does not count.
    gray = [d for d in reports["heartbeat"].disagreements if d.process == 3]
    assert [(d.suspecting, d.trusting) for d in gray] == [([0], [1, 2])]
    assert not [d for d in reports["swim"].disagreements if d.process == 3]


def test_a_timeout_above_the_bound_is_perfect_on_synchronous_links() -> None:
    plan = make_plan(
        3,
        "network",
        duration_ms=8_000,
        timing=Synchronous(60 * MS),
        detector="heartbeat",
        detector_settings={"timeout_ns": 200 * MS},
    )
    outcome = run(plan, on_world=lambda world: world.after(SECOND, Faults(world).crash, 0))
    total = get_report(outcome).total
    assert (total.mistakes, total.missed) == (0, 0)
    assert 0 < total.detection_max_ns <= 200 * MS


def test_a_slow_clock_makes_a_detector_beat_late() -> None:
    def slow_down(world: World) -> None:
        world.after(2 * SECOND, Faults(world).drift, 0, -800_000)

    outcome = run(make_plan(duration_ms=5_000, detector="heartbeat"), on_world=slow_down)
    changes = get_report(outcome).changes
    # Its beats come every half second, and its own timeouts last two seconds.
    assert {(change.observer, change.process) for change in changes} == {(1, 0), (2, 0), (3, 0)}
    assert 2_300 * MS < changes[0].time_ns < 2_500 * MS


def test_settings_of_a_detector_are_checked() -> None:
    with pytest.raises(Invalid, match="settings of detector 'ping': Expected `int`"):
        run_with("ping", timeout_ns="long")


def test_a_report_is_recorded_and_read_again() -> None:
    report = get_report(run_with("swim"))
    assert msgspec.json.decode(msgspec.json.encode(report), type=Report) == report


def test_a_report_is_told_in_words() -> None:
    monitor = make_monitor(3)
    monitor.change(100 * MS, 1, 0, True)
    monitor.change(350 * MS, 1, 0, False)
    monitor.stop(400 * MS, 2)
    monitor.change(480 * MS, 0, 2, True)
    monitor.change(490 * MS, 1, 2, True)
    assert describe_report(monitor.report(500 * MS), ["Ada", "Bob", "Eve"]) == [
        "detector hand-made",
        "  crashes: 2 noticed, after 85 ms on average and 90 ms at most; 0 not before the restart",
        "  mistakes: 1, 250 ms long on average, 1,384 an hour for each pair; right 90.38 % of the "
        "time",
        "  from 100 ms to 350 ms: Ada suspected by Bob, trusted by Eve",
        "  from 480 ms to 490 ms: Eve suspected by Ada, trusted by Bob",
        "  who suspected whom at 100 ms, by row:",
        "    Ada   ..",
        "    Bob  # .",
        "    Eve  .. ",
    ]
