"""Failure detectors: each rule against hand-made cases."""

import math

import pytest

from quorate.base.errors import Invalid
from quorate.simulator.detectors import DETECTORS, get_detector, make_settings
from quorate.simulator.detectors.detector import Detector
from quorate.simulator.detectors.oracles import (
    EventuallyPerfect,
    Lie,
    Omega,
    OracleSettings,
    Perfect,
)
from quorate.simulator.detectors.phi import (
    QUANTILES,
    PhiAccrual,
    PhiSettings,
    Window,
    compute_deviations,
    compute_phi,
)
from quorate.simulator.detectors.swim import ALIVE, FAULTY, SUSPECT, News, Swim, SwimSettings
from quorate.simulator.detectors.timeouts import Heartbeat, PingAck
from quorate.simulator.plan import MS
from simulator.detectors import Group

SENDING = (PingAck, Heartbeat, PhiAccrual, Swim)


@pytest.mark.parametrize("kind", DETECTORS.values(), ids=DETECTORS)
def test_nobody_is_suspected_on_good_links(kind: type[Detector]) -> None:
    group = Group(kind, 5)
    group.run(10_000)
    if kind is Omega:
        assert group.suspects() == [[j for j in range(1, 5) if j != i] for i in range(5)]
    elif kind is EventuallyPerfect:
        assert group.suspects() == [[]] * 5
        assert max(time for time, *_ in group.changes) <= 5_000
    else:
        assert group.changes == []


@pytest.mark.parametrize("kind", DETECTORS.values(), ids=DETECTORS)
def test_a_crash_is_noticed_by_all_and_forgiven_after_a_restart(kind: type[Detector]) -> None:
    group = Group(kind, 4)
    group.run(3_000)
    group.crash(2)
    group.run(8_000)
    assert all(2 in whom for i, whom in enumerate(group.suspects()) if i != 2)
    group.restart(2)
    group.run(12_000)
    if kind is not Omega:
        assert group.suspects() == [[], [], [], []]


@pytest.mark.parametrize("kind", SENDING)
def test_levels_rise_while_a_process_is_silent(kind: type[Detector]) -> None:
    group = Group(kind, 3)
    group.run(2_000)
    detector = group.all[0]
    assert detector.get_level(group.now, 1) < 1_000
    group.crash(1)
    group.run(8_000)
    assert detector.get_level(group.now, 1) >= 1_000
    assert detector.get_level(group.now, 2) < 1_000


def test_a_ping_is_answered_within_the_timeout_or_not_at_all() -> None:
    late = Group(PingAck, 2, delay_ms=lambda a, b, now: 149 if a else 150)
    late.run(5_000)
    assert late.changes == []
    too_late = Group(PingAck, 2, delay_ms=lambda a, b, now: 151)
    too_late.run(5_000)
    assert too_late.changes == [(300, 0, 1, True), (300, 1, 0, True)]


def test_a_beat_that_was_overtaken_says_nothing_new() -> None:
    group = Group(Heartbeat, 2, delay_ms=lambda a, b, now: 3_000 if now == 0 else None)
    group.run(5_000)
    assert group.changes == [
        (400, 0, 1, True), (400, 1, 0, True), (3_000, 1, 0, False), (3_000, 0, 1, False),
        (3_400, 1, 0, True), (3_400, 0, 1, True),
    ]  # fmt: skip
    overtaken = Group(Heartbeat, 2, delay_ms=lambda a, b, now: {0: 3_000, 100: 1}.get(now))
    overtaken.run(5_000)
    assert sorted(overtaken.changes) == [(501, 0, 1, True), (501, 1, 0, True)]


def test_one_way_silence_makes_observers_disagree() -> None:
    group = Group(Heartbeat, 3, delay_ms=lambda a, b, now: None if (a, b) == (0, 1) else 1)
    group.run(3_000)
    assert group.suspects() == [[], [0], []]


# ---- phi


def test_quantiles_are_those_of_the_normal_distribution() -> None:
    for index, deviations in enumerate(QUANTILES, 1):
        tail = math.erfc(deviations / 1_000 / math.sqrt(2)) / 2
        assert abs(-math.log10(tail) - index * 0.25) < 0.005


def test_phi_and_its_inverse_agree() -> None:
    for phi in range(250, 16_001, 10):
        assert abs(compute_phi(compute_deviations(phi)) - phi) <= 5
    for deviations in range(-150, 8_000, 7):
        tail = math.erfc(deviations / 1_000 / math.sqrt(2)) / 2
        exact = -math.log10(tail) * 1_000
        assert abs(compute_phi(deviations) - exact) < 25
    assert compute_phi(-400) == 0
    assert compute_phi(10**6) == 16_000


def test_the_window_forgets() -> None:
    window = Window(3, 100)
    for interval in (10, 20, 30, 40):
        window.add(interval)
    assert (window.compute_mean(), window.compute_deviation()) == (30, 8)


