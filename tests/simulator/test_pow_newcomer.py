"""A node that follows a chain of work from its beginning asks for each block once, in runs."""

from collections import Counter
from typing import Any

from quorate.consensus.pow_types import MAX_BLOCKS, GetBlocks
from quorate.consensus.replica import Recalled
from quorate.simulator.network import Link
from quorate.simulator.scenarios.stage import Stage
from quorate.simulator.scenarios.work import SYNCHRONOUS, build, get_tree


def test_a_newcomer_asks_four_peers_for_each_final_block_once() -> None:
    play = build(Stage(True, 1, SYNCHRONOUS), 1, 1, 1, 1, 0, engine_settings={"final_depth": 16})
    play.machines[4].crash()
    play.run(150_000)
    others = get_tree(play, 0)
    final = others.root.height
    assert final > 200
    seen: Counter[str] = Counter()

    def look(link: Link, frame: bytes) -> bool:
        message: Any = play.world.decode(frame)
        if link.source.index == 4 and isinstance(message, GetBlocks):
            seen["requests"] += 1
            seen["places"] += len(message.places)
        if link.target.index == 4 and isinstance(message, Recalled):
            seen["blocks"] += sum(bool(d.payloads) for d in message.decisions)
        return False

    play.world.network.hear(look)
    play.machines[4].start()
    assert play.run(30_000, lambda: get_tree(play, 4).head.height >= others.head.height - 1)
    # Sixteen final blocks in a request, and those above them as they come.
    assert seen["requests"] <= final // MAX_BLOCKS + 40
    assert seen["places"] <= others.head.height + 40
    assert final <= seen["blocks"] <= final + 2 * MAX_BLOCKS
    for machine in play.machines[:4]:
        assert machine.node is not None
        counters = machine.node.get_counters()
        assert "dropped_requests" not in counters
        assert "engine_dropped_too_many_questions" not in counters
