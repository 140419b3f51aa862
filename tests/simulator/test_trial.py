"""The journal under every fault of its disk; and its known bugs, each of which must be found."""

import pytest

from quorate.simulator.bugs.storage import get_journal_bugs
from quorate.simulator.tape import Tape
from quorate.simulator.trial import AT_REST, ERRORS, LIES, JournalTrial

ALL = (*ERRORS, *AT_REST, *LIES)
TRIALS = 150
SEEDS = 1500


def find(bug: str, faults: tuple[str, ...], seeds: range) -> tuple[int, str]:
    """Return the first seed that shows a bug, and how."""
    for seed in seeds:
        problem = JournalTrial(Tape(seed), faults, bug).run()
        if problem:
            return seed, problem
    pytest.fail(f"{bug} was not found in {len(seeds)} trials")


@pytest.mark.parametrize("faults", [(), ERRORS, AT_REST, LIES, ALL])
def test_journal_keeps_what_it_acknowledged_or_says_so(faults: tuple[str, ...]) -> None:
    counters: dict[str, int] = {}
    for seed in range(TRIALS):
        trial = JournalTrial(Tape(seed), faults)
        assert trial.run() == "", f"JournalTrial(Tape({seed}), {faults})"
        for name, n in trial.counters.items():
            counters[name] = counters.get(name, 0) + n
    # Sometimes: none of it is vacuous.
    assert counters["crashes in an operation"] > TRIALS
    assert counters["torn write"] > TRIALS // 2
    assert min(counters.get(kind, 0) for kind in (*faults, "undone entry", "cuts")) > 20
    assert ("refused" in counters) == bool(set(faults) & {*AT_REST, *LIES})


@pytest.mark.parametrize("bug", get_journal_bugs())
@pytest.mark.parametrize("first", [0, 10_000, 20_000])
def test_known_bug_is_found_in_every_range_of_seeds(bug: str, first: int) -> None:
    find(bug, ALL, range(first, first + SEEDS))


@pytest.mark.parametrize(
    ("bug", "faults", "words"),
    [
        ("d1-ack-before-sync", (), "were acknowledged; the first that is lost is"),
        ("d2-truncate-anywhere", AT_REST, "were acknowledged; the first that is lost is"),
        ("d3-folder-not-synced", (), "expected"),
        ("d4-check-without-position", ("misdirected write",), "expected"),
        ("d5-retry-sync", ("sync error",), "nothing was damaged"),
    ],
)
def test_known_bug_needs_no_more_than_its_own_fault(
    bug: str, faults: tuple[str, ...], words: str
) -> None:
    seed, _ = find(bug, faults, range(SEEDS))
    assert JournalTrial(Tape(seed), faults).run() == ""
    assert any(words in JournalTrial(Tape(s), faults, bug).run() for s in range(seed, seed + SEEDS))


def test_trial_is_replayed_from_its_tape() -> None:
    tape = Tape(7, record=True)
    trial = JournalTrial(tape, ALL)
    trial.run()
    again = JournalTrial(Tape(0, tape.get_values()), ALL)
    again.run()
    assert again.counters == trial.counters
