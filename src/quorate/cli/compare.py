"""`quorate compare`: engines side by side, under one workload and one script of faults."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import click
import msgspec
from msgspec import Struct

from quorate.base.errors import Invalid
from quorate.base.types import Milliseconds
from quorate.cli.compare_table import show_comparison
from quorate.cli.devnet import MAX_VALIDATORS
from quorate.cli.options import format_option, option
from quorate.cli.output import EXIT_CONFIG, EXIT_USAGE, Problem, Progress, emit, fail, say
from quorate.cli.simulated import Setup, build_plan
from quorate.consensus import ENGINES
from quorate.ledger.keyvalue import ETHEREUM
from quorate.simulator.compare.document import JOULES_PER_HASH, Comparison, Wishes
from quorate.simulator.compare.experiment import MAX_RATE, Conditions
from quorate.simulator.compare.latency import PRESETS, Latency, parse_latency
from quorate.simulator.compare.metered import Model
from quorate.simulator.compare.report import make_page
from quorate.simulator.compare.script import SCRIPTS, Script, parse_script
from quorate.simulator.compare.workload import (
    KEYVALUE_S,
    MAX_ITEMS,
    WORKLOADS,
    Workload,
    make_default_genesis,
    open_workload,
    read_items,
)
from quorate.simulator.plan import PROFILES, Plan, Profile

__all__ = ["compare"]

MAX_BYTES = 256 << 20
LEAST_S = 10
AFTER_S = 4
"""The load goes on for so long after the last fault, unless `--seconds` says otherwise."""
SEED = click.IntRange(0, (1 << 63) - 1)
COSTS = tuple(Model.__struct_fields__)


class Asked(Struct, frozen=True, kw_only=True):
    """What the command line asks for."""

    network: Path | None
    validators: int | None
    engines: str
    workload: str
    rate: float
    clients: int | None
    seconds: float | None
    faults: str
    latency: str
    cost: tuple[str, ...]
    setting: tuple[str, ...]
    joules_per_hash: float
    seed: int
    max_rate: int
    trials: bool
    real: bool


@click.command()
@click.argument(
    "network",
    metavar="[NETWORK.toml]",
    required=False,
    type=click.Path(exists=True, path_type=Path),
)
@option(
    "--engines",
    default=",".join(ENGINES),
    metavar="A,B,...",
    help="Which engines, separated by commas.",
)
@option(
    "--validators",
    type=click.IntRange(1, MAX_VALIDATORS),
    default=None,
    show_default=False,
    help="How many, without a network's file.  [default: 4]",
)
@option(
    "--workload",
    default="transfers",
    metavar="NAME|FILE",
    help=f"{', '.join(WORKLOADS)}, or a file of signed transactions, one on each line.",
)
@option(
    "--rate",
    type=click.FloatRange(0, 100_000, min_open=True),
    default=100.0,
    help="Items that become due in a second, whether or not answers come (open loop).",
)
@option(
    "--clients",
    type=click.IntRange(1, 10_000),
    default=None,
    show_default=False,
    help="Clients, each beside a member in turn.  [default: one for each member]",
)
@option(
    "--seconds",
    type=click.FloatRange(1, 3600),
    default=None,
    show_default=False,
    help="Virtual time in which items become due.  [default: until the last fault is over]",
)
@option(
    "--faults",
    default="standard",
    metavar="NAME|FILE",
    help=f"A script: {', '.join(SCRIPTS)}, or a TOML file of [[fault]]; or a profile of `quorate "
    "sim`, drawn by the seed.",
)
@option(
    "--latency",
    default="lan",
    metavar="NAME|FILE",
    help=f"Round trips: {', '.join(PRESETS)}, or a matrix as TOML or CSV.",
)
@option(
    "--cost",
    multiple=True,
    metavar="NAME=N",
    help=f"Change the model of costs: {', '.join(COSTS)}. May be given again.",
)
@option(
    "--setting",
    multiple=True,
    metavar="ENGINE.NAME=N",
    help="Change a setting of an engine, as pow.interval_ms=1000. May be given again.",
)
@option(
    "--joules-per-hash",
    type=click.FloatRange(0, 1),
    default=JOULES_PER_HASH,
    help="Of proof of work: 10 W for a million hashes a second, unless you know better.",
)
@option("--seed", type=SEED, default=1, help="Of arrivals, delays and draws.")
@option(
    "--max-rate",
    type=click.IntRange(0, 100_000),
    default=MAX_RATE,
    help="Where the search for the highest sustained rate ends; 0: no search.",
)
@option(
    "--trials/--no-trials",
    default=True,
    help="Try what each engine tolerates: crashes, a partition, liars.",
)
@option(
    "--real/--no-real",
    default=False,
    help="Also on real processes of this machine, on loopback, for as long as the load takes.",
)
@option(
    "--page",
    type=click.Path(dir_okay=False, path_type=Path),
    default=None,
    show_default=False,
    help="Write a page with plots, which needs nothing else.",
)
@option(
    "--json",
    "document_path",
    type=click.Path(dir_okay=False, path_type=Path),
    default=None,
    show_default=False,
    help="Write everything that was measured.",
)
@format_option
def compare(page: Path | None, document_path: Path | None, output: str, **asked: Any) -> int:
    """Measure engines under one workload and one script of faults, from one seed.

    In virtual time, with the same node code as in a real network, a matrix of round trips and a
    model of what computing costs. NETWORK.toml is a network's file or folder; without one, four
    validators are made up.

    Exit code 0: every engine did at least what it claims; 1: one did not; 2: not known.

    \b
    quorate compare                                          all engines, four validators
    quorate compare --latency continents --page out.html     across the world, with plots
    quorate compare --engines raft,tendermint --validators 7 --workload erc20
    quorate compare .quorate --faults faults.toml --latency offices.csv
    quorate compare --faults none --rate 1000 --no-trials --max-rate 0
    """
    wanted = Asked(**asked)
    comparison = prepare(wanted)
    run(comparison)
    document = comparison.make_document(format_command(wanted))
    if wanted.real:
        measure_real(comparison, document)
    write(document, page, document_path)
    if output == "json":
        emit(json.dumps(document, indent=1))
    else:
        show_comparison(document)
    return judge(document)


def run(comparison: Comparison) -> None:
    """Measure everything, and say what is under way."""
    steps = Progress(comparison.count_steps())
    try:
        for step in comparison.run():
            steps.enter(step)
            steps.show("")
    finally:
        steps.end()


def measure_real(comparison: Comparison, document: dict[str, Any]) -> None:
    """Measure the engines on real processes as well."""
    from quorate.cli.compare_real import run_real

    steps = Progress(len(comparison.bases))
    try:
        for step in run_real(
            comparison.bases, comparison.conditions, comparison.workload, document
        ):
            steps.enter(step)
            steps.show("")
    finally:
        steps.end()


def judge(document: dict[str, Any]) -> int:
    """Return the exit code: whether every engine kept what it claims."""
    verdicts = [
        run["verdict"]
        for found in document["engines"]
        for run in (found["quiet"], found["faulty"])
        if run is not None and not run["excused"]
    ]
    trials = [trial for found in document["engines"] for trial in found["trials"]]
    if "false" in verdicts or any(not t["as_claimed"] and t["seen"] != "not known" for t in trials):
        return 1
    return 2 if "unknown" in verdicts or any(t["seen"] == "not known" for t in trials) else 0


# ---- what was asked for


def prepare(asked: Asked) -> Comparison:
    """Return the comparison that a command line asks for. Raises Problem, one line for people."""
    bases = [make_base(asked, engine) for engine in read_engines(asked.engines)]
    script, profile = read_faults(asked.faults)
    seconds = asked.seconds
    if seconds is None:
        seconds = max(LEAST_S, script.get_end() / 1000 + AFTER_S)
    script = leave_out_late(script, round(seconds * 1000))
    if asked.rate * seconds > MAX_ITEMS:
        fail(f"--rate {asked.rate:g} for {seconds:g} s: expected at most {MAX_ITEMS} items", 2)
    if asked.workload == "keyvalue" and seconds > KEYVALUE_S:
        fail(f"--seconds {seconds:g}: expected at most {KEYVALUE_S} for keyvalue", EXIT_USAGE)
    workload = read_workload(asked, bases[0])
    members = len([m for m in bases[0].machines if m.power])
    conditions = Conditions(
        seed=asked.seed,
        rate=asked.rate,
        length_ms=round(seconds * 1000),
        clients=asked.clients or members,
        latency=read_latency(asked.latency),
        script=script,
        profile=profile,
        model=read_costs(asked.cost),
        settings=read_settings(asked.setting, bases),
    )
    if asked.real:
        check_real(asked, bases, conditions)
    is_file = asked.workload not in WORKLOADS
    wishes = Wishes(
        most=0 if is_file else asked.max_rate,
        trials=asked.trials,
        joules_per_hash=asked.joules_per_hash,
    )
    return Comparison(bases, conditions, workload, wishes)


def leave_out_late(script: Script, length_ms: Milliseconds) -> Script:
    """Return the faults that are over before the load is: what comes later strikes nobody."""
    late = [fault for fault in script.faults if fault.at_ms + fault.for_ms > length_ms]
    if late:
        words = ", ".join(f"{fault.kind} at {fault.at_ms / 1000:g} s" for fault in late)
        say(f"--seconds {length_ms / 1000:g}: leaves out what ends after the load: {words}")
    kept = tuple(fault for fault in script.faults if fault not in late)
    return msgspec.structs.replace(script, faults=kept)


def check_real(asked: Asked, bases: list[Plan], conditions: Conditions) -> None:
    """Refuse what real processes cannot do, before anything is measured."""
    from quorate.cli.compare_real import MAX_MEMBERS, check_pace

    base = bases[0]
    if asked.workload == "opaque":
        fail(f"--workload {asked.workload}: only simulated nodes run it, leave out --real", 2)
    for each in bases:
        check_pace(each, conditions.settings.get(each.engine, {}))
    if len(base.machines) > MAX_MEMBERS:
        fail(f"--real: {len(base.machines)} validators, expected at most {MAX_MEMBERS}", EXIT_USAGE)
    if asked.faults in PROFILES and asked.faults not in SCRIPTS:
        fail(f"--faults {asked.faults}: a profile is simulated; leave out --real", EXIT_USAGE)


def read_engines(text: str) -> list[str]:
    """Return the engines of an option, each once."""
    names = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    for name in names or [text]:
        if name not in ENGINES:
            fail(f"--engines: {name!r}, expected some of {', '.join(ENGINES)}", EXIT_USAGE)
    return names


def make_base(asked: Asked, engine: str) -> Plan:
    """Return the machines and settings of a network under one engine."""
    base = build_plan(
        Setup(
            network=asked.network,
            validators=asked.validators,
            engine=engine,
            ledger=WORKLOADS.get(asked.workload, ETHEREUM) == ETHEREUM,
            faults="none",
        ),
        asked.seed,
    )
    return msgspec.structs.replace(base, genesis=base.genesis or make_default_genesis(base))


def read_faults(text: str) -> tuple[Script, Profile | None]:
    """Return a script, and a profile if it is one."""
    if text in SCRIPTS:
        return SCRIPTS[text], None
    if text in PROFILES:
        return SCRIPTS["none"], PROFILES[text]
    expected = f"{', '.join(SCRIPTS)}, a profile ({', '.join(PROFILES)}) or a file"
    content = read_text("--faults", text, expected)
    try:
        return parse_script(content, text), None
    except Invalid as error:
        raise Problem(str(error), EXIT_CONFIG) from None


def read_latency(text: str) -> Latency:
    if text in PRESETS:
        return PRESETS[text]
    content = read_text("--latency", text, f"{', '.join(PRESETS)} or a file")
    try:
        return parse_latency(content, text)
    except Invalid as error:
        raise Problem(str(error), EXIT_CONFIG) from None


def read_workload(asked: Asked, base: Plan) -> Workload:
    name = asked.workload
    try:
        if name in WORKLOADS:
            return open_workload(name, base.genesis)
        content = read_text("--workload", name, f"{', '.join(WORKLOADS)} or a file")
        if asked.network is None:
            fail(f"--workload {name}: its transactions need the network's genesis: name it", 2)
        return open_workload(name, base.genesis, read_items(content, name))
    except Invalid as error:
        raise Problem(str(error), EXIT_CONFIG) from None


def read_text(flag: str, name: str, expected: str) -> str:
    """Return the text of a file that an option names."""
    path = Path(name)
    if not path.is_file():
        fail(f"{flag} {name}: expected {expected}", EXIT_USAGE)
    if path.stat().st_size > MAX_BYTES:
        fail(f"{name}: {path.stat().st_size} bytes, expected at most {MAX_BYTES}", EXIT_CONFIG)
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        fail(f"{name}: {error.reason} at byte {error.start}, expected UTF-8", EXIT_CONFIG)


def read_costs(words: tuple[str, ...]) -> Model:
    """Return the model of costs with what was changed."""
    changes: dict[str, int] = {}
    for word in words:
        match = re.fullmatch(r"([a-z_]+)=(\d{1,9})", word)
        if match is None or match[1] not in COSTS:
            fail(f"--cost {word}: expected {', '.join(COSTS)}, then = and a number", EXIT_USAGE)
        changes[match[1]] = int(match[2])
    model = msgspec.structs.replace(Model(), **changes)
    if not model.link_mbit:
        fail("--cost link_mbit=0: expected at least 1", EXIT_USAGE)
    return model


def read_settings(words: tuple[str, ...], bases: list[Plan]) -> dict[str, dict[str, int]]:
    """Return what was changed of engines' settings."""
    settings: dict[str, dict[str, int]] = {}
    for word in words:
        match = re.fullmatch(r"(\w+)\.(\w+)=(\d{1,18})", word)
        engine = None if match is None else ENGINES.get(match[1])
        names = () if engine is None else engine.settings.__struct_fields__
        if match is None or match[2] not in names:
            expected = f"{match[1]}.NAME=N with {', '.join(names)}" if names and match else ""
            fail(f"--setting {word}: expected {expected or 'ENGINE.NAME=N'}", EXIT_USAGE)
        settings.setdefault(match[1], {})[match[2]] = int(match[3])
    for base in bases:
        changed = {**base.engine_settings, **settings.get(base.engine, {})}
        try:
            msgspec.convert(changed, ENGINES[base.engine].settings, strict=False)
        except (Invalid, msgspec.ValidationError) as error:
            fail(f"--setting: {base.engine}: {error}", EXIT_USAGE)
    return settings


def format_command(asked: Asked) -> str:
    """Return the command line that asks for this again."""
    words = ["quorate compare"]
    if asked.network is not None:
        words.append(shlex.quote(str(asked.network)))
    defaults = {p.name: p.default for p in compare.params}
    for name in Asked.__struct_fields__:
        value = getattr(asked, name)
        if name in ("network", "cost", "setting") or value is None or value == defaults.get(name):
            continue
        if isinstance(value, bool):
            words.append(f"--{name}" if value else f"--no-{name}")
            continue
        shown = f"{value:g}" if isinstance(value, float) else str(value)
        words.append(f"--{name.replace('_', '-')} {shlex.quote(shown)}")
    words += [f"--cost {shlex.quote(word)}" for word in asked.cost]
    words += [f"--setting {shlex.quote(word)}" for word in asked.setting]
    return " ".join(words)


def write(document: dict[str, Any], page: Path | None, path: Path | None) -> None:
    """Write the files that were asked for."""
    try:
        if path is not None:
            path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
            say(f"Everything is in {path}.")
        if page is not None:
            page.write_text(make_page(document), encoding="utf-8")
            say(f"The plots are in {page}.")
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}")
