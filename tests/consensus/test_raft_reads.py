"""Linearizable reads of Raft: ReadIndex, requests of followers, leases."""

from typing import Any

from consensus.raft_member import LATE, ME, MS, B, C, elect, get_sends, say, start
from quorate.base.types import Member
from quorate.consensus.raft import Raft
from quorate.consensus.raft_types import (
    Append,
    Appended,
    Confirm,
    Confirmed,
    ReadReply,
    ReadRequest,
    RequestVote,
    VoteReply,
)
from quorate.consensus.replica import Readable, Timer

LONG = 10**12


def lead(**settings: Any) -> Raft:
    """Return a leader that has committed the entry of its own term."""
    raft = start(**settings)
    elect(raft)
    say(raft, ME, Appended(raft.term, True, 1))
    say(raft, B, Appended(raft.term, True, 1))
    assert raft.commit == 1
    return raft


def read(raft: Raft, number: int, now: int = LATE) -> list[Any]:
    raft.read(now, number)
    return raft.take()


def get_answers(effects: list[Any]) -> list[tuple[int, int]]:
    return [(e.number, e.height) for e in effects if type(e) is Readable]


# ---- the leader


def test_read_waits_until_a_majority_confirms_the_leader() -> None:
    raft = lead()
    effects = read(raft, 7)
    assert get_answers(effects) == []
    assert get_sends(effects, Confirm) == [(B, Confirm(1, 1)), (C, Confirm(1, 1))]
    assert get_answers(say(raft, B, Confirmed(1, 1))) == [(7, 0)]


def test_reads_that_come_during_a_round_share_the_next() -> None:
    raft = lead()
    read(raft, 1)
    assert read(raft, 2) == read(raft, 3) == []
    effects = say(raft, C, Confirmed(1, 1))
    assert get_answers(effects) == [(1, 0)]
    assert [m.number for _, m in get_sends(effects, Confirm)] == [2, 2]
    assert get_answers(say(raft, B, Confirmed(1, 1))) == []
    assert get_answers(say(raft, B, Confirmed(1, 2))) == [(2, 0), (3, 0)]


def test_leader_reads_nothing_before_an_entry_of_its_own_term_is_committed() -> None:
    raft = start()
    elect(raft)
    assert get_sends(read(raft, 1), Confirm) == []
    say(raft, ME, Appended(1, True, 1))
    effects = say(raft, B, Appended(1, True, 1))
    assert len(get_sends(effects, Confirm)) == 2
    assert get_answers(say(raft, B, Confirmed(1, 1))) == [(1, 0)]


def test_deposed_leader_refuses_what_waits() -> None:
    raft = lead()
    read(raft, 1)
    read(raft, 2)
    assert get_answers(say(raft, B, Confirmed(2, 1))) == [(1, -1), (2, -1)]
    assert (raft.role, raft.term) == ("follower", 2)


def test_leader_without_quorum_refuses_what_waits() -> None:
    raft = lead()
    read(raft, 1)
    for _ in range(2):
        raft.timeout(LATE, Timer("quorum"))
    assert get_answers(raft.take()) == [(1, -1)]


def test_round_is_repeated_with_the_heartbeat_to_those_who_were_not_heard() -> None:
    raft = lead()
    read(raft, 1)
    raft.timeout(LATE, Timer("heartbeat"))
    assert get_sends(raft.take(), Confirm) == [(B, Confirm(1, 1)), (C, Confirm(1, 1))]
    say(raft, B, Confirmed(1, 1))
    raft.timeout(LATE, Timer("heartbeat"))
    assert get_sends(raft.take(), Confirm) == []


def test_single_member_reads_at_once() -> None:
    raft = start(members=[Member(ME, 1)])
    raft.timeout(LATE, Timer("election"))
    raft.take()
    say(raft, ME, Appended(0, True, 0))
    for trial in (True, False):
        say(raft, ME, VoteReply(1, True, trial))
    say(raft, ME, Appended(1, True, 1))
    assert get_answers(read(raft, 1)) == [(1, 0)]


# ---- followers


def test_follower_confirms_only_the_term_it_is_in() -> None:
    raft = start()
    say(raft, B, Append(2, 0, 0, [], 0))
    assert get_sends(say(raft, B, Confirm(2, 5)), Confirmed) == [(B, Confirmed(2, 5))]
    assert get_sends(say(raft, C, Confirm(1, 5)), Confirmed) == [(C, Confirmed(2, 5))]
    assert raft.leader == B


