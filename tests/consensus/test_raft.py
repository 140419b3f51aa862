"""Raft, rule by rule: one input, the effects that it must have."""

from typing import Any

import pytest

from consensus.raft_member import (
    CHAIN,
    LATE,
    ME,
    MEMBERS,
    MS,
    PAYLOAD,
    B,
    C,
    elect,
    entry,
    get_records,
    get_sends,
    make_envelope,
    noop,
    say,
    start,
)
from quorate.base.errors import Corrupt
from quorate.base.rng import Rng
from quorate.base.types import Member
from quorate.consensus.certificate import Envelope, encode_envelope
from quorate.consensus.membership import hash_members
from quorate.consensus.raft import Raft
from quorate.consensus.raft_certificate import encode_certificate
from quorate.consensus.raft_types import (
    LARGE_BYTES,
    Append,
    Appended,
    Ballot,
    Certificate,
    Commit,
    Entry,
    Learned,
    RequestVote,
    TimeoutNow,
    VoteReply,
    Written,
)
from quorate.consensus.replica import (
    Base,
    CancelTimer,
    Checkpoint,
    Decision,
    Deliver,
    Head,
    Persist,
    Record,
    Send,
    SetTimer,
    Timer,
    Want,
)
from quorate.crypto.hashes import hash_payload, keccak256
from quorate.simulator.keys import SimulatedKeys

# ---- elections


def test_trial_comes_before_a_term() -> None:
    raft = start()
    raft.timeout(LATE, Timer("election"))
    effects = raft.take()
    assert [m.trial for _, m in get_sends(effects, RequestVote)] == [True, True]
    assert (raft.term, get_records(effects)) == (0, [])


def test_candidate_keeps_its_vote_before_it_asks() -> None:
    raft = start()
    raft.timeout(LATE, Timer("election"))
    raft.take()
    say(raft, B, VoteReply(1, True, True))
    effects = say(raft, ME, VoteReply(1, True, True))
    kinds = [type(e) for e in effects if type(e) in (Persist, Send)]
    assert get_records(effects) == [Ballot(1, ME)]
    assert kinds == [Persist, Send, Send, Send]


def test_leader_appends_an_entry_of_its_own_term_and_sends_before_it_writes() -> None:
    effects = elect(start())
    assert [to for to, _ in get_sends(effects, Append)] == [B, C]
    assert get_records(effects) == [Written(0, [noop(1, 1)])]
    kinds = [type(e) for e in effects if type(e) in (Persist, Send)]
    assert kinds == [Send, Send, Persist, Send]


def test_vote_is_kept_before_it_is_said() -> None:
    effects = say(start(), B, RequestVote(1, 0, 0, False, False))
    said = [e for e in effects if type(e) is Persist or type(e) is Send]
    assert get_records(effects) == [Ballot(1, bytes(20)), Ballot(1, B)]
    assert said[-1] == Send(B, VoteReply(1, True, False))


def test_one_vote_in_a_term_also_after_a_restart() -> None:
    raft = start(Ballot(1, B))
    effects = say(raft, C, RequestVote(1, 0, 0, False, False))
    assert get_sends(effects, VoteReply) == [(C, VoteReply(1, False, False))]
    effects = say(raft, B, RequestVote(1, 0, 0, False, False))
    assert get_sends(effects, VoteReply) == [(B, VoteReply(1, True, False))]


@pytest.mark.parametrize(
    ("index", "term", "granted"), [(1, 2, False), (5, 1, False), (2, 2, True), (1, 3, True)]
)
def test_voter_rejects_a_candidate_with_a_stale_log(index: int, term: int, granted: bool) -> None:
    """5.4.1: the later term of the last entry wins, then the longer log."""
    raft = start(Written(0, [noop(1, 1), noop(2, 2)]))
    effects = say(raft, B, RequestVote(9, index, term, False, False))
    assert [m.granted for _, m in get_sends(effects, VoteReply)] == [granted]


def test_nobody_votes_beside_a_leader_that_is_heard() -> None:
    raft = start()
    say(raft, B, Append(1, 0, 0, [], 0), now=LATE)
    assert say(raft, C, RequestVote(9, 9, 9, False, False), now=LATE + 500 * MS) == []
    assert raft.term == 1
    effects = say(raft, C, RequestVote(9, 9, 9, False, True), now=LATE + 500 * MS)
    assert [m.granted for _, m in get_sends(effects, VoteReply)] == [True]


