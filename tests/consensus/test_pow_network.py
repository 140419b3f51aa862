"""Small networks of proof-of-work replicas in virtual time: agreement, healing, catching up."""

import pytest

from consensus.pow_world import World
from quorate.consensus.pow_types import Kept
from quorate.consensus.replica import Persist
from quorate.node.interpreter import MAX_UNWRITTEN

RATE = 1 << 20


def heads(world: World) -> set[bytes]:
    return {machine.replica.tree.head.hash for machine in world.machines}


def assert_one_history(world: World) -> None:
    """What was delivered is a prefix of what was delivered elsewhere, and nobody is blamed."""
    longest = max((m.chain for m in world.machines), key=len)
    for machine in world.machines:
        mine = [d.envelope for d in machine.chain]
        assert mine == [d.envelope for d in longest[: len(mine)]]
        assert machine.blamed == []


@pytest.mark.parametrize("loss", [0, 200])
def test_miners_agree_and_the_interval_holds(loss: int) -> None:
    world = World([RATE] * 5, loss=loss, initial_difficulty=5 * 5 * RATE)
    world.mesh()
    world.run(1500)
    world.loss = 0
    world.run(60)
    assert len(heads(world)) == 1
    assert_one_history(world)
    assert 220 < world.machines[0].replica.tree.head.height < 420


def test_everybody_gets_a_share_by_hash_power() -> None:
    world = World([RATE, 3 * RATE], initial_difficulty=5 * 4 * RATE)
    world.mesh()
    world.run(5000)
    by_miner = [0, 0]
    for delivered in world.machines[0].chain:
        by_miner[delivered.payloads[0][12] - 1] += 1
    assert 0.15 < by_miner[0] / sum(by_miner) < 0.35


def test_a_partition_heals_into_one_chain() -> None:
    world = World([RATE] * 5, final_depth=64)
    world.mesh()
    world.run(300)
    world.partition([0, 1, 2], [3, 4])
    world.run(120)
    assert len(heads(world)) == 2
    minority = world.machines[3].replica.tree.head
    world.partition([0, 1, 2, 3, 4])
    world.run(60)
    assert len(heads(world)) == 1
    assert_one_history(world)
    assert minority.hash not in {n.hash for n in world.machines[0].replica.tree.path}
    assert sum(world.machines[3].replica.reorganizations.values())
    assert not any(machine.replica.get_alarm() for machine in world.machines)


def test_a_split_deeper_than_final_stays_and_is_reported() -> None:
    world = World([RATE] * 4, final_depth=4)
    world.mesh()
    world.run(200)
    world.partition([0, 1], [2, 3])
    world.run(200)
    world.partition([0, 1, 2, 3])
    world.run(30)
    assert len(heads(world)) == 2
    alarms = [machine.replica.get_alarm() for machine in world.machines]
    assert sum("people must decide" in alarm for alarm in alarms) == 2
    assert alarms[0] == alarms[1] == "" or alarms[2] == alarms[3] == ""


def test_who_joins_late_learns_everything_and_delivers_it() -> None:
    world = World([RATE] * 3 + [0], interval_ms=1000)
    for a, b in ((0, 1), (0, 2), (1, 2)):
        world.connect(a, b)
    world.run(1000)
    world.connect(3, 0)
    world.connect(3, 1)
    world.run(20)
    late, first = world.machines[3], world.machines[0]
    assert late.replica.get_target() is None
    assert len(late.chain) > 500
    assert abs(len(late.chain) - len(first.chain)) <= 2
    assert_one_history(world)
    # Not every block on the way was shown as a tip.
    assert len(late.heads) < len(late.chain) / 4


def test_blocks_pass_along_a_line() -> None:
    world = World([RATE] * 6)
    for a in range(5):
        world.connect(a, a + 1)
    world.run(600)
    assert len(world.machines[5].chain) > 50
    assert_one_history(world)


def test_a_network_that_was_stopped_goes_on_from_its_journals() -> None:
    world = World([RATE] * 3)
    world.mesh()
    world.run(400)
    before = [m.replica.tree.head for m in world.machines]
    for machine in world.machines:
        # The store is a little older than what was delivered.
        del machine.chain[-3:]
        machine.boot()
    world.run(0.02)
    after = [m.replica.tree.head for m in world.machines]
    # What is lost was not urgent: of each block somebody, its miner, has kept it.
    assert max(node.work for node in after) == max(node.work for node in before)
    for one, other in zip(before, after, strict=True):
        assert one.height - MAX_UNWRITTEN <= other.height <= one.height
    world.mesh()
    world.run(300)
    assert len(heads(world)) == 1
    assert_one_history(world)


@pytest.mark.parametrize("number", range(1, 12))
def test_a_crash_at_each_record_loses_no_agreement(number: int) -> None:
    """The machine crashes when it has written its n-th block, and nothing behind it is said."""
    world = World([RATE] * 3, final_depth=4, checkpoint_heights=2)
    machine = world.machines[0]
    flush, written = machine.flush, 0

    def crash() -> None:
        nonlocal written
        for effect in machine.replica.out:
            if isinstance(effect, Persist):
                written += 1
                if written == number:
                    assert isinstance(effect.record, Kept)
                    machine.journal += [*machine.unwritten, effect.record]
                    machine.replica.out = []
                    machine.boot()
                    return
        flush()

    machine.flush = crash  # type: ignore[method-assign]
    world.mesh()
    world.run(400)
    assert written > number
    world.mesh()
    world.run(100)
    assert len(heads(world)) == 1
    assert_one_history(world)
