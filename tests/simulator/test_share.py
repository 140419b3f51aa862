"""A share of seeds that differs with every commit: what CI runs adds up to a long campaign.

A failure prints the line that replays it, here and everywhere.
"""

import subprocess
from pathlib import Path

import pytest

from quorate.cli.simulated import Setup, build_plan, format_setup
from quorate.simulator.run import run

ROOT = Path(__file__).resolve().parents[2]
PARTS = 4
"""So that several processes share the work."""
SEEDS = 50
"""Of each part; some seconds."""


def get_first_seed() -> int:
    """Return where this commit's seeds begin; 0 outside of a clone."""
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return 0
    return int(done.stdout[:10], 16)


@pytest.mark.parametrize("part", range(PARTS))
def test_seeds_of_this_commit_keep_every_promise(part: int) -> None:
    setup = Setup()
    first = get_first_seed() + part * SEEDS
    for seed in range(first, first + SEEDS):
        outcome = run(build_plan(setup, seed))
        assert outcome.verdict == "true", (
            f"quorate replay {seed}{format_setup(setup)}\n"
            + "\n".join(finding.message for finding in outcome.findings)
        )