def test_leader_without_a_quorum_steps_down() -> None:
    raft = start()
    elect(raft)
    raft.timeout(LATE, Timer("quorum"))
    assert raft.role == "leader"
    raft.take()
    raft.timeout(LATE, Timer("quorum"))
    assert raft.role == "follower"


def test_told_follower_stands_at_once() -> None:
    raft = start()
    say(raft, B, Append(1, 0, 0, [], 0))
    effects = say(raft, B, TimeoutNow(1))
    requests = [m for _, m in get_sends(effects, RequestVote)]
    assert [(m.term, m.trial, m.told) for m in requests] == [(2, False, True)] * 2


def test_leader_that_is_heard_puts_the_election_off_without_another_timer() -> None:
    raft = start()
    effects = say(raft, B, Append(1, 0, 0, [], 0), now=0)
    first = [e.delay_ns for e in effects if type(e) is SetTimer][-1]
    assert not [e for e in say(raft, B, Append(1, 0, 0, [], 0), 5 * MS) if type(e) is SetTimer]
    raft.timeout(first, Timer("election"))
    effects = raft.take()
    assert [e.delay_ns for e in effects if type(e) is SetTimer] == [5 * MS]
    assert get_sends(effects, RequestVote) == []
    raft.timeout(first + 5 * MS, Timer("election"))
    assert len(get_sends(raft.take(), RequestVote)) == 2


def test_clock_that_jumps_makes_no_wait_for_an_election_longer() -> None:
    raft = start()
    say(raft, B, Append(1, 0, 0, [], 0), now=LATE)
    say(raft, B, Append(1, 0, 0, [], 0), now=LATE)
    raft.timeout(0, Timer("election"))
    (delay,) = [e.delay_ns for e in raft.take() if type(e) is SetTimer]
    assert delay == raft.patience
    raft.timeout(0, Timer("election"))
    assert get_sends(raft.take(), RequestVote)


def test_who_is_needed_no_more_stands_no_more() -> None:
    raft = start()
    say(raft, B, Append(1, 0, 0, [], 0))
    others = [Member(who, 1) for who in (B, C)]
    for height in (0, 1):
        raft.know_members(height, others)
    raft.timeout(LATE, Timer("election"))
    raft.take()
    raft.timeout(2 * LATE, Timer("election"))
    assert get_sends(raft.take(), RequestVote) == []
    assert "election" not in raft.timers


# ---- the log


def test_entries_are_acknowledged_when_they_are_durable() -> None:
    effects = say(start(), B, Append(1, 0, 0, [noop(1, 1)], 0))
    said = [e for e in effects if type(e) is Persist or type(e) is Send]
    assert said == [
        Persist(Ballot(1, bytes(20))),
        Persist(Written(0, [noop(1, 1)])),
        Send(B, Appended(1, True, 1)),
    ]


def test_old_leader_is_refused() -> None:
    raft = start(Ballot(5, bytes(20)))
    effects = say(raft, B, Append(4, 0, 0, [noop(1, 4)], 1))
    assert effects == [Send(B, Appended(5, False, 0))]


def test_missing_entry_is_named_by_the_end_of_the_log() -> None:
    effects = say(start(), B, Append(1, 7, 1, [noop(8, 1)], 0))
    assert get_sends(effects, Appended) == [(B, Appended(1, False, 0))]


def test_conflicting_term_is_skipped_as_a_whole() -> None:
    raft = start(Written(0, [noop(1, 1), noop(2, 2), noop(3, 2), noop(4, 2)]))
    effects = say(raft, B, Append(5, 4, 4, [], 0))
    assert get_sends(effects, Appended) == [(B, Appended(5, False, 1))]


def test_conflict_truncates_and_a_repetition_does_not() -> None:
    raft = start(Written(0, [noop(1, 1), noop(2, 1), noop(3, 1)]))
    effects = say(raft, B, Append(2, 1, 1, [noop(2, 2)], 0))
    assert get_records(effects) == [Ballot(2, bytes(20)), Written(1, [noop(2, 2)])]
    assert raft.log.last_index == 2
    # An older message of the same leader, late: it must not shorten the log.
    say(raft, B, Append(2, 2, 2, [noop(3, 2)], 0))
    effects = say(raft, B, Append(2, 1, 1, [noop(2, 2)], 0))
    assert (get_records(effects), raft.log.last_index) == ([], 3)