def test_phi_adapts_to_how_beats_arrive() -> None:
    """With regular beats a crash is noticed sooner than with irregular ones."""
    noticed = []
    for delays in ((1,), (1, 60, 20, 90)):
        settings = PhiSettings(least_deviation_ns=MS)
        group = Group(
            PhiAccrual,
            2,
            settings,
            delay_ms=lambda a, b, now, delays=delays: delays[now // 100 % len(delays)],
        )
        group.run(20_000)
        assert group.changes == []
        group.crash(1)
        group.run(25_000)
        [(time, _, _, suspected)] = group.changes
        assert suspected
        noticed.append(time - 20_000)
    assert noticed[0] < 200 < noticed[1]


def test_phi_settings_have_bounds() -> None:
    with pytest.raises(Invalid, match="phi threshold 17000, expected 250 to 16000"):
        PhiSettings(threshold=17_000)
    with pytest.raises(Invalid, match="phi window of 1 intervals, expected at least 2"):
        PhiSettings(window=1)


# ---- SWIM


def test_swim_asks_others_before_it_suspects() -> None:
    """A link that is cut in both directions between two makes no suspect."""
    group = Group(Swim, 4, delay_ms=lambda a, b, now: None if {a, b} == {0, 1} else 1)
    group.run(20_000)
    assert group.changes == []
    alone = Group(
        Swim, 4, SwimSettings(helpers=0), delay_ms=lambda a, b, now: None if {a, b} == {0, 1} else 1
    )
    alone.run(20_000)
    assert max(news.incarnation for news in alone.all[2].states.values()) > 0  # type: ignore[attr-defined]


def test_a_suspect_objects_with_a_greater_incarnation() -> None:
    group = Group(Swim, 3)
    swim = group.all[0]
    assert isinstance(swim, Swim)
    swim.hear(News(1, SUSPECT, 0))
    group.run(2_000)
    assert swim.states[1] == News(1, ALIVE, 1)
    assert group.changes == []


def test_precedence_of_news() -> None:
    """Table of section 4.2, with the return of the faulty."""
    every = [News(1, state, i) for i in range(3) for state in (ALIVE, SUSPECT, FAULTY)]
    for held in every:
        for news in every:
            swim = Swim(0, [1], Group(Swim, 2).all[0].choices, SwimSettings())
            swim.start(0)
            swim.states[1] = held
            swim.hear(news)
            assert (swim.states[1] == news) == (every.index(news) >= every.index(held))


def test_load_of_swim_does_not_grow_with_the_group() -> None:
    per_process = []
    for n in (4, 16):
        group = Group(Swim, n)
        group.run(15_000)
        per_process.append(group.sent // n)
    assert abs(per_process[1] - per_process[0]) <= 2


def test_news_of_a_crash_reaches_everybody() -> None:
    group = Group(Swim, 16)
    group.run(2_000)
    group.crash(7)
    group.run(12_000)
    assert all(whom == [7] for i, whom in enumerate(group.suspects()) if i != 7)


# ---- oracles


def test_the_perfect_oracle_is_right_after_its_delay() -> None:
    group = Group(Perfect, 3)
    group.run(100)
    group.crash(0)
    group.run(400)
    group.restart(0)
    group.run(900)
    assert group.changes == [
        (150, 1, 0, True), (150, 2, 0, True), (400, 1, 0, False), (400, 2, 0, False),
    ]  # fmt: skip


def test_a_script_breaks_accuracy_or_completeness() -> None:
    lies = [
        Lie(process=1, suspected=True, from_ns=100 * MS, until_ns=200 * MS, observer=0),
        Lie(process=2, suspected=False, from_ns=300 * MS, until_ns=600 * MS),
    ]
    group = Group(Perfect, 3, OracleSettings(lies=lies))
    group.run(350)
    group.crash(2)
    group.run(1_000)
    assert group.changes == [
        (100, 0, 1, True), (200, 0, 1, False), (600, 0, 2, True), (600, 1, 2, True),
    ]  # fmt: skip


def test_eventual_oracles_stop_making_mistakes() -> None:
    settings = OracleSettings(stable_ns=3_000 * MS)
    group = Group(EventuallyPerfect, 4, settings)
    group.run(2_900)
    group.crash(3)
    mistakes = len(group.changes)
    assert mistakes > 10
    group.run(9_000)
    assert group.suspects()[:3] == [[3], [3], [3]]
    assert max(time for time, *_ in group.changes) <= 3_000


def test_omega_settles_on_one_leader() -> None:
    group = Group(Omega, 4, OracleSettings(stable_ns=1_000 * MS))
    leaders = [detector.get_leader() for detector in group.all if isinstance(detector, Omega)]
    assert leaders == [0, 1, 2, 3]
    group.run(1_500)
    group.crash(0)
    group.run(2_000)
    assert group.suspects()[1:] == [[0, 2, 3], [0, 3], [0, 2]]


def test_an_unknown_detector_is_refused() -> None:
    with pytest.raises(Invalid, match="detector 'crystal ball': expected one of ping, heartbeat"):
        get_detector("crystal ball")


class Trusting(PingAck):
    """One of a user's own: it suspects nobody."""

    def suspect(self, process: int) -> None:
        pass


def test_detector_of_ones_own_is_found_by_its_place() -> None:
    assert get_detector(f"{__name__}:Trusting") is Trusting
    for name, message in (
        (f"{__name__}:Group", "expected a class that extends"),
        ("nowhere:Detector", "is it on PYTHONPATH"),
        ("crystal:", "package.module:Class"),
    ):
        with pytest.raises(Invalid, match=message):
            get_detector(name)


def test_settings_are_those_of_the_detector() -> None:
    assert make_settings("phi", {"threshold": 12_000}).threshold == 12_000
    with pytest.raises(Invalid, match=r"'treshold', expected one of .*threshold"):
        make_settings("phi", {"treshold": 1})
    with pytest.raises(Invalid, match="Expected `int`, got `str`"):
        make_settings("phi", {"threshold": "high"})
