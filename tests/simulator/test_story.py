"""What is told of a run: what lasted, and the sentences that matter."""

from typing import Any

from quorate.simulator.story import Span, compute_spans, shorten_names, tell_story
from quorate.simulator.trace import Event

NAMES = ["validator-0", "validator-1", "validator-2", "validator-3"]


def make_events(*events: tuple[str, int, dict[str, Any]]) -> list[Event]:
    return [
        Event(number=i, time_ns=i * 1_000_000, kind=kind, machine=machine, **fields)
        for i, (kind, machine, fields) in enumerate(events)
    ]


def tell(events: list[Event]) -> list[str]:
    spans = compute_spans(events, NAMES)
    return [f"{line.tone}: {line.text}" for line in tell_story(events, NAMES, spans)]


def cut(source: int, other: int, cause: int) -> tuple[str, int, dict[str, Any]]:
    return "cut", -1, {"source": source, "other": other, "cause": cause}


def test_names_of_one_form_become_a_letter_and_a_number() -> None:
    assert shorten_names(NAMES) == ["v0", "v1", "v2", "v3"]
    assert shorten_names(["validator-1", "validator-1-twin", "spare-1"]) == ["v1", "v1-t", "s1"]
    assert shorten_names(["alice", "bob", "a-very-long-name"]) == ["alice", "bob", "a-very-lo…"]


def test_partition_lasts_until_its_last_link_is_whole_and_says_who_is_where() -> None:
    pairs = [(0, 1), (1, 0), (0, 2), (2, 0), (0, 3), (3, 0)]
    events = make_events(
        ("fault", -1, {"name": "partition"}),
        *[cut(a, b, 0) for a, b in pairs],
        ("fault", -1, {"name": "mend"}),
        *[("mended", -1, {"begin": 1 + i, "cause": 7}) for i in range(6)],
    )
    assert compute_spans(events, NAMES) == [
        Span(kind="cut", label="v0 | v1 v2 v3", cut_off=[0], begin=0, end=13)
    ]
    assert tell(events) == ["fault: partition: v0 | v1 v2 v3", "mend: mend: v0 | v1 v2 v3"]


def test_one_way_cut_says_from_whom_to_whom() -> None:
    events = make_events(
        ("fault", -1, {"name": "one-way cut"}), *[cut(2, other, 0) for other in (0, 1, 3)]
    )
    assert compute_spans(events, NAMES) == [
        Span(kind="cut", label="v2 ⇸ v0 v1 v3", cut_off=[2], begin=0)
    ]


def test_twins_have_no_link_that_could_join_two_sides() -> None:
    pairs = [(0, 2), (2, 0), (0, 3), (3, 0), (1, 2), (2, 1)]
    events = make_events(
        ("join", 3, {"name": "validator-1-twin", "text": "twin of validator-1"}),
        ("fault", -1, {"name": "partition"}),
        *[cut(a, b, 1) for a, b in pairs],
    )
    names = ["validator-0", "validator-1", "validator-2", "validator-1-twin"]
    assert [s.label for s in compute_spans(events, names)] == ["v0 v1 | v2 v1-t"]


def test_links_that_leave_everybody_connected_are_named() -> None:
    events = make_events(cut(0, 1, -1), cut(1, 0, -1))
    labels = [span.label for span in compute_spans(events, NAMES)]
    assert labels == ["v0 ⇸ v1", "v1 ⇸ v0"]
    events = make_events(("fault", -1, {"name": "partition"}), cut(0, 1, 0), cut(1, 0, 0))
    assert [span.label for span in compute_spans(events, NAMES)] == ["v0 ⇎ v1"]


