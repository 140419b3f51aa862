"""The rolling digest of a run: always on, and what two runs are compared by.

It covers every event: when, what, on which machine, with which bytes. Every `RUNG` events a rung of
the ladder keeps its value, so that two runs that differ are known to be equal up to a rung, and a
traced repetition of that one rung shows the first event that differs. The kernel computes it.
"""

from typing import Final

from quorate._kernel import Digest

__all__ = [
    "CLIENT",
    "DISK",
    "FAULT",
    "FINAL",
    "FRAME",
    "LINK",
    "RUNG",
    "TIMER",
    "WORK",
    "Digest",
]

FRAME: Final = 1
TIMER: Final = 2
DISK: Final = 3
WORK: Final = 4
LINK: Final = 5
FAULT: Final = 6
CLIENT: Final = 7
FINAL: Final = 8
"""Kinds of event in a digest."""

RUNG: Final = 1024
"""Events between two rungs of the ladder."""
