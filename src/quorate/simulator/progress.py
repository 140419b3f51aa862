"""Whether a healed network makes progress, judged in two steps.

First a budget: what is submitted after the faults must become final everywhere within the time that
the engine's timeouts and the timing model's delays allow in the worst case. A network that needs
longer may still be merely slow, so then it is watched: if it goes round in a circle (`lasso`), it
never will make progress, and the verdict is false; if it makes progress after all, or keeps
changing, nobody knows, and the verdict is unknown.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from msgspec import MsgspecError

from quorate.base.types import Nanoseconds
from quorate.consensus import ENGINES
from quorate.simulator.lasso import LassoDetector, NodeView, Snapshot
from quorate.simulator.plan import MS, SECOND

if TYPE_CHECKING:
    from quorate.simulator.machine import Machine
    from quorate.simulator.workload import Clients
    from quorate.simulator.world import World

__all__ = ["BUDGETS", "compute_budget", "get_height", "judge_progress", "take_snapshot"]

SETTLE_NS: Nanoseconds = 10 * SECOND
"""For links to come up, and for gaps of heights to close."""
WATCH_NS: Nanoseconds = 3600 * SECOND
"""How long a network without progress is watched at most."""
STILL_TIMEOUTS = 3
"""A network that stands still for so many of its longest timeouts is stuck."""
LONGEST_NS: Nanoseconds = 60 * SECOND
"""The longest timeout of an engine that names none."""
MAX_ROUNDS = 10_000
SPLIT_VOTES = 20
LUCKLESS_BLOCKS = 20
STARVED_HEIGHTS = 200
STARVED_NS: Nanoseconds = 60 * SECOND
"""What waits while so many heights become final in so much time, and nobody is answered, is left
out for ever.
"""


def compute_tendermint_budget(world: "World", delay_ns: Nanoseconds) -> Nanoseconds | None:
    """Return how long two heights take at worst from the rounds that machines are in.

    In a round whose timeouts cover a proposal, its check and two votes, a correct proposer decides.
    Among 2n rounds in a row every correct member that is in sync proposes twice: a first time
    perhaps in vain, when somebody holds a lock that only its next proposer tells of.
    """
    settings = ENGINES["tendermint"].settings(**world.engine_settings)
    first, fitting = find_round(world), -1
    turns = 2 * len(world.machines) + 2
    total = 0
    for begin in (first, 0):
        number, left = begin, turns
        while left and number < MAX_ROUNDS:
            step_ns = [
                min(base + number * step, settings.max_timeout_ms) * MS
                for base, step in (
                    (settings.propose_ms, settings.propose_step_ms),
                    (settings.prevote_ms, settings.prevote_step_ms),
                    (settings.precommit_ms, settings.precommit_step_ms),
                )
            ]
            if step_ns[0] >= 4 * delay_ns and min(step_ns[1:]) >= 2 * delay_ns:
                fitting = number
                left -= 1
            elif step_ns[0] == settings.max_timeout_ms * MS:
                return None
            total += sum(step_ns)
            number += 1
    return total if fitting >= 0 else None


def compute_raft_budget(world: "World", delay_ns: Nanoseconds) -> Nanoseconds | None:
    """Return how long an election and two heights take: with random timeouts, a vote that splits
    so many times in a row is not met.
    """
    settings = ENGINES["raft"].settings(**world.engine_settings)
    election_ns: Nanoseconds = settings.election_ms * MS
    if election_ns < 4 * delay_ns:
        return None
    return SPLIT_VOTES * 2 * election_ns + 8 * delay_ns


def compute_pow_budget(world: "World", delay_ns: Nanoseconds) -> Nanoseconds | None:
    """Return how long a block takes to become final, and a branch to be fetched and overtaken.

    Blocks come at random, and difficulty follows hash power that has left by and by.
    """
    settings = ENGINES["pow"].settings(**world.engine_settings)
    interval_ns: Nanoseconds = settings.interval_ms * MS
    if interval_ns < 2 * delay_ns:
        return None
    rate = sum(machine.rig.rate for machine in world.machines)
    if not rate:
        return None
    usual = sum(machine.rig.usual_rate for machine in world.machines)
    slower = max(-(-usual // rate), 1)
    blocks = 2 * settings.final_depth + slower * settings.window + LUCKLESS_BLOCKS
    waiting_ns: Nanoseconds = (3 * settings.announce_ms + 20 * settings.request_ms) * MS
    needed_ns: Nanoseconds = 2 * blocks * slower * interval_ns + waiting_ns
    return needed_ns


def find_round(world: "World") -> int:
    """Return the highest round that a machine is in."""
    return max(map(get_round, world.machines), default=0)


def get_round(machine: "Machine") -> int:
    """Return the round that a machine's engine is in, 0 if it is down or knows no rounds."""
    return 0 if machine.node is None else getattr(machine.node.replica, "round", 0)


