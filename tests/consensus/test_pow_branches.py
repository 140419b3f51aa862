"""What becomes of a branch: the tip after a restart, and the alarm of a chain that is refused."""

import pytest

from consensus.pow_world import ALICE, BOB, Made, Single, announce, block, grow
from quorate.base.types import Hash
from quorate.consensus.pow_types import Headers, Kept
from quorate.consensus.replica import Head

# ---- the tip after a restart


def restart() -> tuple[Single, list[Made], list[Made]]:
    """Return a replica that starts from the journal of a tip of three blocks and has heard four
    blocks of another branch before the application has judged anything; and both branches.
    """
    before, other = Single(final_depth=9), Single(final_depth=9)
    shown = grow(before, 3)
    rival = [other.extend(body=b"rival")]
    other.hear(BOB, block(rival[0]))
    rival += grow(other, 3, rival[0])
    one = Single(journal=[Kept(made.raw, made.payload) for made in shown], final_depth=9)
    for made in rival:
        one.replica.receive(one.now, BOB, block(made))
    one.replica.out[:0] = one.first
    return one, shown, rival


def test_after_a_restart_the_tip_of_the_journal_is_shown_before_a_heavier_one() -> None:
    one, shown, rival = restart()
    asked: list[Hash] = []
    one.verdict = lambda check: bool(asked.append(check.envelope)) or True
    heads = [effect for effect in one.settle() if isinstance(effect, Head)]
    assert asked == [made.hash for made in shown + rival]
    # Only so readers are told what is gone, and its transactions wait again.
    assert [head.envelope for head in heads] == [shown[-1].hash, rival[-1].hash]
    assert one.replica.kept is None
    assert one.replica.reorganizations == {3: 1}


@pytest.mark.parametrize("bad", [0, 1, 2])
def test_an_invalid_block_in_the_journal_does_not_block_what_is_heavier(bad: int) -> None:
    one, shown, rival = restart()
    one.verdict = lambda check: check.envelope != shown[bad].hash
    heads = [effect for effect in one.settle() if isinstance(effect, Head)]
    assert heads[-1].envelope == one.head == rival[-1].hash
    assert one.replica.kept is None
    # Nobody sent what was in the own journal.
    assert one.replica.dropped == {"invalid_block": 1}


def test_a_tip_of_the_journal_that_is_condemned_meanwhile_is_not_waited_for() -> None:
    one, shown, rival = restart()
    one.replica.tree.condemn(one.replica.tree.blocks[shown[-1].hash])
    one.settle()
    assert one.head == rival[-1].hash


# ---- the alarm


def refuse(one: Single, twin: Single, blocks: int) -> list[Made]:
    """Let a replica be told of a heavier branch that forks below its last final block."""
    other = twin.extend(body=b"other")
    twin.hear(ALICE, block(other))
    branch = [other, *grow(twin, blocks, other)]
    one.hear(BOB, announce(branch[-1], twin.replica.tree.head.work))
    one.hear(BOB, Headers([made.raw for made in branch]))
    return branch


def test_the_alarm_of_a_refused_chain_stays_until_the_own_one_is_heavier_by_far() -> None:
    one, twin = Single(final_depth=2), Single(final_depth=100)
    made = grow(one, 5)
    refuse(one, twin, 5)
    alarm, work = one.replica.get_alarm(), twin.replica.tree.head.work
    assert alarm
    # The two branches overtake each other: neither raises another alarm nor ends this one.
    while one.replica.tree.head.work < work + 2 * one.settings.initial_difficulty:
        assert one.replica.get_alarm() == alarm
        made += grow(one, 1, made[-1])
    grow(one, 3, made[-1])
    assert one.replica.get_alarm() == ""


@pytest.mark.parametrize(
    ("share", "seal", "raised"), [(1, True, True), (1, False, False), (20, True, False)]
)
def test_an_alarm_takes_work(share: int, seal: bool, raised: bool) -> None:
    one = Single(final_depth=2)
    grow(one, 5)
    target = one.replica.tree.root.next_target * share
    header = one.extend(body=b"other", target=target, seal=seal)
    one.hear(BOB, announce(header, 1 << 200))
    one.hear(BOB, Headers([header.raw]))
    assert one.replica.dropped["fork_below_final"] == 1
    assert bool(one.replica.get_alarm()) is raised
