"""Seeds of everything at once: loss, partitions, crashes in the middle of writes, stuck stores."""

from node.world import MS, World
from quorate.base.rng import Rng
from quorate.base.types import Hash
from quorate.consensus.replica import Keys, Replica
from quorate.consensus.tendermint import Tendermint
from quorate.node.settings import Settings

STEPS = 40
ITEMS = 40


def make_tendermint(keys: Keys, chain: Hash) -> Replica:
    return Tendermint(keys, chain, Rng(int.from_bytes(keys.address[:8], "big")))


def run_chaos(seed: int) -> World:
    """Run one seed: faults, then none, then everything must have become final and silent."""
    rng = Rng(seed * 7919 + 1)
    settings = Settings(
        block_time_ms=(0, 0, 100)[rng.below(3)],
        sync_range=(4, 64)[rng.below(2)],
        max_uncommitted=(3, 128)[rng.below(2)],
    )
    world = World(
        make_tendermint,
        seed=seed,
        settings=settings,
        loss_permille=(0, 20, 200)[rng.below(3)],
        delay_ms=(3, 50)[rng.below(2)],
    )
    world.start()
    sent = 0
    for _ in range(STEPS):
        index = rng.below(4)
        machine = world.get_machine(index)
        match rng.below(8):
            case 0:
                machine.crash_at_sync = machine.syncs + 1 + rng.below(3)
            case 1 if machine.node is not None:
                world.crash(machine.address)
            case 2 if machine.node is None:
                world.start(index)
            case 3:
                world.partition(*([index] if rng.below(2) else [index, (index + 1) % 4]))
            case 4:
                world.heal()
            case 5:
                machine.lanes["commit"] = world.now + rng.below(2000) * MS
            case _ if machine.node is not None:
                world.submit(index, b"item %d" % sent)
                sent += 1
            case _:
                pass
        world.run(rng.below(400))
    heal(world)
    return world


def heal(world: World) -> None:
    """No more faults: everybody runs, all links are up and lose nothing."""
    world.loss_permille = 0
    for index in range(4):
        machine = world.get_machine(index)
        machine.crash_at_sync = 0
        if machine.node is None:
            world.start(index)
    world.heal()
    for i in range(4):
        world.submit(i, b"after %d" % i)


def is_finished(world: World) -> bool:
    """Everything submitted after the healing is final in every store."""
    return all(
        sum(b"after" in p for f in m.store.final for p in f.payloads) > 0
        and not any(b"after" in item for item in m.node.application.pool.values())
        for m in world.machines.values()
        if m.node is not None
    )


def check_seed(seed: int) -> str:
    """Return what is wrong with a seed, or nothing."""
    world = run_chaos(seed)
    failed = [m.failed for m in world.machines.values() if m.failed]
    if failed:
        return f"seed {seed}: failed: {failed}"
    if not world.run(120_000, lambda: is_finished(world)):
        words = [world.get_node(i).get_status().why_stalled for i in range(4)]
        return f"seed {seed}: heights {world.get_heights()}: {words}"
    world.check_agreement()
    if not world.settings.block_time_ms:
        world.run(60_000)
        frames = world.frames
        world.run(60_000)
        if world.frames != frames:
            return f"seed {seed}: still {world.frames - frames} frames in a silent minute"
        lengths = [len(m.store.final) for m in world.machines.values()]
        if len(set(lengths)) > 1:
            return f"seed {seed}: heights differ in silence: {lengths}"
    return ""
