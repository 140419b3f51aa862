"""Run files and the tapes of fuzzers: what is kept repeats, and what is read has bounds."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quorate.base.errors import Invalid
from quorate.simulator import replay as runs
from quorate.simulator.plan import Plan
from quorate.simulator.replay import (
    Recording,
    compare,
    decode_recording,
    encode_recording,
    expect,
    list_streams,
    pack,
    read_bytes,
    record,
    replay,
    run_bytes,
    unpack,
)
from quorate.simulator.run import run
from quorate.simulator.tape import Tape
from simulator.networks import make_plan

SHORT = make_plan(5, "default", duration_ms=1500)


def change(data: bytes, **fields: Any) -> bytes:
    return json.dumps(json.loads(data) | fields).encode()


def change_plan(data: bytes, **fields: Any) -> bytes:
    return change(data, plan=json.loads(data)["plan"] | fields)


def test_recorded_run_comes_back_from_its_file_and_repeats_to_the_same_outcome() -> None:
    recording, outcome = record(SHORT)
    data = encode_recording(recording)
    again = decode_recording(data)
    assert again == recording
    assert encode_recording(again) == data
    assert replay(again) == outcome == run(SHORT)
    assert compare(again, outcome) == []


def test_file_without_tape_lets_the_seed_draw_it() -> None:
    outcome = run(SHORT)
    again = decode_recording(encode_recording(Recording(plan=SHORT, expected=expect(outcome))))
    assert again.tape is None
    assert replay(again) == outcome


def test_another_outcome_than_expected_is_told_with_the_version_that_expected_it() -> None:
    recording, outcome = record(SHORT)
    other = msgspec.structs.replace(recording, program="0.0.1")
    assert compare(other, outcome) == []
    differing = msgspec.structs.replace(outcome, digest="00")
    words = compare(other, differing)
    assert words[0] == f"digest 00, expected {outcome.digest}"
    assert words[1].startswith("the run was kept by version 0.0.1, this is ")


@given(st.lists(st.integers(0, 5)))
def test_packed_choices_come_back_without_the_zeros_at_their_end(values: list[int]) -> None:
    packed = pack(values)
    assert not packed or packed[-1] > 0
    unpacked = unpack({"a": packed}, "file")["a"]
    assert unpacked == values[: len(unpacked)]
    assert not any(values[len(unpacked) :])


def test_rows_of_zeros_are_one_number() -> None:
    assert pack([0, 0, 0, 7, 0, 8, 0]) == [-3, 7, -1, 8]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\xff", "f.json: not a run file, which is JSON"),
        (b"[]", 'f.json: format None, expected "quorate run"'),
        (b'{"format": "x"}', "f.json: format 'x', expected \"quorate run\""),
        (b'{"format": "quorate run", "version": 9}', "f.json: version 9, expected 1"),
        (b'{"format": "quorate run", "version": 1}', "f.json: .*missing required field `plan`"),
    ],
)
def test_strange_file_is_refused_with_what_was_expected(data: bytes, message: str) -> None:
    with pytest.raises(Invalid, match=message):
        decode_recording(data, "f.json")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"engine": "nobody"}, "engine 'nobody', expected one of tendermint, raft"),
        ({"bug": "none"}, "bug 'none': expected one of"),
        ({"machines": []}, "number of machines 0, expected 1 to 128"),
        ({"duration_ms": 0}, "duration_ms 0, expected 1 to"),
        ({"submit_ms": 0}, "submit_ms 0, expected 1 to"),
        ({"clients": -1}, "clients -1, expected 0 to"),
        ({"delays_ns": [[1]]}, "rows of delays_ns 1, expected 4 to 4"),
        ({"engine_settings": {"propose": 1}}, "engine_settings: 'propose', expected one of"),
        ({"engine_settings": {"propose_ms": "1"}}, "engine_settings: Expected `int`, got `str`"),
        ({"patience": 1}, r"unknown field `patience` - at `\$.plan`"),
        ({"seed": "1"}, r"Expected `int`, got `str` - at `\$.plan.seed`"),
    ],
)
def test_plan_of_a_file_is_verified(fields: dict[str, Any], message: str) -> None:
    data = encode_recording(Recording(plan=SHORT, tape={}))
    with pytest.raises(Invalid, match=message):
        decode_recording(change_plan(data, **fields))


@pytest.mark.parametrize(
    ("tape", "message"),
    [
        ({"a": [0]}, "stream 'a': choice 0, expected -k for k zeros, or 1 to"),
        ({"a": [1 << 63, (1 << 63) + 1]}, "choice 9223372036854775809, expected"),
        ({"a": [-10_000_000], "b": [-20_000_000]}, "30000000 choices or more, expected at most"),
        ({"a": ["1"]}, r"Expected `int`, got `str` - at `\$.tape\[...\]\[0\]`"),
    ],
)
def test_tape_of_a_file_is_verified(tape: Any, message: str) -> None:
    data = encode_recording(Recording(plan=SHORT, tape={}))
    with pytest.raises(Invalid, match=message):
        decode_recording(change(data, tape=tape))


def test_file_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encode_recording(Recording(plan=SHORT, tape={}))
    monkeypatch.setattr(runs, "MAX_FILE_BYTES", 10)
    with pytest.raises(Invalid, match=f"{len(data)} bytes, expected at most 10"):
        decode_recording(data)


# ---- tapes


def test_reseeded_tape_keeps_its_past_and_also_reseeds_streams_that_come_later() -> None:
    values = {"a": [1, 2, 3], "b": [4, 5, 6]}
    drawn = []
    for seed in (7, 7, 8):
        tape = Tape(0, values)
        past = [tape.stream("a").choose(100), tape.stream("a").choose(100)]
        assert past == [1, 2]
        tape.reseed(seed)
        drawn.append([tape.stream(name).choose(1 << 30) for name in "ab" for _ in range(3)])
    assert drawn[0] == drawn[1] != drawn[2]
    assert drawn[0][3:] != [4, 5, 6]


def test_replayed_tape_tells_among_how_many_was_chosen() -> None:
    tape = Tape(0, {})
    tape.stream("a").choose(5)
    tape.stream("a").choose(3)
    tape.stream("b").chance(10)
    assert tape.get_limits() == {"a": 5, "b": 1}


# ---- fuzzers

FUZZED: Plan = make_plan(1, "default", duration_ms=1000, patience_ms=20_000)
STREAMS = list_streams(FUZZED)


def test_no_bytes_are_a_run_without_faults() -> None:
    assert run_bytes(FUZZED, b"") == run(FUZZED, Tape(0, {}))


def test_one_byte_changes_one_choice() -> None:
    one = read_bytes(STREAMS, bytes([1, 2, 3, 0, 0, 9]) + bytes([4, 5, 0, 0, 1, 0]))
    other = read_bytes(STREAMS, bytes([1, 2, 3, 0, 0, 7]) + bytes([4, 5, 0, 0, 1, 0]))
    differing = [(n, i) for n in one for i, v in enumerate(one[n]) if other[n][i] != v]
    assert len(differing) == 1
    assert sum(map(len, one.values())) == 5


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.binary(max_size=120))
def test_any_bytes_are_a_run_that_breaks_nothing_and_repeats(data: bytes) -> None:
    outcome = run_bytes(FUZZED, data, STREAMS)
    assert (outcome.verdict, outcome.findings) == ("true", [])
    assert run_bytes(FUZZED, data, STREAMS) == outcome
