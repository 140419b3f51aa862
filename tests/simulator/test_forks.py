"""Forks: who shares what, and that a way through them is a run like any other."""

import json

import pytest
from msgspec.structs import replace

from quorate.base.errors import Invalid
from quorate.simulator.forks import (
    SHAPES,
    count_seeds,
    get_first_seed,
    make_forks,
    split,
    verify_forks,
)
from quorate.simulator.plan import MS, Fork
from quorate.simulator.replay import (
    decode_recording,
    encode_recording,
    record,
    replay,
    run_until,
)
from quorate.simulator.run import run
from quorate.simulator.shrink import Shrinker
from quorate.simulator.tape import Tape
from quorate.simulator.tracer import Tracer
from quorate.simulator.verdict import Outcome
from quorate.simulator.why import explain
from quorate.simulator.world import World
from simulator.networks import make_plan

FORKS = (Fork(400, 2), Fork(800, 3))
PLAN = make_plan(0, "default", duration_ms=2500, forks=FORKS)


def play(seed: int) -> tuple[Outcome, list[tuple[int, str]]]:
    """Run a seed; return what came of it, and at each fork the seed and the digest so far."""
    passed: list[tuple[int, str]] = []

    def note(world: World) -> None:
        for fork in FORKS:
            at = PLAN.duration_ms * MS * fork.at_permille // 1000
            world.after(at - 1, lambda: passed.append((world.plan.seed, world.digest.finish())))

    return run(replace(PLAN, seed=seed), on_world=note), passed


def test_seeds_share_what_lies_before_the_forks_at_which_they_part() -> None:
    plays = {seed: play(seed) for seed in range(12, 18)}
    first, second = ({s: p[1][i] for s, p in plays.items()} for i in (0, 1))
    assert len(set(first.values())) == 1
    assert first[12][0] == 12
    # Three seeds on each of the two ways of the first fork.
    assert [second[s] for s in range(12, 18)] == [second[12]] * 3 + [second[15]] * 3
    assert second[12] != second[15]
    assert second[15][0] == 15
    digests = {outcome.digest for outcome, _ in plays.values()}
    assert len(digests) == 6
    assert [outcome.seed for outcome, _ in plays.values()] == list(range(12, 18))


def test_first_seed_of_a_family_runs_as_it_does_without_forks() -> None:
    forked, plain = run(replace(PLAN, seed=18)), run(replace(PLAN, seed=18, forks=()))
    assert forked == plain
    assert run(replace(PLAN, seed=19)) != replace(plain, seed=19)


@pytest.mark.parametrize("more", [{"engine": "raft"}, {"engine": "pow"}, {"detector": "phi"}])
def test_every_kind_of_run_is_repeated_from_its_tape(more: dict[str, str]) -> None:
    plan = replace(PLAN, seed=23, **more)
    recording, outcome = record(plan)
    assert outcome == run(plan)
    read = decode_recording(encode_recording(recording))
    assert read == recording
    assert replay(read, Tracer()).digest == outcome.digest
    # The tape is whole: without it the plan's seed would have to say how the run goes on.
    assert run(plan, Tape(0, recording.tape)).digest == outcome.digest


def test_run_is_stopped_before_a_fork_and_after_it() -> None:
    recording, outcome = record(replace(PLAN, seed=17))
    for until_ms, seed in ((900, 12), (1500, 15), (2400, 17)):
        world, ended = run_until(recording, until_ms * MS)
        assert (world.plan.seed, ended) == (seed, None)
    assert run_until(recording, 1000 * PLAN.patience_ms * MS)[1] == outcome


def find_failing() -> int:
    """Return a seed that fails behind a fork at which it left its family's first way."""
    plan = replace(PLAN, bug="t1-unlock-without-polka", duration_ms=4000)
    for seed in range(400):
        if seed % 6:
            found = run(replace(plan, seed=seed))
            if found.verdict == "false" and 3200 * MS < found.time_ns < 4000 * MS:
                return seed
    raise AssertionError("no seed fails late")


def test_failing_branch_is_shrunk_and_explained() -> None:
    seed = find_failing()
    plan = replace(PLAN, bug="t1-unlock-without-polka", duration_ms=4000, seed=seed)
    recording, outcome = record(plan)
    shrinker = Shrinker(recording, max_runs=60)
    before = shrinker.cost
    shrinker.shrink()
    small = shrinker.get_recording()
    assert shrinker.cost < before
    assert small.expected is not None
    assert small.expected.property == outcome.get_class()
    assert replay(small).get_class() == outcome.get_class()
    found = explain(recording, points=3, samples=2)
    assert found.symptom
    assert found.points[-1].share == 1


def test_branch_that_ends_before_it_parts_has_its_own_seed() -> None:
    plan = replace(PLAN, bug="small-quorum", profile=make_plan(0, "network").profile)
    early = [run(replace(plan, seed=seed)) for seed in range(6)]
    assert early[0].verdict == "false"
    assert early[0].time_ns < 1000 * MS
    assert [replace(o, seed=0) for o in early] == [early[0]] * 6
    assert [o.seed for o in early] == list(range(6))


def test_shapes_have_as_many_ends_as_they_say() -> None:
    for branches in SHAPES:
        forks = make_forks(branches)
        verify_forks(forks)
        assert count_seeds(forks) == branches
    assert make_forks(1) == ()
    for wrong in (0, -4, 3, 1 << 20):
        with pytest.raises(Invalid, match=rf"{wrong} branches, expected one of 1, 2, 4"):
            make_forks(wrong)


def test_seeds_are_split_by_their_ways() -> None:
    assert split(FORKS, -1, 4, 13) == [(4, 5), (6, 11), (12, 13)]
    assert split(FORKS, 0, 6, 11) == [(6, 8), (9, 11)]
    assert split(FORKS, 0, 10, 11) == [(10, 11)]
    assert split(FORKS, 1, 10, 11) == [(10, 10), (11, 11)]
    assert split((), -1, 4, 6) == [(4, 4), (5, 5), (6, 6)]
    assert get_first_seed(replace(PLAN, seed=11)) == 6


@pytest.mark.parametrize(
    ("forks", "message"),
    [
        ([[0, 2]], "fork 0: at_permille 0, expected 1 to 999"),
        ([[1000, 2]], "fork 0: at_permille 1000, expected 1 to 999"),
        ([[500, 2], [500, 2]], "fork 1: at_permille 500, expected 501 to 999"),
        ([[500, 1]], "fork 0: ways 1, expected 2 to 256"),
        ([[500, 200], [600, 2]], "400 branches of all forks, expected at most 256"),
        ([[i, 2] for i in range(1, 10)], "9 forks, expected at most 8"),
        ([[500, 2, 3]], "plan.forks"),
        ([["x", 2]], "plan.forks"),
    ],
)
def test_forks_of_a_file_are_verified(forks: list[list[object]], message: str) -> None:
    recording, _ = record(make_plan(1, duration_ms=10, patience_ms=10))
    text = encode_recording(recording).decode()
    assert '"forks":[]' in text
    encoded = text.replace('"forks":[]', f'"forks":{json.dumps(forks)}').encode()
    with pytest.raises(Invalid, match=message):
        decode_recording(encoded, "plan")
