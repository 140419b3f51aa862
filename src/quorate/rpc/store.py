"""The reader's side of the ledger, opened when it is there."""

from __future__ import annotations

from quorate import _kernel
from quorate._kernel import Corrupt, Invalid, Unavailable
from quorate.base.types import Hash, Height
from quorate.rpc.errors import UNAVAILABLE, RpcError
from quorate.rpc.parameters import LATEST, PENDING, SAFE, Selector


class Store:
    """Opens the ledger at `path` at the first use and again after `close`."""

    __slots__ = ("opened", "path")

    def __init__(self, path: str, view: _kernel.View | None = None) -> None:
        self.path = path
        self.opened = view

    @property
    def view(self) -> _kernel.View:
        """The open ledger. Raises RpcError while there is none."""
        if self.opened is None:
            try:
                self.opened = _kernel.View.open(self.path)
            except (Unavailable, Invalid, Corrupt, OSError) as error:
                raise RpcError(UNAVAILABLE, f"the ledger is not ready: {error}") from None
        return self.opened

    @property
    def is_dev(self) -> bool:
        """Whether the chain is for development; False while there is no ledger."""
        try:
            return self.view.is_dev
        except RpcError:
            return False

    def get_height(self, selector: Height) -> Height:
        """Return the height that a tag or number means now."""
        if selector >= 0:
            return selector
        if selector in (LATEST, PENDING):
            return self.view.head()
        _, safe, final, _ = self.view.tips()
        return safe if selector == SAFE else final

    def locate(self, selector: Selector) -> Height | Hash:
        """Return what the kernel takes for a block."""
        return LATEST if selector == PENDING else selector

    def find_height(self, selector: Selector) -> Height | None:
        """Return the height of a stored block, None if it is unknown."""
        view = self.view
        if isinstance(selector, bytes):
            return view.block_number(selector)
        height = self.get_height(selector)
        return height if height <= view.head() else None

    def close(self) -> None:
        if self.opened is not None:
            self.opened.close()
            self.opened = None
