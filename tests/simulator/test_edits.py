"""What a shrinker does to plans and choices."""

from quorate.simulator.edits import (
    Choices,
    count_choices,
    drop_machine,
    find_acts,
    get_groups,
    hasten,
    is_quiet,
    order_by_time,
    retime,
    tidy,
    without,
)
from quorate.simulator.plan import MS
from simulator.networks import make_plan


def test_act_goes_with_what_it_drew_but_not_with_its_pause() -> None:
    choices: Choices = {
        "nemesis act": {0: 3, 2: 4},
        "nemesis who": {0: 1, 1: 2, 2: 3},
        "nemesis pause": {0: 5},
        "link 0>1 loss": {0: 1},
    }
    assert without(choices, [("nemesis act", 0)]) == {
        "nemesis act": {2: 4},
        "nemesis who": {1: 2, 2: 3},
        "nemesis pause": {0: 5},
        "link 0>1 loss": {0: 1},
    }


def test_details_of_acts_that_do_not_happen_are_tidied_away() -> None:
    choices: Choices = {
        "nemesis act": {2: 4},
        "nemesis who": {1: 2, 2: 3},
        "traitor 1 act": {},
        "traitor 1 how": {0: 9},
        "rounds": {0: 5, 2: 6, 3: 1},
        "clients who": {0: 1},
    }
    assert tidy(choices) == {
        "nemesis act": {2: 4},
        "nemesis who": {2: 3},
        "rounds": {2: 6, 3: 1},
        "clients who": {0: 1},
    }


def test_choices_of_several_streams_are_ordered_by_about_when_they_were_drawn() -> None:
    choices: Choices = {"a": {0: 1, 9: 1}, "b": {50: 1, 99: 1}, "c": {}}
    assert order_by_time(choices, ["a", "b", "c"]) == [("a", 0), ("b", 50), ("a", 9), ("b", 99)]


def test_acts_of_traitors_are_one_group_behind_those_of_nemeses() -> None:
    choices: Choices = {f"{who} act": {0: 1} for who in ("traitor 2", "nemesis", "traitor 1")}
    assert find_acts(choices) == [["nemesis act"], ["traitor 1 act", "traitor 2 act"]]


def test_groups_have_the_acts_of_nemeses_first_and_delays_last() -> None:
    names = ["link 0>1 delay", "link 1>0 delay", "link 0>1 loss", "nemesis act", "disk 0", "x"]
    choices: Choices = {name: {0: 1} for name in names} | {"disk 1": {}}
    assert get_groups(choices) == [
        ["nemesis act"],
        ["disk 0"],
        ["link 0>1 loss"],
        ["link 0>1 delay", "link 1>0 delay"],
        ["x"],
    ]


def get_times(choices: Choices, most: int) -> list[tuple[int, int, int]]:
    """Return (time, act, who) of every act, as a nemesis has them."""
    time, acts = 0, []
    for i in range(40):
        time += MS + most - choices.get("nemesis pause", {}).get(i, 0)
        act = choices.get("nemesis act", {}).get(i, 0)
        if act:
            acts.append((time, act, choices.get("nemesis who", {}).get(i, 0)))
    return acts


def test_joined_pauses_leave_acts_their_times_and_are_fewer() -> None:
    most = 200 * MS
    choices: Choices = {
        "nemesis act": {3: 4, 9: 5},
        "nemesis who": {3: 1, 9: 2},
        "nemesis pause": {i: (i + 1) * 17 * MS + i for i in range(10)},
        "link 0>1 loss": {0: 1},
    }
    joined = retime(choices, most)
    assert joined is not None
    assert get_times(joined, most) == get_times(choices, most) != []
    assert len(joined["nemesis pause"]) == 2
    assert joined["link 0>1 loss"] == {0: 1}
    assert count_choices(joined) == 7


def test_acts_keep_their_times_when_pauses_are_chosen_among_more() -> None:
    most, more = 200 * MS, 750 * MS
    choices: Choices = {"nemesis act": {3: 4, 9: 5}, "nemesis pause": {2: 17, 9: 5 * MS}}
    edited = retime(choices, most, more)
    assert edited is not None
    assert get_times(edited, more) == get_times(choices, most)


def test_pauses_that_are_the_longest_need_no_choice() -> None:
    choices: Choices = {"nemesis act": {2: 1}, "nemesis pause": {5: 3}}
    assert retime(choices, 100 * MS) == {"nemesis act": {2: 1}}
    assert retime({"nemesis pause": {5: 3}}, 100 * MS) is None


def test_hastened_acts_lose_idle_pauses_before_them() -> None:
    choices: Choices = {
        "nemesis act": {2: 1, 4: 2},
        "nemesis who": {4: 3},
        "nemesis pause": {3: 7},
    }
    assert list(hasten(choices)) == [
        {"nemesis act": {0: 1, 2: 2}, "nemesis who": {2: 3}, "nemesis pause": {1: 7}},
        {"nemesis act": {1: 1, 3: 2}, "nemesis who": {3: 3}, "nemesis pause": {2: 7}},
    ]


def test_machine_that_goes_takes_its_streams_and_the_others_keep_theirs() -> None:
    plan = make_plan(1, count=3)
    choices: Choices = {
        "link 0>2 loss": {4: 1},
        "link 1>2 loss": {5: 1},
        "disk 0": {0: 7},
        "disk 1": {0: 8},
        "disk 2": {0: 9},
        "nemesis who": {0: 2, 1: 1, 2: 0},
    }
    smaller, renamed = drop_machine(plan, choices, 1)
    assert [m.name for m in smaller.machines] == ["validator-0", "validator-2"]
    assert renamed == {
        "link 0>1 loss": {4: 1},
        "disk 0": {0: 7},
        "disk 1": {0: 9},
        "nemesis who": {0: 1, 1: 1},
    }


def test_quiet_streams_are_named_by_family_or_by_last_word() -> None:
    assert is_quiet("link 0>1 delay", ("link",))
    assert is_quiet("link 0>1 delay", ("link delay",))
    assert not is_quiet("link 0>1 loss", ("link delay", "clients"))
