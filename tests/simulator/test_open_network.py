"""Networks that anybody may join: nodes find each other, and an attacker does not surround them."""

from collections.abc import Iterator
from typing import Any

import pytest

from quorate.node.contacts import INBOUND, OUTBOUND
from quorate.node.discovery import Discovery
from quorate.node.places import Place, get_range
from quorate.simulator.machine import Machine
from quorate.simulator.open_network import PORT, OpenNetwork, Puppets
from quorate.simulator.plan import SECOND
from quorate.simulator.run import run
from quorate.simulator.scenarios.eclipse import FlatBook
from quorate.simulator.tape import Tape
from quorate.simulator.world import World
from simulator.networks import make_plan
from simulator.open_engine import NAME, open_engine


@pytest.fixture(autouse=True)
def engine() -> Iterator[None]:
    with open_engine():
        yield


def make_world(seed: int, count: int, **more: Any) -> World:
    plan = make_plan(seed, "none", count, engine=NAME, bootnodes=(0,), **more)
    world = World(plan, Tape(seed))
    for machine in world.machines:
        machine.start()
    return world


def get_discovery(machine: Machine) -> Discovery:
    assert machine.node is not None
    assert machine.node.discovery is not None
    return machine.node.discovery


def get_network(world: World) -> OpenNetwork:
    assert isinstance(world.network, OpenNetwork)
    return world.network


def get_peers(machine: Machine, kind: str) -> list[bytes]:
    return [c.peer for c in get_discovery(machine).contacts.values() if c.kind == kind]


def get_component(world: World) -> set[int]:
    """Return the machines that the first one reaches over connections."""
    reached, wanted = {0}, [0]
    while wanted:
        for peer in get_discovery(world.machines[wanted.pop()]).contacts:
            index = world.get_machine(peer).index
            if index not in reached:
                reached.add(index)
                wanted.append(index)
    return reached


def test_nodes_that_know_one_bootnode_find_each_other() -> None:
    world = make_world(1, 20)
    world.run(20 * SECOND)
    assert get_component(world) == set(range(20))
    for machine in world.machines:
        discovery = get_discovery(machine)
        assert len(discovery.get_outbound()) <= discovery.settings.outbound
        assert len(discovery.book.entries) >= 18
        assert not discovery.standing.points
        assert not discovery.standing.bans
    assert all(len(get_peers(m, OUTBOUND)) == 8 for m in world.machines[1:15:5])


@pytest.mark.parametrize("seed", range(3))
def test_nobody_is_blamed_in_a_run_with_items_and_restarts(seed: int) -> None:
    worlds: list[World] = []
    plan = make_plan(seed, "gentle", 6, engine=NAME, duration_ms=8000)
    outcome = run(plan, on_world=worlds.append)
    assert outcome.verdict == "true", outcome.findings
    for machine in worlds[0].machines:
        standing = get_discovery(machine).standing
        assert not standing.bans
        assert not standing.points


def test_the_same_seed_gives_the_same_run() -> None:
    plan = make_plan(3, "network", 6, engine=NAME, duration_ms=4000)
    assert run(plan).digest == run(plan).digest


def test_the_bootnode_may_die_and_whoever_restarts_needs_it_no_more() -> None:
    world = make_world(2, 8)
    world.run(10 * SECOND)
    world.machines[0].crash()
    world.machines[5].crash()
    world.run(130 * SECOND)
    world.machines[5].start()
    world.run(140 * SECOND)
    assert len(get_discovery(world.machines[5]).contacts) == 6
    anchors = [c.place for c in get_discovery(world.machines[5]).contacts.values()]
    assert get_network(world).get_place(world.machines[0]) not in anchors