def test_pause_ends_when_the_process_does_and_a_crash_ends_at_the_start() -> None:
    events = make_events(
        ("fault", 1, {"name": "pause"}),
        ("fault", 1, {"name": "crash"}),
        ("down", 1, {}),
        ("start", 1, {"begin": 2, "name": "life 2", "text": "reads 3 records"}),
        ("fault", 2, {"name": "pause"}),
        ("fault", -1, {"name": "heal"}),
    )
    spans = [
        (span.kind, span.machine, span.begin, span.end) for span in compute_spans(events, NAMES)
    ]
    assert spans == [("pause", 1, 0, 2), ("down", 1, 2, 3), ("pause", 2, 4, 5)]
    assert tell(events) == [
        "fault: validator-1: pause",
        "fault: validator-1: crash",
        "mend: validator-1 starts again (life 2), reads 3 records",
        "fault: validator-2: pause",
        "mend: all faults end",
    ]


def test_slowness_and_scripts_end_and_a_process_that_refuses_stays_away() -> None:
    events = make_events(
        ("fault", 0, {"name": "slow", "text": "factor 8"}),
        ("fault", 0, {"name": "slow", "text": "factor 1", "begin": 0}),
        ("fail", 3, {"name": "refuses to start", "text": "journal: rot"}),
        ("fault", -1, {"name": "round script", "text": "300 of 1000 rounds"}),
        ("fault", -1, {"name": "round script ends", "begin": 3}),
    )
    assert [(s.kind, s.begin, s.end, s.label) for s in compute_spans(events, NAMES)] == [
        ("slow", 0, 1, "slow, factor 8"),
        ("refused", 2, -1, "does not start: journal: rot"),
        ("script", 3, 4, "round script, 300 of 1000 rounds"),
    ]


def test_rounds_and_decisions_are_told_once_and_another_block_is_a_finding() -> None:
    events = make_events(
        ("state", 0, {"height": 1, "round": 0, "name": "propose"}),
        ("state", 0, {"height": 1, "round": 1, "name": "propose", "text": "leader validator-2"}),
        ("state", 1, {"height": 1, "round": 1, "name": "propose", "text": "leader validator-2"}),
        ("final", 0, {"height": 1, "text": "0xaaaaaaaaaaaa, 1 items"}),
        ("final", 1, {"height": 1, "text": "0xaaaaaaaaaaaa, 1 items"}),
        ("final", 2, {"height": 1, "text": "0xbbbbbbbbbbbb, 1 items"}),
        ("finding", 2, {"name": "agreement", "text": "two blocks"}),
    )
    assert tell(events) == [
        "round: height 1 goes to round 1 (validator-0 first, leader validator-2)",
        "final: height 1 is final: 0xaaaaaaaa (validator-0 first)",
        "finding: validator-2 makes another block final at height 1: 0xbbbbbbbb, "
        "others have 0xaaaaaaaa",
        "finding: agreement: two blocks",
    ]


def test_many_heights_in_a_row_are_one_sentence() -> None:
    events = make_events(
        *[("final", 0, {"height": h, "text": f"0x{h:08x}, 1 items"}) for h in range(1, 6)]
    )
    assert tell(events) == ["final: heights 1 to 5 become final"]


def test_a_swizzle_is_two_sentences() -> None:
    events: list[tuple[str, int, dict[str, Any]]] = []
    for other in (1, 2, 3):
        events.append(("fault", -1, {"name": "swizzle cut", "source": 0, "other": other}))
        events.append(cut(0, other, len(events) - 1))
    for i in range(3):
        events.append(("fault", -1, {"name": "swizzle mend", "source": 0, "other": i + 1}))
        events.append(("mended", -1, {"begin": 2 * i + 1, "cause": len(events) - 1}))
    assert tell(make_events(*events)) == [
        "fault: swizzle: 3 links are cut one by one",
        "mend: swizzle: 3 links are mended one by one",
    ]


def test_lies_are_told_once_for_each_thing_said() -> None:
    lie = {"false": True, "name": "Prevote", "height": 2, "round": 0, "text": "for nil"}
    events = make_events(
        ("send", 3, {"other": 0, **lie}),
        ("send", 3, {"other": 1, **lie}),
        ("withheld", 3, {"other": 2, **lie, "name": "Precommit"}),
    )
    assert tell(events) == [
        "lie: validator-3 lies: Prevote 2/0 for nil",
        "lie: validator-3 withholds Precommit 2/0 from validator-2 for nil",
    ]
