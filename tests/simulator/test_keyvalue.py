"""Keys and values in simulated runs: what clients are told can be explained, and lies are found."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from quorate.base.errors import Invalid
from quorate.base.types import Height
from quorate.cli.main import run as command
from quorate.cli.simulated import Setup, build_plan
from quorate.ledger.machine import Context, Refused
from quorate.node.reads import Reads
from quorate.simulator import keyvalue
from quorate.simulator.clock import START_MS
from quorate.simulator.keyvalue import OWN_RULE, REGISTERS, KeyValueStores
from quorate.simulator.payments import PAYMENTS, Payments
from quorate.simulator.plan import Plan
from quorate.simulator.run import run
from quorate.simulator.verdict import Outcome
from simulator import own_machines
from simulator.networks import make_plan as make_network

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "own_application"


def make_plan(seed: int, engine: str) -> Plan:
    count = 4 if engine == "tendermint" else 3
    return make_network(
        seed, "default", count, engine=engine, application="keyvalue", duration_ms=6000
    )


@pytest.mark.parametrize("engine", ["raft", "tendermint"])
def test_clients_of_registers_are_told_what_an_order_explains(engine: str) -> None:
    witnessed: set[str] = set()
    for seed in range(3):
        outcome = run(make_plan(seed, engine))
        assert outcome.verdict == "true", outcome.findings
        witnessed |= set(outcome.sometimes)
    assert {"answered", "numbered operation sent again", "comparison succeeded"} <= witnessed


def test_clocks_go_astray_by_less_than_operations_may_wait() -> None:
    """Seed 7007: a leader's clock was an hour ahead for a while, and with it the time of blocks."""
    outcome = run(build_plan(Setup(engine="raft", application="keyvalue"), 7007))
    assert outcome.verdict == "true", outcome.findings
    assert outcome.sometimes["linearizable read"]


def test_answers_over_work_are_those_of_final_blocks() -> None:
    """Seed 16: a comparison that came again was told what a block said that was then abandoned."""
    outcome = run(build_plan(Setup(engine="pow", application="keyvalue"), 16))
    assert outcome.verdict == "true", outcome.findings


def test_what_is_too_late_for_any_block_is_waited_for_no_longer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As where heights come slowly: a client that insists would wait for ever."""
    make = KeyValueStores.make_item

    def make_item(self: KeyValueStores, number: int, *rest: int) -> tuple[bytes, bytes]:
        with monkeypatch.context() as patch:
            if number < 8:
                patch.setattr(keyvalue, "DEADLINE_MS", START_MS)
            return make(self, number, *rest)

    monkeypatch.setattr(KeyValueStores, "make_item", make_item)
    outcome = run(make_plan(1, "raft"))
    assert outcome.verdict == "true", outcome.findings
    assert outcome.sometimes["too late for any block"]


def test_reads_without_asking_the_engine_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Reads, "read", lambda self, done: done(Height(self.execution.final.height)))
    found = {
        finding.property for seed in range(6) for finding in run(make_plan(seed, "raft")).findings
    }
    assert found & {REGISTERS, "linearizable reads"}


def run_own(name: str, seed: int) -> Outcome:
    application = f"{own_machines.__name__}:{name}"
    return run(build_plan(Setup(engine="raft", application=application, duration_ms=4000), seed))


def test_clients_make_the_calls_of_an_application_of_ones_own() -> None:
    for name in ("Counter", "Direct"):
        outcomes = [run_own(name, seed) for seed in range(4)]
        assert [outcome.findings for outcome in outcomes] == [[]] * 4
        for kind in ("call done", "call refused"):
            assert sum(outcome.sometimes.get(kind, 0) for outcome in outcomes) > 3
        registers = sum(outcome.sometimes.get("register read", 0) for outcome in outcomes)
        assert (registers > 0) == (name == "Direct")


def test_application_that_remembers_in_its_object_is_found() -> None:
    found = {f.property for seed in range(4) for f in run_own("Forgetful", seed).findings}
    assert found == {"result"}


@pytest.mark.parametrize(
    ("name", "said"), [("Bounded", "expected at most 5"), ("Broken", "ValueError: no rule")]
)
def test_an_application_judges_its_state_after_every_block(name: str, said: str) -> None:
    outcome = run_own(name, 1)
    assert outcome.verdict == "false"
    assert outcome.findings[0].property == OWN_RULE
    assert said in outcome.findings[0].message


def test_sums_that_overflow_are_found_and_others_are_not() -> None:
    for seed in range(3):
        assert run(build_plan(Setup(engine="pow", application=PAYMENTS), seed)).verdict == "true"
    found = [run(build_plan(Setup(engine="pow", bug="n5-overflow"), seed)) for seed in range(6)]
    assert {finding.property for outcome in found for finding in outcome.findings} == {OWN_RULE}


def test_bug_of_another_application_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["--engine", "pow", "--bug", "n5-overflow", "--application", "keyvalue"]
    assert command(["sim", *asked]) == 2
    assert f"one of {PAYMENTS}, found keyvalue" in capsys.readouterr().err
    plan = replace(build_plan(Setup(engine="pow"), 1), bug="n5-overflow")
    with pytest.raises(Invalid, match="not of opaque"):
        run(plan)


class Map(dict[bytes, bytes]):
    def put(self, key: bytes, value: bytes, /) -> None:
        self[key] = value

    def delete(self, key: bytes, /) -> bool:
        return self.pop(key, None) is not None


def test_payments_move_what_is_there() -> None:
    state, payments, context = Map(), Payments(), Context(1, 1, bytes(16))
    assert payments.apply(state, b"0 1 250 2 50", context) == b"paid 300"
    assert [int.from_bytes(state[b"%d" % n], "big") for n in range(3)] == [700, 1250, 1050]
    assert payments.apply(state, b"1 1 5", context) == b"paid 5"
    assert not payments.find_fault(state)
    for call in (b"0 1 701", b"0 4 1", b"-1 1 1", b"0 1 -1", b"0 1 %d" % (1 << 64)):
        with pytest.raises(Refused):
            payments.apply(state, call, context)
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        payments.apply(state, b"0 1", context)
    state.put(b"3", b"")
    assert "expected 4000" in payments.find_fault(state)


def test_application_without_calls_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["sim", "--application", f"{own_machines.__name__}:Mute"]) == 2
    assert "it gives no `example` of a call" in capsys.readouterr().err


def test_example_of_an_application_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLE))
    setup = Setup(engine="raft", application="auction:Auction", duration_ms=4000)
    outcome = run(build_plan(setup, 1))
    assert outcome.verdict == "true", outcome.findings
    assert outcome.sometimes["call done"] > 0
