"""Run files: one run kept whole, plan and tape and what came of it, to be repeated anywhere.

A run file is JSON. Its tape is an object of streams; in a stream a negative number -k stands for
k zeros in a row, and zeros at the end are left out. Without a tape the plan's seed draws it. What
was expected (verdict, property, digest) is compared when the file is replayed, so a file also tells
whether the code it was made with is the code that runs.

`run_bytes` reads a tape from any bytes, for fuzzers.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import msgspec
from msgspec import Struct

from quorate import __version__
from quorate.base.errors import Invalid
from quorate.base.types import Nanoseconds
from quorate.consensus import ENGINES
from quorate.node.settings import Settings
from quorate.simulator.bugs import get_bug
from quorate.simulator.detectors import make_settings
from quorate.simulator.forks import get_first_seed, verify_forks
from quorate.simulator.plan import Plan
from quorate.simulator.run import run
from quorate.simulator.tape import MAX_CHOICES, Tape, strip_zeros
from quorate.simulator.tracer import Tracer
from quorate.simulator.verdict import Outcome, Verdict
from quorate.simulator.world import World

__all__ = [
    "MAX_FILE_BYTES",
    "Expected",
    "Recording",
    "check_plan",
    "compare",
    "decode_recording",
    "encode_recording",
    "expect",
    "list_streams",
    "make_tape",
    "read_bytes",
    "record",
    "replay",
    "run_bytes",
    "run_until",
]

FORMAT = "quorate run"
VERSION = 1
MAX_FILE_BYTES = 64 << 20
MAX_STREAMS = 100_000
MAX_VALUE = 1 << 63
MAX_MACHINES = 128
MAX_CLIENTS = 10_000
MAX_TIME_MS = 7 * 86_400_000
MAX_EVENTS = 200_000_000
EDIT_BYTES = 6
"""Of one choice in the input of a fuzzer."""


class Expected(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a run came to when it was kept."""

    verdict: Verdict
    property: str = ""
    """The property that failed first."""
    digest: str = ""
    """Empty: the tape was edited and not run again."""
    events: int = 0


class Recording(Struct, frozen=True, kw_only=True):
    """One run: what it is made of, and what came of it."""

    plan: Plan
    tape: dict[str, list[int]] | None = None
    """None: the plan's seed draws it."""
    expected: Expected | None = None
    program: str = __version__
    """The version that kept it."""


