"""What happened in a run, event by event, for people and for diagrams. `digest` is always on."""

from msgspec import Struct

from quorate.base.types import Nanoseconds

__all__ = ["KINDS", "Event"]


class Event(Struct, frozen=True, kw_only=True, gc=False):
    """One event of a traced run, for people and for diagrams."""

    number: int
    """Counts from 0 in the order in which things happened."""
    step: int = 0
    """How many events the run's digest had taken up; a rung of the ladder is `RUNG` of these."""
    time_ns: Nanoseconds
    kind: str
    """One of `KINDS`."""
    machine: int
    """The index of the machine where it happened; -1: none, it happened between or to them."""
    other: int = -1
    """The machine at the other end."""
    source: int = -1
    """Of an event on a link: where the link begins; it ends at `other`."""
    cause: int = -1
    """The number of the event that led to this one: a receive's send, a timer's setting."""
    begin: int = -1
    """The number of the event that this one ends: a cut's beginning, a pause's."""
    lamport: int = 0
    """One more than the greatest of those that led to it."""
    wall_ns: Nanoseconds = 0
    """What the machine took for Unix time; 0: it happened on none."""
    height: int = -1
    round: int = -1
    name: str = ""
    """The message's, timer's or fault's name."""
    text: str = ""
    """What people read of its contents, one line."""
    size_bytes: int = 0
    """Of a message or of records."""
    false: bool = False
    """Whether a traitor said this instead of what its node told it to say."""


KINDS: dict[str, str] = {
    "send": "a message leaves",
    "double": "the network makes a copy of a message",
    "receive": "a message arrives",
    "lost": "a message leaves and never arrives",
    "missed": "a message comes to a machine or connection that is gone",
    "withheld": "a traitor does not send what its node told it to send",
    "arm": "a timer is set",
    "timer": "a timer falls",
    "persist": "records are given to the disk",
    "durable": "records are durable",
    "work": "the application has finished a call",
    "state": "an engine is at another height, round or step",
    "final": "a block is final",
    "submit": "a client gives items to a machine",
    "answer": "a client is told what became of its items",
    "join": "there is a machine that the plan does not name",
    "start": "a process starts and reads its journal",
    "down": "a process ends",
    "fail": "a node stops itself, or refuses to start",
    "fault": "somebody does something to the network",
    "cut": "a link is cut",
    "mended": "a link is whole again",
    "connected": "a connection is there",
    "disconnected": "a connection broke",
    "accuse": "a replica has evidence against another",
    "note": "a node's own log",
    "finding": "a property does not hold",
}
"""Kinds of event in a trace."""
