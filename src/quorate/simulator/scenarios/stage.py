"""What a scenario plays on: a small network, a script of faults, and a judge."""

from collections.abc import Callable
from typing import Any

from quorate.base.types import Hash, Height, Member, Milliseconds
from quorate.consensus.membership import ValidatorSet
from quorate.consensus.replica import Replica
from quorate.crypto.hashes import keccak256
from quorate.ledger.application import Executed
from quorate.simulator.actors import Actor
from quorate.simulator.bugs import replace_replica
from quorate.simulator.faults import Faults
from quorate.simulator.invariants import watch
from quorate.simulator.machine import Machine
from quorate.simulator.network import Link
from quorate.simulator.plan import MS, MemberPlan, Plan
from quorate.simulator.progress import get_height
from quorate.simulator.run import finish, ignore, make_outcome
from quorate.simulator.tape import Tape
from quorate.simulator.timing import AnyTiming
from quorate.simulator.tracer import Tracer
from quorate.simulator.verdict import Outcome
from quorate.simulator.world import World

__all__ = ["Play", "Stage", "get_turns", "make_members"]


def make_members(*powers: int) -> list[MemberPlan]:
    """Return machines with these voting powers (0: a follower), in order of address."""
    addresses = sorted(keccak256(b"scenario %d" % i)[12:] for i in range(len(powers)))
    return [
        MemberPlan(f"validator-{i}", address, power)
        for i, (address, power) in enumerate(zip(addresses, powers, strict=True))
    ]


def get_turns(machines: list[MemberPlan], rounds: int, height: Height = 1) -> list[int]:
    """Return which machine proposes in each of the first rounds of a height."""
    members = ValidatorSet([Member(m.address, m.power) for m in machines if m.power])
    addresses = [m.address for m in machines]
    return [addresses.index(members.get_proposer(height, round)) for round in range(rounds)]


class Stage:
    """Given to a script: whether the mitigation is there, and where to say what is seen."""

    def __init__(
        self, mitigated: bool, seed: int, timing: AnyTiming, tracer: Tracer | None = None
    ) -> None:
        self.mitigated, self.seed, self.timing, self.tracer = mitigated, seed, timing, tracer
        self.lines: list[str] = []
        self.numbers: dict[str, int] = {}

    def say(self, line: str) -> None:
        self.lines.append(line)

    def measure(self, name: str, number: int) -> None:
        """Keep a number; its unit ends the name."""
        self.numbers[name] = number
        self.say(f"{name}: {number}")

    def without(self, replica: type[Replica]) -> Callable[[World], None] | None:
        """Return what puts a replica without the mitigation in, None if the mitigation is there."""
        return None if self.mitigated else replace_replica(replica)

    def build(
        self,
        count: int = 4,
        *,
        rules: bool = True,
        on_world: Callable[[World], None] | None = None,
        start: bool = True,
        **plan: Any,
    ) -> "Play":
        """Return a network of equal members, started; `plan` is the rest of `Plan`.

        Without `rules` only agreement is judged, not how it comes about: for a network that breaks
        the engine's rules on purpose. `on_world` is called before the machines start.
        """
        plan.setdefault("machines", make_members(*[1] * count))
        plan.setdefault("timing", self.timing)
        plan.setdefault("patience_ms", 60_000)
        if self.tracer is not None and self.tracer.events:
            # Of several networks the last one is told.
            Tracer.__init__(self.tracer)
        world = World(Plan(seed=self.seed, **plan), Tape(self.seed), self.tracer)
        if rules:
            watch(world)
        else:
            watch_agreement(world)
        if on_world is not None:
            on_world(world)
        play = Play(self, world)
        if start:
            for machine in world.machines:
                machine.start()
        return play


def watch_agreement(world: World) -> None:
    """Let it be judged whether honest machines decide one thing at each height."""
    decided: dict[Height, Hash] = {}

    def on_final(machine: Machine, executed: Executed) -> None:
        if not machine.is_honest or machine.node is None:
            return
        height, envelope = executed.height, machine.node.execution.envelope
        known = decided.setdefault(height, envelope)
        if known != envelope:
            found = f"{machine.name} decided 0x{envelope.hex()[:8]}, another 0x{known.hex()[:8]}"
            world.find("agreement", f"height {height}: {found}", machine)

    world.on_final.append(on_final)


class Play:
    """A network under a script. Times are milliseconds of the world, machines are indices."""

    def __init__(self, stage: Stage, world: World) -> None:
        self.stage, self.world, self.faults = stage, world, Faults(world)
        self.items = 0

    @property
    def machines(self) -> list[Machine]:
        return self.world.machines

    @property
    def now_ms(self) -> Milliseconds:
        return self.world.now // MS

    def at(self, time_ms: Milliseconds, call: Callable[..., Any], *args: Any) -> None:
        """Make a call at a time that has not come."""
        self.world.after(time_ms * MS - self.world.now, call, *args)

    def run(self, duration_ms: Milliseconds, until: Callable[[], bool] | None = None) -> bool:
        """Let time pass, until something is so; return whether it became so."""
        return self.world.run(self.world.now + duration_ms * MS, until)

    def lose(self, chosen: Callable[[int, int, Any], bool]) -> None:
        """Lose the messages that a script chooses, by sender, receiver and contents.

        A timing model may only let them be late.
        """

        def is_unheard(link: Link, frame: bytes) -> bool:
            return chosen(link.source.index, link.target.index, self.world.decode(frame))

        self.world.network.hear(is_unheard)

    def submit(self, index: int, item: bytes = b"") -> bytes:
        """Give an item to a machine, a new one if none is named; return it."""
        self.items += 1
        item = item or b"item %d" % self.items
        self.machines[index].submit([item], ignore)
        return item

    def submit_every(self, pause_ms: Milliseconds, until_ms: Milliseconds, *indices: int) -> None:
        """Give new items to machines (all, unless some are named) at intervals."""
        chosen = indices or range(len(self.machines))
        for n, time in enumerate(range(self.now_ms + pause_ms, until_ms, pause_ms)):
            self.at(time, self.submit, chosen[n % len(chosen)])

    def turn(self, index: int, actor: Callable[[Machine], Actor]) -> Actor:
        """Make a machine lie from now on."""
        machine = self.machines[index]
        machine.actor = actor(machine)
        return machine.actor

    def get_turns(self, rounds: int, height: Height = 1) -> list[int]:
        """Return which machine proposes in each of the first rounds of a height."""
        return get_turns(self.world.plan.machines, rounds, height)

    def get_height(self, index: int) -> int:
        return get_height(self.world, index)

    def get_heights(self) -> list[int]:
        return [self.get_height(i) for i in range(len(self.machines))]

    def get_round(self, index: int) -> int:
        """Return the round of a machine's replica, -1 if it is down."""
        node = self.machines[index].node
        return -1 if node is None else node.replica.get_situation(node.port.now()).round

    def count_final(self, index: int, item: bytes) -> int:
        """Return how often an item is in the durable payloads of a machine."""
        stores, store = self.world.stores, self.machines[index].store
        finals = [stores.get_final(store, h) for h in range(1, stores.get_height(store) + 1)]
        return sum(payload.count(item) for final in finals if final for payload in final[1])

    def require(self, property: str, holds: bool, message: str) -> None:
        """Report a property that does not hold: what was found and what was expected."""
        if not holds:
            self.world.find(property, message)

    def judge(self, *, progress: bool = True) -> Outcome:
        """End all faults, let everything become final (or not ask for that), and judge the run."""
        if not self.world.findings:
            finish(self.world, self.faults, progress=progress)
        return make_outcome(self.world)
