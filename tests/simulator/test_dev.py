"""Networks for development under faults: commands leave all validators with the same state."""

import json
from typing import Any

import pytest
from msgspec.structs import replace

from quorate.base.types import Member
from quorate.ledger.ethereum import EthereumLedger
from quorate.ledger.genesis import make_genesis
from quorate.simulator.machine import Machine
from quorate.simulator.plan import MS, Plan
from quorate.simulator.run import run
from quorate.simulator.verdict import Outcome
from quorate.simulator.world import World
from simulator.networks import make_plan

BOOKS = bytes.fromhex("0000000000000000000000000000000000001001")
# Adds one to slot 0 at each call.
COUNTER = bytes.fromhex("60005460010160005500")
CONTRACT = b"\x66" * 20
PAUSE_MS = 60


UNDONE = frozenset({"final exactly once", "balances"})
"""What a revert undoes may come again, and what a client paid may be taken back."""


class Operator:
    """Asks nodes for all that a command can do, as their JSON-RPC would, and sends for others."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.asked = 0
        stream = world.tape.stream
        self.who, self.what, self.how = stream("dev who"), stream("dev what"), stream("dev how")
        self.refused = 0

    def start(self) -> None:
        self.world.after(PAUSE_MS * MS, self.act)

    def act(self) -> None:
        if self.world.now >= self.world.plan.duration_ms * MS:
            return
        machine = self.world.machines[self.who.choose(len(self.world.machines))]
        # No revert late in a run, since clients then count on what they were told.
        is_late = self.world.now > self.world.plan.duration_ms * MS // 2
        what, how = self.what.choose(9) % (8 if is_late else 9), self.how.choose(1000)
        if machine.node is not None and not machine.paused and machine.is_honest:
            self.ask(machine, what, how)
        self.world.after(PAUSE_MS * MS, self.act)

    def ask(self, machine: Machine, what: int, how: int) -> None:
        application = machine.application
        assert isinstance(application, EthereumLedger)
        view, pool = application.ledger.view(), application.pool
        self.asked += 1
        if what < 4:
            # Of an account of its own: a revert leaves no gap before what waits.
            sender = self.asked.to_bytes(20, "big")
            request = {
                "from": "0x" + sender.hex(),
                "to": "0x" + CONTRACT.hex(),
                "nonce": hex(pool.nonce(sender)),
                "gas": hex(100_000),
                "gasPrice": "0x0",
                "value": "0x0",
            }
            raw = view.impersonate(json.dumps(request).encode())
        else:
            head = view.head()
            name, arguments = [
                ("setCode", [CONTRACT, COUNTER]),
                ("increaseTime", [encode(how)]),
                ("mine", [encode(1 + how % 5), encode(how % 3)]),
                ("setStorageAt", [CONTRACT, encode(how % 7), encode(how)]),
                ("revertTo", [encode(max(0, head - how % 12))]),
            ][what - 4]
            salt = self.asked.to_bytes(8, "big")
            raw = view.encode_command(pool.nonce(BOOKS), salt, name, arguments)
        machine.submit([raw], self.on_judged)

    def on_judged(self, results: list[tuple[bytes, str | None]]) -> None:
        self.refused += sum(error is not None for _, error in results)


def encode(number: int) -> bytes:
    return number.to_bytes(32, "big")


def make_dev_plan(seed: int, profile: str = "default", **more: Any) -> Plan:
    plan = make_plan(seed, profile)
    genesis = make_genesis(
        chain_id=31337,
        engine=more.get("engine", "tendermint"),
        gas="free",
        members=[Member(m.address, m.power) for m in plan.machines],
        balances={},
        gas_limit=30_000_000,
        timestamp=1_600_000_000,
        dev=True,
    )
    return make_plan(
        seed,
        profile,
        application="ethereum",
        genesis=genesis,
        duration_ms=4000,
        clients=0,
        node_settings={"seen_transactions": 0, "state_history": 0},
        **more,
    )


def play(plan: Plan) -> tuple[Outcome, World]:
    worlds: list[World] = []

    def on_world(world: World) -> None:
        worlds.append(world)
        find = world.find

        def find_more(property: str, *facts: Any, **more: Any) -> None:
            if property not in UNDONE:
                find(property, *facts, **more)

        world.find = find_more  # type: ignore[method-assign]
        Operator(world).start()

    return run(plan, on_world=on_world), worlds[0]


def count_commands(world: World) -> dict[str, int]:
    """How often each command took effect, by its selector, on the first machine's chain."""
    view = world.machines[0].store.view()
    found: dict[str, int] = {}
    for height in range(view.head() + 1):
        block = json.loads(view.block_json(height, True))
        receipts = json.loads(view.block_receipts_json(height))
        for tx, receipt in zip(block["transactions"], receipts, strict=True):
            name = tx["input"][:10] if int(tx["to"], 16) == 0x1001 else "call"
            if receipt["status"] == "0x1":
                found[name] = found.get(name, 0) + 1
    return found


@pytest.mark.parametrize("seed", range(4))
def test_validators_under_faults_come_to_the_same(seed: int) -> None:
    outcome, world = play(make_dev_plan(seed))
    assert (outcome.verdict, outcome.findings) == ("true", [])
    roots = set()
    for machine in world.machines:
        block = machine.store.block(min(outcome.heights))
        roots.add((block.hash, block.state_root))
    assert len(roots) == 1


def test_every_command_takes_effect_somewhere() -> None:
    found: dict[str, int] = {}
    for seed in range(3):
        _, world = play(make_dev_plan(seed, "none"))
        for name, count in count_commands(world).items():
            found[name] = found.get(name, 0) + count
    assert len(found) == 6, found
    assert min(found.values()) > 2, found


@pytest.mark.parametrize("engine", ["tendermint", "raft"])
def test_commands_that_fit_no_payload_make_no_blocks(engine: str) -> None:
    """They waited for ever once, and empty blocks came without end."""
    settings = {"seen_transactions": 0, "max_payload_bytes": 200}
    plan = make_dev_plan(34, "none", engine=engine)
    outcome, _ = play(replace(plan, node_settings=settings))
    assert (outcome.verdict, outcome.findings) == ("true", [])
    assert max(outcome.heights) < 200


@pytest.mark.parametrize("engine", ["raft", "pow"])
def test_other_engines_agree_on_commands(engine: str) -> None:
    outcome, world = play(make_dev_plan(5, engine=engine))
    assert (outcome.verdict, outcome.findings) == ("true", [])
    assert len(count_commands(world)) > 3


def test_runs_are_repeated_exactly() -> None:
    plan = make_dev_plan(7)
    assert play(plan)[0].digest == play(plan)[0].digest
