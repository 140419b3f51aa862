"""The page of a campaign: one HTML file without anything from outside, no scripts either."""

from collections.abc import Sequence
from html import escape
from typing import Any

from quorate.simulator.campaign.tally import name_fault

__all__ = ["render_report"]

WIDTH, HEIGHT, LEFT, BOTTOM = 520, 190, 58, 34
"""Of a plot, in pixels, and the room for its axes."""

STYLE = """
:root { color-scheme: light dark; --line: #8884; --quiet: #777; --ink: #1664c0; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: 0.2rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
.true { color: #1a7f37; } .false { color: #cf222e; } .unknown, .never { color: #9a6700; }
.facts { display: flex; flex-wrap: wrap; gap: 0.6rem 2.4rem; margin: 1.2rem 0; }
.facts div { min-width: 7rem; } .facts b { display: block; font-size: 1.35rem; }
.facts span, figcaption, .quiet { color: var(--quiet); font-size: 0.85rem; }
table { border-collapse: collapse; } td, th { padding: 0.2rem 0.9rem 0.2rem 0; text-align: left;
  border-bottom: 1px solid var(--line); vertical-align: top; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
code { font-size: 0.85rem; overflow-wrap: anywhere; } .message { max-width: 34rem;
  overflow-wrap: anywhere; }
.side { display: flex; flex-wrap: wrap; gap: 0 3rem; } figure { margin: 0.5rem 0; }
svg { max-width: 100%; height: auto; } svg text { fill: var(--quiet); font-size: 11px; }
.bar { background: var(--ink); height: 0.5rem; opacity: 0.6; }
"""


def render_report(document: dict[str, Any]) -> str:
    """Return the page for a campaign's result, as `quorate sim -o json` prints it."""
    network = document["network"]
    verdict = document["verdict"]
    title = f"{network['name']}: {document['runs']:,} seeds, {verdict}"
    words = [
        f"{network['validators']} validators",
        network["engine"],
        {"opaque": "light application", "ethereum": "Ethereum ledger"}.get(
            network["application"], f"application {network['application']}"
        ),
        f"{network['signatures']} signatures",
        f"faults: {network['faults']}",
    ]
    if network["bug"]:
        words.append(f"with the bug {network['bug']}")
    if network["branches"] > 1:
        words.append(f"{network['branches']} seeds share a beginning")
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>",
        f'<h1>{escape(network["name"])}: <span class="{verdict}">{verdict}</span></h1>',
        f"<div>{escape(', '.join(words))}</div>",
        f"<p><code>{escape(document['command'])}</code></p>",
        render_doubts(document["doubts"]),
        render_facts(document),
        render_classes(document["classes"]),
        render_checks(document),
        render_curves(document["curve"]),
        '<div class="side">',
        render_reach("Faults", select_faults(document["counters"]), document["runs"]),
        render_reach("Sometimes", document["sometimes"], document["runs"]),
        "</div>",
        render_others(document["counters"]),
        f'<p class="quiet">Quorate {escape(document["version"])}; digest of all runs '
        f"<code>{document['digest']}</code>, the same for the same seeds on every machine.</p>",
        "</body></html>",
    ]
    return "\n".join(part for part in parts if part) + "\n"


def render_doubts(doubts: list[str]) -> str:
    if not doubts:
        return ""
    items = "".join(f"<li>{escape(doubt)}</li>" for doubt in doubts)
    return f'<ul class="unknown">{items}</ul>'


def render_facts(document: dict[str, Any]) -> str:
    verdicts = document["verdicts"]
    facts = [
        (f"{document['runs']:,}", "seeds"),
        (f"{verdicts['true']:,}", "true"),
        (f"{verdicts['false']:,}", "false"),
        (f"{verdicts['unknown']:,}", "unknown"),
        (f"{document['seeds_per_second'] * 3600:,.0f}", "seeds per hour"),
        (f"{document['events']:,}", "events of all runs"),
        (f"{document['events_per_second']:,.0f}", "executed events per second"),
        (f"{document['virtual_per_real']:,.0f}x", "virtual per real time"),
        (f"{document['cpu_us_per_event']:.1f} us", "of CPU an event"),
        (
            f"{document['seconds']:,.0f} s",
            f"on {document['workers']} worker{'s' if document['workers'] != 1 else ''}",
        ),
        (f"{document['states']:,}", "different states"),
    ]
    if document["executed"] != document["events"]:
        facts.insert(6, (f"{document['executed']:,}", "of them executed, the others shared"))
    inner = "".join(
        f"<div><b>{escape(value)}</b><span>{escape(name)}</span></div>" for value, name in facts
    )
    return f'<div class="facts">{inner}</div>'


def render_table(headers: Sequence[str], rows: Sequence[Sequence[str]], numbers: set[int]) -> str:
    """Return a table; cells are HTML, those in columns `numbers` stand to the right."""

    def cell(tag: str, index: int, text: str) -> str:
        return f'<{tag} class="n">{text}</{tag}>' if index in numbers else f"<{tag}>{text}</{tag}>"

    def line(tag: str, texts: Sequence[str]) -> str:
        return f"<tr>{''.join(cell(tag, i, text) for i, text in enumerate(texts))}</tr>"

    lines = [line("th", [escape(header) for header in headers]), *(line("td", r) for r in rows)]
    return "<table>" + "\n".join(lines) + "</table>"


