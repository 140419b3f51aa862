"""Virtual clients: what they do, what they hear, and what is judged of it."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from quorate import _kernel
from quorate.base.types import Hash, Height, Member
from quorate.crypto.hashes import keccak256
from quorate.ledger.genesis import make_genesis
from quorate.ledger.opaque import OpaqueLedger
from quorate.ledger.payload import compose
from quorate.simulator.faults import Faults
from quorate.simulator.finality import EXACTLY_ONCE, REAL_TIME, SESSION
from quorate.simulator.history import encode_events, read_history
from quorate.simulator.linearizability import check_history
from quorate.simulator.models import Log
from quorate.simulator.plan import SECOND, Profile, get_profile
from quorate.simulator.run import run
from quorate.simulator.verdict import Outcome
from quorate.simulator.wallets import ACCOUNTS, FUNDS, Wallet, find_balance_faults, fund
from quorate.simulator.workload import Clients
from quorate.simulator.world import World
from simulator.networks import make_plan


def run_clients(
    seed: int = 1, profile: Profile | str = "none", **more: Any
) -> tuple[Outcome, Clients]:
    """Run a plan; return its outcome and its clients."""
    worlds: list[World] = []
    on_world: Callable[[World], None] | None = more.pop("on_world", None)

    def keep(world: World) -> None:
        worlds.append(world)
        if on_world is not None:
            on_world(world)

    more.setdefault("duration_ms", 3000)
    outcome = run(make_plan(seed, profile, **more), on_world=keep)
    clients = worlds[0].clients
    assert clients is not None
    return outcome, clients


@pytest.mark.parametrize("application", ["opaque", "ethereum"])
def test_without_faults_every_request_is_answered_at_the_first_attempt(application: str) -> None:
    outcome, clients = run_clients(application=application)
    assert (outcome.verdict, outcome.findings) == ("true", [])
    operations = clients.history.get_operations()
    items = [o for o in operations if o.name == "append"]
    assert len(items) == outcome.counters["requests ok"] > 10
    assert {(o.outcome, o.attempts) for o in items} == {("ok", 1)}
    assert outcome.counters["reads"] == len(operations) - len(items) > 0


def test_clients_go_elsewhere_when_links_lose_what_they_say() -> None:
    seen: dict[str, int] = {}
    for seed in range(8):
        outcome, _ = run_clients(seed, "network", duration_ms=5000)
        assert (outcome.verdict, outcome.findings) == ("true", [])
        seen.update(outcome.sometimes)
    assert {"item sent again", "request lost", "answer lost", "stale read"} <= set(seen)


def run_with_fault(act: Callable[[Faults], None]) -> dict[str, tuple[int, int]]:
    """Break a network from 1 s to 14 s; return how many requests came to what, after how many
    attempts at most.
    """

    def on_world(world: World) -> None:
        world.after(SECOND, act, Faults(world))

    outcome, clients = run_clients(duration_ms=14_000, on_world=on_world)
    assert (outcome.verdict, outcome.findings) == ("true", [])
    found: dict[str, tuple[int, int]] = {}
    for operation in clients.history.get_operations():
        if operation.name == "append":
            count, attempts = found.get(operation.outcome, (0, 0))
            found[operation.outcome] = (count + 1, max(attempts, operation.attempts))
    for name, (count, _) in found.items():
        assert outcome.counters[f"requests {name}"] == count
    return found


def test_request_that_reached_nobody_failed() -> None:
    def act(faults: Faults) -> None:
        for index in range(4):
            faults.crash(index)

    found = run_with_fault(act)
    assert found["fail"][0] > 5
    assert found["fail"][1] == 3
    assert "info" not in found or found["info"][0] <= 2


def test_request_that_waits_too_long_is_not_known() -> None:
    def act(faults: Faults) -> None:
        for index in range(3):
            faults.partition(index, notice=False)

    found = run_with_fault(act)
    assert found["info"][0] > 5
    assert found["info"][1] == 3
    assert "fail" not in found


def test_history_is_read_back_from_its_lines() -> None:
    _, clients = run_clients(2, "network")
    history = read_history(encode_events(clients.history.events))
    assert history.get_operations() == clients.history.get_operations()


@pytest.mark.parametrize("seed", range(4))
def test_listed_history_is_that_of_a_linearizable_log(seed: int) -> None:
    _, clients = run_clients(seed, "default", duration_ms=10_000)
    history = read_history(encode_events(clients.list_events()))
    operations = history.get_operations()
    assert len(operations) == len(clients.requests) + 1
    report = check_history(operations, Log)
    assert report.verdict == "true"
    read = operations[-1]
    order = read.result[::-1]
    wrong = msgspec.structs.replace(read, result=order)
    assert check_history([*operations[:-1], wrong], Log).verdict == "false"


def replace_ledger(ledger: type[OpaqueLedger]) -> Callable[[World], None]:
    def install(world: World) -> None:
        world.make_application = lambda machine: ledger(  # type: ignore[method-assign]
            machine.store, machine.address
        )

    return install


class Forgetful(OpaqueLedger):
    """Takes an item a second time: it does not look at what is final already."""

    def add_one(self, item: bytes) -> tuple[Hash, str | None]:
        self.pool[keccak256(item)] = item
        return keccak256(item), None

    def is_included(self, identity: Hash, parent: Hash) -> bool:
        return False


def test_item_that_takes_effect_twice_is_found() -> None:
    for seed in range(20):
        outcome, _ = run_clients(seed, "network", on_world=replace_ledger(Forgetful))
        if outcome.verdict == "false":
            assert outcome.get_class() == EXACTLY_ONCE
            assert "took effect, expected" in outcome.findings[0].message
            return
    pytest.fail("not found")


class Inventive(OpaqueLedger):
    """Builds payloads with an item that nobody submitted."""

    def build(self, parent: Hash, now_ms: int, max_bytes: int) -> bytes:
        if keccak256(b"invented") not in self.included:
            self.pool[keccak256(b"invented")] = b"invented"
            self.pool_bytes += 8
        return super().build(parent, now_ms, max_bytes)


def test_item_that_nobody_submitted_is_found() -> None:
    outcome, _ = run_clients(on_world=replace_ledger(Inventive))
    assert outcome.get_class() == EXACTLY_ONCE
    assert "b'invented' is final, and nobody submitted it" in outcome.findings[0].message


def test_node_that_takes_back_what_it_showed_is_found() -> None:
    def install(world: World) -> None:
        stores = world.stores
        honest = stores.get_height
        asked = 0

        def get_height(store: Any) -> Height:
            nonlocal asked
            asked += 1
            return max(honest(store) - asked % 3, 0)

        stores.get_height = get_height  # type: ignore[method-assign]

    outcome, _ = run_clients(on_world=install)
    assert outcome.get_class() == SESSION


def test_answer_that_comes_before_the_item_is_final_is_found() -> None:
    def install(world: World) -> None:
        clients = world.clients
        assert clients is not None
        send = clients.send

        def send_and_believe(request: Any, machine: Any) -> None:
            send(request, machine)
            if not request.settled and len(clients.requests) % 3 == 0:
                clients.settle(request, machine, 1)

        clients.send = send_and_believe  # type: ignore[method-assign]

    # The hook is installed once the clients are there.
    def later(world: World) -> None:
        world.after(1_000_000, install, world)

    found = set()
    for seed in range(10):
        outcome, _ = run_clients(seed, "network", on_world=later)
        found.add(outcome.get_class())
    assert found <= {"", REAL_TIME, EXACTLY_ONCE}
    assert REAL_TIME in found


def make_ledger_file(gas: str) -> bytes:
    return make_genesis(
        chain_id=7,
        engine="tendermint",
        gas=gas,
        members=[Member(b"\x11" * 20, 1)],
        balances={},
        gas_limit=30_000_000,
        timestamp=0,
    )


@pytest.mark.parametrize("gas", ["free", "fees"])
def test_transfers_are_what_the_ledger_takes(gas: str) -> None:
    genesis = fund(make_ledger_file(gas))
    wallet = Wallet(genesis)
    ledger = _kernel.Ledger.open(None, genesis)
    pool = _kernel.Pool(ledger)
    sent = [wallet.transfer(3, 0, 5), wallet.transfer(3, 1, 6), wallet.transfer(ACCOUNTS - 1, 0, 7)]
    assert pool.add([raw for _, raw in sent]) == [(identity, None) for identity, _ in sent]
    view = ledger.view()
    assert [view.balance(0, account) for account in wallet.accounts] == [FUNDS] * ACCOUNTS


def test_wrong_balance_is_found() -> None:
    genesis = fund(make_ledger_file("free"))
    wallet, ledger = Wallet(genesis), _kernel.Ledger.open(None, genesis)
    assert find_balance_faults(ledger, wallet, []) == []
    faults = find_balance_faults(ledger, wallet, [(0, 5)])
    assert [fault.split(":")[0] for fault in faults] == [
        f"account 0x{account.hex()}" for account in wallet.accounts[:2]
    ]


def test_balances_are_those_of_the_last_final_block() -> None:
    """What blocks above it hold, as of proof of work, is in no order of final items yet."""
    genesis = fund(make_ledger_file("free"))
    wallet, ledger = Wallet(genesis), _kernel.Ledger.open(None, genesis)
    pool, start = _kernel.Pool(ledger), ledger.genesis_hash
    pool.add([wallet.transfer(3, 0, 5)[1]])
    body = pool.take(start, 1 << 16, 30_000_000)
    payload = compose(start, 1_700_000_000_000, bytes(20), body)
    executed = ledger.execute(start, [payload], bytes(32))
    ledger.adopt(executed.hash, 0)
    ledger.commit()
    assert (ledger.view().head(), ledger.durable()) == (1, 0)
    assert find_balance_faults(ledger, wallet, []) == []


def test_ledger_with_fees_runs_too() -> None:
    members = make_plan().machines
    genesis = make_genesis(
        chain_id=7,
        engine="tendermint",
        gas="fees",
        members=[Member(m.address, 1) for m in members],
        balances={b"\x77" * 20: 10**20},
        gas_limit=30_000_000,
        timestamp=0,
    )
    outcome, _ = run_clients(application="ethereum", genesis=genesis, duration_ms=1500)
    assert (outcome.verdict, outcome.findings) == ("true", [])
    assert outcome.counters["requests ok"] > 3


def test_run_in_which_nobody_is_honest_in_the_end_is_judged_all_the_same() -> None:
    def on_world(world: World) -> None:
        def taint() -> None:
            for machine in world.machines:
                machine.tainted = True

        world.after(SECOND, taint)

    plan: dict[str, Any] = {"profile": msgspec.structs.replace(get_profile("none"), unbounded=True)}
    outcome, clients = run_clients(on_world=on_world, duration_ms=2000, **plan)
    assert outcome.verdict == "true"
    assert clients.requests
