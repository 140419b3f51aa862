"""`quorate status` and `quorate why-stalled`: what a network does, and what it waits for."""

import json
import re
from pathlib import Path
from typing import Any

import click

from quorate.base.errors import Corrupt, Invalid
from quorate.base.types import Address, Hash
from quorate.cli import processes
from quorate.cli.local import Local, Observation, open_local
from quorate.cli.options import folder_option, format_option
from quorate.cli.output import DEV_WARNING, emit, emit_table, get_program, say, warn_of_engine
from quorate.consensus import ENGINES
from quorate.consensus.pow_difficulty import compute_reversal_probability, format_rate
from quorate.ledger.keyvalue import ETHEREUM

DURATION = re.compile(r"\b[0-9.]+ (ms|s|min)\b")
EXIT_DEGRADED = 1
EXIT_DOWN = 3
"""As `systemctl status` has it: a program that is not running."""


@click.command()
@folder_option
@format_option
def status(folder: Path, output: str) -> int:
    """Show height, round, step, peers, pool, lag, process and memory of every validator.

    Exit code 0: all run and answer; 1: some do not; 3: none runs.

    \b
    quorate status
    quorate status -o json | jq '.validators[].height'
    """
    local = open_local(folder)
    seen = local.observe()
    rows = [describe(local, observation, get_best(seen)) for observation in seen]
    if output == "json":
        network = local.network
        facts = {
            "network": network.name,
            "engine": network.engine,
            "cautions": ENGINES[network.engine].list_cautions(network.engine_settings),
            "development": is_development(local),
            "validators": rows,
        }
        emit(json.dumps(facts, indent=2))
    else:
        warn_of_engine(local.network.engine, local.network.engine_settings)
        if is_development(local):
            say(DEV_WARNING)
        show_table(rows, local.network.application)
        for line in describe_work(seen):
            emit(line)
        for observation in seen:
            if observation.error:
                say(f"{observation.validator.name}: {observation.error}")
    return judge(seen)


def is_development(local: Local) -> bool:
    """Whether the chain is one whose state anybody may change."""
    try:
        return local.read_consensus().get("dev") is True
    except (Corrupt, Invalid, OSError):
        return False


def describe_work(seen: list[Observation]) -> list[str]:
    """Return how strong a chain of work is, and how sure its blocks are; of others nothing."""
    told = [o.status for o in seen if o.status is not None and o.status.engine == "pow"]
    if not told:
        return []
    best = max(told, key=lambda status: status.latest)
    facts = best.facts
    if not facts:
        return []
    rate = facts["hashes_per_second"]
    lines = ["", f"Final up to height {best.height}, {facts['final_depth']} blocks below the tip."]
    if rate:
        lines.append(f"All miners together try about {format_rate(rate)}.")
    for name, depth in (("safe", facts["safe_depth"]), ("final", facts["final_depth"])):
        odds = " and ".join(
            f"{share:.0%} of the hash power with probability "
            f"{compute_reversal_probability(depth + 1, share):.2g}"
            for share in (0.1, 0.3)
        )
        lines.append(f"A block that is {name} ({depth} blocks over it) is reversed by {odds}.")
    return lines + sorted({f"Alarm: {status.alarm}." for status in told if status.alarm})


def judge(seen: list[Observation]) -> int:
    """Return the exit code for what was seen."""
    if all(o.pid is None for o in seen):
        return EXIT_DOWN
    return 0 if all(o.status is not None for o in seen) else EXIT_DEGRADED


def get_best(seen: list[Observation]) -> int:
    """Return the greatest height that any validator tells."""
    return max((o.status.latest for o in seen if o.status is not None), default=0)