def test_halves_that_were_apart_find_each_other_though_their_slots_are_full() -> None:
    settings = {"outbound": 2, "feeler_ms": 5000}
    world = make_world(4, 12, discovery_settings=settings)
    world.run(20 * SECOND)
    across = world.network.select(lambda one, other: (one.index < 6) != (other.index < 6))
    for link in across:
        world.network.block(link)
    world.run(120 * SECOND)
    assert get_component(world) < set(range(6)) | {0, 1, 2, 3, 4, 5} or get_component(world) == set(
        range(6)
    )
    for link in across:
        world.network.unblock(link)
    # Blocks come on one side alone: feelers from the other one bring them, and stay.
    for i in range(60):
        world.machines[0].submit([b"item %d" % i], lambda verdicts: None)
        world.run(world.now + 2 * SECOND)
    assert get_component(world) == set(range(12))
    assert min(m.node.execution.final.height for m in world.machines if m.node) >= 50


# ---- attackers


def make_faces(ranges: int, each: int) -> list[Place]:
    """Return an attacker's addresses: many, in few ranges."""
    return [
        Place(bytes([200, r, i >> 8 & 255, i & 255]), PORT)
        for i in range(each)
        for r in range(ranges)
    ]


def attack(world: World, victim: Machine, puppets: Puppets, rounds: int) -> None:
    """Come from every address, again and again."""
    at = 0
    for _ in range(rounds):
        for _ in range(20):
            puppets.come(victim, puppets.places[at % len(puppets.places)])
            at += 1
        world.run(world.now + SECOND)


@pytest.mark.parametrize("seed", range(4))
def test_few_ranges_never_hold_all_outgoing_slots(seed: int) -> None:
    """Eclipse: thousands of addresses of three ranges, told and coming, before and after restarts
    of the victim.
    """
    world = make_world(seed, 12, discovery_settings={"feeler_ms": 3000})
    victim = world.machines[7]
    faces = make_faces(3, 500)
    puppets = Puppets(world, faces, faces)
    attack(world, victim, puppets, 15)
    for _ in range(2):
        victim.crash()
        world.run(world.now + SECOND)
        victim.start()
        attack(world, victim, puppets, 12)
    discovery = get_discovery(victim)
    outbound = discovery.get_outbound()
    held = [c for c in outbound if puppets.is_puppet(c.peer)]
    assert len(outbound) == 8
    assert len(held) <= 3
    hosts = [get_range(c.host) for c in outbound]
    assert len(set(hosts)) == len(hosts)
    inbound = [c for c in discovery.contacts.values() if c.kind == INBOUND]
    assert len(inbound) <= discovery.settings.inbound
    assert sum(puppets.is_puppet(c.peer) for c in inbound) <= 12
    assert discovery.counters["refused_range"] > 100


def test_without_ranges_and_buckets_the_same_attacker_holds_all() -> None:
    """What they are worth: a check that the attack of the other test is one."""
    settings = {"feeler_ms": 3000, "range_limits": False, "outbound": 4}
    world = make_world(1, 12, discovery_settings=settings)
    get_network(world).make_book = FlatBook
    victim = world.machines[7]
    faces = make_faces(3, 500)
    puppets = Puppets(world, faces, faces)
    # A node that starts asks a bootnode too, and that one is honest.
    world.machines[0].crash()
    for _ in range(3):
        victim.crash()
        world.run(world.now + SECOND)
        victim.start()
        attack(world, victim, puppets, 20)
    outbound = get_peers(victim, OUTBOUND)
    assert sum(map(puppets.is_puppet, outbound)) == len(outbound) == 4
    assert sum(map(puppets.is_puppet, get_peers(victim, INBOUND))) > 12


def test_a_flood_of_connections_leaves_honest_ones_up() -> None:
    """All slots for connections that come in are wanted by an attacker of many ranges."""
    world = make_world(5, 12, discovery_settings={"inbound": 16})
    world.run(30 * SECOND)
    victim = world.machines[0]
    before = get_peers(victim, INBOUND)
    faces = make_faces(200, 3)
    attack(world, victim, Puppets(world, faces, faces), 40)
    inbound = get_peers(victim, INBOUND)
    assert len(inbound) <= 16
    assert sum(peer in inbound for peer in before) >= min(len(before), 6)
    assert get_discovery(victim).counters["evicted"] > 20
