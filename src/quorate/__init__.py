"""One ledger whose way of agreeing is a line of configuration."""

import os

__version__ = "0.1.0"

if os.environ.get("QUORATE_COMPILED") == "1":
    # Before any module is imported that might be compiled.
    from quorate import compiled

    compiled.use()
