"""Nemeses: who decides which faults happen, by the profile's weights and the tape.

An act is drawn at intervals; zero on the tape is no act, and the longest interval. Every act draws
the same choices, whether it needs them or not, and a number means the same act in every seed, so
that an edited act moves no other.

No single way of breaking things finds everything, so each seed draws one of several styles:

    uniform   all acts of the profile, on anybody
    swarm     a random half of the acts, and of the rates of links (Groce and others, 2012)
    roles     acts strike the leader, the next proposer, or whoever is about to decide
    rounds    who hears whom is chosen anew for each round, all the time (`rounds`)
    storm     many short acts
    siege     few acts, each many times as long; as often as the profile's `harsh` says
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from quorate.base.types import Nanoseconds
from quorate.consensus import ENGINES
from quorate.ledger.keyvalue import ETHEREUM
from quorate.simulator.budget import Budget
from quorate.simulator.clock_errors import SIZES_MS, choose_drift, choose_error
from quorate.simulator.displace import Displacement
from quorate.simulator.faults import Faults
from quorate.simulator.knobs import choose_node_settings
from quorate.simulator.membership import Membership
from quorate.simulator.plan import MS, Profile
from quorate.simulator.rounds import RoundScript

if TYPE_CHECKING:
    from quorate.simulator.machine import Machine
    from quorate.simulator.world import World

__all__ = ["ACTS", "STYLES", "Nemesis", "find_role"]

ACTS = (
    "partition",
    "isolate",
    "one_way",
    "swizzle",
    "priority",
    "rounds",
    "crash",
    "crash_at_sync",
    "crash_all",
    "pause",
    "slow",
    "clock",
    "disk",
    "lie",
    "membership",
    "upgrade",
)
MOST_WRONG_MS = 60_000
"""How far a wall clock goes astray where operations have deadlines. Who proposes takes the time of
blocks with it, and what is then too late is refused until the clocks of all are there.
"""
STYLES = ("uniform", "swarm", "swarm", "swarm", "roles", "rounds", "rounds", "storm")
"""As often as they stand here; the siege comes in place of any of them."""
DISK_ERRORS = (
    "sync error",
    "append error",
    "full disk",
    "read error",
    "sync error",
    "bit rot",
    "commit error",
)
"""Kinds of fault that a storage layer notices."""
DISK_LIES = (
    "lost sync",
    "bit rot at the end",
    "lost commit",
    "misdirected write",
    "lost sync",
    "misdirected write",
)
"""Kinds of fault that nobody can notice in time."""
STYLED = ("loss", "duplicate", "tail", "corrupt", "jitter_ns", "reorder", "bandwidth")
"""What a style changes of links."""
SIEGE = 12
"""How many times as long as usual an act of a siege is."""


class Nemesis:
    """Acts by the profile's weights until it is told to stop."""

    DO: ClassVar[dict[str, Callable[["Nemesis", int, int, int], None]]]
    """By the names of a profile's weights."""

    def __init__(
        self, world: "World", faults: Faults, budget: Budget, until_ns: Nanoseconds
    ) -> None:
        self.world, self.faults, self.budget, self.until_ns = world, faults, budget, until_ns
        profile = world.plan.profile
        stream = world.tape.stream
        self.act_choice, self.who = stream("nemesis act"), stream("nemesis who")
        self.role_choice = stream("nemesis role")
        self.how, self.length = stream("nemesis how"), stream("nemesis length")
        self.pause = stream("nemesis pause")
        self.clock_kind = stream("nemesis clock")
        self.script_choice = stream("nemesis rounds")
        self.bag = [name for name in ACTS for _ in range(getattr(profile, name))]
        self.membership = Membership(world, budget)
        self.main_script: RoundScript | None = None
        """Of a seed whose style is rounds: the one that lasts."""
        rates = world.network.rates
        self.plain_rates = {name: getattr(rates, name) for name in STYLED}
        """Of links, before a style changes them."""
        has_deadlines = world.plan.application not in ("opaque", ETHEREUM)
        self.most_wrong_ms = MOST_WRONG_MS if has_deadlines else SIZES_MS[-1]
        self.choose_style()
        world.on_down.append(self.on_down)
        if profile.crash and profile.partition:
            world.expect("down while catching up")
        engine = ENGINES[world.plan.engine]
        if profile.traitors and engine.byzantine:
            world.expect("hidden block published" if engine.open else "locks split")

    def choose_style(self) -> None:
        """Choose how faults come, and how bad the links are."""
        profile, stream = self.world.plan.profile, self.world.tape.stream
        style = STYLES[stream("nemesis style").choose(len(STYLES))]
        self.style = style if profile.mixed else "uniform"
        if stream("nemesis siege").chance(profile.harsh):
            self.style = "siege"
        self.left_out = self.leave_out(profile)
        # What is left out keeps its numbers and does nothing, so acts are drawn more often.
        kept = sum(name not in self.left_out for name in self.bag)
        times = 4 if self.style == "storm" else 1
        draws = profile.acts * times * len(self.bag) // kept if kept else 0
        self.mean_ns = self.until_ns // max(draws, 1)
        scale = (1, 1, 2, 4)[stream("nemesis scale").choose(4)]
        self.outage_ns = max(profile.outage_ms * MS // (scale if profile.mixed else 1), MS)
        if self.style == "storm":
            self.outage_ns = max(self.outage_ns // 4, MS)
        elif self.style == "siege":
            self.outage_ns *= SIEGE
        self.set_rates(profile)

    def turn(self) -> None:
        """Take another style in the middle of a run; acts that are under way end as they would."""
        rates = self.world.network.rates
        for name, rate in self.plain_rates.items():
            setattr(rates, name, rate)
        if self.main_script is not None:
            self.faults.hear_all(self.main_script)
            self.main_script = None
        self.choose_style()
        self.begin_style()

    def begin_style(self) -> None:
        """Let a script of rounds run if that is the style."""
        if self.style == "rounds" and self.world.plan.profile.rounds:
            self.main_script = self.script(self.until_ns - self.world.now)

    def on_down(self, machine: "Machine") -> None:
        """A process ends: was it in the middle of something rare?"""
        if machine.node is not None and machine.node.sync.active:
            self.world.witness("down while catching up")

    def leave_out(self, profile: Profile) -> dict[str, None]:
        """Choose the acts that this seed does without."""
        swarm = self.world.tape.stream("nemesis swarm")
        drawn = {name: swarm.choose(2) for name in ACTS}
        if self.style != "swarm":
            return {}
        return {name: None for name, out in drawn.items() if out and getattr(profile, name)}

    def set_rates(self, profile: Profile) -> None:
        """Choose how bad the links of this seed are."""
        network, rates = self.world.network, self.world.tape.stream("nemesis rates")
        drawn = [rates.choose(6) for _ in range(7)]
        if self.style == "siege" or not profile.mixed:
            return

        def scale(permille: int, choice: int) -> int:
            return min((permille, 0, 0, permille, permille // 4, 4 * permille)[choice], 500)

        links = network.rates
        links.loss = max(scale(links.loss, drawn[0]), network.usual_loss)
        links.duplicate = scale(links.duplicate, drawn[1])
        links.tail = scale(links.tail, drawn[2])
        links.corrupt = scale(links.corrupt, drawn[3])
        links.reorder = links.reorder and drawn[4] < 4
        links.jitter_ns = links.jitter_ns * (8, 8, 8, 1, 2, 48)[drawn[5]] // 8
        if not links.bandwidth and drawn[6] == 5 and profile.partition:
            links.bandwidth = 50

    def start(self) -> None:
        self.begin_style()
        if self.bag:
            self.plan_next()
            if self.world.plan.engine == "raft":
                self.plan_hand_over()
                if self.world.plan.profile.isolate:
                    Displacement(self.world, self.faults, self.until_ns).plan_next()

    def plan_next(self) -> None:
        delay = MS + 2 * self.mean_ns - self.pause.choose(2 * self.mean_ns)
        if self.world.now + delay < self.until_ns:
            self.world.after(delay, self.act)

    def plan_hand_over(self) -> None:
        """What operators do, beside all faults: let another one lead."""
        stream = self.world.tape.stream("nemesis hand-over")
        delay = MS + 8 * self.mean_ns - stream.choose(8 * self.mean_ns)
        if self.world.now + delay < self.until_ns:
            self.world.after(delay, self.hand_over, stream.choose(len(self.world.machines) + 1))

    def hand_over(self, to: int) -> None:
        """Ask whoever thinks that it leads; 0: to anybody."""
        machines = self.world.machines
        for machine in machines:
            if machine.node is not None and not machine.paused and machine.node.leads():
                self.faults.hand_over(machine.index, machines[to - 1].address if to else None)
        self.plan_hand_over()

    def act(self) -> None:
        world = self.world
        # The first choice is not to act.
        number = self.act_choice.choose(len(self.bag) + 1)
        who = self.who.choose(len(world.machines))
        role = self.role_choice.choose(8)
        how = self.how.choose(1 << 16)
        length = MS + self.length.choose(2 * self.outage_ns)
        if number and self.bag[number - 1] not in self.left_out:
            if role < 4 and self.style == "roles":
                role += 4
            struck = find_role(world, role - 4) if role > 4 and self.style != "uniform" else None
            self.DO[self.bag[number - 1]](self, who if struck is None else struck, how, length)
        self.plan_next()

    # ---- acts

    def do_partition(self, who: int, how: int, length: int) -> None:
        group = [i for i in range(len(self.world.machines)) if how >> i & 1] or [who]
        self.world.after(length, self.faults.mend, self.faults.partition(*group))

    def do_isolate(self, who: int, how: int, length: int) -> None:
        self.world.after(length, self.faults.mend, self.faults.partition(who))

    def do_one_way(self, who: int, how: int, length: int) -> None:
        cut = self.faults.silence if how & 1 else self.faults.deafen
        count = len(self.world.machines)
        other = () if how & 2 else ((who + 1 + (how >> 2) % max(count - 1, 1)) % count,)
        self.world.after(length, self.faults.mend, cut(who, *other))

    def do_swizzle(self, who: int, how: int, length: int) -> None:
        self.faults.swizzle(how, length)

    def do_priority(self, who: int, how: int, length: int) -> None:
        self.faults.prioritize(how, 2 * length, changes=1 + how % 4)

    def do_rounds(self, who: int, how: int, length: int) -> None:
        self.script(4 * length)

    def do_crash(self, who: int, how: int, length: int) -> None:
        self.faults.crash(who, length)

    def do_crash_at_sync(self, who: int, how: int, length: int) -> None:
        self.faults.crash_at_sync(who, 1 + how % 3, length)

    def do_crash_all(self, who: int, how: int, length: int) -> None:
        spread = length // 2 if how & 1 else 0
        for machine in self.world.machines:
            self.faults.crash(machine.index, length + machine.index * spread)

    def do_pause(self, who: int, how: int, length: int) -> None:
        self.faults.pause(who, 2 * length)

    def do_slow(self, who: int, how: int, length: int) -> None:
        self.faults.slow(who, 2 + how % 60)
        self.world.after(4 * length, self.faults.slow, who, 1)

    def do_clock(self, who: int, how: int, length: int) -> None:
        kind = self.clock_kind.choose(3)
        if kind == 1:
            self.faults.drift(who, choose_drift(self.clock_kind))
            return
        error = choose_error(self.clock_kind, self.world.now, self.most_wrong_ms) if kind else None
        if not self.budget.mistime(self.world.machines[who].address, "clock"):
            return
        if error is None:
            self.faults.step_clock(who, how % 8000 - 4000)
        else:
            self.faults.break_clock(who, error)

    def do_disk(self, who: int, how: int, length: int) -> None:
        kind = DISK_ERRORS[how % len(DISK_ERRORS)]
        if kind == "read error":
            # Only a start reads.
            self.faults.crash_at_sync(who, 1, length // 2)
        else:
            self.faults.crash_when_struck(who, length // 2)
        self.faults.break_disk(self.budget, who, kind, 1 + how % 5)
        self.world.after(length, self.faults.repair_disk, who)

    def do_lie(self, who: int, how: int, length: int) -> None:
        self.faults.crash_when_struck(who, length)
        self.faults.break_disk(self.budget, who, DISK_LIES[how % len(DISK_LIES)], 1 + how % 7)

    def do_membership(self, who: int, how: int, length: int) -> None:
        self.membership.change(who, how)

    def do_upgrade(self, who: int, how: int, length: int) -> None:
        version = f"{2 + how % 8}"
        settings = choose_node_settings(self.world.tape, f"upgrade {version}", 250)
        at = 0
        for machine in self.world.machines:
            self.world.after(at, self.faults.upgrade, machine.index, version, settings, length // 4)
            at += length // 2

    def script(self, length: Nanoseconds) -> RoundScript | None:
        """Let a script of rounds say who hears whom; return it, None where one does already."""
        network = self.world.network
        kind = self.script_choice.choose(4)
        wait = self.script_choice.choose(4)
        if network.unheard is not None:
            return None
        permille = (300, 150, 500, 900)[kind]
        patience = (0, 200, 600, 2000)[wait] * MS
        choices = self.world.tape.stream("rounds")
        script = RoundScript(self.world, choices, permille, patience)
        self.faults.hear_by(script)
        self.world.after(length, self.faults.hear_all, script)
        return script


Nemesis.DO = {
    "partition": Nemesis.do_partition,
    "isolate": Nemesis.do_isolate,
    "one_way": Nemesis.do_one_way,
    "swizzle": Nemesis.do_swizzle,
    "priority": Nemesis.do_priority,
    "rounds": Nemesis.do_rounds,
    "crash": Nemesis.do_crash,
    "crash_at_sync": Nemesis.do_crash_at_sync,
    "crash_all": Nemesis.do_crash_all,
    "pause": Nemesis.do_pause,
    "slow": Nemesis.do_slow,
    "clock": Nemesis.do_clock,
    "disk": Nemesis.do_disk,
    "lie": Nemesis.do_lie,
    "membership": Nemesis.do_membership,
    "upgrade": Nemesis.do_upgrade,
}


def find_role(world: "World", role: int) -> int | None:
    """Return the machine in a role: 1 leads, 2 leads next, 3 is about to decide; None: nobody."""
    views = [(m, m.node.replica) for m in world.machines if m.node is not None]
    if role == 3:
        closest: tuple[int, int] | None = None
        for machine, replica in views:
            power = count_precommits(replica)
            if power and (closest is None or power > closest[0]):
                closest = (power, machine.index)
        return None if closest is None else closest[1]
    for _, replica in views:
        situation = replica.get_situation(world.now)
        leader = situation.leader
        validators: Any = getattr(replica, "validators", None)
        if role == 2 and leader is not None and validators is not None:
            leader = validators.get_proposer(situation.height, situation.round + 1)
        if leader is not None:
            return world.get_machine(leader).index
    return None


def count_precommits(replica: Any) -> int:
    """Return the power behind the value that a replica is closest to deciding."""
    state = getattr(replica, "rounds", {}).get(getattr(replica, "round", 0))
    if state is None:
        return 0
    return max(state.precommits.tally.values(), default=0)
