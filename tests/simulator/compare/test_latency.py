"""Matrices of round trips: presets, files, and what is refused."""

import pytest

from quorate.base.errors import Invalid
from quorate.simulator.compare.latency import PRESETS, parse_latency
from quorate.simulator.plan import MS

TOML = """
places = ["here", "there"]
rtt_ms = [[1, 80], [90, 2]]
jitter_ms = 3
members = ["there", "here", "here"]
"""


def test_message_takes_half_of_a_round_trip() -> None:
    delays = PRESETS["lan"].compute_delays(2)
    assert delays == [[MS // 4, MS // 4], [MS // 4, MS // 4]]


def test_presets_are_the_same_both_ways_and_name_their_source() -> None:
    for preset in PRESETS.values():
        assert preset.source
        rows = preset.rtt_ms
        assert [list(column) for column in zip(*rows, strict=True)] == [list(row) for row in rows]


def test_members_are_put_into_places_in_turn_or_as_the_file_says() -> None:
    in_turn = PRESETS["continents"]
    assert [in_turn.get_place(i) for i in range(6)] == [0, 1, 2, 3, 4, 0]
    said = parse_latency(TOML, "matrix.toml")
    assert [said.get_place(i) for i in range(4)] == [1, 0, 0, 1]
    assert said.compute_delays(2) == [[1 * MS, 45 * MS], [40 * MS, MS // 2]]
    assert said.compute_jitter() == 3 * MS


@pytest.mark.parametrize(
    "text",
    ["here,there\n1,80\n90,2\n", ",here,there\nhere,1,80\nthere,90,2\n"],
    ids=["bare", "with names"],
)
def test_csv_says_the_same(text: str) -> None:
    found = parse_latency(text, "matrix.csv")
    assert found.places == ("here", "there")
    assert found.rtt_ms == ((1, 80), (90, 2))


@pytest.mark.parametrize(
    ("text", "name", "expected"),
    [
        ("places = [", "a.toml", "a.toml: "),
        ("x = 1", "a.toml", "x: unknown key"),
        ("places = []", "a.toml", "expected 1 to 128"),
        ('places = ["a", "a"]', "a.toml", "different names"),
        ('places = ["a"]', "a.toml", "rtt_ms: none rows, expected one for each of 1"),
        ('places = ["a"]\nrtt_ms = [[1, 2]]', "a.toml", "row 1 (a): 2 numbers, expected 1"),
        ('places = ["a"]\nrtt_ms = [[-1]]', "a.toml", "-1, expected 0 to 60000 ms"),
        ('places = ["a"]\nrtt_ms = [[nan]]', "a.toml", "nan, expected 0 to"),
        ('places = ["a"]\nrtt_ms = [["1"]]', "a.toml", "'1', expected 0 to"),
        ('places = ["a"]\nrtt_ms = [[1]]\nmembers = ["b"]', "a.toml", "'b', expected one of a"),
        ("", "a.csv", "a.csv: empty"),
        ("a,b\n1,x\n", "a.csv", "row 1: could not convert"),
        ("a,b\n1,2\n", "a.csv", "1 rows, expected one for each of 2"),
    ],
)
def test_bad_matrices_are_refused_in_one_line(text: str, name: str, expected: str) -> None:
    with pytest.raises(Invalid) as refused:
        parse_latency(text, name)
    assert expected in str(refused.value)
    assert "\n" not in str(refused.value)
