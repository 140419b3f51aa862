"""Some hundred seeds of random faults; thousands are run by hand (`chaos.main`)."""

import pytest

from consensus.actors import ALL
from consensus.chaos import Seen, run_seed
from consensus.network import Machine


@pytest.mark.parametrize("part", range(4))
def test_seeds_agree_and_make_progress(part: int) -> None:
    seen = Seen()
    for seed in range(100 * part, 100 * part + 100):
        try:
            seen.update(run_seed(seed))
        except Exception as error:
            error.add_note(f"python -m consensus.chaos {seed} {seed + 1}")
            raise
    # Sometimes: without these the run would have shown nothing.
    for name in ("later rounds", "proposed again", "restarts", "accusations", "Decision"):
        assert seen[name] > 0, f"{name} never happened"


@pytest.mark.parametrize("actor", ALL)
def test_a_liar_among_four_forks_nothing_and_stops_nothing(actor: type[Machine]) -> None:
    for seed in range(25):
        run_seed(seed, powers=(1, 1, 1, 1), actors=(actor,))


@pytest.mark.parametrize("powers", [(1,), (1, 1), (1, 1, 1, 1), (1,) * 7, (10, 7, 5, 3, 3, 2, 1)])
def test_any_size_and_weights(powers: tuple[int, ...]) -> None:
    for seed in range(10):
        run_seed(seed, powers=powers, steps=30)
