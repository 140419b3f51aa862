"""Bare replicas in the small world: they agree, restart, and fall silent."""

from consensus.network import World


def give_all(world: World, number: int) -> None:
    for machine in world.all:
        if machine.up:
            machine.give(number)


def test_four_replicas_agree_and_then_fall_silent() -> None:
    world = World(1).boot()
    for number in range(50):
        give_all(world, number)
        world.run(0.2)
    assert world.heights() == [50] * 4
    world.run(5)
    assert world.is_idle()
    assert world.sent == {"Proposal": 200, "Vote": 1600}


def test_replicas_that_restart_go_on() -> None:
    world = World(1).boot()
    for number in range(20):
        give_all(world, number)
        world.run(0.01)
        machine = world.all[number % 4]
        machine.crash()
        world.run(0.02)
        machine.boot()
        world.run(0.5)
    world.run(5)
    assert len(set(world.heights())) == 1
    assert world.heights()[0] >= 10
