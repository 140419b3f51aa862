"""A simulated network whose computing takes time, and which counts what crosses its links.

The simulator lets a call of the application take one fixed time and a frame none, which is all
that faults need. To compare speeds, what grows with the load must cost: each item that a pool
admits or a ledger executes, each frame that a node takes in, each byte on a link. The numbers are
those of `Model`, and every comparison states them.
"""

from collections.abc import Callable
from typing import Any, cast

from msgspec import Struct

from quorate.base.types import Hash, Height, Nanoseconds
from quorate.ledger.application import Application, Executed
from quorate.simulator.compare.tips import Tips
from quorate.simulator.machine import Machine
from quorate.simulator.network import Link
from quorate.simulator.plan import SECOND
from quorate.simulator.world import World

__all__ = ["MeteredWorld", "Model"]

MICROSECOND: Nanoseconds = 1_000


class Model(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What computing costs on each machine.

    The defaults are what this program took on four cores (`benchmarks/README.md`): one validator
    alone carries 23,500 transfers a second, which is their admission, on all cores; its kernel
    executes and commits 117,000 transfers a second; and four validators that decide an empty block
    in 2.7 ms take in fourteen frames for it.
    """

    sync_us: int = 500
    """Until a write is durable: of the journal, and of the store."""
    call_us: int = 100
    """Of each call of the application, whatever it holds."""
    admit_us: int = 43
    """Of each item that a pool judges: recovering its sender, above all."""
    execute_us: int = 9
    """Of each item that is executed."""
    frame_us: int = 150
    """Of each frame that a node takes in; one at a time."""
    link_mbit: int = 1000
    """Of each link in each direction."""

    def get_bytes_per_ms(self) -> int:
        return self.link_mbit * 125


class MeteredMachine(Machine):
    """Calls take longer the more they hold, and frames are taken in one after another."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.spent_ns: Nanoseconds = 0
        """What the call that is under way costs beyond its fixed time."""
        self.busy: dict[tuple[int, str], Nanoseconds] = {}
        """Until when each lane of a life works on what it has begun."""
        self.free_ns: Nanoseconds = 0
        """When the node has taken in all frames that are there."""

    def on_work(self, lane: str, call: Callable[[], Any], done: Callable[[Any], None]) -> None:
        now, busy, place = self.world.now, self.busy, (self.life, lane)
        wait = busy.get(place, 0) - now
        if wait > 0:
            self.later(wait, self.on_work, lane, call, done)
            return
        self.spent_ns = 0

        def finish(result: Any) -> None:
            extra = self.spent_ns * self.slowness
            if extra <= 0:
                done(result)
                return
            busy[place] = now + extra
            self.later(extra, done, result)

        super().on_work(lane, call, finish)


class MeteredWorld(World):
    """A world with a model of costs."""

    MACHINE = MeteredMachine
    DIRECT = False

    def __init__(self, model: Model, *arguments: Any) -> None:
        self.model = model
        self.frames = self.frame_bytes = 0
        """Taken in by any node since the count began."""
        super().__init__(*arguments)
        self.tips = Tips(self.plan, self.stores.identify)

    def make_application(self, machine: Machine) -> Application:
        return cast(Application, Metered(super().make_application(machine), machine, self.model))

    def arrive(self, link: Link, generation: int, frame: bytes, number: int) -> None:
        machine = link.target
        assert isinstance(machine, MeteredMachine)
        start = max(machine.free_ns, self.now)
        machine.free_ns = start + self.model.frame_us * MICROSECOND * machine.slowness
        self.after(machine.free_ns - self.now, self.take_in, link, generation, frame, number)

    def count_hashes(self) -> int:
        """Return how many nonces all members have tried."""
        total = 0
        for machine in self.machines:
            rig = machine.rig
            now = (self.now - rig.since) * rig.rate if rig.done is not None else 0
            total += (rig.spent + now) // SECOND
        return total

    def take_in(self, link: Link, generation: int, frame: bytes, number: int) -> None:
        """A node has read a frame."""
        if not link.target.paused:
            self.frames += 1
            self.frame_bytes += len(frame)
        super().arrive(link, generation, frame, number)


class Metered:
    """An application that tells its machine what its calls cost, and the world which blocks are
    executed and shown. All else is as it is.
    """

    def __init__(self, application: Application, machine: Machine, model: Model) -> None:
        assert isinstance(machine, MeteredMachine)
        self.application, self.machine = application, machine
        assert isinstance(machine.world, MeteredWorld)
        self.tips = machine.world.tips
        self.admit_ns = model.admit_us * MICROSECOND
        self.execute_ns = model.execute_us * MICROSECOND

    def __getattr__(self, name: str) -> Any:
        return getattr(self.application, name)

    def add(self, items: list[bytes]) -> list[tuple[Hash, str | None]]:
        self.machine.spent_ns += len(items) * self.admit_ns
        return self.application.add(items)

    def execute(self, parent: Hash, payloads: list[bytes], parent_envelope: Hash) -> Executed:
        executed = self.application.execute(parent, payloads, parent_envelope)
        self.machine.spent_ns += executed.items * self.execute_ns
        self.tips.on_executed(executed, parent, payloads)
        return executed

    def adopt(self, tip: Hash, safe: Height) -> None:
        self.tips.on_adopted(self.machine.index, tip, safe)
        self.application.adopt(tip, safe)
