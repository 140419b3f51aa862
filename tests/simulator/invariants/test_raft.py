"""The judge of Raft, told by hand what members say and write."""

from quorate.base.types import Address, Member
from quorate.consensus.raft_types import Append, Appended, Ballot, Entry, Written
from quorate.simulator.invariants.raft import RaftRules

A, B, C = (bytes([i]) * 20 for i in (1, 2, 3))
MEMBERS = [Member(who, 1) for who in (A, B, C)]


def watch(*kept: Address, final: int = 0) -> tuple[RaftRules, list[str]]:
    """Return a judge that knows one entry of term 2 in these logs, and what it will find."""
    found: list[str] = []
    rules = RaftRules(
        lambda _: MEMBERS,
        lambda property, message, _: found.append(f"{property}: {message}"),
        lambda height: height <= final,
    )
    for who in kept:
        rules.keep(who, [Written(0, [Entry(2, 1, 1, b"envelope", b"payload")])])
    return rules, found


def test_what_a_majority_holds_may_be_committed_in_its_term() -> None:
    rules, found = watch(A, B)
    rules.judge_append(A, Append(2, 1, 2, [], 1))
    rules.judge_append(B, Append(3, 1, 2, [], 1))
    assert found == []


def test_what_a_minority_holds_is_not_committed() -> None:
    rules, found = watch(A)
    rules.judge_append(A, Append(2, 1, 2, [], 1))
    assert "calls entry 1 of term 2 committed, which power 1 of 3" in found[0]


def test_an_entry_of_an_older_term_is_not_committed_by_counting() -> None:
    rules, found = watch(A, B)
    rules.judge_append(B, Append(3, 1, 2, [], 1))
    assert found == [
        "commitment: calls entry 1 of term 2 committed in term 3, expected one of that term"
    ]


def test_an_entry_of_an_older_term_may_be_known_to_be_committed() -> None:
    rules, found = watch(A, B, final=1)
    rules.judge_append(B, Append(3, 1, 2, [], 1))
    # A payload exists only where the one below it is committed.
    other, more = watch(A, B)
    other.keep(A, [Written(1, [Entry(2, 2, 2, b"envelope", b"payload")])])
    other.judge_append(B, Append(3, 1, 2, [], 1))
    assert found == more == []


def test_a_cut_of_the_journal_gives_up_nothing_that_is_committed() -> None:
    rules, found = watch(A, B)
    rules.judge_append(A, Append(2, 1, 2, [], 1))
    rules.keep(B, [], cut=True)
    assert found == ["commitment: gives up entry 1, which is committed"]


def test_what_is_acknowledged_is_what_the_leader_has() -> None:
    for term, count in ((4, 1), (5, 0)):
        rules, found = watch(A)
        rules.keep(B, [Ballot(4, B), Written(0, [Entry(4, 1, 0, b"", b"")])])
        rules.judge_append(B, Append(4, 0, 0, [], 0))
        # In a later term another leader may have brought it.
        rules.keep(A, [Ballot(term, bytes(20))])
        rules.judge_appended(A, Appended(4, True, 1))
        assert len(found) == count
        assert all("whose leader has one of term 4 there" in text for text in found)


def test_a_leader_counts_for_what_it_has_kept_itself() -> None:
    rules, found = watch(B)
    rules.judge_append(A, Append(2, 1, 2, [], 1))
    assert "calls entry 1 of term 2 committed, which power 1 of 3" in found[0]
    # Others may be a majority without it.
    rules, found = watch(B, C)
    rules.judge_append(A, Append(2, 1, 2, [], 1))
    assert found == []


def test_what_is_committed_is_not_replaced() -> None:
    rules, found = watch(A, B)
    rules.judge_append(A, Append(2, 1, 2, [], 1))
    rules.keep(B, [Written(0, [Entry(3, 1, 0, b"", b"")])])
    assert found == ["commitment: gives up entry 1, which is committed"]
    # The same once more is no loss.
    rules, found = watch(A, B)
    rules.judge_append(A, Append(2, 1, 2, [], 1))
    rules.keep(B, [Written(0, [Entry(2, 1, 1, b"envelope", b"payload")])])
    assert found == []
