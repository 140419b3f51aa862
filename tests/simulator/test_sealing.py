"""Simulated work: memoryless times, tokens that only a port grants, rates that change."""

from quorate.crypto.hashes import compute_seal
from quorate.simulator.keys import SimulatedKeys
from quorate.simulator.plan import MS, SECOND, MemberPlan, Plan
from quorate.simulator.sealing import DRAWS, HASHES_PER_SECOND, MEAN, compute_luck, make_token
from quorate.simulator.tape import Tape
from quorate.simulator.world import World

TARGET = (1 << 256) // (2 * HASHES_PER_SECOND) - 1
"""One machine meets it in two seconds, on average."""


def make_world(tape: Tape | None = None, powers: tuple[int, ...] = (1, 1), **plan: str) -> World:
    machines = [MemberPlan(f"miner-{i}", bytes([i + 1]) * 20, p) for i, p in enumerate(powers)]
    if plan.get("signatures") == "real":
        machines = [MemberPlan("miner", b"", 1, b"\x01" * 32)]
    return World(Plan(seed=1, machines=machines, **plan), tape or Tape(0, {}))  # type: ignore[arg-type]


class Nonces:
    """What a machine finds, and when; it begins anew at once."""

    def __init__(self, world: World, index: int, target: int = TARGET) -> None:
        self.world, self.rig, self.target = world, world.machines[index].rig, target
        self.found: list[tuple[int, int]] = []
        self.rig.seal(b"header", target, self.take)

    def take(self, nonce: int) -> None:
        self.found.append((self.world.now // MS, nonce))
        self.rig.seal(b"header", self.target, self.take)


def test_empty_tape_lets_equal_miners_take_turns() -> None:
    world = make_world()
    one, other = Nonces(world, 0), Nonces(world, 1)
    world.run(7 * SECOND)
    assert [at for at, _ in one.found] == [1000, 3000, 5000, 7000]
    assert [at for at, _ in other.found] == [2000, 4000, 6000]


def test_nonces_are_tokens_of_header_and_target() -> None:
    world = make_world()
    nonces = Nonces(world, 0)
    world.run(2 * SECOND)
    keys = SimulatedKeys(b"\x01" * 20)
    _, nonce = nonces.found[0]
    assert keys.verify_seal(b"header", nonce, TARGET)
    assert not keys.verify_seal(b"header", nonce, TARGET // 2)
    assert not keys.verify_seal(b"another", nonce, TARGET)
    assert not keys.verify_seal(b"header", nonce + 1, TARGET)


def test_luck_has_the_mean_and_the_spread_of_a_memoryless_search() -> None:
    count = 4096
    luck = [compute_luck((2 * i + 1) * (DRAWS // (2 * count)), MEAN) / MEAN for i in range(count)]
    mean = sum(luck) / count
    assert abs(mean - 1) < 0.01
    assert abs(sum((x - mean) ** 2 for x in luck) / count - 1) < 0.03
    assert compute_luck(0, MEAN) == MEAN
    assert compute_luck(DRAWS - 1, MEAN) == 1
    assert compute_luck(1, MEAN) // MEAN == 22


def test_new_template_loses_no_work() -> None:
    world = make_world()
    found: list[int] = []
    rig = world.machines[0].rig
    for at in range(0, 1000, 100):
        world.after(at * MS, rig.seal, b"header %d" % at, TARGET, lambda _: found.append(world.now))
    world.run(3 * SECOND)
    assert len(found) == 1
    assert abs(found[0] - SECOND) < MS


def test_rate_changes_in_the_middle_of_a_search() -> None:
    world = make_world()
    nonces = Nonces(world, 0)
    world.run(SECOND // 2)
    rig = world.machines[0].rig
    rig.set_rate(0)
    world.run(10 * SECOND)
    assert nonces.found == []
    rig.set_rate(HASHES_PER_SECOND // 2)
    world.run(11 * SECOND + MS)
    assert [at for at, _ in nonces.found] == [11_000]
    assert rig.hashes == HASHES_PER_SECOND


def test_who_has_no_power_finds_nothing_and_who_stopped_neither() -> None:
    world = make_world(powers=(0, 1))
    idle, stopped = Nonces(world, 0), Nonces(world, 1)
    stopped.rig.stop()
    world.run(100 * SECOND)
    assert idle.found == stopped.found == []


def test_shares_of_power_are_shares_of_nonces() -> None:
    world = make_world(Tape(7), powers=(1, 3))
    one, other = Nonces(world, 0), Nonces(world, 1)
    world.run(2000 * SECOND)
    assert abs(len(one.found) - 1000) < 4 * 1000**0.5
    assert abs(len(other.found) - 3000) < 4 * 3000**0.5


def test_real_nonces_meet_their_target() -> None:
    world = make_world(signatures="real")
    easy = (1 << 256) // 256 - 1
    nonces = Nonces(world, 0, easy)
    world.run(3 * SECOND)
    assert nonces.found
    assert all(compute_seal(b"header", nonce) <= easy for _, nonce in nonces.found)


def test_same_header_and_target_give_the_same_token() -> None:
    assert make_token(b"header", TARGET) == make_token(b"header", TARGET) < 1 << 64
