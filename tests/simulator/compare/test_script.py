"""Scripts of faults: what files may say, and what faults are in words."""

import pytest

from quorate.base.errors import Invalid
from quorate.simulator.compare.script import (
    SCRIPTS,
    Fault,
    count_group,
    describe_fault,
    parse_script,
)

GOOD = """
[[fault]]
kind = "partition"
who = "half"
at_ms = 5000
for_ms = 1000

[[fault]]
kind = "slow-links"
who = [0, 2]
at_ms = 100
for_ms = 50
amount = 7
"""


def test_faults_stand_in_order_of_time() -> None:
    script = parse_script(GOOD, "faults.toml")
    assert [fault.kind for fault in script.faults] == ["slow-links", "partition"]
    assert script.get_end() == 6000


def test_faults_have_words() -> None:
    first, second = parse_script(GOOD, "faults.toml").faults
    assert describe_fault(first, 4) == "members 0, 2: 7 ms more on every message"
    assert describe_fault(second, 5) == "2 of 5 cut off from the rest"
    crash = Fault(kind="crash", at_ms=0, for_ms=1, who="leader")
    assert describe_fault(crash, 4) == "the leader crashes (power lost)"


@pytest.mark.parametrize(
    ("group", "members", "count"),
    [
        ("half", 4, 2),
        ("half", 5, 2),
        ("third", 4, 1),
        ("third", 7, 2),
        ("minority", 4, 1),
        ("minority", 5, 2),
        ("majority", 4, 3),
        ("all", 4, 4),
    ],
)
def test_groups_count(group: str, members: int, count: int) -> None:
    assert count_group(group, members) == count


def test_scripts_of_the_house_leave_room_between_faults() -> None:
    for script in SCRIPTS.values():
        pairs = zip(script.faults, script.faults[1:], strict=False)
        assert all(a.at_ms + a.for_ms < b.at_ms for a, b in pairs), script.name


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[[fault", "f.toml: "),
        ("", "expected 1 to 64 of [[fault]]"),
        ("x = 1", "found the key 'x'"),
        ('[[fault]]\nkind = "explode"', "fault 1: kind 'explode', expected one of crash"),
        ('[[fault]]\nkind = "crash"\nat_ms = 1', "fault 1: Object missing"),
        ('[[fault]]\nkind = "crash"\nat_ms = -1\nfor_ms = 1', "at_ms -1, expected 0 to"),
        ('[[fault]]\nkind = "crash"\nat_ms = 1\nfor_ms = 0', "for_ms 0, expected 1 to"),
        ('[[fault]]\nkind = "crash"\nat_ms = 1\nfor_ms = 1\nwho = "boss"', "who 'boss'"),
        ('[[fault]]\nkind = "crash"\nat_ms = 1\nfor_ms = 1\nwho = -1', "expected indexes from 0"),
        ('[[fault]]\nkind = "crash"\nat_ms = 1\nfor_ms = 1\nwho = []', "expected indexes from 0"),
        ('[[fault]]\nkind = "crash"\nat_ms = 1\nfor_ms = 1\namount = 2', "expected none for crash"),
        ('[[fault]]\nkind = "lose"\nat_ms = 1\nfor_ms = 1\namount = 2000', "expected 1 to 1000"),
        ('[[fault]]\nkind = "crash"\nat_ms = 1\nfor_ms = 1\nwhen = 2', "unknown field `when`"),
        ('[[fault]]\nkind = "crash"\nat_ms = 1\nfor_ms = 1\nwho = 1\ncount = 2', "of a role"),
    ],
)
def test_bad_scripts_are_refused_in_one_line(text: str, expected: str) -> None:
    with pytest.raises(Invalid) as refused:
        parse_script(text, "f.toml")
    assert expected in str(refused.value)
    assert "\n" not in str(refused.value)
