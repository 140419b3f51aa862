"""Buggify: settings at the ends of what is legal, so that rare paths become common ones.

Each seed turns about a quarter of the knobs (Zhou and others, "FoundationDB", SIGMOD 2021, section
4). Every value here must leave a network correct and able to make progress: a run that fails with a
knob turned is a bug, or a bound that the setting ought to have.
"""

from typing import TYPE_CHECKING, Any

from quorate.base.types import Milliseconds
from quorate.node.settings import Settings

if TYPE_CHECKING:
    from quorate.simulator.tape import Tape
    from quorate.simulator.world import World

__all__ = ["choose_engine_settings", "choose_node_settings", "turn_knobs"]

NODE: dict[str, tuple[int, ...]] = {
    "block_time_ms": (20, 100, 400),
    "heartbeat_ms": (150, 1000),
    "certify_ms": (1, 50, 3000),
    "max_payload_bytes": (200, 4096),
    "gossip_ms": (1, 30, 300),
    "gossip_batch_bytes": (1, 512),
    "gossip_again_ms": (100, 4000),
    "seen_transactions": (2, 16),
    "seen_bytes": (64, 4096),
    "welcome_transactions": (20,),
    "peer_strikes": (3,),
    "peer_malformed": (1,),
    "tip_ms": (1, 400),
    "tip_again_ms": (100, 3000),
    "sync_patience_ms": (1, 1000),
    "sync_timeout_ms": (150, 6000),
    "sync_range": (1, 3),
    "sync_requests": (1, 16),
    "sync_reply_bytes": (1, 2000),
    "sync_buffer_bytes": (1, 4000),
    "serve_requests": (1,),
    "state_interval": (0, 1, 3),
    "state_gap": (0, 2, 5),
    "state_chunk_bytes": (80, 400),
    "commit_ms": (1, 60),
    "max_uncommitted": (1, 3),
    "max_waiting_effects": (16, 64),
}
ENGINES: dict[str, dict[str, tuple[int, ...]]] = {
    "tendermint": {
        "propose_ms": (40, 3000),
        "propose_step_ms": (20, 1000),
        "prevote_ms": (10, 1000),
        "prevote_step_ms": (20, 1000),
        "precommit_ms": (10, 1000),
        "precommit_step_ms": (20, 1000),
        "suspect_ms": (10, 1000),
        "status_ms": (20, 1000),
        "min_interval_ms": (30, 200),
        "checkpoint_heights": (1, 2, 5),
        "checkpoint_bytes": (1, 2000),
    },
    "raft": {
        "heartbeat_ms": (20, 150),
        "election_ms": (600, 3000),
        "max_append_bytes": (1, 4096),
        "checkpoint_heights": (1, 2, 5),
        "checkpoint_bytes": (1, 2000),
        "kept_entries": (1, 4),
    },
    "pow": {
        "interval_ms": (120, 1000),
        "window": (3, 72),
        "final_depth": (12, 80),
        "safe_depth": (0, 5),
        "refresh_ms": (0, 20),
        "future_ms": (500, 10_000),
        "announce_ms": (100, 4000),
        "request_ms": (50, 3000),
        "relay_peers": (0, 16),
        "checkpoint_heights": (1, 2, 5),
        "checkpoint_bytes": (1, 2000),
    },
}
APPLICATIONS: dict[str, dict[str, tuple[int, ...]]] = {
    "ethereum": {"state_history": (8, 9, 30), "prune_every": (1, 3)},
}
"""Of nodes whose application can forget."""
LEADING: dict[str, tuple[int, ...]] = {"forward": (1,)}
"""Of nodes whose engine has one leader; a yes or no."""
FAR_BEHIND: dict[str, int] = {"state_interval": 2, "state_gap": 3, "state_chunk_bytes": 200}
"""Of nodes whose engine takes over states: who is a little behind takes one over."""
HASTE: dict[str, dict[str, Milliseconds]] = {
    "tendermint": {
        "propose_ms": 200,
        "propose_step_ms": 100,
        "prevote_ms": 60,
        "prevote_step_ms": 40,
        "precommit_ms": 60,
        "precommit_step_ms": 40,
        "status_ms": 80,
        "checkpoint_heights": 10,
    },
    "raft": {"heartbeat_ms": 40, "election_ms": 300, "checkpoint_heights": 10},
    "pow": {
        "interval_ms": 250,
        "final_depth": 40,
        "refresh_ms": 100,
        "announce_ms": 800,
        "request_ms": 250,
        "checkpoint_heights": 10,
    },
}
"""Short timeouts: more rounds in the same time. Most seeds use them."""
SEGMENT_BYTES = (256, 1024)


def turn_knobs(world: "World") -> None:
    """Turn some knobs of a world, before its machines start. What its plan sets stays."""
    plan, tape = world.plan, world.tape
    permille = plan.profile.knobs
    if not permille:
        return
    node: dict[str, Any] = {}
    if plan.engine == "raft" and tape.stream("knob far behind").choose(3):
        node.update(FAR_BEHIND)
    node.update(choose_node_settings(tape, "knob", permille))
    node.update(choose(tape, "knob", APPLICATIONS.get(plan.application, {}), permille))
    if plan.engine == "raft":
        for name in choose(tape, "knob", LEADING, permille):
            # Where modules are compiled, an item of `dict[str, int]` is no bool any more.
            node[name] = True
    world.node_settings = Settings(**{**node, **plan.node_settings})
    engine: dict[str, Any] = {}
    if tape.stream("knob haste").choose(4):
        engine.update(HASTE.get(plan.engine, {}))
    engine.update(choose_engine_settings(tape, plan.engine, permille))
    world.engine_settings = {**engine, **world.engine_settings}
    world.set_difficulty()
    sizes = choose(tape, "knob", {"segment_bytes": SEGMENT_BYTES}, permille)
    world.segment_bytes = sizes.get("segment_bytes", world.segment_bytes)
    turned = len(node) + len(engine) + len(sizes)
    if turned:
        world.count("knobs turned", turned)


def choose_node_settings(tape: "Tape", prefix: str, permille: int) -> dict[str, int]:
    """Return settings of a node that differ from the defaults."""
    return choose(tape, prefix, NODE, permille)


def choose_engine_settings(tape: "Tape", engine: str, permille: int) -> dict[str, int]:
    """Return settings of an engine that differ from the defaults."""
    return choose(tape, "knob", ENGINES.get(engine, {}), permille)


def choose(
    tape: "Tape", prefix: str, table: dict[str, tuple[int, ...]], permille: int
) -> dict[str, int]:
    chosen = {}
    for name, extremes in table.items():
        stream = tape.stream(f"{prefix} {name}")
        turned = stream.chance(permille)
        value = extremes[stream.choose(len(extremes))]
        if turned:
            chosen[name] = value
    return chosen