def test_follower_asks_its_leader_once_for_all_reads_that_wait() -> None:
    raft = start()
    say(raft, B, Append(1, 0, 0, [], 0))
    assert get_sends(read(raft, 1), ReadRequest) == [(B, ReadRequest(1))]
    assert read(raft, 2) == read(raft, 3) == []
    effects = say(raft, B, ReadReply(1, 4))
    assert get_answers(effects) == [(1, 4)]
    assert get_sends(effects, ReadRequest) == [(B, ReadRequest(2))]
    assert say(raft, B, ReadReply(1, 4)) == []
    assert get_answers(say(raft, B, ReadReply(2, 5))) == [(2, 5), (3, 5)]


def test_leader_answers_a_request_after_the_round() -> None:
    raft = lead()
    assert get_sends(say(raft, C, ReadRequest(9)), ReadReply) == []
    assert get_sends(say(raft, B, Confirmed(1, 1)), ReadReply) == [(C, ReadReply(9, 0))]


def test_request_to_one_that_does_not_lead_is_refused() -> None:
    assert get_sends(say(start(), B, ReadRequest(9)), ReadReply) == [(B, ReadReply(9, -1))]


def test_read_without_a_leader_is_refused() -> None:
    assert get_answers(read(start(), 1)) == [(1, -1)]


def test_lost_request_is_refused_in_the_end() -> None:
    raft = start()
    say(raft, B, Append(1, 0, 0, [], 0))
    read(raft, 1)
    raft.timeout(LATE, Timer("read"))
    assert get_answers(raft.take()) == [(1, -1)]


def test_follower_that_loses_its_leader_refuses_what_waits() -> None:
    raft = start()
    say(raft, B, Append(1, 0, 0, [], 0))
    read(raft, 1)
    raft.timeout(LONG, Timer("election"))
    assert get_answers(raft.take()) == [(1, -1)]


# ---- leases


def lease(raft: Raft, began: int) -> None:
    """Let a majority confirm a round that begins at some time."""
    read(raft, 0, began)
    say(raft, B, Confirmed(1, raft.questions), began + 50 * MS)
    raft.take()


def test_lease_answers_without_asking_until_it_ends() -> None:
    raft = lead(lease_reads=True, clock_drift_percent=5)
    lease(raft, LATE)
    length = 1000 * MS * 95 // 105
    assert get_answers(read(raft, 1, LATE + length - 1)) == [(1, 0)]
    assert get_answers(read(raft, 2, LATE + length)) == []


def test_there_are_no_leases_unless_asked_for() -> None:
    raft = lead()
    lease(raft, LATE)
    assert get_answers(read(raft, 1, LATE + 1)) == []


def test_lease_is_kept_alive_by_heartbeats() -> None:
    raft = lead(lease_reads=True)
    raft.timeout(LATE, Timer("heartbeat"))
    assert get_sends(raft.take(), Confirm) == [(B, Confirm(1, 1)), (C, Confirm(1, 1))]


def test_member_that_has_just_started_votes_for_nobody() -> None:
    raft = start()
    request = RequestVote(5, 9, 4, False, False)
    assert say(raft, B, request, 999 * MS) == []
    assert say(raft, B, request, 1000 * MS) != []


def test_higher_term_does_not_make_a_member_forget_that_it_heard_a_leader() -> None:
    raft = start()
    say(raft, B, Append(1, 0, 0, [], 0), LATE)
    say(raft, C, Appended(7, False, 0), LATE)
    assert raft.dropped or raft.term in (1, 7)
    assert say(raft, C, RequestVote(8, 9, 4, False, False), LATE + 999 * MS) == []


def test_leader_that_ever_told_another_to_stand_has_no_lease_in_that_term() -> None:
    raft = lead(lease_reads=True)
    lease(raft, LATE)
    raft.hand_over(LATE, B)
    assert get_answers(read(raft, 1, LATE + 1)) == []
    raft.timeout(LATE, Timer("successor"))
    lease(raft, LATE + MS)
    assert get_answers(read(raft, 2, LATE + 2 * MS)) == []
