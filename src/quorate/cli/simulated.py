"""What `sim`, `replay` and their kin run: a network's own files, as a plan for the simulator.

The simulated network has the members, powers, engine and block settings of its files. Its keys are
never the validators' own: simulated signatures need none, and `--signatures real` makes new ones.
"""

import difflib
import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeVar

import click
import msgspec
from msgspec import Struct

from quorate.base.errors import Corrupt, Invalid
from quorate.base.types import Member
from quorate.cli.devnet import MAX_VALIDATORS
from quorate.cli.local import read_consensus
from quorate.cli.options import option
from quorate.cli.output import EXIT_CONFIG, EXIT_USAGE, Problem, emit_table, fail
from quorate.consensus import ENGINES
from quorate.consensus.keys import SecpKeys
from quorate.crypto.hashes import keccak256
from quorate.ledger.genesis import VALIDATORS, compute_validator_storage
from quorate.ledger.keyvalue import ETHEREUM
from quorate.runtime.config import FILE_NAME, Network, load_network
from quorate.simulator.detectors import DETECTORS, make_settings
from quorate.simulator.forks import SHAPES, make_forks
from quorate.simulator.plan import PROFILES, MemberPlan, Plan, get_profile
from quorate.simulator.timing import AnyTiming, parse_timing

__all__ = ["Setup", "build_plan", "format_setup", "setup_options"]

F = TypeVar("F", bound=Callable[..., Any])


class Setup(Struct, frozen=True, kw_only=True):
    """What a command line asks for; `setup_options` adds these options to a command."""

    network: Path | None = None
    validators: int | None = None
    engine: str | None = None
    faults: str = "default"
    ledger: bool = False
    application: str = ""
    signatures: Literal["simulated", "real"] = "simulated"
    bug: str = ""
    duration_ms: int = 10_000
    timing: str = ""
    detector: str = ""
    detector_settings: str = ""
    branches: int = 1


DEFAULTS = Setup()
DEFAULT_VALIDATORS = 4


def setup_options(function: F) -> F:
    """Add the argument NETWORK and the options of `Setup`; the command takes them as `**asked`."""
    for add in reversed(
        (
            click.argument(
                "network",
                metavar="[NETWORK.toml]",
                required=False,
                type=click.Path(exists=True, path_type=Path),
            ),
            option(
                "--validators",
                type=click.IntRange(1, MAX_VALIDATORS),
                default=None,
                show_default=False,
                help=f"How many, without a network's file.  [default: {DEFAULT_VALIDATORS}]",
            ),
            option(
                "--engine",
                type=click.Choice(list(ENGINES)),
                default=None,
                show_default=False,
                help="How they agree.  [default: the file's, else tendermint]",
            ),
            option(
                "--faults",
                type=click.Choice(list(PROFILES)),
                default=DEFAULTS.faults,
                help="Which faults happen.",
            ),
            option(
                "--ledger/--light",
                "ledger",
                default=DEFAULTS.ledger,
                help="Execute Ethereum blocks from the network's genesis, or agree on opaque "
                "items, which is many times as fast.",
            ),
            option(
                "--application",
                metavar="NAME",
                default=DEFAULTS.application,
                show_default=False,
                callback=check_named,
                help="Execute keyvalue, with clients whose answers must be linearizable, or "
                "package.module:Class of your own, with the calls that its `example` gives.",
            ),
            option(
                "--signatures",
                type=click.Choice(["simulated", "real"]),
                default=DEFAULTS.signatures,
                help="Tokens that name their signer, or secp256k1 with keys made for the run.",
            ),
            option(
                "--bug",
                metavar="NAME",
                default=DEFAULTS.bug,
                show_default=False,
                help="Put a known bug back; ? lists them.",
            ),
            option(
                "--duration-ms",
                type=click.IntRange(1, 86_400_000),
                default=DEFAULTS.duration_ms,
                help="Virtual time in which faults happen, before all must heal.",
            ),
            *make_run_options(),
        )
    ):
        function = add(function)
    return function


def make_run_options() -> tuple[Callable[[F], F], ...]:
    """Return the options that say how a run is timed, measured and shared."""
    return (
        option(
            "--timing",
            metavar="MODEL",
            default=DEFAULTS.timing,
            show_default=False,
            help="What the network promises in spite of the faults: synchronous:DELTA, "
            "partial:DELTA,GST[,LATEST-GST], asynchronous:LATEST or lossy:PERMILLE,DELTA, in "
            "milliseconds.  [default: nothing until faults end]",
        ),
        option(
            "--detector",
            metavar="NAME",
            default=DEFAULTS.detector,
            show_default=False,
            help="Run a failure detector beside every node, and measure it: "
            f"{', '.join(DETECTORS)}, or package.module:Class of your own.",
        ),
        option(
            "--detector-settings",
            metavar="JSON",
            default=DEFAULTS.detector_settings,
            show_default=False,
            help="Settings of the detector, as an object of JSON.",
        ),
        option(
            "--branches",
            metavar="K",
            type=int,
            default=DEFAULTS.branches,
            callback=check_branches,
            help="Let K seeds in a row share their beginning and part in the middle of the "
            f"faults: more ends for the same events. {', '.join(map(str, SHAPES))}; 1: each "
            "seed is a run of its own.",
        ),
    )


