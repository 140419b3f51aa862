"""What members of Raft and miners have written, before the judges of recorded networks."""

from typing import Any

import msgspec
import pytest

from quorate._kernel import seal
from quorate.base.types import Address, Member
from quorate.consensus.pow_types import Settings
from quorate.consensus.raft_types import Ballot
from quorate.consensus.replica import Record
from quorate.crypto.hashes import keccak256
from quorate.ledger.payload import parse_head
from quorate.simulator.machine import Machine
from quorate.simulator.recorded import Decision, Recorded
from quorate.simulator.recorded_ledgers import RaftJudge, RecordedLedgers, WorkJudge, verify_seal
from quorate.simulator.run import run
from quorate.simulator.world import World
from quorate.storage.journal import open_journal
from simulator.networks import make_plan


class Network:
    """What a run left behind."""

    def __init__(self, engine: str, **plan: Any) -> None:
        made = make_plan(1, "none", engine=engine, duration_ms=3000, **plan)
        worlds: list[World] = []
        assert run(made, on_world=worlds.append).verdict == "true"
        self.world = world = worlds[0]
        self.members = [Member(m.address, m.power) for m in made.machines]
        self.stores = {m.address: read_store(m) for m in world.machines}
        self.journals = {m.address: read_records(world, m) for m in world.machines}

    def make_judge(self) -> RecordedLedgers:
        if self.world.plan.engine == "raft":
            return RaftJudge(self.world.chain, self.members)
        settings = msgspec.structs.asdict(Settings(**self.world.engine_settings))
        verify = self.world.machines[0].keys.verify_seal
        return WorkJudge(self.world.chain, self.members, settings, verify)

    def judge(self) -> list[tuple[str, str, Address]]:
        judge = self.make_judge()
        for who, decisions in self.stores.items():
            judge.judge_store(who, decisions)
        judge.judge_journals([Recorded(who, kept, kept) for who, kept in self.journals.items()])
        assert judge.judged.decisions
        assert judge.judged.records
        return judge.judged.found

    def change(self, at: int, **fields: Any) -> Address:
        """Change what the first store holds of a height."""
        who, decisions = next(iter(self.stores.items()))
        decisions[at] = msgspec.structs.replace(decisions[at], **fields)
        return who


def read_store(machine: Machine) -> list[Decision]:
    application = machine.application
    found = []
    for height in range(1, application.durable().height + 1):
        decision = application.decision(height)
        assert decision is not None
        envelope, certificate, payloads = decision
        time_ms = max(parse_head(payload)[1] for payload in payloads)
        members = application.members(height + 2)
        block = keccak256(b"block %d" % height)
        found.append(Decision(height, block, time_ms, members, envelope, certificate, payloads))
    return found


def read_records(world: World, machine: Machine) -> list[Record]:
    machine.crash()
    _, recovered = open_journal(machine.disk, machine.address)
    return [world.decode_record(record) for record in recovered.records]


@pytest.fixture
def raft() -> Network:
    return Network("raft")


@pytest.fixture
def work() -> Network:
    return Network("pow", engine_settings={"final_depth": 2, "safe_depth": 1})


@pytest.mark.parametrize("name", ["raft", "work"])
def test_what_true_runs_have_written_keeps_the_rules(
    name: str, request: pytest.FixtureRequest
) -> None:
    assert request.getfixturevalue(name).judge() == []


def test_two_blocks_at_a_height_are_found(raft: Network) -> None:
    who = raft.change(1, block=b"\x07" * 32)
    found = raft.judge()
    assert {(property, by == who) for property, _, by in found} == {("result", False)}


@pytest.mark.parametrize("name", ["raft", "work"])
def test_a_payload_that_the_envelope_does_not_name_is_found(
    name: str, request: pytest.FixtureRequest
) -> None:
    network: Network = request.getfixturevalue(name)
    payload = network.stores[network.world.machines[0].address][0].payloads[0]
    who = network.change(0, payloads=[payload + b"\x00"])
    text = "height 1: the payload is not the one that the envelope names"
    assert ("certificate", text, who) in network.judge()


def test_holders_that_are_no_members_are_found(raft: Network) -> None:
    certificate = raft.stores[raft.world.machines[0].address][1].certificate
    who = raft.change(1, certificate=certificate[:-20] + b"\x07" * 20)
    [(property, text, by)] = raft.judge()
    assert (property, by) == ("certificate", who)
    assert text == "height 2: its holders are no members, or named twice"


def test_two_votes_of_a_member_in_a_term_are_found(raft: Network) -> None:
    who, records = next(iter(raft.journals.items()))
    ballot = next(r for r in records if isinstance(r, Ballot) and any(r.voted_for))
    other = next(m.address for m in raft.members if m.address != ballot.voted_for)
    records.append(Ballot(ballot.term, other))
    assert [(property, by) for property, _, by in raft.judge()] == [("one vote", who)]


def test_headers_without_their_work_and_sums_that_are_wrong_are_found(work: Network) -> None:
    certificate = work.stores[work.world.machines[0].address][0].certificate
    told = bytearray(certificate)
    told[-9] ^= 1
    who = work.change(0, certificate=bytes(told))
    [(property, text, by)] = work.judge()
    assert (property, by) == ("certificate", who)
    assert "hashes from genesis on, expected" in text
    idle = bytearray(certificate)
    idle[1 + 92 + 7] ^= 1
    work.change(0, certificate=bytes(idle), envelope=keccak256(bytes(idle[1:181])))
    texts = [text for _, text, _ in work.judge()]
    assert any("is no work for the target" in text for text in texts)


def test_what_the_kernel_calls_work_is_work() -> None:
    header, target = bytes(range(180)), (1 << 250) - 1
    nonce = seal(header, target.to_bytes(32, "big"), 0, 1 << 12)
    assert nonce is not None
    assert verify_seal(header, nonce, target)
    assert not verify_seal(header, nonce, 1 << 100)
