"""When the next block of a chain for development would be: its clock may be ahead of ours."""

from __future__ import annotations

import time
from typing import Any

from quorate import _kernel
from quorate.rpc.parameters import LATEST, PENDING, Selector


def get_next_time(view: _kernel.View) -> int | None:
    """Return the next block's timestamp; None where the chain is not for development."""
    if not view.is_dev:
        return None
    latest, offset, asked, left, interval = view.dev_clock()
    if asked:
        return asked
    return latest + interval if left and interval else max(latest, int(time.time()) + offset)


def set_next_time(
    view: _kernel.View, block: Selector, changes: dict[str, Any] | None
) -> dict[str, Any]:
    """Return block overrides, with the next block's time where a call is about the next block.

    Whoever asks for a time in the next block estimates what a transaction will do at that time.
    """
    changes = changes or {}
    next_time = get_next_time(view) if block in (LATEST, PENDING) else None
    if next_time is None or "time" in changes or "timestamp" in changes:
        return changes
    return {"time": hex(next_time), **changes}
