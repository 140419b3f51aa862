"""Operations of the key-value application as bytes, and what they are answered.

The layout is the kernel's (`kernel/src/keyvalue/item.rs`). Each operation carries who sends it and
its number there, so that whoever gets no answer sends the very same bytes again, to any node, and
nothing is done twice. `acknowledged` says up to which number the client has had its answers: their
results are then forgotten. At most `WINDOW` operations of a client may be beyond it.
"""

from typing import Final

from msgspec import Struct

from quorate.base.errors import Invalid
from quorate.base.types import Milliseconds

__all__ = [
    "CONFLICT",
    "DONE",
    "LATE",
    "MAX_KEY_BYTES",
    "MAX_VALUE_BYTES",
    "MISSING",
    "NOTHING",
    "REFUSED",
    "WINDOW",
    "Entry",
    "encode",
    "make_call",
    "make_compare",
    "make_delete",
    "make_put",
]

PUT, DELETE, COMPARE, CALL, NOTHING_KIND = range(1, 6)
DONE, MISSING, CONFLICT, REFUSED = range(4)
"""Outcomes: done; nothing to delete; the condition did not hold; the application says no."""

MAX_KEY_BYTES: Final = 1 << 10
MAX_VALUE_BYTES: Final = 1 << 16
WINDOW: Final = 1024
CLIENT_BYTES: Final = 16
HORIZON_MS: Final[Milliseconds] = 600_000
"""How far ahead a deadline may lie; a block that is later than it skips the operation."""
LATE: Final = "its deadline has passed"
"""What a pool says of an operation that was not executed and never will be."""
NOTHING = bytes((NOTHING_KIND,))

Action = bytes
"""The kind of an operation and what it says, without who sends it."""


class Entry(Struct, frozen=True, gc=False):
    """A key's value, and the revisions at which it was created and last changed."""

    value: bytes
    created: int
    modified: int
    version: int
    """How often it was changed since it was created, that included."""


def check_key(key: bytes) -> bytes:
    if not 1 <= len(key) <= MAX_KEY_BYTES:
        raise Invalid(f"key: {len(key)} bytes, expected 1 to {MAX_KEY_BYTES}")
    return key


def check_value(value: bytes) -> bytes:
    if len(value) > MAX_VALUE_BYTES:
        raise Invalid(f"value: {len(value)} bytes, expected at most {MAX_VALUE_BYTES}")
    return value


def make_put(key: bytes, value: bytes) -> Action:
    """Return the action that sets a key."""
    return b"\x01%b%b%b" % (len(check_key(key)).to_bytes(2, "big"), key, check_value(value))


def make_delete(key: bytes) -> Action:
    return b"\x02" + check_key(key)


def make_compare(
    key: bytes,
    value: bytes | None,
    *,
    revision: int | None = None,
    expected: bytes | None = None,
) -> Action:
    """Return the action that sets a key (None: deletes it) if it is as expected.

    `revision` is that of its last change, 0 if it shall be absent; `expected` is its value. One of
    the two is given.
    """
    if (revision is None) == (expected is None):
        raise Invalid("compare: expected either a revision or a value to compare with")
    if expected is not None:
        condition = b"\x02" + len(check_value(expected)).to_bytes(4, "big") + expected
    elif revision:
        if not 0 < revision < 1 << 64:
            raise Invalid(f"compare: revision {revision}, expected 0 to 2^64")
        condition = b"\x01" + revision.to_bytes(8, "big")
    else:
        condition = b"\x00"
    change = b"\x00" if value is None else b"\x01" + check_value(value)
    return b"\x03" + len(check_key(key)).to_bytes(2, "big") + key + condition + change


def make_call(body: bytes) -> Action:
    """Return the action that calls an application's own code."""
    return b"\x04" + check_value(body)


def encode(
    action: Action, client: bytes, sequence: int, acknowledged: int, deadline_ms: Milliseconds
) -> bytes:
    """Return the operation of a client."""
    return b"".join(
        (
            action[:1],
            client,
            sequence.to_bytes(8, "big"),
            acknowledged.to_bytes(8, "big"),
            deadline_ms.to_bytes(8, "big"),
            action[1:],
        )
    )


def get_identity(operation: bytes) -> bytes:
    """Return client and number of an operation, zeros where it has none."""
    return operation[1:25] if len(operation) >= 25 else bytes(24)
