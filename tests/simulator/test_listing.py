"""A trace as text."""

from quorate.simulator.listing import render_text
from quorate.simulator.trace import Event

EVENTS = [
    Event(number=0, time_ns=0, kind="start", machine=0, name="life 1", text="reads nothing"),
    Event(number=1, time_ns=1_500_000, kind="send", machine=0, other=1, cause=0, name="Prevote",
          height=1, round=0, text="for nil"),
    Event(number=2, time_ns=1_500_000, kind="lost", machine=0, other=2, cause=0, name="Prevote",
          height=1, round=0, text="for nil", false=True),
    Event(number=3, time_ns=1_500_000, kind="arm", machine=0, cause=0, name="propose"),
    Event(number=4, time_ns=2_000_001, kind="receive", machine=1, other=0, cause=1, name="Prevote",
          height=1, round=0, text="for nil"),
    Event(number=5, time_ns=3_000_000, kind="cut", machine=-1, source=0, other=2),
    Event(number=6, time_ns=4_000_000, kind="final", machine=1, cause=4, height=1, name="block 1"),
]  # fmt: skip


def test_a_listing_is_one_line_an_event_and_tells_a_message_once() -> None:
    assert render_text(EVENTS, ["a", "b", "c"]) == (
        "     0         0.000  a            start life 1 reads nothing\n"
        "     2         1.500  a -x c       FALSE Prevote 1/0 for nil (0)\n"
        "     4         2.000  b <- a       Prevote 1/0 for nil (1)\n"
        "     5         3.000  a -|- c\n"
        "     6         4.000  b            final block 1 (4)\n"
    )


def get_numbers(text: str) -> list[str]:
    return [line.split()[0] for line in text.splitlines()]


def test_all_kinds_machines_heights_and_a_limit_choose_lines() -> None:
    assert render_text(EVENTS, all_kinds=True).count("\n") == len(EVENTS)
    assert get_numbers(render_text(EVENTS, machines=[2])) == ["2", "5"]
    assert get_numbers(render_text(EVENTS, heights=[1])) == ["2", "4", "6"]
    assert render_text(EVENTS, limit=1) == (
        "... 4 lines before\n     6         4.000  1            final block 1 (4)\n"
    )
    assert render_text([]) == ""
