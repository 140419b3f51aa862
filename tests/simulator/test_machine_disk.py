"""A machine whose disk fails or lies, by script: it stops, or goes on from what is really there."""

from quorate.simulator.scenarios.stage import Play, Stage
from quorate.simulator.scenarios.storage import PARTIAL


def make_play() -> Play:
    play = Stage(True, 1, PARTIAL).build()
    play.submit_every(100, 6_000)
    play.run(1_000)
    return play


def test_commit_that_fails_stops_the_node_until_it_is_started_again() -> None:
    play = make_play()
    machine = play.machines[2]
    machine.disk.script("commit error")
    assert play.run(2_000, lambda: bool(machine.failed))
    assert machine.failed.startswith("cannot write the store: [Errno 5] Input/output error")
    play.run(500)
    assert machine.node is None
    play.faults.start(2)
    play.run(1_000)
    assert play.judge().verdict == "true"
    assert play.get_height(2) == play.get_height(0)


def test_commit_that_was_lost_is_made_again_from_the_journal() -> None:
    play = make_play()
    machine = play.machines[2]
    machine.disk.script("lost commit", times=100)
    play.run(1_000)
    before = machine.durable
    machine.lose_power("whole")
    stored = play.world.stores.get_height(machine.store)
    assert stored == machine.stored < before - 1
    play.faults.partition(2)
    play.faults.start(2)
    # Alone, from its journal, which has all decisions but perhaps the last.
    assert play.run(200, lambda: play.world.stores.get_height(machine.store) >= before - 1)
    play.faults.heal()
    play.run(1_000)
    assert play.judge().verdict == "true"
    assert machine.tainted


def test_full_disk_stops_a_machine_that_starts_when_there_is_space() -> None:
    play = make_play()
    machine = play.machines[2]
    machine.disk.fill(50)
    assert play.run(2_000, lambda: bool(machine.failed))
    assert "No space left on device" in machine.failed
    play.run(200)
    play.faults.start(2)
    assert "No space left on device" in machine.failed
    machine.disk.calm()
    play.run(200)
    play.faults.start(2)
    play.run(1_000)
    assert play.judge().verdict == "true"
    assert play.get_height(2) == play.get_height(0)


def test_stalled_disk_holds_nobody_up_but_itself() -> None:
    play = make_play()
    play.machines[2].slowness = 5_000
    before = play.get_height(0)
    play.run(2_000)
    assert play.get_height(0) > before + 5
    play.machines[2].slowness = 1
    assert play.judge().verdict == "true"