class File(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The layout of a run file."""

    format: Literal["quorate run"]
    version: int
    program: str = ""
    expected: Expected | None = None
    plan: Plan
    tape: dict[str, list[int]] | None = None


# ---- files


def encode_recording(recording: Recording) -> bytes:
    """Return a recording as the bytes of a run file, one stream a line."""
    head = {
        "format": FORMAT,
        "version": VERSION,
        "program": recording.program,
        "expected": recording.expected,
        "plan": recording.plan,
    }
    lines = [f"{encode(name)}: {encode(value)}" for name, value in head.items()]
    if recording.tape is None:
        return ("{\n" + ",\n".join([*lines, '"tape": null']) + "\n}\n").encode()
    streams = [f"  {encode(n)}: {encode(pack(v))}" for n, v in sorted(recording.tape.items())]
    tape = '"tape": {\n' + ",\n".join(streams) + "\n}" if streams else '"tape": {}'
    return ("{\n" + ",\n".join([*lines, tape]) + "\n}\n").encode()


def encode(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def decode_recording(data: bytes, name: str = "run file") -> Recording:
    """Read a run file. Raises Invalid with the name, what was found and what was expected."""
    if len(data) > MAX_FILE_BYTES:
        raise Invalid(f"{name}: {len(data)} bytes, expected at most {MAX_FILE_BYTES}")
    try:
        head = msgspec.json.decode(data)
    except msgspec.DecodeError as error:
        raise Invalid(f"{name}: not a run file, which is JSON: {error}") from None
    found = head.get("format") if isinstance(head, dict) else None
    if found != FORMAT:
        raise Invalid(f'{name}: format {found!r}, expected "{FORMAT}"')
    if head.get("version") != VERSION:
        raise Invalid(f"{name}: version {head.get('version')!r}, expected {VERSION}")
    try:
        file = msgspec.convert(head, File)
    except msgspec.ValidationError as error:
        raise Invalid(f"{name}: {error}") from None
    check_plan(file.plan, name)
    tape = None if file.tape is None else unpack(file.tape, name)
    return Recording(plan=file.plan, tape=tape, expected=file.expected, program=file.program)


def pack(values: Iterable[int]) -> list[int]:
    """Return choices with each row of zeros as one negative number, without those at the end."""
    packed: list[int] = []
    zeros = 0
    for value in values:
        if not value:
            zeros += 1
            continue
        if zeros:
            packed.append(-zeros)
            zeros = 0
        packed.append(value)
    return packed


def unpack(tape: Mapping[str, list[int]], name: str) -> dict[str, list[int]]:
    """Return the choices of packed streams. Raises Invalid for more than there may be."""
    if len(tape) > MAX_STREAMS:
        raise Invalid(f"{name}: {len(tape)} streams, expected at most {MAX_STREAMS}")
    total = 0
    streams: dict[str, list[int]] = {}
    for stream, packed in tape.items():
        total += sum(1 if value > 0 else -value for value in packed)
        if total > MAX_CHOICES:
            raise Invalid(f"{name}: {total} choices or more, expected at most {MAX_CHOICES}")
        values: list[int] = []
        for value in packed:
            if value > MAX_VALUE or value == 0:
                raise Invalid(
                    f"{name}: stream {stream!r}: choice {value}, expected -k for k zeros, "
                    f"or 1 to {MAX_VALUE}"
                )
            if value > 0:
                values.append(value)
            else:
                values += [0] * -value
        streams[stream] = strip_zeros(values)
    return streams


# ---- plans from outside


def check_plan(plan: Plan, name: str = "plan") -> None:
    """Verify what the types do not say of a plan that was read. Raises Invalid."""

    def check(thing: str, found: int, least: int, most: int) -> None:
        if not least <= found <= most:
            raise Invalid(f"{name}: {thing} {found}, expected {least} to {most}")

    if plan.engine not in ENGINES:
        raise Invalid(f"{name}: engine {plan.engine!r}, expected one of {', '.join(ENGINES)}")
    if plan.bug:
        get_bug(plan.bug)
    count = len(plan.machines)
    check("number of machines", count, 1, MAX_MACHINES)
    for i, machine in enumerate(plan.machines):
        check(f"machine {i}: bytes of address", len(machine.address), 20, 20)
        check(f"machine {i}: power", machine.power, 0, 1 << 53)
        if plan.signatures == "real":
            check(f"machine {i}: bytes of secret", len(machine.secret), 32, 32)
    check("power of all machines", sum(m.power for m in plan.machines), 1, 1 << 60)
    most_ns = MAX_TIME_MS * 1_000_000
    check("base_delay_ns", plan.base_delay_ns, 0, most_ns)
    check("jitter_ns", plan.jitter_ns, 0, most_ns)
    check("sync_ns", plan.sync_ns, 0, most_ns)
    check("work_ns", plan.work_ns, 0, most_ns)
    check("duration_ms", plan.duration_ms, 1, MAX_TIME_MS)
    check("patience_ms", plan.patience_ms, 0, MAX_TIME_MS)
    check("clients", plan.clients, 0, MAX_CLIENTS)
    check("submit_ms", plan.submit_ms, 1, MAX_TIME_MS)
    check("max_events", plan.max_events, 1, MAX_EVENTS)
    verify_forks(plan.forks, name)
    if plan.detector:
        make_settings(plan.detector, plan.detector_settings)
    if plan.delays_ns:
        check("rows of delays_ns", len(plan.delays_ns), count, count)
        for row in plan.delays_ns:
            check("length of a row of delays_ns", len(row), count, count)
            check("shortest of delays_ns", min(row), 0, most_ns)
            check("longest of delays_ns", max(row), 0, most_ns)
    check_settings(name, "engine_settings", ENGINES[plan.engine].settings, plan.engine_settings)
    check_settings(name, "node_settings", Settings, plan.node_settings)


def check_settings(name: str, field: str, kind: type[Any], settings: dict[str, Any]) -> None:
    """Verify that settings are those of their class, in name and type."""
    try:
        known = {f.name for f in msgspec.structs.fields(kind)}
        strange = sorted(set(settings) - known)
        if strange:
            expected = ", ".join(sorted(known))
            raise Invalid(f"{name}: {field}: {strange[0]!r}, expected one of {expected}")
        msgspec.convert(settings, kind)
    except msgspec.ValidationError as error:
        raise Invalid(f"{name}: {field}: {error}") from None


# ---- runs


def make_tape(recording: Recording) -> Tape:
    """Return a fresh tape of a recording, to run it once."""
    if recording.tape is None:
        return Tape(get_first_seed(recording.plan), record=True)
    return Tape(recording.plan.seed, recording.tape)


def expect(outcome: Outcome) -> Expected:
    """Return of an outcome what a repetition must come to."""
    return Expected(
        verdict=outcome.verdict,
        property=outcome.get_class(),
        digest=outcome.digest,
        events=outcome.events,
    )


def record(plan: Plan, tape: Tape | None = None) -> tuple[Recording, Outcome]:
    """Run a plan by a tape (None: the seed's); return the run to keep, and what came of it."""
    tape = tape or Tape(get_first_seed(plan), record=True)
    outcome = run(plan, tape)
    return Recording(plan=plan, tape=tape.get_values(), expected=expect(outcome)), outcome


def replay(recording: Recording, tracer: Tracer | None = None) -> Outcome:
    """Run a recording again."""
    return run(recording.plan, make_tape(recording), tracer)


def compare(recording: Recording, outcome: Outcome) -> list[str]:
    """Return in words how a repetition differs from what was expected; empty: it does not."""
    expected = recording.expected
    if expected is None:
        return []
    found = expect(outcome)
    pairs = [
        ("verdict", found.verdict, expected.verdict),
        ("property", found.property or "none failed", expected.property or "none failed"),
        ("digest", found.digest, expected.digest or found.digest),
    ]
    words = [f"{what} {one}, expected {other}" for what, one, other in pairs if one != other]
    if words and recording.program != __version__:
        words.append(f"the run was kept by version {recording.program}, this is {__version__}")
    return words


class Reached(Exception):
    """The time at which a repetition was to stop."""


def run_until(
    recording: Recording, time_ns: Nanoseconds, tracer: Tracer | None = None
) -> tuple[World, Outcome | None]:
    """Repeat a run up to a time; return its world, and the outcome if it ended before."""
    worlds: list[World] = []

    def stop() -> None:
        raise Reached

    def arm(world: World) -> None:
        worlds.append(world)
        world.after(time_ns, stop)

    try:
        outcome = run(recording.plan, make_tape(recording), tracer, on_world=arm)
    except Reached:
        return worlds[0], None
    return worlds[0], outcome


# ---- fuzzers


def list_streams(plan: Plan) -> list[str]:
    """Return the streams of a run without faults, sorted: where a fuzzer may put its choices."""
    tape = Tape(plan.seed, {})
    run(plan, tape)
    return sorted(tape.streams)


def read_bytes(streams: list[str], data: bytes) -> dict[str, list[int]]:
    """Return the tape that any bytes stand for: a few choices, and zero everywhere else.

    Six bytes are one choice: the family of its stream (the first word of its name), the stream,
    how many choices of that stream since the last one to leave zero, and 24 bits of value. So a
    change of one byte changes one choice, and each choice is a fault or a delay more.
    """
    families: dict[str, list[str]] = {}
    for name in streams:
        families.setdefault(name.split()[0], []).append(name)
    kinds = list(families.values())
    edits: dict[str, list[int]] = {}
    for at in range(0, len(data) - EDIT_BYTES + 1, EDIT_BYTES):
        family, stream, skip, *value = data[at : at + EDIT_BYTES]
        names = kinds[family % len(kinds)]
        values = edits.setdefault(names[stream % len(names)], [])
        values += [0] * skip
        values.append(int.from_bytes(bytes(value), "big"))
    return {name: strip_zeros(values) for name, values in edits.items()}


def run_bytes(plan: Plan, data: bytes, streams: list[str] | None = None) -> Outcome:
    """Run a plan by the tape that bytes stand for: what a coverage-guided fuzzer calls.

    `streams` is what `list_streams` gives for the plan; it saves a run for each input.
    """
    return run(plan, Tape(plan.seed, read_bytes(streams or list_streams(plan), data)))
