"""Joins the rules of proof of work to a simulated world, and says what they do not cover.

Finality by depth is a bet on time: blocks that lie deep enough under a tip stay there while more
than half of the work is honest and news travels faster than blocks are found. A disagreement is
held against the engine only if both were so between the fork and the first block of either side
that became final. Otherwise the run went beyond what any such engine promises: it ends there, and
says so (`World.beyond`).
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from quorate.base.types import Address, Hash, Height, Nanoseconds
from quorate.consensus import ENGINES
from quorate.consensus.pow_difficulty import compute_reversal_probability
from quorate.consensus.pow_headers import decode_certificate, put_nonce
from quorate.consensus.pow_tree import INVALID
from quorate.consensus.pow_types import Announce, Block, Headers, Kept
from quorate.consensus.replica import Head, Seal
from quorate.ledger.application import Executed
from quorate.simulator.invariants.pow import PowRules
from quorate.simulator.plan import MS, SECOND

if TYPE_CHECKING:
    from quorate.simulator.invariants.chain import Chain
    from quorate.simulator.machine import Machine
    from quorate.simulator.world import World

__all__ = ["PowWatch"]

NEGLIGIBLE = 1e-6
"""A reversal that is less likely than this does not happen in a run."""


class PowWatch:
    """Tells the rules of proof of work what machines say, validate, adopt, seal and make final."""

    def __init__(self, world: "World", chain: "Chain") -> None:
        self.world, self.chain = world, chain
        self.rules: PowRules | None = None
        self.settings: Any = None
        self.final_at: dict[Hash, Nanoseconds] = {}
        """When each block first became final anywhere."""
        self.certified: tuple[Hash, bytes] = (b"", b"")
        """The last certificate that was right, and of what: all machines make the same."""
        world.on_judged.append(self.on_judged)
        world.on_sealed.append(self.on_sealed)
        world.expect("reorganisation", "block of another miner adopted")
        world.on_start.append(self.on_start)
        world.on_final.append(self.on_final)
        world.on_end.append(self.on_end)
        world.on_kept.append(self.on_kept)
        for kind, hook in (
            (Announce, self.on_announce),
            (Headers, self.on_headers),
            (Block, self.on_block),
        ):
            world.on_message[kind] = [*world.on_message.get(kind, []), hook]

    def make_rules(self) -> PowRules:
        """Return the rules with the settings that the knobs left."""
        world = self.world
        self.settings = settings = ENGINES["pow"].settings(**world.engine_settings)
        return PowRules(
            world.chain,
            interval_ms=settings.interval_ms,
            window=settings.window,
            initial_difficulty=settings.initial_difficulty,
            min_difficulty=settings.min_difficulty,
            verify_seal=world.machines[0].keys.verify_seal,
            report=self.report,
        )

    def report(self, property: str, message: str, who: Address) -> None:
        self.world.find(property, message, self.world.get_machine(who))

    # ---- what is said and written

    def on_announce(self, machine: "Machine", m: Announce) -> None:
        rules = self.rules
        if rules is None or m.header not in rules.right:
            self.on_said(machine, [m.header])

    def on_headers(self, machine: "Machine", m: Headers) -> None:
        self.on_said(machine, m.headers)

    def on_block(self, machine: "Machine", m: Block) -> None:
        if machine.is_honest:
            self.get_rules().tell(machine.address, m.header)
        else:
            self.on_said(machine, [m.header])

    def on_said(self, machine: "Machine", headers: list[bytes]) -> None:
        rules = self.get_rules()
        if machine.is_honest:
            rules.say(machine.address, headers)
            return
        # Even a traitor may find a right block first.
        for header in headers:
            rules.find_header_fault(header)

    def on_kept(self, machine: "Machine", records: list[bytes]) -> None:
        if machine.is_honest:
            for record in map(self.world.decode_record, records):
                if isinstance(record, Kept):
                    self.get_rules().keep(machine.address, record.header)

    def get_rules(self) -> PowRules:
        if self.rules is None:
            self.rules = self.make_rules()
        self.rules.now = self.world.now
        return self.rules

    # ---- one machine

    def on_start(self, machine: "Machine", records: list[bytes]) -> None:
        """Stand between the engine and its node, for one life."""
        assert machine.node is not None
        application = machine.application
        height = application.durable().height
        decision = application.decision(height) if height else None
        rules = self.get_rules()
        rules.start(machine.address, decision[0] if decision else self.world.chain)
        # What a crash left in the journal is durable, whether or not that was ever told.
        self.on_kept(machine, records)
        interpreter: Any = machine.node.interpreter
        carry = interpreter.carry
        carry[Head] = self.before(machine, carry[Head], self.on_head)
        carry[Seal] = self.before(machine, carry[Seal], self.on_seal)

    def before(
        self,
        machine: "Machine",
        carry: Callable[[Any], None],
        watch: Callable[["Machine", Any], None],
    ) -> Callable[[Any], None]:
        def carried(effect: Any) -> None:
            if machine.is_honest:
                watch(machine, effect)
            carry(effect)

        return carried

    def on_judged(self, machine: "Machine", envelope: Hash, valid: bool) -> None:
        """An application says whether a block is acceptable."""
        node = machine.node
        if not machine.is_honest or node is None:
            return
        replica: Any = node.replica
        if envelope not in replica.tree.blocks:
            # What is answered of a branch that was cut off meanwhile says nothing of the block.
            return
        timely = not machine.clock.was_wrong
        who, now = machine.address, self.world.now
        self.get_rules().judge(who, now, envelope, valid, timely=timely)
        if not valid:
            self.world.witness("invalid block refused")

    def on_sealed(self, machine: "Machine", header: bytes, nonce: int) -> None:
        """A machine found a nonce: from now on others may know of the block."""
        if machine.is_honest:
            self.world.count("blocks mined")
        self.get_rules().find_header_fault(put_nonce(header, nonce))

    def on_head(self, machine: "Machine", effect: Head) -> None:
        rules, world = self.get_rules(), self.world
        latest_ms = 1 << 62
        if not machine.clock.was_wrong:
            latest_ms = machine.wall_ms() + self.settings.future_ms
        abandoned = rules.adopt(machine.address, effect.envelope, latest_ms)
        if abandoned:
            world.witness("reorganisation")
            world.count("reorganisations")
            world.count("blocks abandoned", abandoned)
        block = rules.blocks.get(effect.envelope)
        if block is not None and block.proposer != machine.address:
            world.witness("block of another miner adopted")

    def on_seal(self, machine: "Machine", effect: Seal) -> None:
        if effect.header:
            self.get_rules().mine(machine.address, effect.header)

    def on_final(self, machine: "Machine", executed: Executed) -> None:
        if not machine.is_honest or machine.node is None:
            return
        execution = machine.node.execution
        envelope = execution.envelope
        self.final_at.setdefault(envelope, self.world.now)
        rules = self.get_rules()
        rules.decide(machine.address, envelope, self.settings.final_depth)
        block = rules.blocks.get(envelope)
        if self.certified == (envelope, execution.certificate):
            return
        work: int = decode_certificate(execution.certificate).work
        if block is not None and work != block.work:
            text = f"height {executed.height}: work {work}, expected {block.work}"
            self.report("certificate", text, machine.address)
        elif block is not None:
            self.certified = (envelope, execution.certificate)

    # ---- what the rules do not cover

    def excuse(self, height: Height, who: Address) -> bool:
        """Whether two final blocks of one height are nobody's fault; then the run goes no further.

        Called before the judge of agreement reports it.
        """
        world, rules = self.world, self.get_rules()
        machine = world.get_machine(who)
        assert machine.node is not None
        one, other = machine.node.execution.envelope, self.chain.blocks[height][1]
        if one not in rules.blocks or other not in rules.blocks:
            return False
        while rules.blocks[one].parent != rules.blocks[other].parent:
            one, other = rules.blocks[one].parent, rules.blocks[other].parent
        forked = max(rules.born[one], rules.born[other])
        final = min(self.final_at.get(one, world.now), self.final_at.get(other, world.now))
        calm = final - max(forked, self.get_calm())
        share = self.get_hostile_share()
        if share >= 0.5:
            world.beyond = f"attackers hold {share:.0%} of the hash power"
        elif compute_reversal_probability(self.settings.final_depth, share) > NEGLIGIBLE:
            depth = self.settings.final_depth
            world.beyond = f"{depth} blocks are few against {share:.0%} of the hash power"
        elif calm < self.get_merging():
            world.beyond = "news was kept from some for as long as a block takes to become final"
        return bool(world.beyond)

    def get_calm(self) -> Nanoseconds:
        """From when on nothing has disturbed the network."""
        world = self.world
        profile = world.plan.profile
        quiet = not (profile.loss_permille or profile.traitors) and not any(
            name.startswith("fault ") for name in world.counters
        )
        return 0 if quiet else world.healed_at if world.healed else world.now

    def get_merging(self) -> Nanoseconds:
        """How long two branches live at most in a calm network."""
        settings = self.settings
        wait_ms: int = 3 * settings.announce_ms + 20 * settings.request_ms
        return 10 * SECOND + wait_ms * MS

    def get_hostile_share(self) -> float:
        """The greatest share of all hash power that traitors hold."""
        rates = [(m.rig.rate, m.actor is not None or m.tainted) for m in self.world.machines]
        total = sum(rate for rate, _ in rates)
        return sum(rate for rate, hostile in rates if hostile) / total if total else 0.0

    def on_end(self) -> None:
        world, rules = self.world, self.get_rules()
        world.count("hashes", sum(machine.rig.hashes for machine in world.machines))
        live = [m for m in world.machines if m.is_honest and m.node is not None]
        for machine in live:
            rules.look(machine.address, world.now)
            assert machine.node is not None
            replica: Any = machine.node.replica
            tree = replica.tree
            banned = [h for h, n in tree.blocks.items() if n.verdict == INVALID]
            rules.judge_bans(machine.address, banned)
        # Who knows of a heavier chain is on its way there; progress is judged elsewhere.
        settled = [m for m in live if not is_behind(m)]
        if settled and world.healed and not world.plan.profile.unbounded:
            apart = rules.judge_prefix(m.address for m in settled)
            world.count("blocks apart at the end", apart)


def is_behind(machine: "Machine") -> bool:
    """Whether a machine knows of a heavier chain that it does not follow yet."""
    assert machine.node is not None
    replica: Any = machine.node.replica
    best, head = replica.tree.best, replica.tree.head
    return bool(best.work > head.work) or replica.get_target() is not None