def render_classes(classes: list[dict[str, Any]]) -> str:
    """Return the failing classes, each with its fastest seed."""
    if not classes:
        return ""
    rows = [
        [
            f'<b class="{found["verdict"]}">{escape(found["failure"])}</b>',
            f"{found['runs']:,}",
            str(found["seed"]),
            f"{found['events']:,}",
            f'<div class="message">{escape(found["message"])}</div>'
            f"<code>{escape(found['replay'])}</code>",
        ]
        for found in sorted(classes, key=lambda found: (-found["runs"], found["failure"]))
    ]
    headers = ["class", "runs", "fastest seed", "events", "what was found, and how to replay it"]
    return "<h2>Failing runs</h2>" + render_table(headers, rows, {1, 2, 3})


def render_checks(document: dict[str, Any]) -> str:
    """Return what shows that the campaign itself works."""
    lines = []
    canary, audit = document["canary"], document["audit"]
    if canary and canary["found"]:
        seed, name = canary["found"][:2]
        lines.append(
            f"The canary <code>{escape(canary['bug'])}</code>, a bug put in on purpose, was found "
            f"by seed {seed} ({escape(name)})."
        )
    if audit["repeated"] and not audit["differing"]:
        lines.append(
            f"{audit['repeated']:,} runs were repeated in another process with another hash seed: "
            "all events were equal."
        )
    lines += [
        f'<span class="false">Not deterministic: {escape(difference)}</span>'
        for difference in audit["differences"]
    ]
    lines += [f'<span class="unknown">{escape(death)}.</span>' for death in document["deaths"]]
    if not lines:
        return ""
    return "<h2>The campaign itself</h2>" + "".join(f"<p>{line}</p>" for line in lines)


def select_faults(counters: dict[str, list[int]]) -> dict[str, list[int]]:
    """Return the counters of faults by the faults' names."""
    return {fault: found for name, found in counters.items() if (fault := name_fault(name))}


def render_reach(title: str, reaches: dict[str, list[int]], runs: int) -> str:
    """Return how often things happened, and in which share of runs."""
    named = [(name, times, seen) for name, (times, seen) in reaches.items()]
    if not named:
        return ""
    rows = []
    for name, times, seen in sorted(named, key=lambda item: (-item[2], item[0])):
        share = 100 * seen / max(runs, 1)
        label = escape(name)
        rows.append(
            [
                label if times else f'<span class="never">{label} never happened</span>',
                f"{times:,}",
                f"{share:.1f} %",
                f'<div class="bar" style="width:{share:.1f}px"></div>',
            ]
        )
    table = render_table(["", "times", "of runs", ""], rows, {1, 2})
    return f"<div><h2>{escape(title)}</h2>{table}</div>"


def render_others(counters: dict[str, list[int]]) -> str:
    rows = [
        [escape(name), f"{times:,}"]
        for name, (times, _) in counters.items()
        if not name.startswith("fault ") and not name_fault(name)
    ]
    return "<h2>Counted</h2>" + render_table(["", "times"], rows, {1}) if rows else ""


# ---- plots


def render_curves(curve: list[list[float]]) -> str:
    """Return how states, kinds of fault and failing runs grew with the seeds."""
    if len(curve) < 2:
        return ""
    runs = [point[1] for point in curve]
    plots = [
        ("different states of the network", [point[2] for point in curve]),
        ("kinds of fault that have happened", [point[3] for point in curve]),
        ("failing runs", [point[4] for point in curve]),
    ]
    figures = "".join(
        f"<figure>{render_plot(runs, values)}<figcaption>{escape(name)}, over seeds</figcaption>"
        "</figure>"
        for name, values in plots
        if any(values)
    )
    return f'<h2>Coverage</h2><div class="side">{figures}</div>' if figures else ""


def render_plot(xs: list[float], ys: list[float]) -> str:
    """Return a line as SVG, from the origin on."""
    right, top = WIDTH - 12, 8
    most_x, most_y = max(xs), max(ys)

    def place(x: float, y: float) -> str:
        across = LEFT + (right - LEFT) * x / most_x
        down = HEIGHT - BOTTOM - (HEIGHT - BOTTOM - top) * y / most_y
        return f"{across:.1f},{down:.1f}"

    points = " ".join(place(x, y) for x, y in zip([0.0, *xs], [0.0, *ys], strict=True))
    base = HEIGHT - BOTTOM
    return (
        f'<svg width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">'
        f'<path d="M{LEFT},{top}V{base}H{right}" fill="none" stroke="var(--line)"/>'
        f'<polyline points="{points}" fill="none" stroke="var(--ink)" stroke-width="2"/>'
        f'<text x="{LEFT - 6}" y="{top + 8}" text-anchor="end">{most_y:,.0f}</text>'
        f'<text x="{LEFT - 6}" y="{base}" text-anchor="end">0</text>'
        f'<text x="{right}" y="{base + 16}" text-anchor="end">{most_x:,.0f}</text>'
        f'<text x="{LEFT}" y="{base + 16}">0</text></svg>'
    )