def format_setup(setup: Setup) -> str:
    """Return the words of a command line that ask for this again; begins with a space unless
    empty.
    """
    words = []
    if setup.network is not None:
        words.append(shlex.quote(str(setup.network)))
    for name in (
        "validators",
        "engine",
        "faults",
        "application",
        "signatures",
        "bug",
        "duration_ms",
        "timing",
        "detector",
        "detector_settings",
        "branches",
    ):
        value = getattr(setup, name) or ""
        if value != (getattr(DEFAULTS, name) or ""):
            words.append(f"--{name.replace('_', '-')} {shlex.quote(str(value))}")
    if setup.ledger:
        words.append("--ledger")
    return "".join(" " + word for word in words)


def check_branches(context: click.Context, parameter: click.Parameter, found: int) -> int:
    """Return a number of branches that there are forks for."""
    try:
        make_forks(found)
    except Invalid as error:
        raise click.BadParameter(str(error), context, parameter) from None
    return found


def check_named(_context: click.Context, _parameter: click.Parameter, found: str) -> str:
    """Return the name of an application that runs can make calls of, or nothing."""
    if not found or found == ETHEREUM:
        return found
    from quorate.ledger.keyvalue import open_machine

    machine = open_machine(found)
    if machine is not None and not machine.direct and machine.example(lambda _: 0) is None:
        fail(
            f"--application {found}: it gives no `example` of a call, expected one for clients to "
            "make (docs/own-application.md, step 5)",
            EXIT_USAGE,
        )
    return found


def build_plan(setup: Setup, seed: int) -> Plan:
    """Return the plan of one run. Raises Problem, one line for people."""
    check_bug(setup.bug)
    network = None if setup.network is None else read_network(setup.network)
    if network is not None and setup.validators is not None:
        fail(
            f"--validators {setup.validators}: {setup.network} says how many there are", EXIT_USAGE
        )
    if network is None:
        count = setup.validators or DEFAULT_VALIDATORS
        name, engine = "default", setup.engine or "tendermint"
        machines = [
            MemberPlan(f"validator-{i}", address, 1)
            for i, address in enumerate(sorted(keccak256(b"%d" % i)[12:] for i in range(count)))
        ]
        genesis = b""
    else:
        assert setup.network is not None
        name, engine = network.name, setup.engine or network.engine
        machines, genesis = read_members(network, get_file(setup.network), setup)
    if engine not in ENGINES:
        fail(f"engine: found {engine!r}, expected one of {', '.join(ENGINES)}", EXIT_CONFIG)
    needed = check_bug(setup.bug, engine)
    if needed and setup.application not in ("", needed):
        fail(f"--bug {setup.bug}: one of {needed}, found {setup.application}", EXIT_USAGE)
    if setup.signatures == "real":
        machines = [give_key(machine) for machine in machines]
        genesis = replace_members(genesis, machines)
    more = {} if network is None else read_settings(network, engine)
    named = ETHEREUM if network is None else network.application
    asked = setup.application or needed
    application = asked or (named if setup.ledger else "opaque")
    return Plan(
        seed=seed,
        machines=machines,
        name=name,
        engine=engine,
        application=application,
        genesis=b"" if application == "opaque" or asked else genesis,
        signatures=setup.signatures,
        profile=get_profile(setup.faults),
        duration_ms=setup.duration_ms,
        bug=setup.bug,
        timing=read_timing(setup.timing),
        detector=setup.detector,
        detector_settings=read_detector(setup.detector, setup.detector_settings),
        forks=make_forks(setup.branches),
        **more,
    )


def read_timing(text: str) -> AnyTiming | None:
    """Return the timing model of an option, None if there is none."""
    try:
        return parse_timing(text) if text else None
    except Invalid as error:
        fail(f"--timing: {error}", EXIT_USAGE)


def read_detector(name: str, text: str) -> dict[str, Any]:
    """Return the settings of a detector; refuse one that there is not, and settings it has not."""
    if text and not name:
        fail("--detector-settings: expected --detector as well", EXIT_USAGE)
    try:
        settings = msgspec.json.decode(text or "{}", type=dict[str, Any])
    except msgspec.DecodeError as error:
        fail(f"--detector-settings: expected an object of JSON: {error}", EXIT_USAGE)
    try:
        if name:
            make_settings(name, settings)
    except Invalid as error:
        fail(f"--detector: {error}", EXIT_USAGE)
    return settings


