"""What a comparison means, in a few sentences that say no more than its numbers do."""

from typing import Any

__all__ = ["write_advice"]


def write_advice(document: dict[str, Any]) -> list[str]:
    """Return what follows from a document's numbers, one sentence or two in each line."""
    engines = document["engines"]
    lines = [describe_tolerance(found) for found in engines if found["trials"]]
    lines += describe_surprises(engines)
    lines += describe_paces(engines)
    if len(engines) > 1:
        lines += compare_latencies(engines)
        lines += compare_costs(engines)
    lines += describe_trust(engines)
    lines.append(
        "If one party may decide, none of these is needed: a database with backups does more "
        "with less, and a signed log of it lets others audit what that party did."
    )
    lines.append(
        "Times come from a model of network, disks and computing, which stands with the "
        "conditions; only real machines tell whether it fits yours (--real)."
    )
    return lines


def describe_tolerance(found: dict[str, Any]) -> str:
    """Return what one engine did in its trials."""
    groups: dict[str, list[str]] = {}
    for trial in found["trials"]:
        groups.setdefault(trial["seen"], []).append(trial["text"])
    words = {
        "went on": "went on while {}",
        "slowed": "slowed down while {}",
        "stopped": "stopped and lost nothing while {}",
        "broke": "broke its promises while {}",
        "not known": "could not be judged while {}",
        "not tried": "was not tried while {}",
    }
    parts = [words[seen].format(join_or(groups[seen])) for seen in words if seen in groups]
    return f"{found['engine']} {'; '.join(parts)}."


def describe_surprises(engines: list[dict[str, Any]]) -> list[str]:
    """Return where an engine did less than it claims, or a run went wrong."""
    lines = []
    for found in engines:
        lines += [
            f"{found['engine']} claims to go on while {trial['text']}; it {trial['seen']}"
            f"{': ' + trial['finding'] if trial['finding'] else ''}."
            for trial in found["trials"]
            if not trial["as_claimed"]
        ]
        for name, run in (("without faults", found["quiet"]), ("with faults", found["faulty"])):
            if run is not None and run["verdict"] != "true":
                told = "; ".join(f"{f['property']}: {f['message']}" for f in run["findings"])
                excuse = " (more liars than it claims to tolerate)" if run["excused"] else ""
                lines.append(f"{found['engine']} {name}: verdict {run['verdict']}{excuse}, {told}.")
    return lines


def describe_paces(engines: list[dict[str, Any]]) -> list[str]:
    """Return what follows from rules about the pace of blocks."""
    lines = []
    for found in engines:
        pace, work = found["pace"], found["work"]
        if pace is None:
            continue
        whole = pace["interval_ms"] * pace["depth"] * 1000
        lines.append(
            f"{found['engine']} takes its time by rule: with a block every "
            f"{pace['interval_ms'] / 1000:g} s and {pace['depth']} more on top until one is final "
            f"that is {format_us(whole)} on average, however fast machines and network are; until "
            "then a block can be taken back."
        )
        if work is not None:
            lines.append(
                f"Its miners tried {work['hashes_per_item']:,} nonces for each item at this rate, "
                f"{work['joules_per_item']:g} J at {work['joules_per_hash']:g} J for each of them, "
                "which is an assumption (--joules-per-hash); the other engines try none."
            )
    return lines


def compare_latencies(engines: list[dict[str, Any]]) -> list[str]:
    """Return who answers fastest, and by how much."""
    known = [
        (found["quiet"]["latency"]["p50_us"], found["engine"])
        for found in engines
        if found["quiet"]["latency"] and found["quiet"]["latency"]["p50_us"] is not None
    ]
    if len(known) < 2:
        return []
    known.sort()
    (fastest, name), *others = known
    told = ", ".join(f"{other} takes {us / fastest:.1f} times as long" for us, other in others)
    return [f"Half of all items are final within {format_us(fastest)} with {name}; {told}."]


def compare_costs(engines: list[dict[str, Any]]) -> list[str]:
    """Return what an item costs on the network."""
    known = sorted((found["quiet"]["frames_per_item"], found["engine"]) for found in engines)
    told = ", ".join(f"{name} {frames:g}" for frames, name in known)
    return [f"Messages for an item at this rate: {told}; fewer at higher rates, as blocks fill."]


def describe_trust(engines: list[dict[str, Any]]) -> list[str]:
    """Return what has to be known of an engine before its numbers are believed."""
    lines = [found["caution"] + "." for found in engines if found["caution"]]
    proving = [found["engine"] for found in engines if found["proves"]]
    if proving and len(proving) < len(engines):
        lines.append(
            f"Proofs that convince a stranger, who trusts no member, come from "
            f"{join_or(proving, 'and')} only."
        )
    return lines


def join_or(words: list[str], last: str = "or") -> str:
    """Return words in a row."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {last} {words[-1]}"


def format_us(us: int) -> str:
    return f"{us / 1000:,.1f} ms" if us < 1_000_000 else f"{us / 1_000_000:,.2f} s"
