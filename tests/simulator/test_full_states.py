"""States of the real ledgers that are taken over, among members that prune, crash and lie."""

from collections.abc import Callable
from typing import Any

import pytest

from quorate.ledger.application import Snapshot
from quorate.ledger.ethereum import EthereumLedger
from quorate.ledger.keyvalue import KeyValueLedger
from quorate.simulator.run import run
from quorate.simulator.scenarios.crashes import PARTIAL, start
from quorate.simulator.scenarios.stage import Play, Stage
from quorate.simulator.world import World
from simulator.networks import make_plan

FAR = {"state_interval": 4, "state_gap": 4, "state_chunk_bytes": 200, "sync_timeout_ms": 200}
BOTH = pytest.mark.parametrize("application", ["ethereum", "keyvalue"])
FIRST = 10_000
ACCOUNT = 5


class Far:
    """A network of three whose last member missed some heights and is back."""

    def __init__(
        self,
        application: str,
        *,
        heights: int = 20,
        on_world: Callable[[World], None] | None = None,
        **settings: Any,
    ) -> None:
        self.number, self.application = 0, application
        self.play: Play = start(
            Stage(True, 1, PARTIAL),
            3,
            application=application,
            on_world=on_world,
            node_settings={**FAR, **settings},
        )
        self.machines, self.faults = self.play.machines, self.play.faults
        self.faults.crash(2)
        self.go_on(heights)
        self.faults.start(2)

    def go_on(self, heights: int) -> None:
        """Make some heights at the first member."""
        for _ in range(heights):
            # Not what is asked for at the end to see progress, and no money is moved.
            stores = self.play.world.stores
            number = 0 if self.application == "ethereum" else FIRST + self.number
            _, item = stores.make_item(number, ACCOUNT, self.number)
            self.number += 1
            self.play.submit(0, item)
            self.play.run(60)

    def count(self, name: str, index: int = 2) -> int:
        node = self.machines[index].node
        return 0 if node is None else node.counters.get(name, 0)

    def catch_up(self) -> bool:
        play = self.play
        return play.run(20_000, lambda: play.get_height(2) >= play.get_height(0))

    def check_same(self, *, progress: bool = True) -> None:
        """The last member has the state of the others, executes as they do, and is judged well."""
        play, machines = self.play, self.machines
        self.go_on(3)
        assert play.run(5_000, lambda: len(set(play.get_heights())) == 1)
        height = min(machine.store.durable() for machine in machines)
        blocks = [machine.store.block(height) for machine in machines]
        assert len({block.state_root for block in blocks if block}) == 1
        assert None not in blocks
        assert play.judge(progress=progress).verdict == "true"


@BOTH
def test_a_member_far_behind_takes_over_the_state(application: str) -> None:
    far = Far(application)
    assert far.catch_up()
    assert far.count("states_taken") == 1
    assert far.count("sync_heights") < 8
    late = far.machines[2].application
    assert late.first_held() > 10
    assert late.decision(5) is None
    far.check_same()
    # It can be restarted, and is needed for a majority.
    far.faults.crash(2)
    far.faults.start(2)
    far.play.run(1_000)
    far.faults.crash(1)
    far.go_on(3)
    far.faults.start(1)
    assert far.play.run(20_000, lambda: len(set(far.play.get_heights())) == 1)
    far.check_same()


def test_a_jump_tells_what_became_of_operations_that_wait() -> None:
    """One was executed elsewhere while the member was away; somebody sends it to this one too."""
    far = Far("keyvalue")
    _, twice = far.play.world.stores.make_item(FIRST + 3, ACCOUNT, 3)
    application = far.machines[2].application
    assert isinstance(application, KeyValueLedger)
    assert application.add([twice])[0][1] is None
    told: list[int] = []
    jumps: list[int] = []
    far.play.world.on_installed.append(lambda _, executed: jumps.append(executed.height))
    node = far.machines[2].node
    assert node is not None
    node.execution.on_answers = lambda executed: told.append(executed.height)
    assert far.catch_up()
    assert far.count("states_taken") == 1
    assert told[0] == jumps[0] > 10
    assert [(identity, fate[0]) for identity, fate in application.fates] == [(twice[1:25], 0)]
    far.check_same()


