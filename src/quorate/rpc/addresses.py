"""The index of who takes part in which transaction: kept up to date by a thread of its own.

It lies in a folder `addresses` beside the ledger's files and is built by the process that serves
JSON-RPC, from blocks that are stored: agreement neither waits for it nor depends on it. Nothing is
built before somebody asks for the first time; from then on it goes on after each start.
"""

import logging
from pathlib import Path
from threading import Event, Lock, Thread
from time import monotonic

from quorate._kernel import AddressIndex, Corrupt, Invalid, Rejected, Unavailable
from quorate.base.types import Address, Height
from quorate.rpc.errors import UNAVAILABLE, RpcError
from quorate.rpc.store import Store

logger = logging.getLogger(__name__)

FOLDER = "addresses"
MAX_STEP = 256
"""Blocks between two durable writes, at most."""
STEP_SECONDS = 0.25
"""What a step should take, since the thread cannot be stopped within one."""
POLL_SECONDS = 0.5
"""Between looks at the ledger. New blocks of this time are written together."""
FAILURE_SECONDS = 10.0
PATIENCE_SECONDS = 1.0
"""How long a question waits for an index that is nearly there."""
WAIT_SECONDS = 0.02
MAX_BEHIND = 32
"""An index that lacks more blocks than these is not asked, since its answers would mislead."""


class Addresses:
    """Follows the ledger once started; answers as long as it is not far behind."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.opened: AddressIndex | None = None
        self.failure = ""
        self.step = 1
        self.was_level = False
        """Whether the index had all blocks at some time since the start."""
        self.stopping = Event()
        self.lock = Lock()
        self.thread: Thread | None = None

    def get_folder(self) -> Path | None:
        return Path(self.store.path, FOLDER) if self.store.path else None

    def resume(self) -> None:
        """Go on where an earlier process began."""
        folder = self.get_folder()
        if folder is not None and folder.exists():
            self.start()

    def start(self) -> None:
        """Begin to follow the ledger, unless that was done."""
        with self.lock:
            if self.thread is None and not self.stopping.is_set():
                self.thread = Thread(target=self.run, name="addresses", daemon=True)
                self.thread.start()

    def close(self) -> None:
        with self.lock:
            self.stopping.set()
        if self.thread is not None:
            self.thread.join()
        if self.opened is not None:
            self.opened.close()

    def run(self) -> None:
        seconds = 0.0
        while not self.stopping.wait(seconds):
            try:
                seconds = 0.0 if self.follow() else POLL_SECONDS
                self.failure = ""
            except RpcError:
                # The ledger is not there yet.
                seconds = POLL_SECONDS
            except (Unavailable, Corrupt, Invalid, Rejected, OSError) as error:
                self.failure = str(error)
                logger.error("the index of addresses cannot go on: %s", error)
                seconds = FAILURE_SECONDS

    def follow(self) -> bool:
        """Take in some blocks; whether there are more. Raises RpcError, Unavailable, Corrupt."""
        view = self.store.view
        if self.opened is None:
            folder = self.get_folder()
            self.opened = AddressIndex.open(None if folder is None else str(folder))
            self.tell_what_is_gone()
        before, latest = self.opened.heights(view)
        height = before
        if self.opened.is_writer:
            start = monotonic()
            height, latest = self.opened.update(view, self.step)
            is_short = monotonic() - start < STEP_SECONDS
            self.step = min(self.step * 2, MAX_STEP) if is_short else max(self.step // 2, 1)
        self.was_level |= height >= latest
        return height != before and height < latest

    def tell_what_is_gone(self) -> None:
        states, _, _ = self.store.view.history()
        first = self.get_first_block()
        if first > 1:
            logger.warning(
                "the index of addresses begins at block %d: older ones are pruned", first
            )
        if states:
            logger.warning(
                "the index of addresses knows calls inside transactions from block %d on: older "
                "states are pruned",
                states + 1,
            )

    def get_first_block(self) -> Height:
        """Return the first block that the index can know of."""
        return max(*self.store.view.history()[1:], 1)

    def get_index(self) -> AddressIndex:
        """Return the index. Raises RpcError while it cannot answer for the whole chain."""
        self.start()
        deadline = monotonic() + PATIENCE_SECONDS
        while True:
            reason = self.get_obstacle()
            if reason is None and self.opened is not None:
                return self.opened
            if self.failure or monotonic() > deadline or self.stopping.wait(WAIT_SECONDS):
                raise RpcError(UNAVAILABLE, f"the index of addresses {reason}")

    def get_obstacle(self) -> str | None:
        """Return why the index cannot be asked, None if it can."""
        if self.opened is None:
            return f"is not there: {self.failure or 'it is about to be opened'}"
        height, latest = self.opened.heights(self.store.view)
        if self.was_level and height + MAX_BEHIND >= latest:
            return None
        why = f", but cannot go on: {self.failure}" if self.failure else ""
        return f"is being built: block {height} of {latest}{why}"

    def search(
        self, address: Address, first: int, is_up: bool, count: int
    ) -> tuple[list[tuple[int, int]], bool]:
        """Return places from a height up or down, and whether there are more."""
        return self.get_index().search(self.store.view, address, first, is_up, count)
