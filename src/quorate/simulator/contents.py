"""What messages and records say, in words for people: names for members, short forms for bytes."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from msgspec import Struct

from quorate.base.types import Address
from quorate.consensus.certificate import NIL, PRECOMMIT, PREVOTE
from quorate.consensus.replica import Decision, Message, Record
from quorate.consensus.tendermint_types import Polka, Proposal, Proposed, Vote, Voted
from quorate.crypto.hashes import keccak256
from quorate.node.wire import Transactions

__all__ = ["Contents", "describe", "describe_records", "format_bytes", "shorten_hashes"]

MAX_TEXT = 1000
"""Characters of one event's text."""
MAX_LISTED = 8
"""Elements of a list that are shown."""
MAX_DEPTH = 4
HASH = re.compile(r"(0x[0-9a-f]{8})[0-9a-f]{56}\b")
UNTOLD = frozenset({"signature", "certificate"})
"""Fields of which only the length is shown."""
VOTES = {PREVOTE: "Prevote", PRECOMMIT: "Precommit"}

Names = Mapping[Address, str]


class Contents(Struct, frozen=True):
    """What is shown of one message."""

    name: str
    text: str
    height: int = -1
    round: int = -1
    size_bytes: int = 0


def describe(message: Any, names: Names, size_bytes: int = 0) -> Contents:
    """Return what to show of a message of any engine, or of a node's own."""
    words = WORDS.get(type(message))
    name = VOTES.get(message.kind, "Vote") if isinstance(message, Vote) else type(message).__name__
    text = words(message, names) if words is not None else describe_fields(message, names, 0)
    height, round = getattr(message, "height", -1), getattr(message, "round", -1)
    return Contents(
        name,
        text if len(text) <= MAX_TEXT else f"{text[: MAX_TEXT - 3]}...",
        height,
        round if isinstance(round, int) else -1,
        size_bytes,
    )


def describe_records(records: list[Any], names: Names) -> Contents:
    """Return what to show of records that go to the journal together."""
    parts = []
    for record in records[:MAX_LISTED]:
        shown = record
        prefix = type(record).__name__
        if isinstance(record, Proposed):
            shown = record.proposal
        elif isinstance(record, Voted):
            shown = record.vote
        contents = describe(shown, names)
        place = f" {contents.height}/{contents.round}" if contents.round >= 0 else ""
        parts.append(f"{prefix}{place} {contents.text}".rstrip())
    if len(records) > MAX_LISTED:
        parts.append(f"and {len(records) - MAX_LISTED} more")
    kinds: dict[str, int] = {}
    for record in records:
        kind = type(record).__name__
        kinds[kind] = kinds.get(kind, 0) + 1
    name = ", ".join(kind if n == 1 else f"{n} {kind}" for kind, n in kinds.items())
    text = "; ".join(parts)
    heights = [height for record in records if (height := get_height(record)) >= 0]
    return Contents(
        name or "nothing",
        text if len(text) <= MAX_TEXT else f"{text[: MAX_TEXT - 3]}...",
        max(heights, default=-1),
    )


def get_height(record: Any) -> int:
    """Return the height of a record, -1 if it has none."""
    if isinstance(record, Proposed):
        return record.proposal.height
    if isinstance(record, Voted):
        return record.vote.height
    if isinstance(record, Polka):
        return record.votes[0].height if record.votes else -1
    return int(getattr(record, "height", -1))


# ---- words


def describe_vote(m: Vote, names: Names) -> str:
    value = "nil" if m.value == NIL else format_bytes(m.value)
    return f"for {value} by {format_member(m.voter, names)}"


def describe_proposal(m: Proposal, _names: Names) -> str:
    again = f", valid since round {m.valid_round}" if m.valid_round >= 0 else ""
    value = format_bytes(keccak256(m.envelope))
    return f"value {value}{again}, payload of {len(m.payload)} bytes"


def describe_polka(m: Polka, names: Names) -> str:
    if not m.votes:
        return "no votes"
    vote = m.votes[0]
    voters = ", ".join(format_member(v.voter, names) for v in m.votes[:MAX_LISTED])
    value = "nil" if vote.value == NIL else format_bytes(vote.value)
    return f"{vote.height}/{vote.round} for {value} by {voters}"


def describe_decision(m: Decision, _names: Names) -> str:
    size = sum(map(len, m.payloads))
    return f"payload of {size} bytes, certificate of {len(m.certificate)} bytes"


def describe_transactions(m: Transactions, _names: Names) -> str:
    items = ", ".join(format_bytes(raw) for raw in m.raws[:MAX_LISTED])
    more = f" and {len(m.raws) - MAX_LISTED} more" if len(m.raws) > MAX_LISTED else ""
    return f"{items}{more}{', to be relayed' if m.relay else ''}"


WORDS: dict[type[Any], Callable[[Any, Names], str]] = {
    Vote: describe_vote,
    Proposal: describe_proposal,
    Polka: describe_polka,
    Decision: describe_decision,
    Transactions: describe_transactions,
}
"""What is said in words of its own; all else is shown field by field."""


def describe_fields(value: Any, names: Names, depth: int) -> str:
    parts = []
    for name in value.__struct_fields__:
        if name in ("height", "round") and not depth and isinstance(value, Message | Record):
            continue
        field = getattr(value, name)
        if name in UNTOLD and isinstance(field, bytes):
            shown = f"{len(field)} bytes"
        else:
            shown = format_value(field, names, depth + 1)
        parts.append(f"{name}={shown}")
    return " ".join(parts)


def format_value(value: Any, names: Names, depth: int) -> str:
    """Return a field's value, with members by name and long bytes by their beginning."""
    if isinstance(value, bytes):
        return format_member(value, names) if len(value) == 20 else format_bytes(value)
    if depth > MAX_DEPTH:
        return "..."
    if isinstance(value, list | tuple):
        shown = [format_value(v, names, depth + 1) for v in value[:MAX_LISTED]]
        if len(value) > MAX_LISTED:
            shown.append(f"and {len(value) - MAX_LISTED} more")
        return f"[{', '.join(shown)}]"
    if type(value) in WORDS:
        shown_value = describe(value, names)
        place = f" {shown_value.height}/{shown_value.round}" if shown_value.round >= 0 else ""
        return f"{shown_value.name}{place} {shown_value.text}"
    if isinstance(value, Struct):
        return f"{type(value).__name__}({describe_fields(value, names, depth)})"
    return str(value)


def shorten_hashes(text: str) -> str:
    """Return a text with hashes as they are shown everywhere else: by their beginning."""
    return HASH.sub(r"\1", text)


def format_member(address: Address, names: Names) -> str:
    return names.get(address) or format_bytes(address)


def format_bytes(data: bytes) -> str:
    """Return short printable text as it is, other bytes as hex, long ones by their beginning."""
    if 0 < len(data) <= 24 and all(32 < b < 127 or b == 32 for b in data):
        return repr(data.decode("ascii"))
    if len(data) <= 8:
        return f"0x{data.hex()}"
    if len(data) == 32:
        return f"0x{data[:4].hex()}"
    return f"0x{data[:4].hex()}.. ({len(data)} bytes)"
