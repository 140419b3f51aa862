"""Timing models: what arrives when, what may be lost, and what may be judged."""

import msgspec
import pytest

from quorate import consensus
from quorate.base.errors import Invalid
from quorate.base.rng import Rng
from quorate.simulator.tape import Tape
from quorate.simulator.timing import (
    ENGINES,
    AnyTiming,
    Asynchronous,
    Lossy,
    Needs,
    PartiallySynchronous,
    Synchronous,
    Timing,
    compute_members_needed,
    compute_tolerated,
    judge_claims,
    parse_timing,
)

TENDERMINT = ENGINES["tendermint"]
DOLEV_STRONG = Needs(safety="synchronous", termination="synchronous", faults="byzantine")
BEN_OR = Needs(
    safety="asynchronous", termination="asynchronous", faults="byzantine", randomised=True
)
RAFT = ENGINES["raft"]
MODELS: list[Timing] = [
    Synchronous(10),
    PartiallySynchronous(10, 100),
    PartiallySynchronous(10, 100, lossy=False),
    Asynchronous(1_000),
    Lossy(500, 10, most_in_a_row=3, again_ns=5),
]


def test_synchronous_links_are_never_late_and_lose_nothing() -> None:
    model = Synchronous(10)
    assert model.admit(5, 8) == 8
    assert model.admit(5, 500) == 15
    assert model.admit(5, None) == 15


def test_before_gst_a_message_is_lost_or_comes_by_then() -> None:
    model = PartiallySynchronous(10, 100)
    assert model.admit(99, None) is None
    assert model.admit(0, 10_000) == 110
    assert model.admit(100, None) == 110
    assert model.admit(100, 10_000) == 110
    assert PartiallySynchronous(10, 100, lossy=False).admit(3, None) == 110


def test_an_asynchronous_link_delivers_at_last() -> None:
    assert Asynchronous(1_000).admit(5, None) == 1_005
    assert Asynchronous(1_000).admit(5, 900) == 900


def test_fair_loss_ends_after_so_many_in_a_row() -> None:
    model = Lossy(500, 10, most_in_a_row=3)
    assert [model.admit(0, None, lost) for lost in range(5)] == [None, None, None, 10, 10]
    assert not Lossy(0, 10).may_lose(0)


@pytest.mark.parametrize("model", MODELS, ids=lambda m: type(m).__name__)
def test_no_adversary_breaks_a_promise(model: Timing) -> None:
    rng = Rng(3)
    for _ in range(500):
        sent = rng.below(300)
        wish = None if rng.below(2) else sent + rng.below(5_000)
        arrival = model.admit(sent, wish)
        if arrival is None:
            assert model.may_lose(sent)
        else:
            assert sent <= arrival <= model.compute_deadline(sent)
            assert wish is None or arrival <= wish


@pytest.mark.parametrize("model", MODELS, ids=lambda m: type(m).__name__)
def test_after_the_time_of_judgement_a_step_takes_at_most_the_bound(model: Timing) -> None:
    start = model.judge_from(randomised=True)
    assert start is not None
    for sent in range(start, start + 50):
        again, lost, arrival = sent, 0, model.admit(sent, None)
        while arrival is None:
            lost += 1
            again += model.again_ns if isinstance(model, Lossy) else 1
            arrival = model.admit(again, None, lost)
        assert arrival - sent <= model.compute_delay_bound()


def test_liveness_is_judged_from_gst_and_never_without_synchrony() -> None:
    assert Synchronous(10).judge_from() == 0
    assert PartiallySynchronous(10, 100).judge_from() == 100
    assert Asynchronous(10).judge_from() is None
    assert Asynchronous(10).judge_from(randomised=True) == 0


def test_an_engine_in_its_own_model_is_judged_fully() -> None:
    for model in (Synchronous(10), PartiallySynchronous(10, 100), Lossy(100, 10)):
        assert judge_claims(TENDERMINT, model, n=4, f=1) == {}
    assert judge_claims(BEN_OR, Asynchronous(10), n=4, f=1) == {}
    assert judge_claims(DOLEV_STRONG, Synchronous(10), n=3, f=1) == {}


def test_a_weaker_model_takes_claims_away() -> None:
    assert judge_claims(TENDERMINT, Asynchronous(10), n=4, f=1) == {
        "termination": "no deterministic engine terminates in every asynchronous run"
    }
    assert judge_claims(DOLEV_STRONG, PartiallySynchronous(10, 100), n=3, f=1) == {
        "safety": "the engine relies on synchronous links, these are partial",
        "termination": "the engine relies on synchronous links, these are partial",
    }
    reason = "3 members with 1 faulty (byzantine), expected at least 4"
    assert judge_claims(TENDERMINT, Synchronous(10), n=3, f=1) == {
        "safety": reason,
        "termination": reason,
    }


def test_how_many_members_are_needed() -> None:
    assert [compute_members_needed(TENDERMINT, f) for f in range(4)] == [1, 4, 7, 10]
    assert [compute_members_needed(RAFT, f) for f in range(4)] == [1, 3, 5, 7]
    assert compute_members_needed(DOLEV_STRONG, 2) == 5
    assert [compute_tolerated(TENDERMINT, n) for n in range(1, 8)] == [0, 0, 0, 1, 1, 1, 2]
    assert [compute_tolerated(RAFT, n) for n in range(1, 8)] == [0, 0, 1, 1, 2, 2, 3]
    unsigned = Needs(
        safety="synchronous", termination="synchronous", faults="byzantine", signatures=False
    )
    assert compute_members_needed(unsigned, 2) == 7


@pytest.mark.parametrize("model", MODELS, ids=lambda m: type(m).__name__)
def test_a_model_is_recorded_and_read_again(model: Timing) -> None:
    assert msgspec.json.decode(msgspec.json.encode(model), type=AnyTiming) == model


def test_models_are_written_in_milliseconds() -> None:
    assert parse_timing("synchronous:50") == Synchronous(50_000_000)
    assert parse_timing("partial:50,8000") == PartiallySynchronous(50_000_000, 8_000_000_000)
    assert parse_timing("partial:50,10,30") == PartiallySynchronous(
        50_000_000, 10_000_000, latest_gst_ns=30_000_000
    )
    assert parse_timing("asynchronous:60000") == Asynchronous(60_000_000_000)
    assert parse_timing("lossy:300,20") == Lossy(300, 20_000_000)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("quantum:1", "expected one of synchronous:DELTA, partial:DELTA,GST"),
        ("partial:50", "expected one of"),
        ("synchronous", "expected one of"),
        ("lossy:-3,20", "'-3', expected a number up to 86400000"),
        ("synchronous:99999999", "'99999999', expected a number"),
    ],
)
def test_what_is_no_model_is_refused(text: str, words: str) -> None:
    with pytest.raises(Invalid, match=words):
        parse_timing(text)


def test_each_seed_draws_its_gst_and_an_empty_tape_the_earliest() -> None:
    model = PartiallySynchronous(10, 1_000_000_000, latest_gst_ns=9_000_000_000)
    assert model.draw(Tape(0, {}).stream("timing")) == PartiallySynchronous(10, 1_000_000_000)
    drawn = {model.draw(Tape(seed).stream("timing")).gst_ns for seed in range(50)}
    assert len(drawn) > 40
    assert min(drawn) >= 1_000_000_000
    assert max(drawn) <= 9_000_000_000
    fixed = PartiallySynchronous(10, 5)
    assert fixed.draw(Tape(1).stream("timing")) == fixed


def test_every_engine_says_what_it_needs() -> None:
    assert set(consensus.ENGINES) <= set(ENGINES)
