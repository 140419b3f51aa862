"""A report of failure detectors as lines for people."""

from collections.abc import Sequence

from quorate.base.types import Nanoseconds
from quorate.simulator.detectors.quality import Disagreement, Report, draw_matrix
from quorate.simulator.plan import MS

__all__ = ["describe_report"]

SHOWN = 5
"""Disagreements that are told, the longest."""


def describe_report(report: Report, names: Sequence[str]) -> list[str]:
    """Return what the detectors of a run came to; `names` are the machines' in order."""
    total = report.total
    lines = [f"detector {report.detector}"]
    noticed = f"{total.detections} noticed"
    if total.detections:
        mean, most = format_ms(total.detection_ns), format_ms(total.detection_max_ns)
        noticed += f", after {mean} on average and {most} at most"
    lines.append(f"  crashes: {noticed}; {total.missed} not before the restart")
    mistakes = f"{total.mistakes}"
    if total.mistakes:
        mistakes += (
            f", {format_ms(total.mistake_duration_ns)} long on average, "
            f"{total.mistakes_per_hour:,} an hour for each pair"
        )
    lines.append(f"  mistakes: {mistakes}; right {total.accuracy_ppm / 10_000:.2f} % of the time")
    longest = sorted(report.disagreements, key=lambda d: (d.since_ns - d.until_ns, d.since_ns))
    lines += [describe_disagreement(found, names) for found in longest[:SHOWN]]
    if longest:
        worst = longest[0]
        lines.append(f"  who suspected whom at {format_ms(worst.since_ns)}, by row:")
        width = max(map(len, names))
        rows = draw_matrix(report, worst.since_ns)
        lines += [f"    {name:{width}}  {row}" for name, row in zip(names, rows, strict=True)]
    return lines


def describe_disagreement(found: Disagreement, names: Sequence[str]) -> str:
    """Return who held what of whom, and for how long."""
    suspecting = ", ".join(names[i] for i in found.suspecting)
    trusting = ", ".join(names[i] for i in found.trusting)
    times = f"from {format_ms(found.since_ns)} to {format_ms(found.until_ns)}"
    return f"  {times}: {names[found.process]} suspected by {suspecting}, trusted by {trusting}"


def format_ms(time: Nanoseconds) -> str:
    return f"{time // MS:,} ms"