@pytest.mark.parametrize(
    "bad",
    [
        Entry(1, 1, 1, b"short", PAYLOAD),
        Entry(1, 1, 2, make_envelope(2, 1), PAYLOAD),
        Entry(1, 1, 1, make_envelope(2, 1), PAYLOAD),
        Entry(1, 1, 1, make_envelope(1, 1), PAYLOAD + b"more"),
        Entry(1, 1, 0, b"", PAYLOAD),
        Entry(1, 1, 5, b"", b""),
        Entry(2, 1, 0, b"", b""),
    ],
)
def test_entries_that_no_leader_makes_are_dropped(bad: Entry) -> None:
    raft = start(Ballot(1, bytes(20)))
    effects = say(raft, B, Append(1, 0, 0, [bad], 1))
    assert (get_records(effects), get_sends(effects, Appended)) == ([], [])
    assert (raft.dropped, raft.log.last_index) == ({"entries": 1}, 0)


def test_follower_commits_what_was_compared_only() -> None:
    raft = start(Written(0, [noop(1, 1), entry(2, 1)]))
    effects = say(raft, B, Append(2, 1, 1, [], 5))
    assert [e for e in effects if type(e) is Deliver] == []
    assert raft.commit == 1


def test_leader_commits_older_terms_only_with_one_of_its_own() -> None:
    """Figure 8: entry 1 of term 1 is held by a majority, and is not committed by that."""
    raft = start(Ballot(1, bytes(20)), Written(0, [entry(1, 1)]))
    elect(raft)
    say(raft, ME, Appended(2, True, 2))
    effects = say(raft, B, Appended(2, True, 1))
    assert [e for e in effects if type(e) is Deliver] == []
    effects = say(raft, B, Appended(2, True, 2))
    assert [e.height for e in effects if type(e) is Deliver] == [1]


def test_leader_counts_itself_when_its_own_entry_is_durable() -> None:
    raft = start()
    elect(raft)
    say(raft, B, Appended(1, True, 1))
    assert raft.commit == 0
    say(raft, ME, Appended(1, True, 1))
    assert raft.commit == 1


def test_payload_is_asked_for_when_everything_before_it_is_applied() -> None:
    raft = start(Ballot(1, bytes(20)), Written(0, [entry(1, 1)]))
    effects = elect(raft)
    assert [e for e in effects if type(e) is Want] == []
    say(raft, ME, Appended(2, True, 2))
    say(raft, B, Appended(2, True, 2))
    raft.applied(LATE, 1, MEMBERS)
    assert [e.height for e in raft.take() if type(e) is Want] == [2]


def propose(raft: Raft, height: int, now: int, payload: bytes = PAYLOAD) -> list[Any]:
    """Let a leader that has applied everything below a height propose there."""
    if height > 1:
        raft.applied(now, height - 1, MEMBERS)
        raft.take()
    raft.submit(now, height, payload)
    return raft.take()


def hold(raft: Raft, index: int, now: int) -> list[Any]:
    """Let ME and B hold an entry durably; return the effects of its commitment."""
    say(raft, ME, Appended(1, True, index), now)
    return say(raft, B, Appended(1, True, index), now)


