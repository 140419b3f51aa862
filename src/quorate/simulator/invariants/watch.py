"""Joins the judges to a simulated world."""

from typing import TYPE_CHECKING, Final

from quorate.base.errors import Invalid
from quorate.base.types import Address, Height, Member
from quorate.consensus import ENGINES, raft_types
from quorate.consensus.certificate import NIL, PRECOMMIT, compute_digest
from quorate.consensus.evidence import Offence, decode_evidence, get_offence, verify_evidence
from quorate.consensus.membership import ValidatorSet
from quorate.consensus.replica import Accuse
from quorate.consensus.tendermint_types import Proposal, Vote, Voted
from quorate.ledger.application import Executed
from quorate.node.wire import get_tag
from quorate.simulator.durability import KeptHeights
from quorate.simulator.invariants.chain import Chain
from quorate.simulator.invariants.raft import RaftRules
from quorate.simulator.invariants.standing import watch_bans
from quorate.simulator.invariants.tendermint import TendermintRules
from quorate.simulator.invariants.watch_pow import PowWatch

if TYPE_CHECKING:
    from quorate.simulator.machine import Machine
    from quorate.simulator.world import World

__all__ = ["watch"]

VOTED: Final = Voted.__struct_config__.tag


def watch(world: "World") -> None:
    """Let all judges that fit the plan's engine watch a world."""
    watch_bans(world)
    chain = watch_chain(world)
    if world.plan.engine == "tendermint":
        KeptHeights(world)
        TendermintWatch(world, chain)
    elif world.plan.engine == "raft":
        watch_raft(world, chain)
    elif world.plan.engine == "pow":
        world.excuse = PowWatch(world, chain).excuse


def watch_chain(world: "World") -> Chain:
    """Let agreement and certificates be judged."""

    def report(property: str, message: str, who: Address) -> None:
        world.find(property, message, world.get_machine(who))

    genesis = [Member(m.address, m.power) for m in world.plan.machines if m.power]
    engine = ENGINES[world.plan.engine]
    # Where members may come and go, a certificate holds no signatures: its engine's judge reads it.
    verify = world.machines[0].keys.verify if engine.proves and not engine.open else None
    chain = Chain(world.chain, genesis, verify, report)

    def on_start(machine: "Machine", _: list[bytes]) -> None:
        if machine.is_honest:
            chain.start(machine.address, machine.application.durable().height)

    def on_final(machine: "Machine", executed: Executed) -> None:
        if not machine.is_honest or world.beyond:
            return
        assert machine.node is not None
        execution = machine.node.execution
        if engine.open and chain.is_split(executed.height, execution.envelope):
            assert world.excuse is not None
            if world.excuse(executed.height, machine.address):
                return
        chain.decide(
            machine.address,
            executed.height,
            executed.block,
            executed.timestamp_ms,
            executed.members,
            execution.envelope,
            execution.certificate,
            execution.payloads,
        )

    def on_installed(machine: "Machine", executed: Executed) -> None:
        if machine.is_honest:
            chain.install(machine.address, executed.height, executed.block, executed.members)

    world.on_start.append(on_start)
    world.on_final.append(on_final)
    world.on_installed.append(on_installed)
    return chain


def watch_raft(world: "World", chain: Chain) -> None:
    """Tell the rules of Raft what machines say and write."""

    def report(property: str, message: str, who: Address) -> None:
        world.find(property, message, world.get_machine(who))

    rules = RaftRules(chain.members.get, report, lambda height: height in chain.blocks)

    cutting: set[int] = set()

    def on_cut(machine: "Machine") -> None:
        cutting.add(machine.index)

    def on_kept(machine: "Machine", records: list[bytes]) -> None:
        cut = machine.index in cutting
        cutting.discard(machine.index)
        if machine.is_honest:
            if cut:
                trust_store(machine)
            decoded = [world.decode_record(data) for data in records]
            rules.keep(machine.address, decoded, cut=cut)

    def trust_store(machine: "Machine") -> None:
        """What the store holds is decided, whatever the journal says of it."""
        application = machine.application
        decision = application.decision(application.durable().height)
        if decision is not None:
            rules.trust(machine.address, decision[1])

    def on_append(machine: "Machine", m: raft_types.Append) -> None:
        if m.entries and m.entries[0].index == m.prev_index + 1:
            world.witness("entries sent")
        if machine.is_honest:
            rules.judge_append(machine.address, m)

    def on_commit(machine: "Machine", m: raft_types.Commit) -> None:
        if machine.is_honest:
            rules.judge_commit(machine.address, m.commit, m.term)

    def on_appended(machine: "Machine", m: raft_types.Appended) -> None:
        if machine.is_honest:
            rules.judge_appended(machine.address, m)

    def on_vote(machine: "Machine", m: raft_types.VoteReply) -> None:
        if m.granted and not m.trial:
            world.witness("vote granted")
        if machine.is_honest:
            rules.judge_vote(machine.address, m)

    def on_start(machine: "Machine", records: list[bytes]) -> None:
        cutting.discard(machine.index)
        if machine.is_honest:
            decoded = [world.decode_record(data) for data in records]
            rules.keep(machine.address, decoded, start=True)
            trust_store(machine)

    world.expect("state taken over")
    world.on_cut.append(on_cut)
    world.on_kept.append(on_kept)
    world.on_start.append(on_start)
    for kind, watcher in (
        (raft_types.Append, on_append),
        (raft_types.Commit, on_commit),
        (raft_types.Appended, on_appended),
        (raft_types.VoteReply, on_vote),
    ):
        world.on_message[kind] = [*world.on_message.get(kind, []), watcher]