def describe(local: Local, observation: Observation, best: int) -> dict[str, Any]:
    """Return what is known of one validator, ready for JSON."""
    validator, pid, found = observation.validator, observation.pid, observation.status
    row: dict[str, Any] = {
        "index": observation.index,
        "name": validator.name,
        "address": validator.address,
        "state": observation.state,
        "pid": pid,
        "memory_bytes": processes.read_memory(pid) if pid is not None else None,
        "rpc": f"http://{validator.rpc_host}:{validator.rpc_port}",
    }
    if found is None:
        return row
    situation = found.situation
    return row | {
        "height": found.latest,
        "final": found.height,
        "durable": found.durable,
        "block": "0x" + found.latest_block.hex(),
        "lag": best - found.latest,
        "syncing_to": found.syncing_to,
        "agreeing_on": situation.height,
        "round": situation.round,
        "step": situation.step,
        "leader": None if situation.leader is None else local.get_name(situation.leader),
        "peers": sum(peer.connected for peer in found.peers),
        "pool": {
            "ready": found.pool_ready,
            "queued": found.pool_queued,
            "bytes": found.pool_bytes,
        },
        "genesis": "0x" + found.genesis.hex(),
        "version": found.version,
        "counters": found.counters,
        "facts": found.facts,
        "alarm": found.alarm,
    }


def show_table(rows: list[dict[str, Any]], application: str) -> None:
    headers = ["validator", "state", "height", "round", "step", "peers", "pool", "lag", "pid"]
    cells = []
    for row in rows:
        pool = row.get("pool")
        texts = [row["name"], row["state"]]
        texts += [show(row.get(key)) for key in ("height", "round", "step", "peers")]
        texts.append("-" if pool is None else f"{pool['ready']}+{pool['queued']}")
        texts += [show(row.get("lag")), show(row["pid"])]
        memory = row["memory_bytes"]
        texts.append("-" if memory is None else f"{memory / (1 << 20):.0f} MiB")
        texts.append(row["rpc"])
        cells.append(texts)
    port = "JSON-RPC" if application == ETHEREUM else "clients"
    emit_table([*headers, "memory", port], cells)


def show(value: object) -> str:
    return "-" if value is None else str(value)


@click.command("why-stalled")
@folder_option
@format_option
def why_stalled(folder: Path, output: str) -> int:
    """Say in words which quorum is missing, who is silent and when the next timeout falls.

    Exit code 0: the network can agree; 1: it cannot; 3: no validator runs.

    \b
    quorate why-stalled
    """
    local = open_local(folder)
    seen = local.observe()
    explanation = explain(local, seen)
    if output == "json":
        emit(json.dumps(explanation, indent=2))
    else:
        for line in explanation["lines"]:
            emit(line)
    if all(o.pid is None for o in seen):
        return EXIT_DOWN
    return 0 if explanation["quorum"] else 1


def explain(local: Local, seen: list[Observation]) -> dict[str, Any]:
    """Return the answer: `quorum` (whether enough run), `absent` (names), `lines` (in words)."""
    engine = ENGINES[local.network.engine]
    if engine.open:
        return explain_open(local, seen)
    powers = {member.address: member.power for member in local.get_members(seen)}
    total = sum(powers.values())
    needed = engine.compute_needed(total)
    strangers = find_strangers(seen, powers)
    here = {o.validator.identity for o in seen if o.status is not None} - set(strangers)
    present = sum(power for address, power in powers.items() if address in here)
    places = {o.validator.identity: o.index for o in seen}
    away = sorted(set(powers) - here, key=lambda address: (places.get(address, len(seen)), address))
    absent = [local.get_name(address) for address in away]
    lines = [*describe_quorum(present, needed, total, absent)]
    lines += describe_absent(seen, absent, strangers)
    lines += describe_views(local, seen)
    lines += advise(seen, present >= needed, local.path)
    return {
        "quorum": present >= needed,
        "present": present,
        "needed": needed,
        "total": total,
        "absent": absent,
        "lines": lines,
    }


def explain_open(local: Local, seen: list[Observation]) -> dict[str, Any]:
    """Return the same where blocks need no votes: one node that mines is enough."""
    present = sum(o.status is not None for o in seen)
    mining = sum(o.status is not None and o.status.situation.step == "mining" for o in seen)
    absent = [o.validator.name for o in seen if o.status is None]
    lines = [f"Blocks need no votes: {present} of {len(seen)} nodes answer, {mining} of them mine."]
    if absent:
        lines[0] += f" Silent: {join(absent)}."
    lines += describe_absent(seen, absent, {})
    lines += describe_views(local, seen)
    lines += advise(seen, present > 0, local.path)
    return {
        "quorum": present > 0,
        "present": present,
        "needed": 1,
        "total": len(seen),
        "absent": absent,
        "lines": lines,
    }