BUDGETS: dict[str, Callable[["World", Nanoseconds], Nanoseconds | None]] = {
    "tendermint": compute_tendermint_budget,
    "raft": compute_raft_budget,
    "pow": compute_pow_budget,
}
"""By engine. None means that its timeouts never cover the delays: then nothing can be judged."""


def compute_budget(world: "World") -> Nanoseconds | None:
    """Return how long a healed network may take, by its engine's timeouts and its delays."""
    plan = world.plan
    if plan.timing is not None:
        delay = plan.timing.compute_delay_bound()
    else:
        shortest = max([plan.base_delay_ns, *(max(row) for row in plan.delays_ns)])
        delay = shortest + plan.jitter_ns
    delay += 2 * plan.sync_ns + 4 * plan.work_ns
    compute = BUDGETS.get(plan.engine)
    budget = 0 if compute is None else compute(world, delay)
    if budget is None:
        return None
    settings = world.node_settings
    pauses = 4 * (settings.block_time_ms + settings.heartbeat_ms + settings.certify_ms) * MS
    return max(plan.patience_ms * MS, SETTLE_NS + budget + pauses)


def judge_progress(
    world: "World", clients: "Clients", machines: "list[Machine] | None" = None
) -> None:
    """What is submitted now must become final everywhere, or on these machines; whoever still waits
    must be answered.
    """
    clients.insist()
    heights = [get_height(world, i) for i in range(len(world.machines))]
    target = max(heights) + 1
    live = machines or [m for m in world.machines if m.is_honest and not m.refused]
    seen = -1
    # A traitor may fill pools for ever; requests of clients must be answered all the same.
    pools = all(m.is_honest for m in world.machines)
    starvation = Starvation(world, clients, live, pools)

    def is_done() -> bool:
        nonlocal seen
        # Only after events of the run itself, so that who merely watches does not move its end.
        if world.digest.events == seen:
            return False
        if world.beyond:
            return True
        seen = world.digest.events
        answered = clients.is_answered() and all(is_finished(m, target, pools) for m in live)
        return answered or starvation.look()

    budget = compute_budget(world)
    begin = world.now
    allowed = world.plan.patience_ms * MS if budget is None else budget
    finished = world.run(begin + allowed, is_done)
    watch = Watch(world, live, is_done)
    if finished and not starvation.found:
        return
    if not finished and not world.findings:
        finished = world.run(begin + allowed + WATCH_NS, watch.look)
    if world.findings or world.is_exhausted() or world.beyond:
        return
    text = f"heights {[get_height(world, m.index) for m in world.machines]}, expected {target}"
    watch.detector.touch(take_snapshot(world, live))
    lasso = watch.detector.find()
    if starvation.found:
        waiting = [f"{m.name}: {m.application.counts()}" for m in live if m.node is not None]
        text += f": {len(clients.open)} requests without an answer, pools {'; '.join(waiting)}"
        world.find("progress", text)
    elif lasso is not None and budget is not None:
        words = [f"{m.name}: {m.node.get_status().why_stalled}" for m in live if m.node is not None]
        world.find("progress", f"{text}: {lasso.text}; {'; '.join(words)}")
    elif finished:
        took = (world.now - begin) // SECOND
        text = f"final after {took} s, expected within {allowed // SECOND} s"
        world.find("progress", text, verdict="unknown")
    else:
        if budget is None:
            text += ": the engine's timeouts never cover the delays"
        text += f"; the state changed {watch.detector.temperature} times without a circle"
        world.find("progress", text, verdict="unknown")