@BOTH
@pytest.mark.parametrize("chunks", [1, 4])
def test_a_crash_while_chunks_come_loses_none_of_them(application: str, chunks: int) -> None:
    # So few that the leader's log does not bring everything before.
    size = 2000 if application == "ethereum" else 400
    far = Far(application, sync_requests=1, state_chunk_bytes=size)
    assert far.play.run(5_000, lambda: far.count("chunks_fetched") >= chunks)
    assert far.machines[2].store.durable() < 5
    far.faults.crash(2)
    far.faults.start(2)
    assert far.play.run(30_000, lambda: far.count("states_taken") == 1)
    assert far.count("chunks_found") >= chunks - 1
    far.check_same()


@pytest.mark.parametrize("gap", [0, 1000])
def test_a_newcomer_joins_where_everybody_has_pruned(gap: int) -> None:
    history = {"state_history": 8, "block_history": 8, "prune_every": 1}
    far = Far("ethereum", heights=40, state_gap=gap, **history)
    assert far.machines[0].application.first_held() > 20
    assert far.catch_up()
    assert far.count("states_taken") == 1
    # To judge whose items came when takes a member that has all blocks.
    far.check_same(progress=False)
    # What nobody downloads any more is let go.
    far.play.run(700_000)
    far.go_on(30)
    far.play.run(5_000)
    for index in range(3):
        machine = far.machines[index]
        assert machine.application.first_held() > machine.store.durable() - 30


def use(world: World, index: int, kind: dict[type[Any], type[Any]]) -> None:
    """Let one machine's application be of another class."""
    make = world.make_application

    def make_application(machine: Any) -> Any:
        application = make(machine)
        if machine.index == index:
            application.__class__ = kind[type(application)]
        return application

    world.make_application = make_application  # type: ignore[method-assign]


class Spoils:
    """What it serves is not what it said."""

    __slots__ = ()

    def export_state(self, snapshot: Snapshot, number: int) -> bytes | None:
        chunk: bytes | None = super().export_state(snapshot, number)  # type: ignore[misc]
        return chunk and chunk[:-1] + bytes((chunk[-1] ^ 1,))


class SpoiltLedger(Spoils, EthereumLedger):
    __slots__ = ()


class SpoiltKeys(Spoils, KeyValueLedger):
    __slots__ = ()


@BOTH
def test_whoever_spoils_chunks_is_left_out(application: str) -> None:
    kinds: dict[type[Any], type[Any]] = {
        EthereumLedger: SpoiltLedger,
        KeyValueLedger: SpoiltKeys,
    }
    far = Far(application, on_world=lambda world: use(world, 0, kinds), sync_requests=8)
    assert far.catch_up()
    assert far.count("states_taken") == 1
    node = far.machines[2].node
    assert node is not None
    if far.count("chunks_refused"):
        assert list(node.states.shunned) == [far.machines[0].address]
    far.check_same()


class Invents:
    """It offers a state that is not the block's."""

    __slots__ = ()

    def describe_state(self, height: int, chunk_bytes: int) -> Snapshot | None:
        found: Snapshot | None = super().describe_state(height - 1, chunk_bytes)  # type: ignore[misc]
        if found is None:
            return None
        members = [self.members(height + i) for i in range(3)]  # type: ignore[attr-defined]
        block = self.get_block(height)  # type: ignore[attr-defined]
        made = Snapshot(height, block.hash, members, found.chunks)
        self.described[height] = self.described[height - 1]  # type: ignore[attr-defined]
        self.described[height].snapshot = made  # type: ignore[attr-defined]
        return made


class InventedLedger(Invents, EthereumLedger):
    __slots__ = ()


class InventedKeys(Invents, KeyValueLedger):
    __slots__ = ()


@BOTH
def test_whoever_invents_a_state_is_left_out(application: str) -> None:
    kinds: dict[type[Any], type[Any]] = {
        EthereumLedger: InventedLedger,
        KeyValueLedger: InventedKeys,
    }
    far = Far(application, on_world=lambda world: use(world, 0, kinds))
    assert far.catch_up()
    far.check_same()
    node = far.machines[2].node
    assert node is not None
    if far.count("states_refused"):
        assert far.machines[0].address in node.states.shunned


@BOTH
def test_default_runs_take_over_states_and_break_nothing(application: str) -> None:
    taken = 0
    for seed in range(4):
        plan = make_plan(
            seed,
            "default",
            count=3,
            engine="raft",
            application=application,
            duration_ms=4000,
            node_settings={"state_interval": 2, "state_gap": 3, "state_chunk_bytes": 400},
        )
        outcome = run(plan)
        assert (outcome.verdict, outcome.findings) == ("true", [])
        taken += outcome.sometimes["state taken over"]
    assert taken > 0
