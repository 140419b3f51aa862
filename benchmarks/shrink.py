"""How small do failing runs become, and how many runs does that take?

For each known bug the first few failing seeds are looked for, and the one with the fewest events is
shrunk, as a person would do who follows `quorate sim`. Compared are faults and choices that are not
zero before and after; by hand, none of these bugs needs less than what a fault and its target are.
"""

import time

import click

from quorate.cli.simulated import Setup, build_plan
from quorate.simulator.bugs import BUGS, load
from quorate.simulator.replay import Recording
from quorate.simulator.run import run
from quorate.simulator.shrink import Shrinker

FAILING = 3
"""Seeds among which the one with the fewest events is taken."""


@click.command()
@click.argument("bugs", nargs=-1)
@click.option("--seeds", default=400, show_default=True, help="That are searched for each bug.")
@click.option("--runs", default=3000, show_default=True, help="Of each shrinker at most.")
@click.option("--seconds", default=180.0, show_default=True, help="For each shrinker at most.")
def main(bugs: tuple[str, ...], seeds: int, runs: int, seconds: float) -> None:
    """Print a table: bug, property, faults + choices and events before and after, runs, time."""
    load()
    print("| bug | property | before | events | after | events | machines | runs | s |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name in bugs or sorted(BUGS):
        print(measure(name, seeds, runs, seconds), flush=True)


def measure(name: str, seeds: int, runs: int, seconds: float) -> str:
    """Return the row of one bug."""
    setup = Setup(bug=name, engine=BUGS[name].engine or None)
    found = []
    for seed in range(seeds):
        plan = build_plan(setup, seed)
        outcome = run(plan)
        if outcome.verdict == "false":
            found.append((outcome.events, seed))
        if len(found) == FAILING:
            break
    if not found:
        return f"| `{name}` | not found in {seeds} seeds | | | | | | | |"
    begin = time.monotonic()
    shrinker = Shrinker(
        Recording(plan=build_plan(setup, min(found)[1])),
        max_runs=runs,
        is_expired=lambda: time.monotonic() > begin + seconds,
    )
    before = shrinker.get_progress()
    done = shrinker.shrink()
    after = shrinker.get_progress()
    expected = shrinker.get_recording().expected
    assert expected is not None
    return (
        f"| `{name}` | {shrinker.symptom.split(':')[0]} "
        f"| {before.faults} + {before.choices:,} | {shrinker.first.outcome.events:,} "
        f"| {after.faults} + {after.choices} | {expected.events:,} | {after.machines} "
        f"| {shrinker.runs:,}{'' if done else ' (budget)'} | {time.monotonic() - begin:.0f} |"
    )


if __name__ == "__main__":
    main()
