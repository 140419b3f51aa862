"""Random faults for one seed, then a healed network that must make progress.

By hand: `PYTHONPATH=src:tests python -m consensus.chaos FIRST LAST`.
"""

import sys
from collections import Counter
from typing import Any

from consensus.actors import ALL
from consensus.network import MS, Fault, Links, Machine, World
from quorate.base.rng import Rng
from quorate.consensus.certificate import decode_certificate
from quorate.consensus.tendermint import Tendermint
from quorate.consensus.tendermint_types import Settings

POWERS = (
    (1, 1, 1, 1),
    (1, 1, 1, 1),
    (5, 3, 2, 2, 1),
    (1, 1, 1, 1, 1, 1, 1),
    (3, 1, 1),
    (1, 1),
    (1,),
)


class Seen(Counter[str]):
    """How often things happened that a run should see at times."""


def run_seed(
    seed: int,
    kind: type[Tendermint] = Tendermint,
    *,
    powers: tuple[int, ...] | None = None,
    actors: tuple[type[Machine], ...] = ALL,
    deaf: int | None = None,
    steps: int = 60,
    patience_s: int = 120,
) -> Seen:
    """Break a network for a while, heal it, and require it to agree. Raises Fault."""
    rng = Rng(seed * 7919 + 17)
    if powers is None:
        powers = POWERS[rng.below(len(POWERS))]
    machines = choose_liars(rng, powers, actors) if actors and rng.below(2) else {}
    links = Links(
        loss=(0, 0, 50, 200)[rng.below(4)],
        dup=(0, 100)[rng.below(2)],
        slow=(0, 20, 100)[rng.below(3)],
        delay=((1, 2), (1, 20), (5, 60))[rng.below(3)],
    )
    settings = Settings(
        propose_ms=200, prevote_ms=80, precommit_ms=80, status_ms=100, checkpoint_heights=5
    )
    world = World(
        seed,
        powers,
        settings=settings,
        links=links,
        machines=machines,
        kinds={-1: kind},
        fsync_ns=(0, MS, 10 * MS)[rng.below(3)],
        work_ns=(0, MS, 30 * MS)[rng.below(3)],
    ).boot()
    world.sync = bool(rng.below(2))
    world.deaf = (0, 0, 150, 350)[rng.below(4)] if deaf is None else deaf
    number = 0
    for _ in range(steps):
        act = rng.below(10)
        machine = world.all[rng.below(len(world.all))]
        if act < 4:
            number += 1
            for other in world.all:
                if other.up and rng.below(3):
                    other.give(number)
        elif act < 7:
            if machine.up:
                machine.crash()
            else:
                machine.boot()
        elif act == 7:
            side = [i for i in range(len(world.all)) if rng.below(2)]
            world.partition(side)
        elif act == 8:
            world.partition()
        else:
            one = world.all[rng.below(len(world.all))]
            world.cut[machine.me, one.me] = None
        world.run(rng.below(400) / 1000)
    return heal(world, number, patience_s)


def choose_liars(
    rng: Rng, powers: tuple[int, ...], actors: tuple[type[Machine], ...]
) -> dict[int, type[Machine]]:
    """Make the last members lie, each in its way, as many as less than a third of power allows."""
    machines: dict[int, type[Machine]] = {}
    power = 0
    for index in range(len(powers) - 1, -1, -1):
        power += powers[index]
        if 3 * power >= sum(powers):
            break
        machines[index] = actors[rng.below(len(actors))]
    return machines


def heal(world: World, number: int, patience_s: int) -> Seen:
    """End all faults; every honest machine must reach one more decision, and then fall silent."""
    world.partition()
    world.links.loss = world.links.slow = world.deaf = 0
    world.sync = True
    for machine in world.all:
        if not machine.up:
            machine.boot()
    for transaction in range(1, number + 2):
        for machine in world.all:
            machine.give(transaction)
    target = max(world.heights()) + 1

    def is_done() -> bool:
        return min(world.heights()) >= target and not any(m.pool for m in world.honest())

    if not world.run(patience_s, is_done):
        raise Fault(f"no progress: heights {world.heights()}, expected {target}")
    if not world.liars:
        world.run(90)
        if not world.is_idle():
            raise Fault("not idle though nothing waits")
    return summarize(world)


def summarize(world: World) -> Seen:
    seen = Seen()
    seen["heights"] = max(world.heights())
    for machine in world.honest():
        seen["restarts"] += machine.epoch - 1
        seen["accusations"] += len(machine.accused)
        for deliver in machine.chain:
            certificate = decode_certificate(deliver.certificate)
            seen["later rounds"] += certificate.round > 0
            seen["proposed again"] += certificate.round > certificate.envelope.round
    for name, count in world.sent.items():
        seen[name] += count
    return seen


def main(arguments: list[str]) -> None:
    total: Any = Seen()
    first, last = int(arguments[0]), int(arguments[1])
    failed = 0
    for seed in range(first, last):
        try:
            total.update(run_seed(seed, steps=(20, 60, 200)[seed % 3]))
        except Exception as error:
            failed += 1
            print(f"seed {seed}: {type(error).__name__} {error}", flush=True)
    print(dict(total), f"{failed} of {last - first} failed")


if __name__ == "__main__":
    main(sys.argv[1:])
