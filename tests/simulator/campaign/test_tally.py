"""Tallies add up in any order."""

import random

import pytest

from quorate.simulator.campaign.tally import Row, Tally, make_row
from quorate.simulator.campaign.worker import is_audited
from quorate.simulator.run import run
from simulator.networks import make_plan


def make_rows() -> list[Row]:
    verdicts = ["true", "true", "false", "unknown"]
    return [
        Row(
            seed,
            verdicts[seed % 4],  # type: ignore[arg-type]
            "" if seed % 4 < 2 else f"class {seed % 3}",
            "",
            f"{seed:032x}",
            100 + seed * 7 % 5,
            50,
            10,
            3,
            2,
            {"lost": seed},
            {"often": 1} if seed % 5 else {"often": 0},
        )
        for seed in range(40)
    ]


def test_sum_does_not_depend_on_how_runs_are_divided() -> None:
    whole = Tally()
    for row in make_rows():
        whole.add_row(row)
    rows = make_rows()
    random.Random(1).shuffle(rows)
    total = Tally()
    for start in range(0, 40, 7):
        part = Tally()
        for row in rows[start : start + 7]:
            part.add_row(row)
        total.add(part)
    for tally in (whole, total):
        tally.failures.sort(key=lambda failure: failure.seed)
    assert total == whole
    assert whole.sometimes["often"].runs == 32
    fastest = whole.classes["class 0"].fastest
    same = [f for f in whole.failures if f.failure == "class 0"]
    assert fastest.get_cost() == min(f.get_cost() for f in same)


def test_row_names_what_decided_the_verdict() -> None:
    outcome = run(make_plan(0, "network", 2, bug="small-quorum", duration_ms=2000))
    row = make_row(outcome, outcome.seed, outcome.events, 5)
    assert (row.verdict, row.failure) == (outcome.verdict, outcome.get_class())
    assert row.message == outcome.findings[0].message


@pytest.mark.parametrize(("permille", "count"), [(0, 0), (1, 1), (50, 10), (1000, 200)])
def test_share_of_audited_runs_holds_for_every_beginning(permille: int, count: int) -> None:
    for first in (0, 17, 1 << 40):
        audited = [is_audited(first + i, first, permille) for i in range(200)]
        assert sum(audited) == count
        assert audited[0] == (count > 0)