def check_bug(name: str, engine: str = "") -> str:
    """Refuse a bug that is unknown, or that the engine cannot have; `?` lists all and ends. Return
    the application that it is one of, if it is not one of any.
    """
    from quorate.simulator.bugs import BUGS, load

    load()
    if name == "?":
        emit_table(
            ["bug", "engine", "breaks", "what is wrong"],
            [[b.name, b.engine or "any", b.breaks, b.title] for _, b in sorted(BUGS.items())],
        )
        raise click.exceptions.Exit(0)
    if name and name not in BUGS:
        near = [found for found in sorted(BUGS) if found.startswith(name.lower())]
        near = near or difflib.get_close_matches(name, sorted(BUGS), n=3, cutoff=0.4)
        meant = f"did you mean {' or '.join(near)}? " if near else ""
        fail(f"--bug {name}: unknown; {meant}--bug ? lists all", EXIT_USAGE)
    if name and engine and BUGS[name].engine not in ("", engine):
        fail(f"--bug {name}: one of {BUGS[name].engine}, found --engine {engine}", EXIT_USAGE)
    return BUGS[name].application if name else ""


def get_file(path: Path) -> Path:
    """Return the file of a network that is named by its file or folder."""
    return path / FILE_NAME if path.is_dir() else path


def read_network(path: Path) -> Network:
    try:
        return load_network(get_file(path))
    except Invalid as error:
        raise Problem(str(error), EXIT_CONFIG) from None


def read_members(network: Network, file: Path, setup: Setup) -> tuple[list[MemberPlan], bytes]:
    """Return the machines of a network and its genesis file.

    Members are those of the genesis file; a validator that came later starts as a follower. Without
    a genesis file, which the light application does not need, all are members.
    """
    path = file.parent / network.genesis
    if not path.exists():
        if setup.ledger:
            fail(f"{path}: not there, expected the network's genesis file", EXIT_CONFIG)
        return [MemberPlan(v.name, v.identity, v.power) for v in network.validators], b""
    try:
        consensus = read_consensus(path)
        powers = {bytes.fromhex(v["address"][2:]): int(v["power"]) for v in consensus["validators"]}
    except (Invalid, Corrupt) as error:
        raise Problem(str(error), EXIT_CONFIG) from None
    except (KeyError, TypeError, ValueError) as error:
        fail(f"{path}: config.quorate.validators cannot be read ({error!r})", EXIT_CONFIG)
    if setup.engine is None and consensus.get("engine") != network.engine:
        fail(
            f"{file}: engine: found {network.engine!r}, expected {consensus.get('engine')!r} "
            f"as in {path.name}",
            EXIT_CONFIG,
        )
    known = {v.identity for v in network.validators}
    for address in powers:
        if address not in known:
            fail(f"{path}: validator 0x{address.hex()} is not in {file.name}", EXIT_CONFIG)
    return [
        MemberPlan(v.name, v.identity, powers.get(v.identity, 0)) for v in network.validators
    ], path.read_bytes()


def read_settings(network: Network, engine: str) -> dict[str, Any]:
    """Return the settings of node and engine, as validators take them from the file."""
    engine_settings = network.engine_settings if engine == network.engine else {}
    kind = ENGINES[engine].settings
    unknown = set(engine_settings) - set(kind.__struct_fields__)
    if unknown:
        names = ", ".join(kind.__struct_fields__)
        fail(f"engine_settings.{min(unknown)}: unknown key, expected one of {names}", EXIT_CONFIG)
    try:
        msgspec.convert(engine_settings, kind)
    except msgspec.ValidationError as error:
        fail(f"engine_settings: {error}", EXIT_CONFIG)
    blocks = network.blocks
    return {
        "engine_settings": engine_settings,
        "node_settings": {
            "block_time_ms": blocks.block_time_ms,
            "heartbeat_ms": blocks.heartbeat_ms,
            "certify_ms": blocks.certify_ms,
            "max_payload_bytes": blocks.max_bytes,
            "max_frame_bytes": network.peers.max_frame_bytes,
        },
    }


def give_key(machine: MemberPlan) -> MemberPlan:
    """Return the same machine with a key of its own, made from its name."""
    secret = keccak256(b"simulated key of " + machine.name.encode())
    return msgspec.structs.replace(machine, address=SecpKeys(secret).address, secret=secret)


def replace_members(genesis: bytes, machines: list[MemberPlan]) -> bytes:
    """Return a genesis file with these members in place of its own."""
    if not genesis:
        return b""
    members = [Member(m.address, m.power) for m in machines if m.power]
    tree = json.loads(genesis)
    tree["config"]["quorate"]["validators"] = [
        {"address": "0x" + m.address.hex(), "power": m.power} for m in sorted(members)
    ]
    tree["alloc"][VALIDATORS.hex()]["storage"] = {
        "0x" + slot.hex(): "0x" + value.hex()
        for slot, value in compute_validator_storage(members).items()
    }
    return json.dumps(tree).encode()