def is_finished(machine: "Machine", target: int, pools: bool) -> bool:
    """Whether a machine has a height, and with `pools` nothing waits any more."""
    node = machine.node
    return (
        node is not None
        and node.execution.final.height >= target
        and not (pools and any(node.application.counts()[:2]))
    )


class Starvation:
    """Notices that heights become final and nobody who waits is served."""

    def __init__(
        self, world: "World", clients: "Clients", live: list["Machine"], pools: bool
    ) -> None:
        self.world, self.clients, self.live, self.pools = world, clients, live, pools
        self.found = False
        self.waiting = -1
        self.since: tuple[Nanoseconds, int] = (0, 0)

    def look(self) -> bool:
        """Look after an event; return whether this went on for too long."""
        world = self.world
        waiting = len(self.clients.open)
        if self.pools and not waiting:
            waiting = int(any(not is_finished(m, 0, pools=True) for m in self.live))
        if waiting != self.waiting:
            self.waiting = waiting
            self.since = (world.now, max(get_height(world, m.index) for m in self.live))
        time, height = self.since
        self.found = (
            (waiting > 0 or self.pools)
            and world.now >= time + STARVED_NS
            and all(get_height(world, m.index) >= height + STARVED_HEIGHTS for m in self.live)
        )
        return self.found


class Watch:
    """Takes a snapshot whenever a round begins, until there is a circle."""

    def __init__(self, world: "World", live: list["Machine"], is_done: Callable[[], bool]) -> None:
        self.world, self.live, self.is_done = world, live, is_done
        settings: Any = ENGINES[world.plan.engine].settings(**world.engine_settings)
        longest = getattr(settings, "max_timeout_ms", LONGEST_NS // MS) * MS
        self.still_ns = STILL_TIMEOUTS * longest
        self.detector = LassoDetector(self.still_ns)
        self.place = (-1, -1, -1)
        self.due = 0

    def look(self) -> bool:
        """Look after an event; return whether enough was seen."""
        world = self.world
        if self.is_done():
            return True
        heights = [get_height(world, m.index) for m in self.live]
        place = (sum(heights), max(heights), max(map(get_round, self.live)))
        if place == self.place and world.now < self.due:
            return False
        snapshot = take_snapshot(world, self.live)
        if place == self.place:
            self.detector.touch(snapshot)
        else:
            self.detector.add(snapshot)
        self.place, self.due = place, world.now + self.still_ns // 8
        return self.detector.find() is not None


def take_snapshot(world: "World", machines: list["Machine"]) -> Snapshot:
    """Return where machines stand, and what is under way between any."""
    nodes = []
    for machine in machines:
        if machine.node is None:
            continue
        replica: Any = machine.node.replica
        situation = replica.get_situation(world.now)
        leader = situation.leader
        nodes.append(
            NodeView(
                machine.index,
                situation.height,
                situation.round,
                situation.step,
                -1 if leader is None else world.get_machine(leader).index,
                getattr(replica, "locked_round", -1),
                getattr(replica, "locked_value", None) or b"",
                getattr(replica, "valid_round", -1),
                getattr(replica, "valid_value", None) or b"",
            )
        )
    frames = set(world.queue.frames())
    return Snapshot(world.now, nodes, sorted({get_kind(world, frame) for frame in frames}))


def get_kind(world: "World", frame: bytes) -> str:
    """Return what a frame is; a liar's may be anything."""
    try:
        return type(world.decode(frame)).__name__
    except (MsgspecError, ValueError):
        return "nonsense"


def get_height(world: "World", index: int) -> int:
    """Return a machine's final height, of its store if it is down."""
    machine = world.machines[index]
    if machine.node is not None:
        return machine.node.execution.final.height
    return world.stores.get_height(machine.store)