def find_strangers(
    seen: list[Observation], powers: dict[Address, int]
) -> dict[Address, tuple[Hash, Hash]]:
    """Return who began with another genesis than most: address -> (its own, that of most)."""
    told = {o.validator.identity: o.status.genesis for o in seen if o.status is not None}
    tally: dict[Hash, int] = {}
    for address, genesis in told.items():
        tally[genesis] = tally.get(genesis, 0) + powers.get(address, 0)
    if len(tally) < 2:
        return {}
    usual = max(tally, key=lambda genesis: (tally[genesis], genesis))
    return {who: (genesis, usual) for who, genesis in told.items() if genesis != usual}


def describe_quorum(present: int, needed: int, total: int, absent: list[str]) -> list[str]:
    """Return the first line: is there a quorum at all?"""
    silent = f" Silent: {join(absent)}." if absent else ""
    if present == 0:
        return [f"No validator runs: 0 of {total} votes, a decision needs {needed}.{silent}"]
    if present < needed:
        return [
            f"The quorum is missing: {present} of {total} votes are here, "
            f"a decision needs {needed}.{silent}"
        ]
    if absent:
        return [
            f"There is a quorum: {present} of {total} votes are here, a decision needs {needed}."
            + silent
        ]
    return [f"All validators answer: {present} of {total} votes, a decision needs {needed}."]


def describe_absent(
    seen: list[Observation], absent: list[str], strangers: dict[Address, tuple[Hash, Hash]]
) -> list[str]:
    """Return a line for every validator that is away, with what is known of it."""
    lines: list[str] = []
    all_down = all(o.pid is None for o in seen)
    for observation in seen:
        name = observation.validator.name
        if name not in absent:
            continue
        if observation.pid is None and observation.error:
            lines.append(f"  {name}: it {observation.error}.")
        elif observation.pid is None:
            if not all_down:
                lines.append(f"  {name}: its process is down.")
        elif observation.validator.identity in strangers:
            found, usual = strangers[observation.validator.identity]
            lines.append(
                f"  {name}: its genesis block is 0x{found.hex()}, that of the others "
                f"0x{usual.hex()}; give it their genesis.json."
            )
        else:
            lines.append(f"  {name}: process {observation.pid} runs, but {observation.error}.")
    return lines


def describe_views(local: Local, seen: list[Observation]) -> list[str]:
    """Return what the validators say themselves, those of one opinion together."""
    opinions: dict[str, tuple[str, list[str]]] = {}
    for observation in seen:
        if observation.status is not None:
            text = name_addresses(local, observation.status.why_stalled)
            # Validators of one opinion still differ by milliseconds; the first one's are shown.
            opinion = opinions.setdefault(DURATION.sub("", text), (text, []))
            opinion[1].append(observation.validator.name)
    return [f"  {join(names)}: {text}" for text, names in opinions.values()]


def name_addresses(local: Local, text: str) -> str:
    """Put the names of validators where a node, which knows none, wrote addresses.

    A node numbers validators by their addresses; beside names that number would only mislead.
    """

    def name(found: re.Match[str]) -> str:
        address: Address = bytes.fromhex(found[1])
        return local.get_name(address) + (" (" if found[2] else "")

    return re.sub(r"0x([0-9a-fA-F]{40})(?![0-9a-fA-F])( \(validator \d+, )?", name, text)


def advise(seen: list[Observation], quorum: bool, folder: Path) -> list[str]:
    """Return what to do next."""
    where = "" if str(folder) == ".quorate" else f" --dir {folder}"
    down = [o for o in seen if o.pid is None]
    if len(down) == len(seen):
        return [f"Start them all: {get_program()} up --detach{where}"]
    if down and not quorum:
        return [f"Start one: {get_program()} start {down[0].index}{where}"]
    return []


def join(names: list[str]) -> str:
    """Return names as a sentence has them."""
    if len(names) < 2:
        return "".join(names)
    return ", ".join(names[:-1]) + " and " + names[-1]
