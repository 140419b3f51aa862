"""One ledger whose way of agreeing is a line of configuration."""

__version__ = "0.1.0"