def test_commit_waits_for_entries_that_come_at_once_and_no_others() -> None:
    raft = start()
    elect(raft)
    hold(raft, 1, LATE)
    propose(raft, 1, 2 * LATE)
    # The entry came long after the one before it was committed: so may the next.
    effects = hold(raft, 2, 2 * LATE)
    assert [to for to, _ in get_sends(effects, Commit)] == [B]
    propose(raft, 2, 2 * LATE + MS // 2)
    effects = hold(raft, 3, 2 * LATE + MS)
    assert get_sends(effects, Commit) == []
    assert [e for e in effects if type(e) is SetTimer] == [SetTimer(Timer("commit"), MS)]
    effects = propose(raft, 3, 2 * LATE + MS + MS // 2)
    assert [m.commit for _, m in get_sends(effects, Append)] == [3, 3]
    assert CancelTimer(Timer("commit")) in effects


def test_commit_of_a_large_payload_is_told_at_once_to_all_who_were_sent_it() -> None:
    raft = start()
    elect(raft)
    hold(raft, 1, LATE)
    propose(raft, 1, LATE + MS // 2, bytes(LARGE_BYTES))
    effects = hold(raft, 2, LATE + MS)
    # C acknowledged nothing yet.
    assert get_sends(effects, Commit) == [(B, Commit(1, 2)), (C, Commit(1, 2))]
    assert [type(e) for e in effects[:3]] == [Send, Send, Deliver]
    assert [e for e in effects if type(e) is SetTimer] == []
    propose(raft, 2, LATE + MS + MS // 2)
    assert get_sends(hold(raft, 3, LATE + 2 * MS), Commit) == []


@pytest.mark.parametrize("size", [100, LARGE_BYTES])
def test_follower_has_a_large_payload_executed_while_it_is_written(size: int) -> None:
    payload = bytes(size)
    raft, members = start(), hash_members(MEMBERS)
    envelope = Envelope("raft", 1, 1, B, CHAIN, members, members, hash_payload(payload))
    entries = [Entry(1, 1, 1, encode_envelope(envelope), payload)]
    effects = say(raft, B, Append(1, 0, 0, entries, 0))
    kinds = [
        Ballot if type(e) is Persist and type(e.record) is Ballot else type(e)
        for e in effects
        if type(e) in (Head, Persist, Send)
    ]
    # Behind its answer too: only there it is what follows the last final block for sure.
    before = [Head] if size >= LARGE_BYTES else []
    assert kinds[kinds.index(Ballot) + 1 :] == [*before, Persist, Send, Head]


def test_commit_is_told_when_no_entries_came() -> None:
    raft = start()
    elect(raft)
    hold(raft, 1, LATE)
    propose(raft, 1, LATE)
    assert get_sends(hold(raft, 2, LATE), Commit) == []
    raft.timeout(LATE + MS, Timer("commit"))
    assert get_sends(raft.take(), Commit) == [(B, Commit(1, 2))]
    # Whoever waits for an answer before it asks again is not made to wait each time.
    propose(raft, 2, LATE + 2 * MS)
    assert [to for to, _ in get_sends(hold(raft, 3, LATE + 3 * MS), Commit)] == [B]


def test_leader_that_is_voted_out_tells_what_is_committed_first() -> None:
    raft = start()
    elect(raft)
    hold(raft, 1, LATE)
    propose(raft, 1, LATE)
    hold(raft, 2, LATE)
    raft.know_members(2, [Member(who, 1) for who in (B, C)])
    raft.applied(LATE, 1, MEMBERS)
    sent = [type(e.message) for e in raft.take() if type(e) is Send]
    assert sent == [Commit, TimeoutNow]


def test_one_message_serves_all_who_lack_the_same() -> None:
    raft = start()
    elect(raft)
    hold(raft, 1, LATE)
    (_, first), (_, second) = get_sends(propose(raft, 1, LATE), Append)
    assert first is second
    say(raft, C, Appended(1, False, 0), LATE)
    hold(raft, 2, LATE)
    found = dict(get_sends(propose(raft, 2, LATE), Append))
    assert found[B].prev_index == found[C].prev_index == 2


def test_change_of_members_needs_both_majorities() -> None:
    """ME, B and C agree on height 0 (nothing yet), ME, 7 and 8 on height 1."""
    seven, eight = bytes([7]) * 20, bytes([8]) * 20
    raft = start()
    raft.know_members(1, [Member(who, 1) for who in (ME, seven, eight)])
    elect(raft)
    assert raft.role == "trial"
    say(raft, seven, VoteReply(1, True, True))
    say(raft, ME, VoteReply(1, True, False))
    say(raft, B, VoteReply(1, True, False))
    assert raft.role == "candidate"
    say(raft, seven, VoteReply(1, True, False))
    assert raft.role == "leader"


def test_no_op_behind_a_committed_payload_needs_no_members_that_are_gone() -> None:
    """Seed 800060 of five: the no-op of an earlier leader waited for a member that was removed."""
    seven, eight = bytes([7]) * 20, bytes([8]) * 20
    raft = start(Ballot(2, bytes(20)), Written(0, [noop(1, 1), noop(2, 2), entry(3, 2)]))
    raft.know_members(0, [Member(ME, 1), Member(seven, 5), Member(eight, 5)])
    elect(raft)
    say(raft, ME, Appended(3, True, 4))
    effects = say(raft, B, Appended(3, True, 4))
    assert [e.height for e in effects if type(e) is Deliver] == [1]


# ---- decisions of others


def decide(index: int, term: int, height: int = 1) -> Decision:
    members = hash_members(MEMBERS)
    envelope = Envelope("raft", height, term, B, CHAIN, members, members, hash_payload(PAYLOAD))
    return Decision(
        height, [PAYLOAD], encode_certificate(Certificate(envelope, term, index, [B, C]))
    )


def test_decision_of_a_member_becomes_the_base_of_the_log() -> None:
    raft = start(Written(0, [noop(1, 1), noop(2, 1)]))
    effects = say(raft, B, decide(4, 2))
    assert [e.height for e in effects if type(e) is Deliver] == [1]
    assert type(get_records(effects)[0]) is Learned
    assert (raft.log.base_index, raft.log.last_index, raft.commit) == (4, 4, 4)


def test_decision_of_a_stranger_is_dropped() -> None:
    raft = start()
    assert say(raft, bytes([9]) * 20, decide(4, 2)) == []
    assert raft.dropped == {"stranger": 1}


def test_restart_replays_what_was_learned_and_written() -> None:
    known = decide(4, 2)
    raft = start(
        Written(0, [noop(1, 1)]),
        Learned(1, known.payloads, known.certificate),
        Written(4, [noop(5, 3, height=1)]),
        Ballot(3, B),
    )
    assert (raft.height, raft.log.last_index, raft.term) == (1, 5, 3)


def test_gap_in_the_journal_is_corrupt() -> None:
    with pytest.raises(Corrupt, match="entries after index 7, expected at most 0"):
        start(Written(7, [noop(8, 1)]))


def test_journal_is_cut_to_what_a_restart_needs() -> None:
    raft = start(checkpoint_heights=1)
    say(raft, B, Append(1, 0, 0, [noop(1, 1), entry(2, 1), noop(3, 1, height=1)], 2))
    raft.applied(LATE, 1, MEMBERS)
    effects = [e for e in raft.take() if type(e) is Checkpoint]
    records: list[Record] = [Ballot(1, bytes(20)), Written(2, [noop(3, 1, height=1)])]
    assert effects == [Checkpoint(1, records)]
    again = Raft(SimulatedKeys(ME), CHAIN, Rng(1))
    known = decide(2, 1)
    value = keccak256(make_envelope(1, 1))
    base = Base(1, value, known.certificate, [PAYLOAD], MEMBERS, MEMBERS, MEMBERS)
    again.start(0, base, records)
    assert (again.log.base_index, again.log.last_index, again.term) == (2, 3, 1)


# ---- handing over (T3.10)


def lead_three() -> Raft:
    """Return the leader of three, whose first entry B holds."""
    raft = start()
    elect(raft)
    say(raft, ME, Appended(1, True, 1))
    say(raft, B, Appended(1, True, 1))
    return raft


def test_successor_stands_as_soon_as_it_has_the_whole_log() -> None:
    raft = lead_three()
    assert raft.hand_over(LATE, C) == ""
    assert get_sends(raft.take(), TimeoutNow) == []
    assert get_sends(say(raft, C, Appended(1, True, 1)), TimeoutNow) == [(C, TimeoutNow(1))]


def test_most_complete_follower_is_chosen() -> None:
    raft = lead_three()
    assert raft.hand_over(LATE, None) == ""
    assert get_sends(raft.take(), TimeoutNow) == [(B, TimeoutNow(1))]


def test_leader_that_hands_over_takes_up_no_payload_until_it_gives_up() -> None:
    raft = lead_three()
    raft.hand_over(LATE, B)
    raft.take()
    raft.submit(LATE, 1, PAYLOAD)
    assert raft.take() == []
    raft.timeout(LATE, Timer("successor"))
    assert [type(e) for e in raft.take()] == [Want]
    raft.submit(LATE, 1, PAYLOAD)
    assert len(get_sends(raft.take(), Append)) == 2


def test_order_to_stand_is_repeated_with_the_heartbeat() -> None:
    raft = lead_three()
    raft.hand_over(LATE, B)
    raft.take()
    raft.timeout(LATE, Timer("heartbeat"))
    assert get_sends(raft.take(), TimeoutNow) == [(B, TimeoutNow(1))]


def test_only_a_leader_hands_over_and_only_to_another_member() -> None:
    assert start().hand_over(LATE, B) == "this member does not lead"
    raft = lead_three()
    assert raft.hand_over(LATE, ME).endswith("is no other member")
    assert raft.hand_over(LATE, bytes(20)).endswith("is no other member")
    assert raft.successor is None


def test_only_the_leader_orders_to_stand() -> None:
    raft = start()
    say(raft, B, Append(1, 0, 0, [], 0))
    assert say(raft, C, TimeoutNow(1)) == []
    assert [m.told for _, m in get_sends(say(raft, B, TimeoutNow(1)), RequestVote)] == [True, True]


def test_refusal_by_one_behind_the_base_is_not_answered() -> None:
    raft = lead_three()
    raft.log.append([noop(i, 1) for i in range(2, 6)])
    raft.log.rebase(4, 1, 0)
    raft.peers[C].next = 6
    assert get_sends(say(raft, C, Appended(1, False, 1)), Append) == []
    assert len(get_sends(say(raft, C, Appended(1, False, 4)), Append)) == 1
