"""What clients of a key-value network were told is kept by journals while no store has it yet."""

from typing import Any

import pytest

from quorate.ledger.application import Executed
from quorate.node.interpreter import Interpreter
from quorate.simulator.machine import Machine
from quorate.simulator.scenarios.crashes import PARTIAL, start
from quorate.simulator.scenarios.stage import Play, Stage
from quorate.simulator.world import World

LATE = {"commit_ms": 60_000, "commit_heights": 1000, "max_uncommitted": 1000}
"""The store is written long after all that happens here."""
HASTY = {"checkpoint_heights": 1, "checkpoint_bytes": 1}
"""The journal is cut as soon as it may be."""
FIRST = 10_000


class Told:
    """A network of three, and what its clients were told."""

    def __init__(self, seed: int) -> None:
        self.answers: dict[bytes, int] = {}
        """Identities of operations, and at which machine they were answered."""
        self.play: Play = start(
            Stage(True, seed, PARTIAL),
            3,
            application="keyvalue",
            on_world=self.listen,
            node_settings=LATE,
            engine_settings=HASTY,
        )

    def listen(self, world: World) -> None:
        def on_final(machine: Machine, executed: Executed) -> None:
            # As a validator answers: when a height is final, before anything else is done with it.
            block = machine.store.block(executed.block)
            for identity, *_ in block.answers:
                self.answers.setdefault(identity, machine.index)

        world.on_final.append(on_final)

    def put(self, count: int, pause_ms: int) -> None:
        for number in range(count):
            _, item = self.play.world.stores.make_item(FIRST + number, 0, 0)
            self.play.submit(number % 3, item)
            self.play.run(pause_ms)

    def lose_power(self) -> None:
        for index in range(3):
            self.play.faults.crash(index)
        assert [machine.store.durable() for machine in self.play.machines] == [0, 0, 0]
        for index in range(3):
            self.play.faults.start(index)

    def find_lost(self) -> list[bytes]:
        """Return what was told and is nowhere, once the network has come to rest."""
        play = self.play
        play.run(20_000, lambda: len(set(play.get_heights())) == 1 and min(play.get_heights()) > 0)
        play.run(5_000)
        stores = [machine.store for machine in play.machines]
        numbers = {i: int.from_bytes(i[16:], "big") for i in self.answers}
        return [
            identity
            for identity, number in numbers.items()
            if any(store.result(identity[:16], number) is None for store in stores)
        ]


@pytest.mark.parametrize("seed", range(4))
def test_what_was_told_survives_a_loss_of_power_before_any_store_was_written(seed: int) -> None:
    told = Told(seed)
    told.put(12, 7 + 13 * seed)
    assert len(told.answers) >= 8
    told.lose_power()
    assert told.find_lost() == []
    # And once more, with what came back from journals alone.
    told.put(4, 20)
    told.lose_power()
    assert told.find_lost() == []
    assert told.play.judge().verdict == "true"


def test_a_journal_that_is_cut_before_the_store_has_it_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cut = Interpreter.cut

    def cut_at_once(self: Interpreter) -> bool:
        self.durable, durable = 1 << 60, self.durable
        try:
            return cut(self)
        finally:
            self.durable = durable

    monkeypatch.setattr(Interpreter, "cut", cut_at_once)
    told = Told(0)
    told.put(12, 20)
    assert told.answers
    told.lose_power()
    machines: list[Any] = told.play.machines
    assert told.find_lost() or any(machine.failed or machine.refused for machine in machines)
