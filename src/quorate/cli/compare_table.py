"""What `quorate compare` shows on a terminal: tables of what was measured, and what it means."""

import textwrap
from typing import Any

from quorate.cli.output import emit, emit_table, style

__all__ = ["format_back", "format_time", "show_comparison"]

WIDTH = 100
COLOURS = {
    "went on": "green",
    "slowed": "yellow",
    "stopped": "yellow",
    "broke": "red",
    "not known": "red",
}


def show_comparison(document: dict[str, Any]) -> None:
    """Print a document of `Comparison.make_document`."""
    conditions, engines = document["conditions"], document["engines"]
    for line in describe_conditions(conditions):
        emit(line)
    emit()
    show_speed(engines)
    show_finality(engines)
    show_recoveries(engines)
    show_trials(engines)
    show_double_spend(document["double_spend"])
    show_real(document["real"])
    emit()
    for sentence in document["advice"]:
        lines = textwrap.wrap(sentence, WIDTH, initial_indent="* ", subsequent_indent="  ")
        emit("\n".join(lines))


def describe_conditions(conditions: dict[str, Any]) -> list[str]:
    """Return what is the same for all engines, in words."""
    latency, model = conditions["latency"], conditions["model"]
    faults = conditions["faults"]["name"]
    text = (
        f"{conditions['members']} members, {conditions['workload']} at {conditions['rate']:g}/s "
        f"for {conditions['length_ms'] / 1000:g} s from {conditions['clients']} clients, "
        f"latency {latency['name']}, faults {faults}, seed {conditions['seed']}"
    )
    costs = ", ".join(f"{name} {value}" for name, value in model.items())
    return [style(text, bold=True), *textwrap.wrap(f"virtual time; costs: {costs}", WIDTH)]


def show_speed(engines: list[dict[str, Any]]) -> None:
    rows = []
    for found in engines:
        quiet, faulty, saturation = found["quiet"], found["faulty"], found["saturation"]
        latency = quiet["latency"] or {}
        rows.append(
            [
                found["engine"],
                f"{quiet['throughput']:,.1f}",
                describe_saturation(saturation),
                *(format_time(latency.get(f"p{p}_us")) for p in (50, 95, 99)),
                "-" if faulty is None else format_time((faulty["latency"] or {}).get("p99_us")),
                f"{quiet['frames_per_item']:,.1f}",
                f"{quiet['bytes_per_item']:,}",
                f"{(faulty or quiet)['blocks_lost']:,}",
                format_hashes(quiet["hashes"]),
                "0" if found["work"] is None else f"{found['work']['joules']:,.0f}",
            ]
        )
    emit_table(
        [
            "engine",
            "final/s",
            "at most/s",
            "p50",
            "p95",
            "p99",
            "p99 with faults",
            "messages/item",
            "bytes/item",
            "blocks lost",
            "hashes",
            "joules",
        ],
        rows,
    )


def format_hashes(count: int) -> str:
    """Return a number of hashes, large ones by their power of ten."""
    return f"{count:,}" if count < 1_000_000 else f"{count:.2e}"


def describe_saturation(saturation: dict[str, Any] | None) -> str:
    """Return the highest rate in words."""
    if saturation is None:
        return "-"
    low, high = saturation["sustained"], saturation["failed"]
    if high is None:
        return f"{low:,.0f} or more"
    return f"{low:,.0f}" if low else f"below {high:,.0f}"


def show_finality(engines: list[dict[str, Any]]) -> None:
    """Print when items are in a block, and safe, where that is not the same as final."""
    rows = []
    for found in engines:
        quiet = found["quiet"]
        if quiet["first"] is None:
            continue
        for name in ("first", "safe", "latency"):
            latency = quiet[name] or {}
            label = {"first": "in a block", "safe": "safe", "latency": "final"}[name]
            times = [format_time(latency.get(f"p{p}_us")) for p in (50, 95, 99)]
            rows.append([found["engine"], label, *times])
    if rows:
        emit()
        emit_table(["engine", "until", "p50", "p95", "p99"], rows)


def show_real(real: dict[str, Any] | None) -> None:
    """Print what real processes did."""
    if real is None:
        return
    emit()
    for line in textwrap.wrap(f"On real processes: {real['text']}", WIDTH):
        emit(style(line, bold=True))
    rows = []
    for found in real["engines"]:
        latency = found["latency"] or {}
        faulty = found["with_faults"] or {}
        times = [format_time(latency.get(f"p{p}_us")) for p in (50, 95, 99)]
        told = [f"{found['throughput']:,.1f}", *times, format_time(faulty.get("p99_us"))]
        rows.append([found["engine"], *told, f"{found['answered']:,} of {found['offered']:,}"])
    head = ["engine", "final/s", "p50", "p95", "p99", "p99 with faults", "answered"]
    emit_table(head, rows)
    show_recoveries([{"engine": found["engine"], "faulty": found} for found in real["engines"]])


def show_recoveries(engines: list[dict[str, Any]]) -> None:
    """Print how long the service was gone at each fault."""
    tested = [found for found in engines if found["faulty"] is not None]
    rows: dict[int, list[str]] = {}
    for column, found in enumerate(tested):
        for number, recovery in enumerate(found["faulty"]["recoveries"]):
            head = f"{recovery['text']}, {recovery['for_ms'] / 1000:g} s"
            row = rows.setdefault(number, [head, *["-"] * len(tested)])
            row[column + 1] = format_back(recovery)
    if rows:
        emit()
        emit_table(["fault", *(found["engine"] for found in tested)], list(rows.values()))


def format_back(recovery: dict[str, Any]) -> str:
    """Return when a service was back, in words."""
    if recovery["masked"]:
        return "masked"
    if recovery["back_ms"] is None:
        return "not back before the next"
    if recovery["after_end_ms"] is None:
        return f"back in {recovery['back_ms'] / 1000:.1f} s, while it lasted"
    return f"back {recovery['after_end_ms'] / 1000:.1f} s after its end"


def show_trials(engines: list[dict[str, Any]]) -> None:
    """Print what each engine tolerated."""
    rows: dict[str, list[str]] = {}
    for column, found in enumerate(engines):
        for trial in found["trials"]:
            row = rows.setdefault(trial["text"], [f"while {trial['text']}", *["-"] * len(engines)])
            claim = "" if trial["as_claimed"] else " (claims otherwise)"
            row[column + 1] = trial["seen"] + claim
    if not rows:
        return
    emit()
    emit_table(["trial", *(found["engine"] for found in engines)], list(rows.values()))
    for found in engines:
        for trial in found["trials"]:
            if trial["finding"]:
                text = f"{found['engine']}, {trial['text']}: {trial['finding']}"
                colour = COLOURS.get(trial["seen"])
                emit(style("\n".join(textwrap.wrap(text, WIDTH)), fg=colour))


def show_double_spend(found: dict[str, Any] | None) -> None:
    """Print how often payments were taken back, beside the formula."""
    if found is None:
        return
    emit()
    curves = found["curves"]
    rows = [
        [str(count), *(f"{100 * curve['points'][i][1]:.2f} %" for curve in curves)]
        for i, (count, _) in enumerate(curves[0]["points"])
    ]
    emit_table(["confirmations", *(curve["name"] for curve in curves)], rows)
    emit("\n".join(textwrap.wrap(found["text"], WIDTH)))


def format_time(us: int | None) -> str:
    """Return a latency; a dash for what was never answered."""
    if us is None:
        return "never"
    if us < 10_000:
        return f"{us / 1000:.1f} ms"
    return f"{us / 1000:,.0f} ms" if us < 10_000_000 else f"{us / 1_000_000:,.1f} s"