class TendermintWatch:
    """Tells the rules of Tendermint what machines say, write and report."""

    def __init__(self, world: "World", chain: Chain) -> None:
        self.world, self.chain = world, chain
        self.rules = TendermintRules(self.get_members, self.report)
        world.expect("vote after round 0", "precommit nil", "value proposed again", "accusation")
        self.accused: dict[tuple[int, int, Offence], None] = {}
        """By machine and life."""
        self.judged: list[dict[bytes, None]] = []
        """The records of each machine's journal that were looked at, since the last restart."""
        self.members: list[Member] | None = None
        self.turns: ValidatorSet | None = None
        world.on_message[Vote] = [*world.on_message.get(Vote, []), self.on_vote]
        world.on_message[Proposal] = [*world.on_message.get(Proposal, []), self.on_proposal]
        world.on_kept.append(self.on_kept)
        world.on_start.append(self.on_start)
        world.on_accuse.append(self.on_accuse)

    def get_members(self, height: Height) -> list[Member] | None:
        return self.chain.members.get(height)

    def report(self, property: str, message: str, who: Address) -> None:
        self.world.find(property, message, self.world.get_machine(who))

    def on_vote(self, machine: "Machine", vote: Vote) -> None:
        if not machine.is_honest and not self.is_signed(vote):
            # A forgery, which nobody counts.
            return
        self.rules.collect(vote)
        if vote.voter == machine.address and machine.is_honest:
            self.rules.judge_vote(vote)
            if vote.round:
                self.world.witness("vote after round 0")
            if vote.kind == PRECOMMIT and vote.value == NIL:
                self.world.witness("precommit nil")

    def is_signed(self, vote: Vote) -> bool:
        """Whether its voter said this."""
        digest = compute_digest(self.world.chain, vote.kind, vote.height, vote.round, vote.value)
        return self.world.machines[0].keys.verify(vote.voter, digest, vote.signature)

    def on_proposal(self, machine: "Machine", proposal: Proposal) -> None:
        if not machine.is_honest or self.get_proposer(proposal) != machine.address:
            return
        if proposal.valid_round >= 0:
            self.world.witness("value proposed again")
        self.rules.judge_proposal(machine.address, proposal)

    def get_proposer(self, proposal: Proposal) -> Address | None:
        """Return whose turn it is, by the engine's own table; others only relay."""
        members = self.get_members(proposal.height)
        if members is None:
            return None
        if members is not self.members:
            self.members, self.turns = members, ValidatorSet(members)
        assert self.turns is not None
        return self.turns.get_proposer(proposal.height, proposal.round)

    def get_judged(self, machine: "Machine") -> dict[bytes, None]:
        """Return the records of a machine that were looked at."""
        while len(self.judged) <= machine.index:
            self.judged.append({})
        return self.judged[machine.index]

    def on_start(self, machine: "Machine", records: list[bytes]) -> None:
        self.on_kept(machine, records)
        # What a cut left out never comes again.
        judged = self.get_judged(machine)
        self.judged[machine.index] = {
            data: None for data in records if get_tag(data) == VOTED and data in judged
        }

    def on_kept(self, machine: "Machine", records: list[bytes]) -> None:
        if not machine.is_honest:
            return
        world, judged = self.world, self.get_judged(machine)
        for data in records:
            # A cut and a restart tell much again that is known; to look a long one up takes time.
            if get_tag(data) == VOTED and data not in judged:
                judged[data] = None
                self.rules.keep(machine.address, world.decode_record(data).vote)

    def on_accuse(self, machine: "Machine", effect: Accuse) -> None:
        world = self.world
        world.witness("accusation")
        if not machine.is_honest:
            return
        evidence = decode_evidence(effect.evidence)
        key = (machine.index, machine.life, get_offence(evidence))
        if key in self.accused:
            world.find("one accusation", f"reports {key[2]} again", machine)
        self.accused[key] = None
        if effect.who != evidence.who or world.get_machine(effect.who).is_honest:
            world.find("one accusation", f"accuses {world.get_machine(effect.who).name}", machine)
        members = self.get_members(evidence.height)
        if members is None:
            return
        try:
            verify_evidence(evidence, world.chain, members, evidence.height, machine.keys.verify)
        except Invalid as error:
            world.find("one accusation", str(error), machine)
