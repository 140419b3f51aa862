"""Journals of simulated machines before the judge of recorded ones."""

import msgspec
import pytest

from quorate.base.types import Address, Member
from quorate.consensus.certificate import PRECOMMIT, PREVOTE
from quorate.consensus.replica import Record
from quorate.consensus.tendermint_types import Decided, Polka, Vote, Voted
from quorate.simulator.invariants.chain import compute_statement
from quorate.simulator.keys import SimulatedKeys
from quorate.simulator.machine import Machine
from quorate.simulator.plan import Profile
from quorate.simulator.recorded import Recorded, RecordedJudge
from quorate.simulator.run import run
from quorate.simulator.world import World
from quorate.storage.journal import open_journal
from simulator.networks import make_plan

CRASHES = Profile(
    name="crashes",
    mixed=True,
    loss_permille=30,
    acts=20,
    isolate=2,
    rounds=2,
    crash=3,
    crash_at_sync=4,
    crash_all=1,
)
"""Without disks that forget, whose journals have nothing to say."""


class Network:
    """What a run left behind: its judge and the journals of its machines."""

    def __init__(self, seed: int, profile: Profile | str = CRASHES) -> None:
        plan = make_plan(seed, profile, duration_ms=3000)
        worlds: list[World] = []
        assert run(plan, on_world=worlds.append).verdict == "true"
        world = worlds[0]
        self.members = [Member(m.address, m.power) for m in plan.machines]
        self.chain = world.chain
        self.journals: dict[Address, list[Record]] = {
            machine.address: read_records(world, machine)
            for machine in world.machines
            if machine.is_honest
        }

    def judge(self) -> RecordedJudge:
        verify = SimulatedKeys(bytes(20)).verify
        judge = RecordedJudge(self.chain, self.members, verify)
        judge.judge_journals([Recorded(who, found, found) for who, found in self.journals.items()])
        return judge


def read_records(world: World, machine: Machine) -> list[Record]:
    machine.crash()
    _, recovered = open_journal(machine.disk, machine.address)
    return [world.decode_record(record) for record in recovered.records]


def sign(chain: bytes, vote: Vote) -> Vote:
    digest = compute_statement(chain, vote.kind, vote.height, vote.round, vote.value)
    return msgspec.structs.replace(vote, signature=SimulatedKeys(vote.voter).sign(digest))


def find_vote(network: Network, kind: int) -> tuple[Address, int, Vote]:
    """Return a vote for a value, and where it is written."""
    for who, records in network.journals.items():
        for at, record in enumerate(records):
            if isinstance(record, Voted) and record.vote.kind == kind and any(record.vote.value):
                return who, at, record.vote
    raise AssertionError("no such vote")


@pytest.mark.parametrize("seed", range(6))
def test_journals_of_runs_that_are_true_keep_the_rules(seed: int) -> None:
    judged = Network(seed).judge().judged
    assert judged.found == []
    assert judged.votes > 0
    assert judged.heights > 0


def test_journals_that_were_never_cut_are_judged_completely() -> None:
    judged = Network(1, "none").judge().judged
    assert judged.complete == judged.heights > 3
    assert judged.found == []


def test_two_votes_of_one_round_are_found_even_in_different_journals() -> None:
    network = Network(1, "none")
    who, _, vote = find_vote(network, PREVOTE)
    other = next(address for address in network.journals if address != who)
    lie = sign(network.chain, msgspec.structs.replace(vote, value=b"\x07" * 32))
    network.journals[other].append(Polka([lie]))
    assert ("one vote", who) in [(found[0], found[2]) for found in network.judge().judged.found]


def test_vote_that_others_saw_and_its_voter_did_not_keep_is_found() -> None:
    network = Network(1, "none")
    who, at, vote = find_vote(network, PREVOTE)
    other = next(address for address in network.journals if address != who)
    network.journals[other].append(Polka([vote]))
    assert network.judge().judged.found == []
    del network.journals[who][at]
    assert ("write first", who) in [(found[0], found[2]) for found in network.judge().judged.found]


def test_precommit_without_its_polka_is_found_only_if_all_journals_are_there() -> None:
    network = Network(1, "none")
    _, _, vote = find_vote(network, PRECOMMIT)
    for who, records in network.journals.items():
        network.journals[who] = [
            record
            for record in records
            if not (isinstance(record, Polka) and record.votes[0].height == vote.height)
            and not (
                isinstance(record, Voted)
                and (record.vote.height, record.vote.kind) == (vote.height, PREVOTE)
            )
        ]
    assert "polka" in [found[0] for found in network.judge().judged.found]
    network.journals.popitem()
    assert network.judge().judged.found == []


def test_two_decisions_of_a_height_are_found() -> None:
    network = Network(1, "none")
    one, other, *_ = network.journals.values()
    decided = next(record for record in one if isinstance(record, Decided))
    certificate = bytearray(decided.certificate)
    certificate[100] ^= 1
    other.append(msgspec.structs.replace(decided, certificate=bytes(certificate)))
    assert "agreement" in [found[0] for found in network.judge().judged.found]
